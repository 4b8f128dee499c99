"""Why rows could not be scored, counted: from dead-letter files and null-scored rows.

A page names the most frequent reasons, and an output may hold a billion bad rows: so a bounded part
is read, of the files that have the most of them first, and what is left out is told.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from pipeline.errors import DataError, NotFoundError, StorageError
from pipeline.footer import parquet_errors
from pipeline.quarantine import COLUMN_COLUMN, dead_letter_name
from pipeline.quarantine import REASON_COLUMN as LETTER_REASON
from pipeline.storage import storage_at
from pipeline.target import REASON_COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

    from pipeline.records import RunReport
    from pipeline.storage import Storage

MOST_FILES = 200
FEW_FILES = 8
"""Files that are read at the end of a run: it is not to take longer for its last words."""

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
    output: Storage,
    quarantined: Mapping[str, int],
    null_scored: Mapping[str, int],
    most_files: int | None = None,
) -> Reasons:
    """Counts the reasons of an output's bad rows.

    Args:
        output: The output.
        quarantined: Shard → rows of its dead-letter file.
        null_scored: Shard → rows with null predictions in its published file.
        most_files: Files of each kind that are read; None: `MOST_FILES`.

    Raises:
        StorageError: Storage failed.
    """
    most_files = most_files or MOST_FILES
    found = Reasons(of_rows=sum(quarantined.values()) + sum(null_scored.values()))
    for shard in _most_first(quarantined, most_files):
        name = dead_letter_name(shard)
        for batch in _batches(output, name, (COLUMN_COLUMN, LETTER_REASON), MOST_ROWS, found):
            columns, reasons = (batch.column(i).to_pylist() for i in range(2))
            for column, reason in zip(columns, reasons, strict=True):
                found.add(column, reason)
    for shard in _most_first(null_scored, most_files):
        before = found.rows
        for batch in _batches(output, shard, (REASON_COLUMN,), MOST_LOOKED_AT, None):
            for reason in batch.column(0).drop_null().to_pylist():
                found.add(None, reason)
            if found.rows - before >= min(MOST_ROWS, null_scored[shard]):
                break
    return found


def of_run(report: RunReport) -> Reasons | None:
    """The reasons of the bad rows of a run that has ended, by a few files; None: there are none,
    or they cannot be read, which is no reason to end in another way."""
    if not report.counts.bad:
        return None
    done = report.outcomes
    with suppress(StorageError):
        return count(
            storage_at(report.output),
            {o.shard: o.counts.quarantined for o in done},
            {o.shard: o.counts.null_scored for o in done},
            FEW_FILES,
        )
    return None


def _most_first(rows: Mapping[str, int], most: int) -> list[str]:
    some = [shard for shard, count in rows.items() if count]
    return sorted(some, key=lambda shard: (-rows[shard], shard))[:most]


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
