"""Writing: scored batches → a staged Parquet file → published under its final name.

The order of writes for one shard:

    1. rows to the staged predictions, bad rows to the staged dead-letter file
    2. now and then a checkpoint: first its dead letters, then its predictions
    3. both footers, with the counts; rows in = rows accounted for, or nothing is published
    4. the staged predictions are read back: row count and provenance
    5. dead-letter file published          (says nothing yet: no one knows of it)
    6. predictions published, create-if-absent    ← the commit
    7. the shard's checkpoints are taken away

A crash before 6 leaves no trace that a reader could take for a result. The content is a function
of (shard, job, model) alone: where row groups end is decided by `row_groups`, each is written as
one chunk, and `segments` joins what was saved to the same bytes as one writer would have written.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import checkpoints
from pipeline.bad_rows import refuse_too_many
from pipeline.checkpoints import NOTHING, CheckpointNote, Origin, Resumed, Span
from pipeline.errors import (
    AlreadyExistsError,
    CheckpointError,
    NotFoundError,
    OutputMismatchError,
    ScoringError,
)
from pipeline.footer import Provenance, parquet_errors, read_footer
from pipeline.plan import changed_input, foreign_output
from pipeline.quarantine import DeadLetters
from pipeline.records import BadRow, RowCounts, ScoredBatch, Shard, ShardStatus
from pipeline.segments import GroupedFile, Saved
from pipeline.storage.disk_errors import translated

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pipeline.job import JobIdentity
    from pipeline.predictions import PredictionSchema
    from pipeline.storage import ObjectInfo, Staged, Storage

REASON_COLUMN = "bad_row_reason"


def output_schema(
    carried: pa.Schema, predictions: PredictionSchema, *, with_reason: bool
) -> pa.Schema:
    """The columns of a published file: carried, then predictions, then the reason if asked for."""
    fields = [*carried, *predictions.fields]
    if with_reason:
        fields.append(pa.field(REASON_COLUMN, pa.string()))
    return pa.schema(fields)


@dataclass(frozen=True, slots=True)
class Target:
    """What becomes of one shard, and from where it goes on.

    Attributes:
        shard: The shard.
        schema: Columns of the published file.
        kept: Names of the columns that travel past the model into it.
        identity: The job's identity.
        method: Keras' method that scores the shard, for the provenance.
        versions: Of the programs that score and write, for the checkpoints.
        resumed: How far an earlier run came.
        refuse_swapped: Raises ChangedInputError if the shard is no longer the one that was read.
        replacing: The published file whose place this one takes, if the shard has changed since.
        most_bad: Most bad rows that the shard may have; None: any number.
    """

    shard: Shard
    schema: pa.Schema
    kept: tuple[str, ...]
    identity: JobIdentity
    method: str
    versions: dict[str, str]
    refuse_swapped: Callable[[], None]
    resumed: Resumed = NOTHING
    replacing: ObjectInfo | None = None
    most_bad: int | None = None

    @property
    def origin(self) -> Origin:
        """What a checkpoint must have in common with this writing of the shard."""
        version = {**self.shard.identity, "mtime_ns": self.shard.mtime_ns}
        return Origin(self.identity.fingerprint, version, self.versions)


class ShardWriter:
    """Writes the one file, or the two, that a shard becomes. A context manager: what is neither
    committed nor saved when it is left is discarded.

    Args:
        output: Where to publish.
        target: What to write.
    """

    def __init__(self, output: Storage, target: Target) -> None:
        self._output = output
        self._target = target
        self._shard = target.shard
        self._path = f"{output.url}/{target.shard.name}"
        self._null_score = target.identity.on_bad_row == "null"
        resumed = target.resumed
        self._counts = resumed.counts
        self.first_bad: BadRow | None = None
        self._saved = resumed.rows
        self._sound = True
        self._file = GroupedFile(
            output, self._shard.name, target.schema, resumed.segments, resumed.waiting
        )
        self._dead = DeadLetters(output, self._shard, resumed)
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        self._refuse_too_many()  # of rows that checkpoints hold
        self._exit.enter_context(self._dead)
        self._exit.enter_context(self._file)
        return self

    def __exit__(self, *exc: object) -> None:
        self._exit.close()

    def write(self, scored: ScoredBatch) -> None:
        """Takes the next batch of the shard.

        Raises:
            ContractError: Arrow cannot filter one of the columns that travel along.
            TooManyBadRowsError: The shard has more bad rows now than it may have.
        """
        self._sound = False  # half a batch may be written, until all of it is
        with parquet_errors(self._shard.path):
            self._write(scored)
        self._refuse_too_many()
        self._sound = True

    def _refuse_too_many(self) -> None:
        refuse_too_many(self._shard, self._counts.bad, self._target.most_bad)

    def _write(self, scored: ScoredBatch) -> None:
        batch = scored.batch
        if batch.bad and self.first_bad is None:
            self.first_bad = batch.bad[0]
        if batch.start != self._counts.rows_in:
            raise ScoringError(
                "a batch is out of its place",
                path=self._shard.path,
                expected=f"row {self._counts.rows_in}",
                received=f"row {batch.start}",
            )
        carried = batch.carried.select(list(self._target.kept))
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
        self._file.append(pa.RecordBatch.from_arrays(columns, schema=self._target.schema))
        self._counts += RowCounts(
            batch.rows, batch.good_rows, null_scored, quarantined, scored.nonfinite
        )

    def checkpoint(self) -> int | None:
        """Saves all batches that were taken, so that a later run goes on behind them.

        Returns:
            The rows of the shard that are saved; None if there was nothing new, or the last batch
            was not written whole.

        Raises:
            StorageError: It could not be written.
        """
        end = self._counts.rows_in
        if not self._sound or end == self._saved:
            return None
        bad = ""

        def span(digest: str) -> Span:
            return Span(self._shard.name, self._saved, end, digest)

        def note(saved: Saved) -> dict[bytes, bytes]:
            return CheckpointNote(
                origin=self._target.origin,
                start=self._saved,
                end=end,
                counts=self._counts,
                varying=saved.varying,
                data_xxh3=saved.data_xxh3,
                bad=bad,
            ).encoded()

        self._sound = False
        bad = self._dead.save(lambda digest: span(digest).bad_name, note)
        self._file.save(lambda digest: span(digest).name, note)
        self._sound = True
        self._saved = end
        return end

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
            checkpoints.clear(self._output, self._shard.name)
            raise ScoringError(
                "rows are not accounted for; nothing was published",
                path=self._shard.path,
                expected=f"{self._shard.rows} rows",
                received=str(counts),
            )
        try:
            status = self._publish()
        except CheckpointError as error:
            # Whoever took checkpoints away may have published the shard.
            if not self._published_by_another():
                self._output.delete((error.path or "").removeprefix(f"{self._output.url}/"))
                raise
            status = "already_published"
        if self._file.segments:
            checkpoints.clear(self._output, self._shard.name)
        return status, counts

    def _publish(self) -> ShardStatus:
        replacing = self._target.replacing
        left_over = self._dead.there() if self._quarantines else None
        # What lay there is a left-over only if the shard is not published by now, and is still
        # the one that was read: or it is of a writer that has read a newer one.
        if left_over or self._dead.any:
            if self._published_by_another():
                return "already_published"
            self._target.refuse_swapped()
        staged = self._file.finished(lambda digest: self._note(digest).encoded())
        note = self._read_back(staged)
        if self._quarantines:
            self._dead.publish(note, left_over)
        try:
            staged.publish() if replacing is None else staged.replace(only_if=replacing)
        except AlreadyExistsError:
            if not self._published_by_another():
                raise
            return "already_published"
        if left_over is not None and not self._dead.any:
            self._dead.remove_left_over(left_over)
        return "published"

    @property
    def _quarantines(self) -> bool:
        return self._target.identity.on_bad_row == "quarantine"

    def _note(self, digest: str) -> Provenance:
        identity = self._target.identity
        return Provenance(
            fingerprint=identity.fingerprint,
            model_sha256=identity.model_sha256,
            code_sha256=identity.code_sha256,
            input=self._shard.identity,
            counts=self._counts,
            method=self._target.method,
            batch_size=identity.batch_size,
            data_xxh3=digest,
        )

    def _read_back(self, staged: Staged) -> Provenance:
        """The note of the staged file, which must hold the rows that were written to it."""
        with translated(self._path):
            metadata = pq.read_metadata(staged.path)
        note = Provenance.of(metadata)
        rows = self._counts.rows_in - self._counts.quarantined
        if metadata.num_rows != rows or note is None or note.counts != self._counts:
            raise ScoringError(
                "the staged file reads back otherwise than it was written",
                path=self._shard.path,
                expected=f"{rows} rows",
                received=f"{metadata.num_rows} rows",
            )
        return note

    def _published_by_another(self) -> bool:
        """Whether another writer was first: fine if it accounts for the rows as we do.

        Its digest may be another: the last bit of a float can depend on the machine.
        """
        theirs = published_by_another(self._output, self._target)
        if theirs is not None and theirs != self._counts:
            raise OutputMismatchError(
                "another run of this job has accounted for the rows of the shard otherwise",
                path=self._path,
                expected=str(self._counts),
                received=str(theirs),
                hint="is the model deterministic? compare the two runs' versions",
            )
        return theirs is not None


def published_by_another(output: Storage, target: Target) -> RowCounts | None:
    """Where the rows of a shard went, if another run of the job has published it by now.

    Raises:
        OutputMismatchError: A file of another job has its name.
        ChangedInputError: It was published from another version of the shard.
    """
    shard, path = target.shard, f"{output.url}/{target.shard.name}"
    try:
        there = output.info(shard.name)
        if target.replacing is not None and there.same_version(target.replacing):
            return None
        theirs = Provenance.of(read_footer(output, shard.name)[0])
    except NotFoundError:
        return None
    if theirs is None or theirs.fingerprint != target.identity.fingerprint:
        raise foreign_output(path, theirs, target.identity.fingerprint)
    if theirs.input != shard.identity:
        raise changed_input(shard, theirs)
    return theirs.counts


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
