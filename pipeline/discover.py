"""From what the user names as input to a list of shards.

Owns: bringing inputs together, refusing what would be scored twice, and reading footers. Which
files of an input are shards, and what each one's output will be called, is for `local_inputs` and
`remote_inputs` to say. Does not know the model or what is published. A file that cannot be read is
no reason to stop: it becomes a `FailedShard`, and the run reports it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.types as pt

from pipeline.checkpoints import Span
from pipeline.errors import (
    ChangedInputError,
    ContractError,
    DataError,
    NotFoundError,
    UsageError,
    VersionChangedError,
)
from pipeline.footer import parquet_errors, read_footer
from pipeline.local_inputs import Outside, exists_as, local_files
from pipeline.records import FailedShard, Shard
from pipeline.remote_inputs import remote_files
from pipeline.soundness import check_footer
from pipeline.storage import storage_at
from pipeline.storage.disk_errors import translated
from pipeline.storage.locate import has_scheme

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pipeline.inputs import Found

_FOOTER_THREADS = 8
_REMOTE_FOOTER_THREADS = 32  # they wait for answers


@dataclass(frozen=True, slots=True)
class Discovery:
    """What an input holds: shards sorted by name, and files that could not be read."""

    shards: tuple[Shard, ...]
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
    found: dict[str, Found] = {}
    by_place: dict[str, Found] = {}
    outside = Outside(output)
    for address in inputs:
        files = (
            remote_files(address, output)
            if has_scheme(address)
            else local_files(address, outside, follow=follow_links)
        )
        for file in files:
            other = found.setdefault(file.name, file)
            if other.path != file.path:
                raise UsageError(
                    f"two shards would publish to one name: {file.name}",
                    received=f"{other.path}\n{file.path}",
                    hint="give their common folder as input, or score them to two outputs",
                )
            if file.refused is not None:
                continue
            same = by_place.setdefault(file.place, file)
            if same.name != file.name:
                raise UsageError(
                    "one shard is found under two names",
                    path=file.path,
                    received=f"{same.name}\n{file.name}",
                    hint="give each shard once; links count",
                )
    ordered = [found[name] for name in sorted(found)]
    schemas: dict[bytes, pa.Schema] = {}
    refuses = storage_at(output).refuses
    remote = any(has_scheme(file.root) for file in ordered)
    with ThreadPoolExecutor(_REMOTE_FOOTER_THREADS if remote else _FOOTER_THREADS) as pool:
        results = list(pool.map(lambda file: _described(file, refuses), ordered))
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


def _described(file: Found, refuses: Callable[[str], str | None]) -> Shard | FailedShard:
    path = file.path
    storage = storage_at(file.root)
    try:
        if file.refused is not None:
            raise file.refused
        if not _is_utf8(path):
            raise ContractError(
                "the name of the shard is not UTF-8",
                path=path,
                hint="rename it; the other shards are scored",
            )
        # The longest name that becomes of a shard's in the output.
        longest = Span(file.name, 0, 0, "0" * 32).bad_name
        fault = storage.refuses(file.key) or refuses(file.name) or refuses(longest)
        if fault is not None:
            raise ContractError(
                "the shard has a name that cannot be read or published",
                path=path,
                received=fault,
                hint="rename it; the other shards are scored",
            )
        if not has_scheme(file.root):
            _refuse_irregular(path)
        metadata, digest = read_footer(storage, file.key)
        with parquet_errors(path):
            check_footer(metadata, path)
            schema = _without_views(metadata.schema.to_arrow_schema().remove_metadata())
    except (NotFoundError, VersionChangedError):
        gone = ChangedInputError(
            "the shard is gone or was changed, or is a link that leads nowhere",
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
        etag=file.etag,
    )


def _refuse_irregular(path: str) -> None:
    with translated(path):
        regular = not exists_as(Path(path), Path.exists) or exists_as(Path(path), Path.is_file)
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
