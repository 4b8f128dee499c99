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

import os
import secrets
import time
from collections import deque
from contextlib import closing, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipeline import report
from pipeline.errors import (
    DataError,
    ScoringError,
    ShardscoreError,
    StoppedError,
    StorageError,
)
from pipeline.ledger import freeze_plan
from pipeline.memory import peak_bytes, resident_bytes
from pipeline.records import FailedShard, Outcome, RowCounts, RunReport, RunState, WorkUnit
from pipeline.runtime import versions
from pipeline.survey import Survey, survey

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from pipeline.job import Job
    from pipeline.prepare import Prepared
    from pipeline.progress import Observer
    from pipeline.records import Batch, Shard

SNAPSHOT_SECONDS = 10.0
"""How often a run's report is renewed while it goes on."""


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


class Run:
    """The state of one run: its counters, its outcomes, and the report made from them."""

    def __init__(self, surveyed: Survey, observer: Observer) -> None:
        self.observer = observer
        self._output = surveyed.output
        self._begun = self._saved = time.monotonic()
        self._outcomes: list[Outcome] = []
        self._counts = RowCounts()
        self._in_flight = 0
        self._claimed = False
        self._idle = surveyed.idle
        started = datetime.now(UTC)
        self._report = RunReport(
            run_id=f"{started:%Y%m%dT%H%M%S.%fZ}-{os.getpid()}-{secrets.token_hex(2)}",
            state="running",
            started=started.isoformat(timespec="seconds"),
            seconds=0.0,
            output=surveyed.output.url,
            plan_id="",
            fingerprint=surveyed.record.identity.fingerprint if surveyed.record else "",
            model_sha256=surveyed.model_sha256,
            batch_size=surveyed.record.identity.batch_size if surveyed.record else 0,
            probe=surveyed.record.probe if surveyed.record else "",
            shards=surveyed.shards,
            shards_done_before=len(surveyed.standing.done),
            counts=RowCounts(),
            outcomes=(),
            memory_after_load=0,
            memory_peak=0,
            versions=versions(),
        )

    @property
    def failures(self) -> int:
        """Shards that failed so far."""
        return sum(outcome.status == "failed" for outcome in self._outcomes)

    def keep_reports(self, plan_id: str) -> None:
        """The output is this job's: from here on the run's report is kept there."""
        self._report = replace(self._report, plan_id=plan_id)
        self._claimed = True

    def claimed(self, prepared: Prepared, plan_id: str) -> None:
        """The output is this job's, and scoring begins."""
        self._report = replace(
            self._report,
            fingerprint=prepared.identity.fingerprint,
            batch_size=prepared.identity.batch_size,
            probe=prepared.proof.note,
            memory_after_load=resident_bytes(),
        )
        self.keep_reports(plan_id)
        report.save(self._output, self._now("running"))

    def batch_done(self, rows: int) -> None:
        """A batch of the shard at hand was written to its staged file."""
        self._in_flight += rows
        self.observer.advance(rows)
        if time.monotonic() - self._saved >= SNAPSHOT_SECONDS:
            self._saved = time.monotonic()
            report.save(self._output, self._now("running"))

    def shard_done(self, outcome: Outcome) -> None:
        """A shard was published."""
        self._in_flight = 0
        self._outcomes.append(outcome)
        self._counts += outcome.counts
        self.observer.shard(outcome)

    def shard_failed(self, failed: FailedShard, rows: int = 0) -> None:
        """A shard cannot be scored; `rows` are the rows that were to be."""
        self.observer.advance(rows - self._in_flight)
        self._in_flight = 0
        error = failed.error.with_path(failed.path).detached()
        outcome = Outcome(failed.name, "failed", error=error)
        self._outcomes.append(outcome)
        self.observer.shard(outcome)

    def shard_dropped(self) -> None:
        """The shard at hand will be scored again from its first row."""
        self.observer.advance(-self._in_flight)
        self._in_flight = 0

    def close(self, error: ShardscoreError | None = None) -> RunReport:
        """Ends the run and keeps its report."""
        final = self._now("finished", error)
        done = final.shards_done_before + len(final.outcomes) - len(final.failed)
        if isinstance(error, StoppedError):
            final = replace(final, state="stopped")
        elif error is not None:
            final = replace(final, state="broken")
        elif done < final.shards:
            final = replace(final, state="incomplete")
        if self._claimed:
            try:
                report.save(self._output, final)
            except ShardscoreError as failure:
                if self._idle:
                    return final
                # What ended the run matters more than that its report could not be written.
                return replace(final, state="broken", error=error or failure)
        return final

    def _now(self, state: RunState, error: ShardscoreError | None = None) -> RunReport:
        return replace(
            self._report,
            state=state,
            seconds=time.monotonic() - self._begun,
            counts=self._counts,
            outcomes=tuple(self._outcomes),
            memory_peak=peak_bytes(),
            error=error,
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
    if surveyed.idle or (fail_fast and run.failures):
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
