"""From what the user names as input to a list of shards.

Owns: which files of a folder or glob are shards, what each one's output will be called, and
reading their footers. Does not know the model or what is published. A file that cannot be read is
no reason to stop: it becomes a `FailedShard`, and the run reports it.
"""

from __future__ import annotations

import errno
import glob
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.types as pt

from pipeline.errors import (
    ChangedInputError,
    ContractError,
    DataError,
    NoInputError,
    NotFoundError,
    UsageError,
)
from pipeline.footer import parquet_errors, read_footer
from pipeline.records import FailedShard, Shard
from pipeline.soundness import check_footer
from pipeline.storage import storage_at
from pipeline.storage.base import is_hidden
from pipeline.storage.folders import leads_out
from pipeline.storage.links import Leaving, Unreachable, walk
from pipeline.storage.local import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SUFFIXES = (".parquet", ".pq", ".parq")
_FOOTER_THREADS = 8
_ESCAPED = re.compile(r"\[([*?[])\]")


@dataclass(frozen=True, slots=True)
class Discovery:
    """What an input holds: shards sorted by name, and files that could not be read."""

    shards: tuple[Shard, ...]
    failed: tuple[FailedShard, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """A file that is to be a shard: where it is, and its output's name."""

    root: str
    key: str
    name: str
    size: int
    mtime_ns: int
    refused: ContractError | None = None  # why it is not looked at

    @property
    def path(self) -> str:
        return f"{self.root}/{self.key}"


def discover(inputs: Iterable[str], output: str, *, follow_links: bool = False) -> Discovery:
    """Lists the shards of the inputs and reads their footers.

    Args:
        inputs: Files, folders or globs.
        output: The output folder; what lies in it is not input, even if it lies in an input.
        follow_links: Whether links that lead out of an input are followed. If not, each is a
            failed shard. An input that is a link itself is what the user named.

    Raises:
        NoInputError: An input does not exist, or holds no Parquet file.
        UsageError: Two files would publish to one name, or the output is an input.
    """
    found: dict[str, _Found] = {}
    by_place: dict[str, _Found] = {}
    outside = _Outside(output)
    for address in inputs:
        for file in _files(address, outside, follow=follow_links):
            other = found.setdefault(file.name, file)
            if other.path != file.path:
                raise UsageError(
                    f"two shards would publish to one name: {file.name}",
                    received=f"{other.path}\n{file.path}",
                    hint="give their common folder as input, or score them to two outputs",
                )
            if file.refused is not None:
                continue
            same = by_place.setdefault(os.path.realpath(file.path), file)
            if same.name != file.name:
                raise UsageError(
                    "one shard is found under two names",
                    path=file.path,
                    received=f"{same.name}\n{file.name}",
                    hint="give each shard once; links count",
                )
    ordered = [found[name] for name in sorted(found)]
    schemas: dict[bytes, pa.Schema] = {}
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        results = list(pool.map(_described, ordered))
    shards: list[Shard] = []
    failed: list[FailedShard] = []
    for result in results:
        if isinstance(result, FailedShard):
            failed.append(result)
            continue
        # A hundred thousand shards of one lake have one schema: keep one copy of it.
        schema = schemas.setdefault(result.schema.serialize().to_pybytes(), result.schema)
        shards.append(replace(result, schema=schema))
    return Discovery(tuple(shards), tuple(failed))


def _files(address: str, outside: _Outside, *, follow: bool) -> Iterator[_Found]:
    storage = storage_at(address)
    path = Path(storage.url)
    if outside.is_output(path):
        raise UsageError(
            "the output is one of the inputs", path=str(path), hint="choose another --output"
        )
    if _is(path, Path.is_dir):
        tree = os.path.realpath(path)
        found = list(_below(str(path), str(path), outside, tree=tree, follow=follow))
    elif _is(path, Path.is_file):
        if is_hidden(path.name):
            raise UsageError(
                "a shard whose name begins with _ or . would be invisible in the output",
                path=str(path),
                hint="rename it",
            )
        stat = path.stat()
        yield _Found(str(path.parent), path.name, path.name, stat.st_size, stat.st_mtime_ns)
        return
    elif glob.has_magic(address):
        found = list(_matching(address, outside, follow=follow))
    else:
        raise NoInputError(
            "the input does not exist",
            path=address,
            hint="check the path; --input takes a file, a folder or a quoted glob",
        )
    if not found:
        raise NoInputError(
            "the input holds no Parquet file",
            path=address,
            expected=f"files that end with {', '.join(SUFFIXES)}; names that begin with _ or . "
            "are passed over",
            hint="check the path of --input",
        )
    yield from found


def _is(path: Path, kind: Callable[[Path], bool]) -> bool:
    with translated(path):
        try:
            return kind(path)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            return False  # nothing can have that name


class _Outside:
    """Tells files of the output from input, however the two paths are spelt."""

    def __init__(self, output: str) -> None:
        self._output = os.path.realpath(output)
        self._folders: dict[str, bool] = {}

    def is_output(self, path: Path) -> bool:
        return os.path.realpath(path) == self._output

    def covers(self, real: str) -> bool:
        """Whether a real path is outside."""
        return leads_out(self._output, real)

    def __contains__(self, path: str) -> bool:
        folder = str(Path(path).parent)
        if folder not in self._folders:
            self._folders[folder] = self.covers(os.path.realpath(folder))
        return self._folders[folder]


def _below(root: str, base: str, outside: _Outside, *, tree: str, follow: bool) -> Iterator[_Found]:
    with translated(base):
        found = sorted(walk(root, base, tree=tree, follow=follow), key=lambda item: item.name)
    for item in found:
        if isinstance(item, Unreachable):
            if not is_hidden(item.name):
                yield _Found(root, item.name, item.name, 0, 0, _too_long(f"{root}/{item.name}"))
        elif isinstance(item, Leaving):
            # What a folder holds is not looked at: the link itself is named.
            wanted = _is_shard(item.name) if item.info else not is_hidden(item.name)
            if wanted and outside.covers(item.target):
                refused = _leaving(f"{root}/{item.name}", item.target)
                yield _Found(root, item.name, item.name, 0, 0, refused)
        elif _is_shard(item.name) and f"{root}/{item.name}" in outside:
            yield _Found(root, item.name, item.name, item.size, item.mtime_ns)


def _matching(pattern: str, outside: _Outside, *, follow: bool) -> Iterator[_Found]:
    parts = Path(pattern).parts
    magic = [glob.has_magic(_ESCAPED.sub("", part)) for part in parts]
    if not any(magic):  # all that looked like a glob was escaped
        plain = Path(*map(_unescaped, parts))
        if plain.exists():
            yield from _files(str(plain), outside, follow=follow)
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
                    yield _Found(root, name, name, 0, 0, _leaving(str(path), real))
            elif path.is_dir():
                yield from _below(root, str(path), outside, tree=tree, follow=follow)
            else:
                stat = path.stat() if path.exists() else path.lstat()
                yield _Found(root, name, name, stat.st_size, stat.st_mtime_ns)


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


def _is_shard(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not is_hidden(name)


def _described(file: _Found) -> Shard | FailedShard:
    path = file.path
    try:
        if file.refused is not None:
            raise file.refused
        if not _is_utf8(path):
            raise ContractError(
                "the name of the shard is not UTF-8",
                path=path,
                hint="rename it; the other shards are scored",
            )
        if _is(Path(path), Path.exists) and not _is(Path(path), Path.is_file):
            raise ContractError(
                "the shard is no regular file",
                path=path,
                hint="take it out of the input; the other shards are scored",
            )
        metadata, digest = read_footer(storage_at(file.root), file.key)
        with parquet_errors(path):
            check_footer(metadata, path)
            schema = _without_views(metadata.schema.to_arrow_schema().remove_metadata())
    except NotFoundError:
        gone = ChangedInputError(
            "the shard is gone, or is a link that leads nowhere",
            path=path,
            hint="restore it or take it out of the input; the others are scored",
        )
        return FailedShard(file.name, path, gone)
    except DataError as error:
        return FailedShard(file.name, path, error)
    return Shard(
        name=file.name,
        root=file.root,
        key=file.key,
        size=file.size,
        mtime_ns=file.mtime_ns,
        rows=metadata.num_rows,
        footer_sha256=digest,
        schema=schema,
    )


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _without_views(schema: pa.Schema) -> pa.Schema:
    """The schema with plain strings for string views, which Arrow cannot filter yet."""
    return pa.schema([field.with_type(_plain(field.type)) for field in schema])


def _plain(kind: pa.DataType) -> pa.DataType:
    views = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    if pt.is_list(kind):
        return pa.list_(_plain_field(kind.value_field))
    if pt.is_large_list(kind):
        return pa.large_list(_plain_field(kind.value_field))
    if pt.is_fixed_size_list(kind):
        return pa.list_(_plain_field(kind.value_field), kind.list_size)
    if pt.is_struct(kind):
        return pa.struct([_plain_field(kind.field(i)) for i in range(kind.num_fields)])
    if pt.is_map(kind):
        return pa.map_(_plain(kind.key_type), _plain_field(kind.item_field), kind.keys_sorted)
    return views.get(kind, kind)


def _plain_field(field: pa.Field) -> pa.Field:
    return field.with_type(_plain(field.type))
