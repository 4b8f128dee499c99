"""How many workers a surveyed job gets, and who they are."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.capacity import Capacity, Work, decided
from pipeline.crew import Crew
from pipeline.machine import this_machine
from pipeline.model_file import stored_bytes
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
    return decided(job.workers, job.threads, this_machine(), work)


@contextmanager
def team_for(surveyed: Survey, run: Run, stop: Stop) -> Iterator[Team]:
    """Who prepares a run and scores its units."""
    capacity = capacity_for(surveyed)
    run.staffed(capacity.workers, capacity.threads)
    if capacity.workers == 1:
        yield Alone(surveyed, run, stop, capacity.threads)
        return
    with Pool(capacity.workers, capacity.threads) as pool:
        yield Crew(pool, surveyed, run, stop)
