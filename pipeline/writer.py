"""Writing: scored batches → a staged Parquet file → published under its final name.

The order of writes for one shard:

    1. rows to the staged predictions, bad rows to the staged dead-letter file
    2. both footers, with the counts; rows in = rows accounted for, or nothing is published
    3. the staged predictions are read back: row count and provenance
    4. dead-letter file published          (says nothing yet: no one knows of it)
    5. predictions published, create-if-absent    ← the commit

A crash before 5 leaves no trace that a reader could take for a result. The content is a function
of (shard, job, model) alone: where row groups end is decided by `row_groups`, and each is written
as one chunk.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import AlreadyExistsError, ScoringError
from pipeline.footer import Provenance, parquet_errors, read_footer, unclosed_digest
from pipeline.plan import changed_input, foreign_output
from pipeline.quarantine import DeadLetters
from pipeline.records import RowCounts, ScoredBatch, Shard, ShardStatus
from pipeline.row_groups import ROW_GROUP_BYTES, row_group_rows, varying_bytes
from pipeline.storage.local import translated

if TYPE_CHECKING:
    from pipeline.job import JobIdentity
    from pipeline.predictions import PredictionSchema
    from pipeline.storage import Storage

REASON_COLUMN = "bad_row_reason"


def output_schema(
    carried: pa.Schema, predictions: PredictionSchema, *, with_reason: bool
) -> pa.Schema:
    """The columns of a published file: carried, then predictions, then the reason if asked for."""
    fields = [*carried, *predictions.fields]
    if with_reason:
        fields.append(pa.field(REASON_COLUMN, pa.string()))
    return pa.schema(fields)


class ShardWriter:
    """Writes the one file, or the two, that a shard becomes. A context manager: what is not
    committed when it is left is discarded.

    Args:
        output: Where to publish.
        shard: The shard.
        carried: Schema of the columns that travel past the model into the output.
        predictions: The prediction columns.
        identity: The job's identity.
        method: Keras' method that scores the shard, for the provenance.
    """

    def __init__(
        self,
        output: Storage,
        shard: Shard,
        carried: pa.Schema,
        predictions: PredictionSchema,
        identity: JobIdentity,
        method: str,
    ) -> None:
        self._output = output
        self._path = f"{output.url}/{shard.name}"
        self._shard = shard
        self._carried = carried
        self._identity = identity
        self._method = method
        self._null_score = identity.on_bad_row == "null"
        self._schema = output_schema(carried, predictions, with_reason=self._null_score)
        self._group_rows = row_group_rows(self._schema)
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self._pending_bytes = 0
        self._written = 0
        self._counts = RowCounts()
        self._exit = ExitStack()
        self._dead = DeadLetters(output, shard)

    def __enter__(self) -> Self:
        with ExitStack() as exit_:
            exit_.enter_context(self._dead)
            self._staged = exit_.enter_context(self._output.stage(self._shard.name))
            with translated(self._path):
                self._parquet = pq.ParquetWriter(
                    self._staged.path, self._schema, **_parquet_options(self._schema)
                )
            self._exit = exit_.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._parquet.is_open:
            # Closing writes a valid, short file; it is still under its staged name, and goes.
            with suppress(OSError):
                self._parquet.close()
        self._exit.close()

    def write(self, scored: ScoredBatch) -> None:
        """Takes the next batch of the shard.

        Raises:
            ContractError: Arrow cannot filter one of the columns that travel along.
        """
        with parquet_errors(self._shard.path):
            self._write(scored)

    def _write(self, scored: ScoredBatch) -> None:
        batch = scored.batch
        if batch.start != self._counts.rows_in:
            raise ScoringError(
                "a batch is out of its place",
                path=self._shard.path,
                expected=f"row {self._counts.rows_in}",
                received=f"row {batch.start}",
            )
        carried = batch.carried.select(self._carried.names)
        predictions = list(scored.predictions)
        null_scored = quarantined = 0
        if self._null_score:
            columns = [*carried.columns, *_with_nulls(predictions, batch.good)]
            columns.append(_reasons(batch.rows, {b.row - batch.start: b.reason for b in batch.bad}))
            null_scored = len(batch.bad)
        else:
            if batch.good is not None:
                self._dead.add(batch.carried, batch)
                carried = carried.filter(pa.array(batch.good))
            columns = [*carried.columns, *predictions]
            quarantined = len(batch.bad)
        self._append(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self._counts += RowCounts(batch.rows, batch.good_rows, null_scored, quarantined)

    def commit(self) -> tuple[ShardStatus, RowCounts]:
        """Publishes the shard.

        Returns:
            `published`, or `already_published` if another run of the same job was first.

        Raises:
            ScoringError: A row is not accounted for.
            OutputMismatchError: The name is taken by another job's file.
            StorageError: It could not be written.
        """
        counts = self._counts
        if counts.rows_in != self._shard.rows or not counts.balanced:
            raise ScoringError(
                "rows are not accounted for; nothing was published",
                path=self._shard.path,
                expected=f"{self._shard.rows} rows",
                received=str(counts),
            )
        with translated(self._path):
            self._flush(everything=True)
            note = Provenance(
                fingerprint=self._identity.fingerprint,
                model_sha256=self._identity.model_sha256,
                code_sha256=self._identity.code_sha256,
                input=self._shard.identity,
                counts=counts,
                method=self._method,
                batch_size=self._identity.batch_size,
                data_xxh3=unclosed_digest(self._staged.path),
            )
            self._parquet.add_key_value_metadata(note.encoded())
            self._parquet.close()
            self._verify(note)
        self._dead.publish(note)
        try:
            self._staged.publish()
        except AlreadyExistsError:
            self._compare(note)
            return "already_published", counts
        return "published", counts

    def _append(self, rows: pa.RecordBatch) -> None:
        self._pending.append(rows)
        self._pending_rows += rows.num_rows
        self._pending_bytes += varying_bytes(rows)
        # Long texts and lists, whose bytes the schema does not tell, end a row group early.
        heavy = self._pending_bytes > ROW_GROUP_BYTES
        if heavy or self._pending_rows >= self._group_rows:
            with translated(self._path):
                self._flush(everything=heavy)

    def _flush(self, *, everything: bool) -> None:
        """Writes the row groups that are full, and at the end the one that is not."""
        if not self._pending_rows:
            return
        table = pa.Table.from_batches(self._pending, self._schema)
        full = self._pending_rows - self._pending_rows % self._group_rows
        stop = self._pending_rows if everything else full
        # One chunk a row group: where pages end must not depend on how the rows arrived.
        for start in range(0, stop, self._group_rows):
            group = table.slice(start, min(self._group_rows, stop - start))
            self._parquet.write_table(group.combine_chunks(), row_group_size=self._group_rows)
        self._written += stop
        rest = table.slice(stop)
        self._pending = rest.to_batches()
        self._pending_rows = rest.num_rows
        self._pending_bytes = 0

    def _verify(self, note: Provenance) -> None:
        metadata = pq.read_metadata(self._staged.path)
        if metadata.num_rows != self._written or Provenance.of(metadata) != note:
            raise ScoringError(
                "the staged file reads back otherwise than it was written",
                path=self._shard.path,
                expected=f"{self._written} rows",
                received=f"{metadata.num_rows} rows",
            )

    def _compare(self, note: Provenance) -> None:
        """Another writer was first: fine if it wrote what we would have."""
        metadata, _ = read_footer(self._output, self._shard.name)
        theirs = Provenance.of(metadata)
        if theirs is None or theirs.fingerprint != note.fingerprint:
            raise foreign_output(self._path, theirs, note.fingerprint)
        # Another machine's floats may differ in their last bit: it is the rows that must agree.
        if replace(theirs, data_xxh3=note.data_xxh3) != note:
            raise changed_input(self._shard, theirs, self._path)


def _parquet_options(schema: pa.Schema) -> dict[str, Any]:
    # Dictionaries halve the speed of writing floats, which seldom repeat.
    repeating = [
        f.name
        for f in schema
        if not pa.types.is_floating(f.type)
        and not pa.types.is_nested(f.type)
        and not isinstance(f.type, pa.ExtensionType)
    ]
    return {
        "compression": "zstd",
        "use_dictionary": repeating or False,
        "write_page_checksum": True,
    }


def _with_nulls(
    predictions: list[pa.Array], good: np.ndarray[Any, np.dtype[np.bool_]] | None
) -> list[pa.Array]:
    """The predictions of the good rows, spread over all rows, null in between."""
    if good is None:
        return predictions
    places = pa.array(np.cumsum(good) - 1, mask=~good, type=pa.int64())
    return [_take(array, places) for array in predictions]


def _take(array: pa.Array, places: pa.Array) -> pa.Array:
    if isinstance(array.type, pa.ExtensionType):
        return pa.ExtensionArray.from_storage(array.type, array.storage.take(places))
    return array.take(places)


def _reasons(rows: int, reasons: dict[int, str]) -> pa.Array:
    return pa.array([reasons.get(row) for row in range(rows)], pa.string())
