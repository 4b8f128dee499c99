"""The dead-letter file of a shard: the rows that could not be scored, and why.

It holds all of the shard's columns, so that a mended copy of it can be scored like any shard, and
three of ours: the row's number in the shard, the column at fault and the reason. It is written as
the rows are found, in memory set by the batch. It is published before the predictions, whose
publication is the commit; until then whatever has its name is a left-over and may be replaced.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.footer import unclosed_digest
from pipeline.row_groups import ROW_GROUP_BYTES, varying_bytes
from pipeline.storage.local import translated

if TYPE_CHECKING:
    from pipeline.footer import Provenance
    from pipeline.records import Batch, Shard
    from pipeline.storage import Staged, Storage

FOLDER = "_shardscore/quarantine"
ROW_COLUMN = "quarantine_row"
COLUMN_COLUMN = "quarantine_column"
REASON_COLUMN = "quarantine_reason"

_OURS = [
    pa.field(ROW_COLUMN, pa.int64()),
    pa.field(COLUMN_COLUMN, pa.string()),
    pa.field(REASON_COLUMN, pa.string()),
]
_GROUP_ROWS = 8192


def dead_letter_name(shard: str) -> str:
    """Name of a shard's dead-letter file in the output."""
    return f"{FOLDER}/{shard}"


class DeadLetters:
    """Writes a shard's dead-letter file; there is none if no row is bad.

    Args:
        output: Where to publish.
        shard: The shard.
    """

    def __init__(self, output: Storage, shard: Shard) -> None:
        self._output = output
        self._shard = shard
        self._path = f"{output.url}/{dead_letter_name(shard.name)}"
        self._exit = ExitStack()
        self._staged: Staged | None = None
        self._parquet: pq.ParquetWriter | None = None
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self._pending_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._parquet is not None and self._parquet.is_open:
            with suppress(OSError):  # the disk is full or gone; the file goes in any case
                self._parquet.close()
        self._exit.close()

    def add(self, original: pa.RecordBatch, batch: Batch) -> None:
        """Takes the bad rows of a batch.

        Args:
            original: All columns of all rows of the batch.
            batch: The batch, which says which rows are bad, and why.
        """
        rows = original.take(pa.array([bad.row - batch.start for bad in batch.bad], pa.int64()))
        # A mended dead-letter file that is scored again carries our columns of the last time.
        rows = rows.drop_columns([f.name for f in _OURS if f.name in rows.schema.names])
        ours = [
            pa.array([bad.row for bad in batch.bad], pa.int64()),
            pa.array([bad.column for bad in batch.bad], pa.string()),
            pa.array([bad.reason for bad in batch.bad], pa.string()),
        ]
        schema = pa.schema([*rows.schema, *_OURS])
        self._pending.append(pa.RecordBatch.from_arrays([*rows.columns, *ours], schema=schema))
        self._pending_rows += len(batch.bad)
        self._pending_bytes += varying_bytes(rows)
        if self._pending_rows >= _GROUP_ROWS or self._pending_bytes > ROW_GROUP_BYTES:
            self._flush()

    def publish(self, note: Provenance) -> None:
        """Publishes what was added, if anything was.

        Args:
            note: The note of the predictions; this file's has its own digest of the data.
        """
        self._flush()
        if self._staged is None or self._parquet is None:
            self._output.delete(dead_letter_name(self._shard.name))
            return
        with translated(self._path):
            own = replace(note, data_xxh3=unclosed_digest(self._staged.path))
            self._parquet.add_key_value_metadata(own.encoded())
            self._parquet.close()
        self._staged.replace()

    def _flush(self) -> None:
        if not self._pending:
            return
        table = pa.Table.from_batches(self._pending)
        parquet = self._parquet or self._open(table.schema)
        with translated(self._path):
            parquet.write_table(table)
        self._pending = []
        self._pending_rows = 0
        self._pending_bytes = 0

    def _open(self, schema: pa.Schema) -> pq.ParquetWriter:
        self._staged = self._exit.enter_context(
            self._output.stage(dead_letter_name(self._shard.name))
        )
        with translated(self._path):
            self._parquet = pq.ParquetWriter(self._staged.path, schema, compression="zstd")
        return self._parquet
