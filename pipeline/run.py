"""One run: from the job to published shards. `score()` is the whole of it.

The order of a run:

    1. survey      digest the model, read run.json, list the input, see what is published; under a
                   plan id, freeze the listing, or take the one that is frozen; as soon as there is
                   work: claim the output, and begin what takes long to come up
    2. stop here, without TensorFlow, if nothing is left
    3. prepare     load the model, bind its inputs, probe the methods: here, or in workers
    4. begin       create run.json and the frozen plan
    5. unit by unit: read, score, write, publish
    6. report

A shard that breaks the contract is reported, and the others are scored. Storage that fails, or a
model that disagrees with itself, ends the run.
"""

from __future__ import annotations

from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self

from pipeline import checkpoints, frozen, manifest
from pipeline.errors import BusyError, ShardscoreError, StorageError
from pipeline.guard import Guard
from pipeline.progress import Silent
from pipeline.run_state import Run
from pipeline.staffing import Staff
from pipeline.stop import Stop
from pipeline.survey import Survey, survey

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.job import Job, JobIdentity, RunRecord
    from pipeline.progress import Observer
    from pipeline.records import Invocation, RunReport
    from pipeline.staffing import Engine
    from pipeline.storage import Storage
    from pipeline.team import Team
    from pipeline.worker import Ready


def score(
    job: Job,
    observer: Observer | None = None,
    stop: Stop | None = None,
    *,
    fail_fast: bool = False,
    engine: Engine | None = None,
    invocation: Invocation | None = None,
) -> RunReport:
    """Scores what is not scored yet.

    Args:
        job: What to score with what.
        observer: Is told how it goes; None: nobody is.
        stop: May ask the run to stop, between batches; None: nothing does.
        fail_fast: Whether the first shard that fails ends the run.
        engine: Where the workers are; None: on this machine.
        invocation: How the run was called for, for its report; None: by a program.

    Returns:
        The report of the run. Its state is `finished` only if each shard is published; a run that
        was stopped, or that an error ended, carries that error.

    Raises:
        ShardscoreError: What kept the run from beginning.
    """
    observer, stop = observer or Silent(), stop or Stop()
    begun = partial(_begun, observer=observer, invocation=invocation)
    guard = Guard.of(job)  # a baseline that is none is found before the work, not after it
    with Claim(job.shard_index) as claim, Staff(job, engine) as staff:
        surveyed = _surveyed(job, staff, claim)
        if surveyed.idle:
            return _idle(surveyed, begun, claim, guard)
        claim.make(surveyed.output)
        return _run(surveyed, staff, begun, stop, guard, fail_fast=fail_fast)


def _surveyed(job: Job, staff: Staff, claim: Claim) -> Survey:
    """The survey; under a plan id, of the listing that all runs with that id share."""
    # A share may turn out to have no work: it claims when all is known.
    early = claim.make if job.shard_index is None else None
    surveyed = survey(job, staff.expect, claim=early)
    if job.plan_id is None or surveyed.plan is not None:
        return surveyed
    plan = frozen.freeze(surveyed.output, job.plan_id, surveyed.found)
    if plan is not None:
        return replace(surveyed, plan=plan)
    return survey(job, staff.expect, claim=early)


class Claim:
    """A run's claim on its output, once it is made. A context manager, which gives it up.

    Args:
        index: Which share of the output is claimed; None: all of it.
    """

    def __init__(self, index: int | None) -> None:
        self._index = index
        self._made = False
        self._alone = False
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._ends.close()

    def make(self, output: Storage) -> None:
        """Claims an output. Once is enough.

        Raises:
            BusyError: Another run has claimed it.
            StorageError: It cannot be written to.
        """
        if self._made:
            return
        hold = output.hold("run.lock", shared=self._index is not None)
        self._ends.enter_context(hold)
        # Where a storage cannot hold anything, nothing is what it gives.
        self._alone = self._index is None and not isinstance(hold, nullcontext)
        if self._index is not None:
            self._ends.enter_context(output.hold(f"index-{self._index}.lock"))
        self._made = True

    @property
    def alone(self) -> bool:
        """Whether it keeps all other runs away: none on an object store does, nor a share's."""
        return self._alone


def _idle(
    surveyed: Survey, begun: Callable[[Survey], Run], claim: Claim, guard: Guard | None
) -> RunReport:
    """A run with nothing to score: takes away what a run left that died after its last publish.

    That is no reason to fail: the output may be one that can only be read, or another run may be
    at work on it, whose affair it is then.
    """
    alone = True
    if surveyed.record is not None:
        try:
            with suppress(StorageError):
                claim.make(surveyed.output)
                _sweep(surveyed)
        except BusyError:
            alone = False
    run = begun(surveyed)
    identity = surveyed.record.identity if surveyed.record else None
    if not alone or (
        surveyed.rewritten and not claim.alone and manifest.vouched(surveyed.output) is None
    ):
        # Marks that are missing may be missing since another run replaces what was rewritten.
        return run.close()
    return _end(surveyed, identity, run, guard)


def _sweep(surveyed: Survey) -> None:
    surveyed.output.sweep()
    # What was written again may be what another run scores again.
    done = {shard.name for shard in surveyed.standing.done} - set(surveyed.rewritten)
    checkpoints.sweep(surveyed.output, done)


def _begun(surveyed: Survey, observer: Observer, invocation: Invocation | None) -> Run:
    """A run that has told what it found."""
    run = Run(surveyed, observer, invocation)
    if surveyed.record is not None:
        # With nothing to do, an output that can only be read is as good as any.
        with suppress(StorageError) if surveyed.idle else nullcontext():
            run.keep_reports(surveyed.freeze())
    for failed in (*surveyed.unreadable, *surveyed.standing.changed):
        run.shard_failed(failed)
    if surveyed.rewritten_note:
        observer.event("rewritten", surveyed.rewritten_note, level="warning")
    run.begun()
    return run


def _run(
    surveyed: Survey,
    staff: Staff,
    begun: Callable[[Survey], Run],
    stop: Stop,
    guard: Guard | None,
    *,
    fail_fast: bool,
) -> RunReport:
    run = begun(surveyed)
    capacity = staff.capacity(surveyed)
    # Told whether or not it comes to that: a run that goes on with this one's work asks for it.
    run.staffed(capacity.workers, capacity.threads)
    if fail_fast and run.failures:
        return run.close()
    team = staff.team(surveyed, run, stop)
    ready = _prepared(surveyed, run, team)
    if ready.identity is None or (fail_fast and run.failures):
        return run.close()
    record = _claimed(surveyed, run, ready, ready.identity)
    run.scoring(_rows_left(surveyed, ready), sum(len(order.shards) for order in ready.units))
    try:
        team.score(ready.units, record, fail_fast=fail_fast)
    except ShardscoreError as error:
        return run.close(error)
    finally:
        run.observer.end()
    return _end(surveyed, ready.identity, run, guard)


def _end(
    surveyed: Survey, identity: JobIdentity | None, run: Run, guard: Guard | None
) -> RunReport:
    """Ends a run that has come to its end: an output that is complete is marked so."""
    if run.failures or surveyed.found.failed or identity is None:
        return run.close()
    shards = surveyed.found.shards
    name = run.plan_id or surveyed.plan_id  # an output that can only be read keeps no plan
    failure: ShardscoreError | None = None
    try:
        manifest.complete(
            surveyed.output,
            identity.fingerprint,
            name,
            shards,
            idle=surveyed.idle,
            shared=surveyed.job.shard_count is not None,
            accept=None if guard is None else guard.accept,
        )
    except ShardscoreError as error:
        failure = error
    if guard is not None:
        run.compared(guard.drift)
    return run.close(failure)


def _prepared(surveyed: Survey, run: Run, team: Team) -> Ready:
    run.observer.event("model_loading", f"loading {surveyed.job.model}")
    ready = team.prepare()
    for shard in ready.failed:
        run.shard_failed(shard)
    return ready


def _claimed(surveyed: Survey, run: Run, ready: Ready, identity: JobIdentity) -> RunRecord:
    """The output is claimed for what was found, or proved to be that already."""
    from pipeline.prepare import begin

    _sweep(surveyed)
    record, plan = begin(surveyed, identity, ready.probe, ready.columns)
    run.claimed(identity, ready.probe, plan)
    manifest.withdraw(surveyed.output)
    # How big shards stream is of no interest to people who have none.
    streams = not all(order.small for order in ready.units)
    run.observer.event("probe", ready.probe, level="info" if streams else "debug")
    for note in ready.notes:
        run.observer.event("binding", note)  # what plan says, and the job allows
    return record


def _rows_left(surveyed: Survey, ready: Ready) -> int:
    saved = {shard.name: surveyed.rows_saved(shard) for shard in surveyed.standing.pending}
    return sum(order.rows - sum(saved[name] for name in order.shards) for order in ready.units)
