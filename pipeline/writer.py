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
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import checkpoints
from pipeline.bad_rows import refuse_too_many
from pipeline.checkpoints import CheckpointNote
from pipeline.errors import (
    AlreadyExistsError,
    CheckpointError,
    OutputMismatchError,
    ScoringError,
)
from pipeline.footer import Provenance, parquet_errors
from pipeline.null_rows import reason_column, with_nulls
from pipeline.quarantine import DeadLetters
from pipeline.records import BadRow, RowCounts, ScoredBatch, ShardStatus
from pipeline.segments import GroupedFile, Saved
from pipeline.sketch import SKETCH_KEY, PredictionSketch
from pipeline.spans import Span
from pipeline.storage.disk_errors import translated
from pipeline.target import Target, published_by_another

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.storage import ObjectInfo, Staged, Storage


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
        self._staged: Staged | None = None
        self._left_over: ObjectInfo | None = None
        self._dead = DeadLetters(output, self._shard, resumed)
        self._sketch = PredictionSketch(target.predictions, self._shard.rows, resumed.sketch)
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
            columns = [*carried.columns, *with_nulls(predictions, batch.good)]
            columns.append(
                reason_column(batch.rows, {b.row - batch.start: b.reason for b in batch.bad})
            )
            null_scored = len(batch.bad)
        else:
            if batch.good is not None:
                self._dead.add(batch.carried, batch)
                carried = carried.filter(pa.array(batch.good))
            columns = [*carried.columns, *predictions]
            quarantined = len(batch.bad)
        self._file.append(pa.RecordBatch.from_arrays(columns, schema=self._target.schema))
        self._sketch.add(self._counts.scored, scored.predictions)
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
                sketch=self._sketch.encoded(),
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
        self.finish()
        return self.conclude(named=self.name_alone())

    def finish(self) -> None:
        """Does all that comes before the commit: the files are whole, proven, and staged.

        Raises:
            As `commit` does.
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
            self._staged = self._finished()
        except CheckpointError as error:
            # Whoever took checkpoints away may have published the shard.
            if not self._published_by_another():
                self._output.delete((error.path or "").removeprefix(f"{self._output.url}/"))
                raise

    def _finished(self) -> Staged | None:
        """The staged predictions, once their dead letters are published; None if another run has
        published the shard."""
        self._left_over = self._dead.there() if self._quarantines else None
        # What lay there is a left-over only if the shard is not published by now, and is still
        # the one that was read: or it is of a writer that has read a newer one.
        if self._left_over or self._dead.any:
            if self._published_by_another():
                return None
            self._target.refuse_swapped()
        note = self._note("")
        sketch = {SKETCH_KEY: self._sketch.encoded().encode()}

        def with_digest(digest: str) -> dict[bytes, bytes]:
            nonlocal note
            note = replace(note, data_xxh3=digest)
            return note.encoded() | sketch

        staged = self._file.finished(with_digest)
        self._read_back(staged, note.encoded() | sketch)
        if self._quarantines:
            self._dead.publish(note, self._left_over)
        return staged

    @property
    def staged(self) -> Staged | None:
        """What `finish` left to be published; None if that is no plain creation."""
        return self._staged if self._target.replacing is None else None

    def name_alone(self) -> bool:
        """Gives the finished file its name; whether it could have it."""
        if self._staged is None:
            return False
        replacing = self._target.replacing
        try:
            self._staged.publish() if replacing is None else self._staged.replace(replacing)
        except AlreadyExistsError:
            return False
        return True

    def conclude(self, *, named: bool) -> tuple[ShardStatus, RowCounts]:
        """Ends a finished shard.

        Args:
            named: Whether its file has its name.

        Returns:
            What `commit` does.

        Raises:
            OutputMismatchError: The name is taken by another job's file.
            AlreadyExistsError: The name was taken, and what had it is gone.
        """
        if not named and self._staged is not None and not self._published_by_another():
            raise AlreadyExistsError("something else had its name", path=self._path)
        if named and self._left_over is not None and not self._dead.any:
            self._dead.remove_left_over(self._left_over)
        if self._file.segments:
            checkpoints.clear(self._output, self._shard.name)
        return "published" if named else "already_published", self._counts

    @property
    def _quarantines(self) -> bool:
        return self._target.identity.on_bad_row == "quarantine"

    def _note(self, digest: str) -> Provenance:
        identity = self._target.identity
        return Provenance(
            fingerprint=self._target.fingerprint,
            model_sha256=identity.model_sha256,
            code_sha256=identity.code_sha256,
            input=self._shard.identity,
            counts=self._counts,
            method=self._target.method,
            batch_size=identity.batch_size,
            data_xxh3=digest,
        )

    def _read_back(self, staged: Staged, note: dict[bytes, bytes]) -> None:
        """Refuses a staged file that does not hold the rows, and the note, that were written."""
        with translated(self._path), pa.OSFile(str(staged.path), "rb") as file:
            metadata = pq.read_metadata(file)
        rows = self._counts.rows_in - self._counts.quarantined
        if metadata.num_rows != rows or not note.items() <= (metadata.metadata or {}).items():
            raise ScoringError(
                "the staged file reads back otherwise than it was written",
                path=self._path,
                expected=f"{rows} rows",
                received=f"{metadata.num_rows} rows",
            )

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


def name_all(output: Storage, finished: Sequence[ShardWriter]) -> list[bool]:
    """Gives finished shards' files their names, which takes less time together.

    Returns:
        For each whether it could have it, for `conclude`.

    Raises:
        StorageError: It could not be done. Any of the files may have its name then.
    """
    plain = {id(writer): staged for writer in finished if (staged := writer.staged) is not None}
    named = dict(zip(plain, output.publish_all([*plain.values()]), strict=True))
    return [
        named[id(writer)] if id(writer) in named else writer.name_alone() for writer in finished
    ]
