"""Why rows could not be scored, counted: from dead-letter files and null-scored rows.

A page names the most frequent reasons, and an output may hold a billion bad rows: so a bounded part
is read, of the files that have the most of them first, and what is left out is told.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from pipeline.errors import DataError, NotFoundError
from pipeline.footer import parquet_errors
from pipeline.quarantine import COLUMN_COLUMN, dead_letter_name
from pipeline.quarantine import REASON_COLUMN as LETTER_REASON
from pipeline.target import REASON_COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

    from pipeline.storage import Storage

MOST_FILES = 200
MOST_ROWS = 20_000
"""Bad rows that are read of a file."""

MOST_LOOKED_AT = 1_000_000
"""Rows of a file that are looked through for null-scored ones."""

_MOST_REASONS = 5_000
_BATCH = 16_384


@dataclass
class Reasons:
    """Reasons, counted.

    Attributes:
        counted: (column at fault, or empty; reason) → bad rows.
        rows: Bad rows that were read.
        of_rows: Bad rows there are.
        types: The input's columns → their types, as text, where a dead-letter file shows them.
    """

    counted: Counter[tuple[str, str]] = field(default_factory=Counter)
    rows: int = 0
    of_rows: int = 0
    types: dict[str, str] = field(default_factory=dict)

    def add(self, column: str | None, reason: str | None) -> None:
        """Counts a row."""
        self.rows += 1
        key = column or "", reason or ""
        if key in self.counted or len(self.counted) < _MOST_REASONS:
            self.counted[key] += 1


def count(
    output: Storage, quarantined: Mapping[str, int], null_scored: Mapping[str, int]
) -> Reasons:
    """Counts the reasons of an output's bad rows.

    Args:
        output: The output.
        quarantined: Shard → rows of its dead-letter file.
        null_scored: Shard → rows with null predictions in its published file.

    Raises:
        StorageError: Storage failed.
    """
    found = Reasons(of_rows=sum(quarantined.values()) + sum(null_scored.values()))
    for shard in _most_first(quarantined):
        name = dead_letter_name(shard)
        for batch in _batches(output, name, (COLUMN_COLUMN, LETTER_REASON), MOST_ROWS, found):
            columns, reasons = (batch.column(i).to_pylist() for i in range(2))
            for column, reason in zip(columns, reasons, strict=True):
                found.add(column, reason)
    for shard in _most_first(null_scored):
        before = found.rows
        for batch in _batches(output, shard, (REASON_COLUMN,), MOST_LOOKED_AT, None):
            for reason in batch.column(0).drop_null().to_pylist():
                found.add(None, reason)
            if found.rows - before >= min(MOST_ROWS, null_scored[shard]):
                break
    return found


def _most_first(rows: Mapping[str, int]) -> list[str]:
    some = [shard for shard, count in rows.items() if count]
    return sorted(some, key=lambda shard: (-rows[shard], shard))[:MOST_FILES]


def _batches(
    output: Storage, name: str, columns: tuple[str, ...], most: int, typed: Reasons | None
) -> Iterator[pa.RecordBatch]:
    """The first rows of some columns of a file; none of one that is damaged, or gone meanwhile."""
    try:
        with parquet_errors(f"{output.url}/{name}"), output.open_input(name) as source:
            file = pq.ParquetFile(source, pre_buffer=False, buffer_size=1 << 20)
            schema = file.schema_arrow
            if typed is not None and not typed.types:
                typed.types = {f.name: str(f.type) for f in schema}
            if not set(columns) <= set(schema.names):
                return
            left = most
            for batch in file.iter_batches(_BATCH, columns=list(columns), use_threads=False):
                yield batch.select(list(columns)).slice(0, left)
                left -= len(batch)
                if left <= 0:
                    return
    except (DataError, NotFoundError):
        return
