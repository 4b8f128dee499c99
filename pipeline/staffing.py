"""How many workers a job gets, and when they are begun: as soon as it is known that there is work.

What a process costs most is seconds to load TensorFlow, so it is not waited for that all is known
of the input. What is decided early stays; a worker too many is ended before it has a model.

The last bit of a float can depend on how many threads an operation is cut up for, as it does on the
machine. So a run that goes on with what another one left, of the same shards, takes as many threads
as that one, by its report, unless it is told otherwise: however few shards are left.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from pipeline import report
from pipeline.capacity import Capacity, Work, decided
from pipeline.errors import StorageError
from pipeline.machine import this_machine
from pipeline.model_file import stored_bytes
from pipeline.pool import Pool
from pipeline.runtime import begin_import, bound_threads
from pipeline.storage import storage_at
from pipeline.storage.locate import is_shared

if TYPE_CHECKING:
    from pipeline.job import Job
    from pipeline.run_state import Run
    from pipeline.stop import Stop
    from pipeline.survey import Survey
    from pipeline.team import Team


class Staff:
    """The workers of a job. A context manager, which ends them.

    To be used in one thread: worker processes end with the thread that began them.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._capacity: Capacity | None = None
        self._pool: Pool | None = None
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: Any) -> None:
        self._ends.__exit__(*exc)

    def expect(self, shards: int, size: int) -> None:
        """There is work, perhaps less than this: who can be begun is begun. Once is enough.

        Args:
            shards: Shards to score.
            size: Bytes of them.
        """
        if self._capacity is not None:
            return
        capacity = self._decided(shards, size, self._job.threads)
        before = self._unfinished.get("threads") if self._job.threads == "auto" else None
        if before in {None, capacity.threads}:
            self._begin(capacity)
        # Else it is known whose threads are taken when all shards are.

    def capacity(self, surveyed: Survey) -> Capacity:
        """What a surveyed job uses of this machine.

        Raises:
            StorageError: The model's size cannot be asked for.
        """
        if self._capacity is not None:
            return self._capacity
        pending, threads = surveyed.standing.pending, self._job.threads
        last = self._unfinished if threads == "auto" and pending else {}
        if last and last.get("plan_id") == surveyed.plan_id:
            threads = last.get("threads") or "auto"  # it was not always told
        return self._decided(len(pending), sum(shard.size for shard in pending), threads)

    def team(self, surveyed: Survey, run: Run, stop: Stop) -> Team:
        """Who prepares a run and scores its units.

        Raises:
            StorageError: The model's size cannot be asked for.
        """
        from pipeline.crew import Crew
        from pipeline.team import Alone

        capacity = self.capacity(surveyed)
        if self._capacity is None:
            self._begin(capacity)
        if self._pool is None:
            return Alone(surveyed, run, stop, capacity.threads)
        run.observer.event(
            "workers",
            f"{capacity.workers} worker processes, with pools of {capacity.threads} threads",
            workers=capacity.workers,
            threads=capacity.threads,
        )
        return self._ends.enter_context(Crew(self._pool, surveyed, run, stop))

    def _begin(self, capacity: Capacity) -> None:
        self._capacity = capacity
        if capacity.workers == 1:
            bound_threads(capacity.threads)
            begin_import()
        else:
            self._pool = self._ends.enter_context(Pool(capacity.workers, capacity.threads))

    def _decided(self, shards: int, size: int, threads: Any) -> Capacity:
        job = self._job
        work = Work(
            shards=shards,
            bytes=size,
            model_bytes=stored_bytes(job.model) if job.workers == "auto" else 0,
            shared=all(map(is_shared, (job.output, *job.input))),
        )
        return decided(job.workers, threads, this_machine(), work)

    @cached_property
    def _unfinished(self) -> dict[str, Any]:
        """The report of the last run, if that one has not finished; else nothing."""
        with suppress(StorageError):  # what it says is not worth failing for
            last = report.latest(storage_at(self._job.output))
            if last is not None and last.get("state") != "finished":
                return last
        return {}
