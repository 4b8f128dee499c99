"""How many workers a surveyed job gets, and who they are.

The last bit of a float can depend on how many threads an operation is cut up for, as it does on the
machine. So a run that goes on with what another one left, of the same shards, takes as many threads
as that one, by its report, unless it is told otherwise: however few shards are left.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline import report
from pipeline.capacity import Capacity, Work, decided
from pipeline.crew import Crew
from pipeline.machine import this_machine
from pipeline.model_file import stored_bytes
from pipeline.plan import listing, plan_id
from pipeline.pool import Pool
from pipeline.storage.locate import is_shared
from pipeline.team import Alone, Team

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.run_state import Run
    from pipeline.stop import Stop
    from pipeline.survey import Survey


def capacity_for(surveyed: Survey) -> Capacity:
    """What a job uses of this machine.

    Raises:
        StorageError: The model's size cannot be asked for.
    """
    job, pending = surveyed.job, surveyed.standing.pending
    work = Work(
        shards=len(pending),
        bytes=sum(shard.size for shard in pending),
        model_bytes=stored_bytes(job.model) if job.workers == "auto" else 0,
        shared=all(map(is_shared, {job.output, *(shard.root for shard in pending)})),
    )
    threads = _threads_before(surveyed) if job.threads == "auto" else job.threads
    return decided(job.workers, threads or "auto", this_machine(), work)


def _threads_before(surveyed: Survey) -> int | None:
    """The threads of the run whose work this one continues, if it does."""
    if surveyed.record is None or not surveyed.standing.pending:
        return None
    last = report.latest(surveyed.output)
    if last is None or last.get("state") == "finished":
        return None
    same = last.get("plan_id") == plan_id(listing(surveyed.found.shards))
    return last.get("threads") if same else None  # it was not always told


@contextmanager
def team_for(surveyed: Survey, run: Run, stop: Stop) -> Iterator[Team]:
    """Who prepares a run and scores its units."""
    capacity = capacity_for(surveyed)
    run.staffed(capacity.workers, capacity.threads)
    if capacity.workers == 1:
        yield Alone(surveyed, run, stop, capacity.threads)
        return
    run.observer.event(
        "workers",
        f"{capacity.workers} worker processes, with pools of {capacity.threads} threads",
        workers=capacity.workers,
        threads=capacity.threads,
    )
    with Pool(capacity.workers, capacity.threads) as pool:
        crew = Crew(pool, surveyed, run, stop)
        yield crew
        crew.dismiss()
