"""From what the user names as input to a list of shards.

Owns: bringing inputs together, refusing what would be scored twice, and reading footers. Which
files of an input are shards, and what each one's output will be called, is for `local_inputs` and
`remote_inputs` to say. Does not know the model or what is published. A file that cannot be read is
no reason to stop: it becomes a `FailedShard`, and the run reports it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import (
    ChangedInputError,
    ContractError,
    DataError,
    NotFoundError,
    UsageError,
    VersionChangedError,
)
from pipeline.footer import digest_of, parquet_errors, parsed, read_footer_bytes
from pipeline.inputs import Places
from pipeline.local_inputs import Outside, local_files
from pipeline.records import FailedShard, Shard
from pipeline.remote_inputs import remote_files
from pipeline.schemas import Schemas
from pipeline.soundness import check_rows
from pipeline.spans import Span
from pipeline.storage import storage_at
from pipeline.storage.at_hand import is_at_hand
from pipeline.storage.disk_errors import translated
from pipeline.storage.locate import has_scheme
from pipeline.threads import in_chunks, in_threads

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    import pyarrow as pa

    from pipeline.inputs import Found
    from pipeline.storage import Storage

_FOOTER_THREADS = 8
_REMOTE_FOOTER_THREADS = 32  # they wait for answers
_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Discovery:
    """What an input holds: shards sorted by name, and files that could not be read."""

    shards: Sequence[Shard]
    failed: tuple[FailedShard, ...]


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
    return described(listed(inputs, output, follow_links=follow_links), output)


def listed(
    inputs: Iterable[str],
    output: str,
    *,
    follow_links: bool = False,
    only: Container[str] | None = None,
) -> list[Found]:
    """The files of the inputs that are to be shards, sorted by name; none is opened.

    Args and errors are those of `discover`; `only` names the shards that are asked for: what would
    be scored twice is refused among these.
    """
    found: dict[str, Found] = {}
    outside = Outside(output)
    addresses = list(inputs)
    for address in addresses:
        for file in _files(address, output, outside, follow_links=follow_links):
            if only is not None and file.name not in only:
                continue
            other = found.setdefault(file.name, file)
            if other.path != file.path:
                raise UsageError(
                    f"two shards would publish to one name: {file.name}",
                    received=f"{other.path}\n{file.path}",
                    hint="give their common folder as input, or score them to two outputs",
                )
    ordered = [found[name] for name in sorted(found)]
    _refuse_doubles([file for file in ordered if file.refused is None], len(addresses))
    return ordered


def _files(address: str, output: str, outside: Outside, *, follow_links: bool) -> list[Found]:
    try:
        if has_scheme(address):
            return remote_files(address, output)
        return list(local_files(address, outside, follow=follow_links))
    except RecursionError:  # patterns are matched part by part, each within the one before
        raise UsageError(
            "the input has more parts than can be matched",
            path=address,
            received=f"{address.count('/'):,} slashes",
            hint="give its folder as --input, or a glob with fewer parts",
        ) from None


def _refuse_doubles(files: Sequence[Found], inputs: int) -> None:
    """Refuses a file that is found under two names.

    Raises:
        UsageError: One is.
    """
    places = Places()
    if inputs == 1 and all(places.of(file) == file.path for file in files):
        return  # a folder lists each of its files once
    by_place: dict[str, Found] = {}
    for file in files:
        same = by_place.setdefault(places.of(file), file)
        if same.name != file.name:
            raise UsageError(
                "one shard is found under two names",
                path=file.path,
                received=f"{same.name}\n{file.name}",
                hint="give each shard once; links count",
            )


def described(
    files: Sequence[Found],
    output: str,
    known: Callable[[Found], Known] = lambda _file: _unknown,
) -> Discovery:
    """Reads the footers of files.

    Args:
        files: The files, sorted by name.
        output: The output folder, which must be able to hold what they are called.
        known: What tells the identity that a shard has by what is published of it. Where the file
            has the size and the footer that it says, the footer is not looked into again, and the
            shard has no schema. It is asked of one file after the other, what it gives is called
            in threads.
    """
    reader = _Reader(output)
    asked = ((file, known(file)) for file in files)
    remote = any(has_scheme(file.root) for file in files)
    results = (
        in_threads(reader.described, asked, _REMOTE_FOOTER_THREADS)
        if remote
        else in_chunks(reader.described, asked, _FOOTER_THREADS, _CHUNK, at_once=_is_at_hand)
    )
    shards: list[Shard] = []
    failed: list[FailedShard] = []
    for result in results:
        if isinstance(result, FailedShard):
            failed.append(result)
        else:
            shards.append(result)
    return Discovery(tuple(shards), tuple(failed))


def is_readable(file: Found, output: str) -> bool:
    """Whether a file is a sound shard, by its footer."""
    return isinstance(_Reader(output).described((file, _unknown)), Shard)


def _is_at_hand(asked: tuple[Found, Known]) -> bool:
    return is_at_hand(asked[0].path)


Known = Callable[[], "Mapping[str, Any] | None"]
"""Tells the identity that a shard is known to have, if there is one."""


def _unknown() -> None:
    return None


class _Reader:
    """Makes shards of files, in threads."""

    def __init__(self, output: str) -> None:
        self._refuses = storage_at(output).refuses
        self._storages: dict[str, Storage] = {}
        self._schemas = Schemas()

    def described(self, asked: tuple[Found, Known]) -> Shard | FailedShard:
        """Reads a file's footer."""
        file, known_as = asked
        path = file.path
        storage = self._storages.get(file.root)
        if storage is None:
            storage = self._storages[file.root] = storage_at(file.root)
        try:
            self._refuse_name(file, storage)
            if not has_scheme(file.root):
                _refuse_irregular(path)
            footer = read_footer_bytes(storage, file.key)
            digest = digest_of(footer)
            known = known_as()
            if known is not None and _is_the_same(file, digest, known):
                return _shard(file, known["rows"], digest, None)
            metadata = parsed(footer, path)
            with parquet_errors(path):
                check_rows(metadata, path)
            schema = self._schemas.of(footer, metadata, path)
            return _shard(file, metadata.num_rows, digest, schema)
        except (NotFoundError, VersionChangedError):
            gone = ChangedInputError(
                "the shard is gone or was changed, or is a link that leads nowhere",
                path=path,
                hint="restore it or take it out of the input; the others are scored",
            )
            return FailedShard(file.name, path, gone)
        except DataError as error:
            return FailedShard(file.name, path, error)

    def _refuse_name(self, file: Found, storage: Storage) -> None:
        if file.refused is not None:
            raise file.refused
        if not _is_utf8(file.path):
            raise ContractError(
                "the name of the shard is not UTF-8",
                path=file.path,
                hint="rename it; the other shards are scored",
            )
        # The longest name that becomes of a shard's in the output: where it has room, so have all.
        longest = self._refuses(Span(file.name, 0, 0, "0" * 32).bad_name)
        fault = storage.refuses(file.key) or (longest and (self._refuses(file.name) or longest))
        if fault is not None:
            raise ContractError(
                "the shard has a name that cannot be read or published",
                path=file.path,
                received=fault,
                hint="rename it; the other shards are scored",
            )


def _is_the_same(file: Found, digest: str, known: Mapping[str, Any]) -> bool:
    """Whether a file is the shard of an identity."""
    found = {"name": file.name, "size": file.size, "footer_sha256": digest}
    return found == {name: value for name, value in known.items() if name != "rows"}


def _shard(file: Found, rows: int, digest: str, schema: pa.Schema | None) -> Shard:
    return Shard(
        name=file.name,
        root=file.root,
        key=file.key,
        size=file.size,
        mtime_ns=file.mtime_ns,
        rows=rows,
        footer_sha256=digest,
        schema=schema,
        etag=file.etag,
    )


def _refuse_irregular(path: str) -> None:
    with translated(path):
        try:
            regular = stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - one of many thousands
        except OSError as error:
            # What leads nowhere is told when it is opened; a path can be too long, or circular.
            if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}:
                raise
            return
    if not regular:
        raise ContractError(
            "the shard is no regular file",
            path=path,
            hint="take it out of the input; the other shards are scored",
        )


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
