"""Inputs on a local disk: which files of a folder or glob are to be shards."""

from __future__ import annotations

import errno
import glob
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ContractError
from pipeline.inputs import (
    Found,
    hidden_input,
    is_shard,
    no_shard_in,
    no_such_input,
    output_as_input,
)
from pipeline.storage.base import is_hidden
from pipeline.storage.disk_errors import translated
from pipeline.storage.folders import leads_out
from pipeline.storage.links import Leaving, Unreachable, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ESCAPED = re.compile(r"\[([*?[])\]")


def local_files(address: str, outside: Outside, *, follow: bool) -> Iterator[Found]:
    """The files of an input on a disk that are to be shards.

    Args:
        address: A file, a folder or a glob.
        outside: Tells what lies in the output.
        follow: Whether links that lead out of the input are followed.

    Raises:
        NoInputError: It does not exist, or holds no Parquet file.
        UsageError: It is the output.
    """
    path = Path(address).absolute()
    if outside.is_output(path):
        raise output_as_input(str(path))
    if exists_as(path, Path.is_dir):
        tree = os.path.realpath(path)
        found = list(_below(str(path), str(path), outside, tree=tree, follow=follow))
    elif exists_as(path, Path.is_file):
        if is_hidden(path.name):
            raise hidden_input(str(path))
        stat = path.stat()
        yield Found(str(path.parent), path.name, path.name, stat.st_size, stat.st_mtime_ns)
        return
    elif glob.has_magic(address):
        found = list(_matching(address, outside, follow=follow))
    else:
        raise no_such_input(address)
    if not found:
        raise no_shard_in(address, _names_in(path))
    yield from found


def _names_in(folder: Path) -> list[str]:
    """What lies in a folder, for a message; nothing if it is none."""
    with translated(folder):
        found = folder.iterdir() if exists_as(folder, Path.is_dir) else ()
        return [one.name + "/" * one.is_dir() for one in found if not is_hidden(one.name)]


def exists_as(path: Path, kind: Callable[[Path], bool]) -> bool:
    """Whether a path is of a kind; one that is longer than a path can be is of none."""
    with translated(path):
        try:
            return kind(path)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            return False


class Outside:
    """Tells files of the output from input, however the two paths are spelt."""

    def __init__(self, output: str) -> None:
        self._output = os.path.realpath(output)
        self._folders: dict[str, bool] = {}

    def is_output(self, path: Path) -> bool:
        """Whether a path leads to the output itself."""
        return os.path.realpath(path) == self._output

    def covers(self, real: str) -> bool:
        """Whether a real path is outside."""
        return leads_out(self._output, real)

    def __contains__(self, path: str) -> bool:
        folder = os.path.dirname(path)  # noqa: PTH120 - one of many thousands
        if folder not in self._folders:
            self._folders[folder] = self.covers(os.path.realpath(folder))
        return self._folders[folder]


def _below(root: str, base: str, outside: Outside, *, tree: str, follow: bool) -> Iterator[Found]:
    with translated(base):
        found = sorted(walk(root, base, tree=tree, follow=follow), key=lambda item: item.name)
    for item in found:
        if isinstance(item, Unreachable):
            if not is_hidden(item.name):
                refused = _too_long(f"{root}/{item.name}")
                yield Found(root, item.name, item.name, 0, 0, refused=refused)
        elif isinstance(item, Leaving):
            # What a folder holds is not looked at: the link itself is named.
            wanted = is_shard(item.name) if item.info else not is_hidden(item.name)
            if wanted and outside.covers(item.target):
                refused = _leaving(f"{root}/{item.name}", item.target)
                yield Found(root, item.name, item.name, 0, 0, refused=refused)
        elif is_shard(item.name) and f"{root}/{item.name}" in outside:
            yield Found(root, item.name, item.name, item.size, item.mtime_ns)


def _matching(pattern: str, outside: Outside, *, follow: bool) -> Iterator[Found]:
    parts = Path(pattern).parts
    magic = [glob.has_magic(_ESCAPED.sub("", part)) for part in parts]
    if not any(magic):  # all that looked like a glob was escaped
        plain = Path(*map(_unescaped, parts))
        if plain.exists():
            yield from local_files(str(plain), outside, follow=follow)
        return
    root = str(Path(*map(_unescaped, parts[: magic.index(True)])).absolute())
    tree = os.path.realpath(root)
    for match in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207 - takes no absolute one
        path = Path(match).absolute()
        name = path.relative_to(root).as_posix()
        if is_hidden(name) or str(path) not in outside:
            continue
        with translated(path):
            real = os.path.realpath(path)
            if not follow and leads_out(tree, real):
                if outside.covers(real):
                    yield Found(root, name, name, 0, 0, refused=_leaving(str(path), real))
            elif path.is_dir():
                yield from _below(root, str(path), outside, tree=tree, follow=follow)
            else:
                stat = path.stat() if path.exists() else path.lstat()
                yield Found(root, name, name, stat.st_size, stat.st_mtime_ns)


def _leaving(path: str, target: str) -> ContractError:
    return ContractError(
        "a link that leads out of the input is not followed",
        path=path,
        received=f"a link to {target}",
        hint="give the folder that it leads to as --input, or pass --follow-links",
    )


def _too_long(path: str) -> ContractError:
    return ContractError(
        "the path is longer than the system takes",
        path=path,
        received=f"{len(os.fsencode(path))} bytes",
        hint="shorten the names of its folders, or give one of them as --input",
    )


def _unescaped(part: str) -> str:
    """A part of a glob with what `glob.escape` does to it undone."""
    return _ESCAPED.sub(r"\1", part)
