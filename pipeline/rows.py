"""Reading: a shard's rows, batch by batch. The only reader of rows.

Memory is set by the batch, never by the shard, and where batches begin is fixed by the shard and
the batch size alone, wherever the reading begins. A shard that is damaged, or is replaced while it
is read, is an error that names it.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.bad_rows import refused
from pipeline.errors import (
    ChangedInputError,
    ContractError,
    NotFoundError,
    VersionChangedError,
)
from pipeline.extract import extract
from pipeline.footer import corrupt, footer_bytes, parquet_errors, thrift_limits
from pipeline.records import Batch
from pipeline.row_group_checks import RowGroupChecks
from pipeline.storage import ObjectInfo, storage_at
from pipeline.storage.remote_file import RemoteFile

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from pipeline.binding import Binding
    from pipeline.records import Shard
    from pipeline.storage import Storage

_READ_BUFFER = 1 << 18
_PIECE_BYTES = 1 << 20
_READ_WHOLE = 1 << 20
"""Bytes up to which a file on a disk is read in one go: it has a page header every few hundred."""

_REMOTE_BUFFER = 1 << 17
"""What is read of a remote shard is fetched by requests of other lengths, and waits in memory."""


def read_batches(
    shard: Shard,
    binding: Binding,
    carried: Sequence[str],
    batch_size: int,
    *,
    fail_on_bad: bool,
    start: int = 0,
) -> Generator[Batch, None, None]:
    """Reads a shard to its last row.

    Args:
        shard: The shard.
        binding: The model's inputs, bound to its columns.
        carried: The other columns to bring along, in order.
        batch_size: Rows a batch; only the last may have fewer.
        fail_on_bad: Whether a row that cannot be scored ends the reading.
        start: The first row to read, a multiple of `batch_size`, or all rows of the shard.

    Raises:
        CorruptShardError: The file does not decode, or has other rows than its footer says.
        BadRowError: A row cannot be scored, and `fail_on_bad` is set.
        StorageError: The disk failed.
    """
    columns = list(dict.fromkeys([*binding.columns, *carried]))
    for rows in _record_batches(shard, columns, batch_size, start):
        with parquet_errors(shard.path):
            features, good, bad = extract(binding, rows, start)
        if bad and fail_on_bad:
            raise refused(shard, bad[0])
        yield Batch(
            shard=shard,
            start=start,
            rows=rows.num_rows,
            features=features,
            carried=rows.select(list(carried)),
            good=good,
            bad=bad,
        )
        start += rows.num_rows
    if start != shard.rows:
        raise corrupt(shard.path, f"{start} rows, where the footer says {shard.rows}")


def _record_batches(
    shard: Shard, columns: list[str], batch_size: int, start: int
) -> Iterator[pa.RecordBatch]:
    """Record batches of exactly `batch_size` rows from row `start` on, the last one excepted."""
    if start >= shard.rows:
        return
    storage = storage_at(shard.root)
    with parquet_errors(shard.path), _unchanged(shard), _opened(storage, shard) as file:
        refuse_swapped(storage, shard, file)
        on_disk = isinstance(file, pa.OSFile)
        whole = file.read() if on_disk and file.size() <= _READ_WHOLE else None
        source = file if whole is None else pa.BufferReader(whole)
        footer = footer_bytes(source, shard.path)
        # The defaults read ahead whole row groups: forty times the memory, and slower.
        with pq.ParquetFile(
            source,
            pre_buffer=False,
            buffer_size=_READ_BUFFER if on_disk else _REMOTE_BUFFER,
            page_checksum_verification=True,
            **thrift_limits(footer),
        ) as parquet:
            _refuse_other_rows(parquet.metadata, shard)
            groups, skip = _from_row(parquet.metadata, start, shard.schema)
            checks = RowGroupChecks(
                source,
                footer,
                parquet.metadata,
                columns,
                # On an object store each header would be a request.
                walk_from=groups[0] if on_disk else None,
                path=shard.path,
                whole=whole,
                plan=file if isinstance(file, RemoteFile) else None,
                plan_from=groups[0],
            )
            read = start - skip
            layout = _layout(shard.schema, tuple(columns))
            piece = layout.piece_rows(batch_size)
            in_order = _InOrder(columns, shard, layout.schema)
            parts: deque[pa.RecordBatch] = deque()
            waiting = 0
            checks.up_to(read + piece)
            for part in parquet.iter_batches(piece, groups, columns=columns, use_threads=False):
                read += part.num_rows
                skipped = min(skip, part.num_rows)
                skip -= skipped
                if skipped < part.num_rows:
                    parts.append(in_order(part.slice(skipped)))
                    waiting += part.num_rows - skipped
                while waiting > batch_size:
                    yield _taken(parts, batch_size)
                    waiting -= batch_size
                checks.up_to(read + piece)  # the reader is a piece ahead at most
            # Before the last batch is handed on, so that no swapped shard is ever complete.
            refuse_swapped(storage, shard)
            if waiting:
                yield _taken(parts, waiting)


def _from_row(metadata: pq.FileMetaData, row: int, schema: pa.Schema) -> tuple[list[int], int]:
    """The row groups to read for the rows from `row` on, and the rows of them to skip."""
    first = 0
    if row == 0:
        return list(range(metadata.num_row_groups)), 0
    # Where batches meet row groups decides which dictionary a batch has, and so the bytes that
    # are written of it: with dictionaries, rows are skipped as they were read the first time.
    if not any(_holds_dictionary(field.type) for field in schema):
        while row >= metadata.row_group(first).num_rows:
            row -= metadata.row_group(first).num_rows
            first += 1
    return list(range(first, metadata.num_row_groups)), row


def _holds_dictionary(kind: pa.DataType) -> bool:
    return pa.types.is_dictionary(kind) or any(
        _holds_dictionary(kind.field(i).type) for i in range(kind.num_fields)
    )


def _opened(storage: Storage, shard: Shard) -> pa.NativeFile:
    try:
        return storage.open_input(shard.key)
    except NotFoundError as error:
        raise _swapped(shard, "it is gone") from error


@contextmanager
def _unchanged(shard: Shard) -> Iterator[None]:
    """A shard that is replaced while it is read is a changed input, not a storage that fails."""
    try:
        yield
    except VersionChangedError as error:
        raise _swapped(shard, error.received or "another version") from error


def refuse_swapped(storage: Storage, shard: Shard, opened: pa.NativeFile | None = None) -> None:
    """Raises ChangedInputError if the shard is not the file whose footer was read.

    Args:
        storage: Where it is.
        shard: The shard.
        opened: The shard, just opened: what an object store told with that is not asked again.
    """
    told = opened.version if isinstance(opened, RemoteFile) else None
    try:
        now = storage.info(shard.key) if told is None else told
    except NotFoundError as error:
        raise _swapped(shard, "it is gone") from error
    known = ObjectInfo(shard.key, shard.size, shard.mtime_ns, shard.etag)
    if not now.same_version(known):
        raise _swapped(shard, f"{now.size} bytes, changed at {now.mtime_ns} ns")


def _swapped(shard: Shard, received: str) -> ChangedInputError:
    return ChangedInputError(
        "the shard was changed while the run went on",
        path=shard.path,
        expected=f"{shard.size} bytes, changed at {shard.mtime_ns} ns",
        received=received,
        hint="nothing of it was published; run again once it is written",
    )


def _refuse_other_rows(metadata: pq.FileMetaData, shard: Shard) -> None:
    if metadata.num_rows != shard.rows:
        raise corrupt(
            shard.path,
            f"{metadata.num_rows} rows, {shard.rows} when the run began: it was changed meanwhile",
        )
    in_groups = sum(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
    if in_groups != shard.rows:
        raise corrupt(
            shard.path, f"row groups of {in_groups} rows in all; the footer says {shard.rows}"
        )


@dataclass(frozen=True, slots=True)
class _Layout:
    """What follows from a shard's schema and the columns that are read of it.

    Attributes:
        of: The schema.
        schema: The columns as the reader gives them, in the schema's order.
        bits: Of one row of them; None if that is not fixed.
    """

    of: pa.Schema
    schema: pa.Schema
    bits: int | None

    def piece_rows(self, batch_size: int) -> int:
        """Rows that are decoded at a time: whole batches, together about a mebibyte.

        Each column costs some microseconds a piece, whatever its length. Where values have no fixed
        width nothing tells how much a longer piece would hold: there it is a batch.
        """
        if self.bits is None:
            return batch_size
        return batch_size * max(1, 8 * _PIECE_BYTES // max(1, self.bits * batch_size))


_layouts: dict[tuple[int, tuple[str, ...]], _Layout] = {}
_MOST_LAYOUTS = 64


def _layout(schema: pa.Schema, columns: tuple[str, ...]) -> _Layout:
    """The layout of a shard's columns, worked out once for those that share a schema.

    Going through the fields of a schema takes as long as decoding a tenth of a small shard.
    """
    key = (id(schema), columns)  # equal schemas are one object, and its hash is slow
    found = _layouts.get(key)
    if found is None or found.of is not schema:
        if len(_layouts) >= _MOST_LAYOUTS:
            _layouts.clear()
        wanted = set(columns)
        fields = [field for field in schema if field.name in wanted]
        try:
            bits = sum(int(field.type.bit_width) for field in fields)
        except ValueError:
            bits = None
        found = _layouts[key] = _Layout(schema, pa.schema(fields), bits)
    return found


class _InOrder:
    """Record batches of one file with the columns, in the order, and of the types wanted.

    Args:
        columns: Names of the columns.
        shard: Their shard, whose schema says their types.
        usual: The schema in which they come where all is as it is told.
    """

    def __init__(self, columns: list[str], shard: Shard, usual: pa.Schema) -> None:
        self._columns = columns
        self._shard = shard
        # Of names that occur twice, or are not found, it cannot tell.
        as_told = sorted(usual.names) == sorted(columns)
        self._seen: pa.Schema | None = usual if as_told else None
        self._wanted: pa.Schema | None = None

    def __call__(self, part: pa.RecordBatch) -> pa.RecordBatch:
        if self._seen is None or not part.schema.equals(self._seen):
            self._look_at(part.schema)
        part = part.select(self._columns)
        # Views become plain strings, as discover has promised; all else is of its type already.
        return part if self._wanted is None else part.cast(self._wanted)

    def _look_at(self, schema: pa.Schema) -> None:
        if sorted(schema.names) != sorted(self._columns):
            raise ContractError(
                "the columns cannot be told apart by name",
                path=self._shard.path,
                expected=", ".join(self._columns),
                received=", ".join(schema.names),
                hint="rename columns whose names hold a dot or occur twice",
            )
        wanted = pa.schema([self._shard.schema.field(name) for name in self._columns])
        found = pa.schema([schema.field(name) for name in self._columns])
        self._wanted = None if found.equals(wanted) else wanted
        self._seen = schema


def _taken(parts: deque[pa.RecordBatch], rows: int) -> pa.RecordBatch:
    """The first `rows` rows of the parts, which are consumed."""
    if parts[0].num_rows == rows:
        return parts.popleft()
    taken = []
    while rows:
        part = parts.popleft()
        if part.num_rows > rows:
            parts.appendleft(part.slice(rows))
            part = part.slice(0, rows)
        taken.append(part)
        rows -= part.num_rows
    return taken[0] if len(taken) == 1 else pa.concat_batches(taken)
