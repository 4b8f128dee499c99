"""Order: the columns that travelled along, against those of the input, row for row.

Where columns were kept, they prove that no row was lost, doubled or moved. Both sides are streamed
in small pieces, so memory is set by the piece, never by the shard. A NaN equals itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from pipeline.footer import parquet_errors
from pipeline.quarantine import ROW_COLUMN, dead_letter_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.records import Shard
    from pipeline.storage import Storage

_PIECE_ROWS = 8192
_READ_BUFFER = 1 << 18
_SHOWN = 40
_BITS = {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}


@dataclass(frozen=True, slots=True)
class Difference:
    """The first row in which two tables differ.

    Attributes:
        row: Its number in the published file, counted from 0.
        column: The column; empty if one of them has no such row.
        expected: The input's value, as text.
        found: The published value, as text.
    """

    row: int
    column: str
    expected: str
    found: str


def first_difference(
    output: Storage, source: Storage, shard: Shard, columns: Sequence[str], *, quarantined: bool
) -> Difference | None:
    """Compares the kept columns of a published file with those of its input.

    Args:
        output: Where the file is.
        source: Where the shard is.
        shard: The shard.
        columns: The kept columns, at least one.
        quarantined: Whether the rows that its dead-letter file names were left out.

    Raises:
        CorruptShardError: A file does not decode.
        StorageError: A file could not be read.
    """
    bad = dead_rows(output, shard.name) if quarantined else iter(())
    schema = pa.schema([shard.schema.field(name) for name in columns])
    with parquet_errors(shard.path):
        return _first(
            _without(_pieces(source, shard.key, columns), schema, bad),
            _pieces(output, shard.name, columns),
        )


def column_names(storage: Storage, name: str) -> list[str]:
    """The columns of a file, in its order."""
    with parquet_errors(f"{storage.url}/{name}"), storage.open_input(name) as file:
        with pq.ParquetFile(file, pre_buffer=False) as parquet:
            names: list[str] = parquet.schema_arrow.names
    return names


def dead_rows(output: Storage, shard: str) -> Iterator[int]:
    """The row numbers that a shard's dead-letter file holds, in its order."""
    for piece in _pieces(output, dead_letter_name(shard), [ROW_COLUMN]):
        yield from piece.column(0).to_pylist()


def misplaced_dead_row(output: Storage, shard: str, rows: int) -> str | None:
    """What is wrong with the row numbers of a shard's dead-letter file, None if nothing is.

    They must increase, within the rows of the shard.

    Args:
        output: Where the file is.
        shard: The shard's name.
        rows: The shard's rows.
    """
    before = -1
    for row in dead_rows(output, shard):
        if not isinstance(row, int):
            return f"{row!r} after row {before}"
        if row <= before:
            return f"row {row} after row {before}"
        before = row
    return f"row {before}" if before >= rows else None


def _pieces(storage: Storage, name: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with parquet_errors(f"{storage.url}/{name}"), storage.open_input(name) as file:
        with pq.ParquetFile(file, pre_buffer=False, buffer_size=_READ_BUFFER) as parquet:
            missing = [c for c in columns if c not in parquet.schema_arrow.names]
            if missing:
                raise pa.ArrowInvalid(f"there is no column {missing[0]!r}")
            for piece in parquet.iter_batches(_PIECE_ROWS, columns=columns, use_threads=False):
                # pyarrow takes a dot in a name for a step into a struct: it reads `a.x` with `a`.
                if any(piece.schema.names.count(name) != 1 for name in columns):
                    raise pa.ArrowInvalid("columns whose names cannot be told apart")
                yield piece.select(columns)


def _without(
    pieces: Iterator[pa.RecordBatch], schema: pa.Schema, left_out: Iterator[int]
) -> Iterator[pa.RecordBatch]:
    """The pieces without some rows, which are given by their numbers in increasing order."""
    start = 0
    next_out = next(left_out, None)
    for piece in pieces:
        # The types of the shard as it was discovered: Arrow cannot filter string views yet.
        piece = piece if piece.schema.equals(schema) else piece.cast(schema)
        stop = start + piece.num_rows
        stay = None
        while next_out is not None and next_out < stop:
            stay = np.ones(piece.num_rows, np.bool_) if stay is None else stay
            stay[next_out - start] = False
            next_out = next(left_out, None)
        yield piece if stay is None else piece.filter(pa.array(stay))
        start = stop


def _first(ours: Iterator[pa.RecordBatch], theirs: Iterator[pa.RecordBatch]) -> Difference | None:
    row = 0
    left = right = None
    while True:
        left = left if left is not None and left.num_rows else _next_with_rows(ours)
        right = right if right is not None and right.num_rows else _next_with_rows(theirs)
        if left is None or right is None:
            break
        rows = min(left.num_rows, right.num_rows)
        for name in left.schema.names:
            place = _first_place(
                left.column(name).slice(0, rows), right.column(name).slice(0, rows)
            )
            if place is not None:
                values = (_text(side.column(name)[place]) for side in (left, right))
                return Difference(row + place, name, *values)
        row += rows
        left, right = left.slice(rows), right.slice(rows)
    if left is None and right is None:
        return None
    return Difference(row, "", *("a row" if side is not None else "none" for side in (left, right)))


def _next_with_rows(pieces: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    return next((piece for piece in pieces if piece.num_rows), None)


def _first_place(left: pa.Array, right: pa.Array) -> int | None:
    """The first place at which two columns of equal length differ."""
    if _same(left, right):
        return None
    start, stop = 0, len(left)
    while stop - start > 1:
        middle = (start + stop) // 2
        if _same(left.slice(start, middle - start), right.slice(start, middle - start)):
            start = middle
        else:
            stop = middle
    return start


def _same(left: pa.Array, right: pa.Array) -> bool:
    left, right = _plain(left), _plain(right)
    if left.type != right.type:
        return False
    if left.equals(right):
        return True
    if pt.is_floating(left.type):
        bits = _BITS[left.type.bit_width]
        return bool(left.view(bits).equals(right.view(bits)))
    # A NaN within a list or struct; rare enough to be looked at value by value.
    return pt.is_nested(left.type) and repr(left.to_pylist()) == repr(right.to_pylist())


def _plain(array: pa.Array) -> pa.Array:
    """A column without its wrapping: two dictionaries may hold the same values otherwise."""
    if isinstance(array, pa.ExtensionArray):
        return _plain(array.storage)
    return array.dictionary_decode() if pt.is_dictionary(array.type) else array


def _text(value: Any) -> str:
    text = repr(value.as_py())
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
