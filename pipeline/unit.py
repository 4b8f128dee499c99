"""One unit of work, all the way from rows to published files.

A big shard is a unit of its own. It goes on behind its last checkpoint, is saved every so often at
a batch boundary, and is saved at once when the run is to end: by a signal, or because storage
fails. Small shards share a unit, are over within moments, and are not saved on their way; those
that are written within a second are published together.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from pipeline import checkpoints
from pipeline.bad_rows import most_bad_rows
from pipeline.behind import Behind
from pipeline.checkpoints import NOTHING, Resumed
from pipeline.errors import (
    DataError,
    ScoringError,
    ShardscoreError,
    StoppedError,
    StorageError,
    TooManyBadRowsError,
)
from pipeline.memory import FreedMemory
from pipeline.records import FailedShard, Outcome, WorkUnit
from pipeline.rescue import Fit, Policy
from pipeline.rows import read_batches, refuse_swapped
from pipeline.runtime import pool_threads, versions
from pipeline.scorers import scorer_for
from pipeline.spans import reach
from pipeline.storage import storage_at
from pipeline.target import Target, output_schema, published_by_another
from pipeline.writer import ShardWriter, name_all

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from pipeline.listener import Listener
    from pipeline.prepare import Prepared
    from pipeline.records import Batch, ScoredBatch, Shard
    from pipeline.stop import Stop
    from pipeline.survey import Survey

GRACE_SECONDS = 0.5
"""How long a stop waits for small shards that are scored already to be published."""

SHARDS_TOGETHER = 64
"""Small shards that are published together: each holds a staged file open until then…"""

SECONDS_TOGETHER = 1.0
"""…and none waits longer than that for the others to be written."""


@dataclass(frozen=True, slots=True)
class _Made:
    """A small shard whose files are written, and wait to be published.

    Attributes:
        shard: The shard.
        writer: Holds its files.
        rows: Rows that were written: all, unless it failed.
        failed: Why they are not to be published, if they are not.
    """

    shard: Shard
    writer: ShardWriter
    rows: int
    failed: TooManyBadRowsError | None


class UnitRunner:
    """Scores units of a prepared job, one after the other.

    Args:
        prepared: The model and how shards are scored with it.
        surveyed: The job and its output.
        run: Is told what happens.
        stop: May ask to stop.
    """

    def __init__(self, prepared: Prepared, surveyed: Survey, run: Listener, stop: Stop) -> None:
        self._prepared = prepared
        self._surveyed = surveyed
        self._output = surveyed.output
        self._run = run
        self._stop = stop
        self._versions = versions()
        self._freed = FreedMemory()
        self._fit = Fit(told=run.memory_short)
        identity = prepared.identity
        self._fingerprint = identity.fingerprint
        self._policy = Policy(
            fail=identity.on_bad_row == "fail",
            nonfinite_is_bad=identity.nonfinite == "bad",
            most_bad=self._most_bad,
            columns=identity.binding,
        )

    def _most_bad(self, shard: Shard) -> int | None:
        return most_bad_rows(self._surveyed.job.max_bad_rows, shard.rows)

    def __call__(self, unit: WorkUnit) -> None:
        """Scores one unit.

        Where a shard of a group breaks the contract, it is scored, and fails, alone, and the
        others as groups without it. What is in a batch is the same either way.

        Raises:
            StoppedError: A stop was asked for.
            ShardscoreError: Storage failed, or the output is another job's.
        """
        parts = deque([unit.shards])
        while parts:
            shards = parts.popleft()
            left, error = self._attempt(WorkUnit(shards, unit.small))
            self._freed.batch_done()  # small shards share a call as if they were one
            if error is None:
                continue
            if len(shards) == 1:
                failed = FailedShard(shards[0].name, shards[0].path, error)
                self._run.shard_failed(failed, shards[0].rows)
            else:
                self._run.shard_dropped()
                parts.extendleft(reversed(_around_culprit(left, error)))

    def _attempt(self, unit: WorkUnit) -> tuple[tuple[Shard, ...], DataError | None]:
        """Scores a unit until a shard of it breaks the contract.

        Returns:
            The shards that are not finished, and the error; none, and None, if all went well.
        """
        done = 0
        try:
            for outcome in self._small(unit) if unit.small else self._big(unit.shards[0]):
                done += 1
                if isinstance(outcome, FailedShard):
                    self._run.shard_failed(outcome, unit.shards[done - 1].rows)
                else:
                    self._run.shard_done(outcome)
        except DataError as error:
            culprit = error.detached()
        else:
            return (), None
        # Keras' loop, broken off, is a cycle that holds the stream's iterator and its threads.
        gc.collect(1)
        return unit.shards[done:], culprit

    def _small(self, unit: WorkUnit) -> Iterator[Outcome | FailedShard]:
        begun = time.monotonic()
        left = deque(unit.shards)
        with closing(self._scored(unit.shards, small=True)) as scored:
            while left:
                with ExitStack() as files:
                    made, error = self._made(left, scored, files)
                    named = name_all(self._output, [one.writer for one in made if not one.failed])
                    spent = time.monotonic() - begun
                    begun += spent
                    wrong = yield from self._told(made, iter(named), spent)
                error = wrong or error
                if error is not None:
                    try:
                        raise error
                    finally:
                        # Or the error's traceback, this frame and the error would be a circle.
                        del error, wrong, made

    def _made(
        self, left: deque[Shard], scored: Iterator[ScoredBatch], files: ExitStack
    ) -> tuple[list[_Made], ShardscoreError | None]:
        """Takes shards that are left and writes their files, until some can be published.

        Returns:
            The shards; and what was wrong with the next one, or a stop.
        """
        made: list[_Made] = []
        end = time.monotonic() + SECONDS_TOGETHER
        try:
            while left and len(made) < SHARDS_TOGETHER and time.monotonic() < end:
                shard = left[0]
                batches = islice(scored, shard.batches(self._prepared.identity.batch_size))
                target = self._target(shard, small=True)
                writer = files.enter_context(ShardWriter(self._output, target))
                rows, too_many = self._write_small(batches, writer)
                if too_many is None:
                    writer.finish()
                made.append(_Made(left.popleft(), writer, rows, too_many))
                # The call that scored this shard has scored the others too: they are finished,
                # unless that takes long.
                self._stop.heed(GRACE_SECONDS)
        except ShardscoreError as error:
            return made, error
        return made, None

    def _told(
        self, made: list[_Made], named: Iterator[bool], seconds: float
    ) -> Generator[Outcome | FailedShard, None, ShardscoreError | None]:
        """Ends shards whose files have their names, and tells of each, whatever becomes of others.

        Returns:
            The first error that is no single shard's affair.
        """
        method = self._prepared.identity.small_method
        wrong: ShardscoreError | None = None
        for one in made:
            # Told with what became of it: until then several shards are at hand.
            self._run.batch_done(one.rows)
            if one.failed:
                yield FailedShard(one.shard.name, one.shard.path, one.failed)
                continue
            try:
                status, counts = one.writer.conclude(named=next(named))
            except DataError as error:
                yield FailedShard(one.shard.name, one.shard.path, error.detached())
                continue
            except ShardscoreError as error:
                wrong = wrong or error
                continue
            self._run.bad_rows(one.shard, counts, one.writer.first_bad)
            yield Outcome(one.shard.name, status, counts, method, seconds / len(made))
        return wrong

    def _write_small(
        self, batches: Iterator[ScoredBatch], writer: ShardWriter
    ) -> tuple[int, TooManyBadRowsError | None]:
        """Writes a shard's batches. One that has too many bad rows is read on to its end: the call
        that scored it has scored the other shards too.

        Returns:
            Rows that were written, and the error if it has too many bad ones.
        """
        rows, too_many = 0, None
        for batch in batches:
            if too_many is not None:
                continue
            try:
                writer.write(batch)
                rows += batch.batch.rows
            except TooManyBadRowsError as error:
                too_many = error.detached()
        return rows, too_many

    def _big(self, shard: Shard) -> Iterator[Outcome]:
        begun = time.monotonic()
        method = self._prepared.identity.method
        counts = published_by_another(self._output, self._target(shard, small=False))
        if counts is not None:
            yield Outcome(shard.name, "already_published", counts, method)
            return
        target = self._target(shard, small=False, resumed=self._resumed(shard))
        left = shard.batches(self._prepared.identity.batch_size)
        # The last batch may be short: what is saved up to it counts as a whole one.
        left -= -(-target.resumed.rows // self._prepared.identity.batch_size)
        with (
            closing(self._scored((shard,), small=False, start=target.resumed.rows)) as scored,
            ShardWriter(self._output, target) as writer,
        ):
            self._write_big(scored, left, writer, shard)
            status, counts = writer.commit()
        self._run.bad_rows(shard, counts, writer.first_bad)
        spent = time.monotonic() - begun
        yield Outcome(shard.name, status, counts, method, spent, target.resumed.rows)

    def _write_big(
        self, scored: Iterator[ScoredBatch], left: int, writer: ShardWriter, shard: Shard
    ) -> None:
        every = self._surveyed.job.checkpoint_every
        saved = time.monotonic()
        with Behind(writer.write, own_thread=pool_threads() != 1) as writing:
            try:
                for number in range(1, left + 1):
                    batch = next(scored)
                    writing.take(batch)
                    self._run.batch_done(batch.batch.rows)
                    self._freed.batch_done()
                    # With its last batch written a shard is better published than saved.
                    if number == left or not batch.ends_call:
                        continue
                    self._stop.heed()
                    if time.monotonic() - saved >= every:
                        writing.finish()
                        self._save(writer, shard)
                        saved = time.monotonic()
                writing.finish()
            except StoppedError:
                writing.finish()
                self._save(writer, shard)
                raise
            except (StorageError, ScoringError):
                with suppress(ShardscoreError):  # what ended the run matters more
                    writing.finish()
                    self._save(writer, shard)
                raise

    def _save(self, writer: ShardWriter, shard: Shard) -> None:
        rows = writer.checkpoint()
        if rows is not None:
            self._run.checkpoint_saved(shard, rows)

    def _scored(
        self, shards: tuple[Shard, ...], *, small: bool, start: int = 0
    ) -> Generator[ScoredBatch, None, None]:
        """The shards' batches, scored; the first shard's from row `start` on."""
        identity, proof = self._prepared.identity, self._prepared.proof
        size = identity.batch_size

        def batches() -> Generator[Batch, None, None]:
            for shard in shards:
                contract = self._prepared.contracts[shard.name]
                yield from read_batches(
                    shard,
                    contract.binding,
                    contract.carried,
                    size,
                    fail_on_bad=identity.on_bad_row == "fail",
                    start=start,
                )

        count = sum(shard.batches(size) for shard in shards) - -(-start // size)
        method = identity.small_method if small else identity.method
        scorer = scorer_for(method, self._prepared.program, proof.schema, self._policy, self._fit)
        # Closed in this order: the scorer stops reading ahead before its source is closed.
        with (
            closing(batches()) as source,
            closing(scorer.score(source, count, together=small)) as scored,
        ):
            yield from scored

    def _resumed(self, shard: Shard) -> Resumed:
        spans = self._surveyed.checkpoints.get(shard.name)
        if not spans:
            return NOTHING
        found = checkpoints.resume(self._output, spans, self._target(shard, small=False).origin)
        self._run.resumed(shard, found.rows, reach(spans))
        return found

    def _target(self, shard: Shard, *, small: bool, resumed: Resumed = NOTHING) -> Target:
        identity = self._prepared.identity
        kept = self._prepared.contracts[shard.name].kept
        schema = output_schema(
            kept, self._prepared.proof.schema, with_reason=identity.on_bad_row == "null"
        )
        return Target(
            shard=shard,
            schema=schema,
            kept=tuple(kept.names),
            identity=identity,
            fingerprint=self._fingerprint,
            method=identity.small_method if small else identity.method,
            versions=self._versions,
            refuse_swapped=partial(refuse_swapped, storage_at(shard.root), shard),
            resumed=resumed,
            replacing=self._surveyed.replaced.get(shard.name),
            most_bad=self._most_bad(shard),
        )


def _around_culprit(shards: tuple[Shard, ...], error: DataError) -> list[tuple[Shard, ...]]:
    """The shards in parts, in order: the one at fault alone, or all if it is not known which."""
    places = [i for i, shard in enumerate(shards) if shard.path == error.path]
    if not places:
        return [(shard,) for shard in shards]
    place = places[0]
    parts = [shards[:place], shards[place : place + 1], shards[place + 1 :]]
    return [part for part in parts if part]
