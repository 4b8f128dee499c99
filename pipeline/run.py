"""One run: from the job to published shards. `score()` is the whole of it.

The order of a run:

    1. survey      digest the model, read run.json, list the input, see what is published
    2. stop here, without TensorFlow, if nothing is left
    3. prepare     load the model, bind its inputs, probe the methods
    4. begin       create run.json and the frozen plan
    5. unit by unit: read, score, write, publish
    6. report

A shard that breaks the contract is reported, and the others are scored. Storage that fails, or a
model that disagrees with itself, ends the run.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import closing, nullcontext, suppress
from typing import TYPE_CHECKING

from pipeline import manifest
from pipeline.errors import (
    DataError,
    ScoringError,
    ShardscoreError,
    StoppedError,
    StorageError,
)
from pipeline.ledger import freeze_plan
from pipeline.plan import listing, plan_id
from pipeline.records import FailedShard, Outcome, RunReport, WorkUnit
from pipeline.run_state import Run
from pipeline.survey import Survey, survey

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from pipeline.job import Job, JobIdentity
    from pipeline.prepare import Prepared
    from pipeline.progress import Observer
    from pipeline.records import Batch, Shard


class Stop:
    """A wish to stop, set by a signal handler and heeded between batches."""

    def __init__(self) -> None:
        self._signum: int | None = None

    def request(self, signum: int) -> None:
        """Asks the run to stop after the batch at hand."""
        self._signum = signum

    def heed(self) -> None:
        """Raises StoppedError if a stop was asked for."""
        if self._signum is not None:
            raise StoppedError(
                "stopped before all shards were scored",
                signum=self._signum,
                hint="run the same command again: it continues with what is left",
            )


def score(job: Job, observer: Observer, stop: Stop, *, fail_fast: bool = False) -> RunReport:
    """Scores what is not scored yet.

    Args:
        job: What to score with what.
        observer: Is told how it goes.
        stop: May ask the run to stop, between batches.
        fail_fast: Whether the first shard that fails ends the run.

    Returns:
        The report of the run. Its state is `finished` only if each shard is published; a run that
        was stopped, or that an error ended, carries that error.

    Raises:
        ShardscoreError: What kept the run from beginning.
    """
    surveyed = survey(job)
    run = Run(surveyed, observer)
    if surveyed.record is not None:
        # With nothing to do, an output that can only be read is as good as any.
        with suppress(StorageError) if surveyed.idle else nullcontext():
            run.keep_reports(freeze_plan(surveyed.output, surveyed.found.shards))
    for failed in (*surveyed.found.failed, *surveyed.standing.changed):
        run.shard_failed(failed)
    if surveyed.rewritten_note:
        observer.event("rewritten", surveyed.rewritten_note, level="warning")
    if surveyed.idle:
        return _end(surveyed, surveyed.record.identity if surveyed.record else None, run)
    if fail_fast and run.failures:
        return run.close()
    prepared = _prepared(surveyed, run, stop)
    if prepared is None or (fail_fast and run.failures):
        return run.close()
    try:
        run_plan(prepared, surveyed, run, stop, fail_fast=fail_fast)
    except ShardscoreError as error:
        return run.close(error)
    finally:
        observer.end()
    return _end(surveyed, prepared.identity, run)


def _end(surveyed: Survey, identity: JobIdentity | None, run: Run) -> RunReport:
    """Ends a run that has come to its end: an output that is complete is marked so."""
    if run.failures or identity is None:
        return run.close()
    shards = surveyed.found.shards
    name = plan_id(listing(shards))  # also where an output that can only be read has kept no plan
    try:
        planned = (shard.identity for shard in shards)
        manifest.complete(surveyed.output, identity.fingerprint, name, planned)
    except ShardscoreError as error:
        return run.close(error)
    return run.close()


def _prepared(surveyed: Survey, run: Run, stop: Stop) -> Prepared | None:
    from pipeline.prepare import begin, prepare  # loads TensorFlow when it is called

    run.observer.event("model_loading", f"loading {surveyed.job.model}")
    prepared, failed = prepare(surveyed)
    for shard in failed:
        run.shard_failed(shard)
    stop.heed()
    if prepared is None:
        return None
    surveyed.output.sweep()
    run.claimed(prepared, begin(surveyed, prepared))
    manifest.withdraw(surveyed.output)
    run.observer.event("probe", prepared.proof.note)
    for note in prepared.notes:
        run.observer.event("binding", note, level="warning")
    return prepared


def run_plan(
    prepared: Prepared, surveyed: Survey, run: Run, stop: Stop, *, fail_fast: bool
) -> None:
    """Scores unit after unit.

    Raises:
        StoppedError: A stop was asked for.
        ShardscoreError: Storage failed, or the output is another job's.
    """
    run.observer.begin(
        rows=sum(unit.rows for unit in prepared.units),
        shards=sum(len(unit.shards) for unit in prepared.units),
    )
    for unit in prepared.units:
        stop.heed()
        run_unit(unit, prepared, surveyed, run, stop)
        if fail_fast and run.failures:
            return


def run_unit(unit: WorkUnit, prepared: Prepared, surveyed: Survey, run: Run, stop: Stop) -> None:
    """Scores one unit, all the way to its published files.

    Where a shard of a group breaks the contract, it is scored, and fails, alone, and the others
    as groups without it. What is in a batch is the same either way.
    """
    parts = deque([unit.shards])
    while parts:
        shards = parts.popleft()
        left, error = _attempt(WorkUnit(shards, unit.small), prepared, surveyed, run, stop)
        if error is None:
            continue
        if len(shards) == 1:
            run.shard_failed(FailedShard(shards[0].name, shards[0].path, error), shards[0].rows)
        else:
            run.shard_dropped()
            parts.extendleft(reversed(_around_culprit(left, error)))


def _attempt(
    unit: WorkUnit, prepared: Prepared, surveyed: Survey, run: Run, stop: Stop
) -> tuple[tuple[Shard, ...], DataError | None]:
    """Scores a unit until a shard of it breaks the contract.

    Returns:
        The shards that are not finished, and the error; none, and None, if all went well.
    """
    done = 0
    try:
        for outcome in _scored(unit, prepared, surveyed, run, stop):
            done += 1
            run.shard_done(outcome)
    except DataError as error:
        return unit.shards[done:], error.detached()
    return (), None


def _around_culprit(shards: tuple[Shard, ...], error: DataError) -> list[tuple[Shard, ...]]:
    """The shards in parts, in order: the one at fault alone, or all if it is not known which."""
    places = [i for i, shard in enumerate(shards) if shard.path == error.path]
    # An error of predict() is about all the rows that it was given.
    if isinstance(error, ScoringError) or not places:
        return [(shard,) for shard in shards]
    place = places[0]
    parts = [shards[:place], shards[place : place + 1], shards[place + 1 :]]
    return [part for part in parts if part]


def _scored(
    unit: WorkUnit, prepared: Prepared, surveyed: Survey, run: Run, stop: Stop
) -> Iterator[Outcome]:
    from pipeline.scorers import scorer_for
    from pipeline.stream import read_batches
    from pipeline.writer import ShardWriter

    identity, schema = prepared.identity, prepared.proof.schema
    method = identity.small_method if unit.small else identity.method
    size = identity.batch_size

    def batches() -> Generator[Batch, None, None]:
        for shard in unit.shards:
            contract = prepared.contracts[shard.name]
            yield from read_batches(
                shard,
                contract.binding,
                contract.carried,
                size,
                fail_on_bad=identity.on_bad_row == "fail",
            )

    count = sum(shard.batches(size) for shard in unit.shards)
    scorer = scorer_for(method, prepared.model, schema)
    begun = time.monotonic()
    # Closed in this order: the scorer stops reading ahead before its source is closed.
    with (
        closing(batches()) as source,
        closing(scorer.score(source, count, together=unit.small)) as scored,
    ):
        for shard in unit.shards:
            kept = prepared.contracts[shard.name].kept
            with ShardWriter(surveyed.output, shard, kept, schema, identity, method) as writer:
                for _ in range(shard.batches(size)):
                    stop.heed()
                    batch = next(scored)
                    writer.write(batch)
                    run.batch_done(batch.batch.rows)
                status, counts = writer.commit()
            spent = time.monotonic() - begun
            begun += spent
            yield Outcome(shard.name, status, counts, method, spent)
