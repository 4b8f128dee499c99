"""Survivors that no test can kill, or that none should, each with its reason.

They count as survivors in a module's score. One that is killed, or is gone with its line, must go
from here too: `make mutants` says so.
"""

from __future__ import annotations

from tests.mutation.score import Change

ARGUED: dict[Change, str] = {}


def _argue(reason: str, module: str, function: str, was: str, *became: str) -> None:
    for line in became:
        ARGUED[Change(module, function, was, line)] = reason


_SAME_LENGTH = "both are made item by item from the same list: they cannot differ in length"

_argue(
    _SAME_LENGTH,
    "binding.py",
    "_dims",
    "if any(level not in {None, d} for level, d in zip(levels[1:], dims[1:], strict=True)):",
    "if any(level not in {None, d} for level, d in zip(levels[1:], dims[1:], )):",
    "if any(level not in {None, d} for level, d in zip(levels[1:], dims[1:], strict=False)):",
)
_argue(
    _SAME_LENGTH,
    "writer.py",
    "name_all",
    "named = dict(zip(plain, output.publish_all([*plain.values()]), strict=True))",
    "named = dict(zip(plain, output.publish_all([*plain.values()]), ))",
    "named = dict(zip(plain, output.publish_all([*plain.values()]), strict=False))",
)
_argue(
    _SAME_LENGTH,
    "storage/local_staged.py",
    "published_together",
    "free.update(zip(map(id, files), found, strict=True))",
    "free.update(zip(map(id, files), found, ))",
    "free.update(zip(map(id, files), found, strict=False))",
)
_argue(
    "lists of that very length are not padded, and do not come here",
    "binding.py",
    "_dims",
    'if fixed is not None and fixed > dims[0] and sequence.truncate == "never":',
    'if fixed is not None and fixed >= dims[0] and sequence.truncate == "never":',
)
_argue(
    "where a unit is known, each type of times can be converted, or is refused whatever the unit",
    "binding.py",
    "_use_of",
    "raise wrong_type(column, spec, options, reading.time_unit)",
    "raise wrong_type(column, spec, options, None)",
    "raise wrong_type(column, spec, options, )",
)
_argue(
    "numpy takes None for False in an array of booleans",
    "bad_rows.py",
    "set_aside",
    "good[places(batch)[list(found)]] = False",
    "good[places(batch)[list(found)]] = None",
)
_argue(
    "both types have one size and are filled with places that are never negative",
    "shares.py",
    "assigned",
    'shares = array("l", bytes(array("l").itemsize * len(rows)))',
    'shares = array("L", bytes(array("l").itemsize * len(rows)))',
    'shares = array("l", bytes(array("L").itemsize * len(rows)))',
)
_argue(
    "where all shares begin one row ahead, none is ahead of another",
    "shares.py",
    "assigned",
    "loads = [(0, share) for share in range(count)]",
    "loads = [(1, share) for share in range(count)]",
)
_argue(
    "reading is what pyarrow opens a file for when nothing is said",
    "storage/local.py",
    "LocalStorage.open_input",
    'return pa.OSFile(path, "rb")',
    "return pa.OSFile(path, )",
)
_STAGED = "what is not under its staged name any more is not there to be removed, which is no error"
_argue(
    _STAGED,
    "storage/local_staged.py",
    "LocalStaged.link",
    "self._staged = False",
    "self._staged = True",
)
_argue(
    _STAGED,
    "storage/local_staged.py",
    "LocalStaged._replace",
    "self._staged = False",
    "self._staged = True",
)
_argue(
    "it is asked again only when another batch was written, which says the same",
    "writer.py",
    "ShardWriter.checkpoint",
    "self._sound = True",
    "self._sound = False",
)
_argue(
    "as long as nothing was written there is nothing to save; each batch says it anew",
    "writer.py",
    "ShardWriter.__init__",
    "self._sound = True",
    "self._sound = False",
)
_argue(
    "each error of its kind names a file",
    "writer.py",
    "ShardWriter.finish",
    'self._output.delete((error.path or "").removeprefix(f"{self._output.url}/"))',
    'self._output.delete((error.path or "XXXX").removeprefix(f"{self._output.url}/"))',
)
_argue(
    "the digest takes its place before the note is written",
    "writer.py",
    "ShardWriter._finished",
    'note = self._note("")',
    'note = self._note("XXXX")',
)
_argue(
    "reading is what pyarrow opens a file for when nothing is said",
    "writer.py",
    "ShardWriter._read_back",
    'with translated(self._path), pa.OSFile(str(staged.path), "rb") as file:',
    "with translated(self._path), pa.OSFile(str(staged.path), ) as file:",
)
_argue(
    "besides our note Arrow writes its schema, so ours is never all that there is",
    "writer.py",
    "ShardWriter._read_back",
    "if metadata.num_rows != rows or not note.items() <= (metadata.metadata or {}).items():",
    "if metadata.num_rows != rows or not note.items() < (metadata.metadata or {}).items():",
)
