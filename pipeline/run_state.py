"""Where a run stands: its counters, its outcomes, and the report made from them.

Owns the `RunReport` of a run from its beginning to its end, keeps it in the output while the run
goes on, and tells the observer. It decides nothing: `pipeline.run` says what happened.
"""

from __future__ import annotations

import os
import platform
import secrets
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import report
from pipeline.errors import ShardscoreError, StoppedError, printable
from pipeline.memory import peak_bytes, resident_bytes
from pipeline.records import BadRow, FailedShard, Outcome, RowCounts, RunReport, RunState
from pipeline.runtime import versions
from pipeline.storage.locate import has_scheme
from pipeline.timeline import Point, Timeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.drift import Drift
    from pipeline.job import Job, JobIdentity
    from pipeline.progress import Observer
    from pipeline.records import Invocation, Shard
    from pipeline.survey import Survey

SNAPSHOT_SECONDS = 10.0
"""How often a run's report is renewed while it goes on."""


class Run:
    """The state of one run: its counters, its outcomes, and the report made from them.

    Args:
        surveyed: What is known before it.
        observer: Is told how it goes.
        invocation: How it was called for.
    """

    def __init__(
        self, surveyed: Survey, observer: Observer, invocation: Invocation | None = None
    ) -> None:
        self.observer = observer
        self._output = surveyed.output
        self._begun = self._saved = time.monotonic()
        self._outcomes: list[Outcome] = []
        self._counts = RowCounts()
        self._scoring_since: float | None = None
        self._workers_memory: dict[int, tuple[int, int]] = {}
        self._workers_resident: dict[int, int] = {}
        self._timeline = Timeline()
        self._rows = 0
        self._claimed = self._warned = False
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
            inputs=tuple(map(_absolute, surveyed.job.input)),
            share=_share(surveyed.job),
            host=platform.node(),
            invocation=invocation,
        )
        self._look()

    def begun(self) -> None:
        """What was found at the beginning is known."""
        self.observer.standing(self._now("running"))

    @property
    def plan_id(self) -> str:
        """The id of the plan under which reports are kept; empty as long as they are not."""
        return self._report.plan_id

    @property
    def failures(self) -> int:
        """Shards that failed so far."""
        return sum(outcome.status == "failed" for outcome in self._outcomes)

    def keep_reports(self, plan_id: str) -> None:
        """The output is this job's: from here on the run's report is kept there."""
        self._report = replace(self._report, plan_id=plan_id)
        self._claimed = True

    def claimed(self, identity: JobIdentity, probe: str, plan_id: str) -> None:
        """The output is this job's, and scoring begins.

        Args:
            identity: The job's identity.
            probe: What the probe found.
            plan_id: The id of the frozen plan.
        """
        self._report = replace(
            self._report,
            fingerprint=identity.fingerprint,
            batch_size=identity.batch_size,
            probe=probe,
            memory_after_load=resident_bytes(),
        )
        self.keep_reports(plan_id)
        report.save(self._output, self._now("running"))

    def staffed(self, workers: int, threads: int) -> None:
        """So many workers are to score, with so many threads in each pool."""
        self._report = replace(self._report, workers=workers, threads=threads)

    def scoring(self, rows: int, shards: int) -> None:
        """Scoring begins: that much is to do."""
        self._scoring_since = time.monotonic()
        self._look()
        self.observer.begin(rows=rows, shards=shards)

    def at_work(self, worker: int, shards: Sequence[str]) -> None:
        """A worker has taken these shards in hand; none: it has none in hand."""
        self.observer.at_work(worker, shards)

    def listener(self) -> AtHand:
        """Who is told of the units that one worker scores."""
        return AtHand(self)

    def advance(self, rows: int) -> None:
        """That many more rows were scored or set aside."""
        self.observer.advance(rows)
        self._rows += rows
        clock = time.monotonic()
        if self._timeline.is_due(clock - self._begun):
            self._look()
        if clock - self._saved >= SNAPSHOT_SECONDS:
            self._saved = clock
            now = self._now("running")
            report.save(self._output, now)
            self.observer.standing(now)

    def measured(self, worker: int, after_load: int, peak: int) -> None:
        """A worker process tells of its memory.

        Args:
            worker: Its number.
            after_load: Resident bytes when its model was loaded.
            peak: Highest resident bytes so far.
        """
        self._workers_memory[worker] = (after_load, peak)

    def resident(self, worker: int, resident: int) -> None:
        """A worker process tells how many bytes of it are resident now; 0: it has ended."""
        self._workers_resident[worker] = resident

    def _look(self) -> None:
        seconds = time.monotonic() - self._begun
        resident = resident_bytes() + sum(self._workers_resident.values())
        self._timeline.add(Point(seconds, self._rows, resident))

    def many_bad_rows(self, shard: Shard, counts: RowCounts, first: BadRow | None) -> None:
        """A shard was published; that most of its rows are bad ones is worth a word, once a run."""
        if self._warned or first is None or 2 * counts.bad <= counts.rows_in:
            return
        self._warned = True
        self.observer.event(
            "many_bad_rows",
            f"{counts.bad:,} of the {counts.rows_in:,} rows of {printable(shard.name)} are bad "
            f"ones; row {first.row:,}: {printable(first.reason)}",
            level="warning",
            shard=shard.name,
            row=first.row,
            reason=first.reason,
        )

    def memory_short(self, rows: int, fitting: int) -> None:
        """A batch did not fit into memory; each worker finds that out, and it is told once."""
        if 0 < self._report.fitting_batch_rows <= fitting:
            return
        self._report = replace(self._report, fitting_batch_rows=fitting)
        self.observer.event(
            "memory_short",
            f"a batch of {rows:,} rows does not fit into memory: from here on at most {fitting:,} "
            "are scored in a call; batches and what is saved are as they were",
            level="warning",
            rows=rows,
            fitting=fitting,
        )

    def shard_done(self, outcome: Outcome) -> None:
        """A shard was published, by this run or by another meanwhile."""
        self._outcomes.append(outcome)
        self._counts += outcome.counts
        self.observer.shard(outcome)

    def shard_failed(self, failed: FailedShard) -> None:
        """A shard cannot be scored."""
        error = failed.error.with_path(failed.path).detached()
        outcome = Outcome(failed.name, "failed", error=error)
        self._outcomes.append(outcome)
        self.observer.shard(outcome)

    def compared(self, drift: Drift | None) -> None:
        """The predictions were held against those of the baseline, if there is one."""
        self._report = replace(self._report, drift=drift)

    def close(self, error: ShardscoreError | None = None) -> RunReport:
        """Ends the run, keeps its report and tells of it."""
        final = self._closed(error)
        self.observer.standing(final)
        return final

    def _closed(self, error: ShardscoreError | None) -> RunReport:
        self._look()
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
        after_load, workers = self._report.memory_after_load, self._workers_memory.values()
        now, since = time.monotonic(), self._scoring_since
        return replace(
            self._report,
            state=state,
            seconds=now - self._begun,
            scoring_seconds=0.0 if since is None else now - since,
            counts=self._counts,
            outcomes=tuple(self._outcomes),
            memory_after_load=after_load + sum(loaded for loaded, _ in workers),
            memory_peak=peak_bytes() + sum(peak for _, peak in workers),
            error=error,
            timeline=self._timeline.points(),
        )


class AtHand:
    """The units that one worker scores, one after the other: a run's `Listener`.

    Keeps what is known of the shard at hand, so that what is shown stays right when it fails.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._in_flight = 0
        self._resumed = 0

    def batch_done(self, rows: int) -> None:
        """A batch of the shard at hand was written to its staged file."""
        self._in_flight += rows
        self._run.advance(rows)

    def resumed(self, shard: Shard, rows: int, expected: int) -> None:
        """A shard goes on behind its last checkpoint."""
        self._resumed = expected
        self._in_flight += rows - expected
        self._run.advance(rows - expected)
        name = printable(shard.name)
        self._run.observer.event(
            "resumed",
            f"{name} goes on at row {rows:,} of {shard.rows:,}"
            if rows >= expected
            else f"{name} begins again at row {rows:,} of {shard.rows:,}: its checkpoints "
            "are damaged, or of another version of the shard or of the programs that score",
            level="info" if rows >= expected else "warning",
            shard=shard.name,
            row=rows,
        )

    def checkpoint_saved(self, shard: Shard, rows: int) -> None:
        """A checkpoint of the shard at hand holds that many of its rows."""
        self._run.observer.event(
            "checkpoint",
            f"saved {rows:,} of {shard.rows:,} rows of {printable(shard.name)}",
            level="debug",
            shard=shard.name,
            rows=rows,
        )

    def bad_rows(self, shard: Shard, counts: RowCounts, first: BadRow | None) -> None:
        """A shard was published."""
        self._run.many_bad_rows(shard, counts, first)

    def memory_short(self, rows: int, fitting: int) -> None:
        """A batch did not fit into memory; from now on that many rows are scored in a call."""
        self._run.memory_short(rows, fitting)

    def shard_done(self, outcome: Outcome) -> None:
        """A shard was published, by this run or by another meanwhile."""
        if outcome.status == "already_published" and not self._in_flight:
            self._run.advance(outcome.counts.rows_in - self._resumed)
        self._in_flight = self._resumed = 0
        self._run.shard_done(outcome)

    def shard_failed(self, failed: FailedShard, rows: int = 0) -> None:
        """A shard cannot be scored; `rows` are the rows that were to be."""
        self._run.advance(rows - self._in_flight - self._resumed)
        self._in_flight = self._resumed = 0
        self._run.shard_failed(failed)

    def shard_dropped(self) -> None:
        """The shard at hand will be scored again from its first row."""
        self._run.advance(-self._in_flight)
        self._in_flight = self._resumed = 0


def _share(job: Job) -> tuple[int, int] | None:
    if job.shard_index is None or job.shard_count is None:
        return None
    return job.shard_index, job.shard_count


def _absolute(address: str) -> str:
    """An input's address as `verify` can use it, from wherever it is run."""
    return address if has_scheme(address) else str(Path(address).absolute())
