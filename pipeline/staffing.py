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
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from pipeline import report
from pipeline.capacity import Capacity, Work, decided
from pipeline.errors import StorageError
from pipeline.machine import this_machine
from pipeline.model_file import stored_bytes
from pipeline.pool import Pool
from pipeline.runtime import begin_import, bound_threads
from pipeline.storage import storage_at
from pipeline.storage.locate import is_shared
from pipeline.wording import counted

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pipeline.job import Job
    from pipeline.run_state import Run
    from pipeline.stop import Stop
    from pipeline.survey import Survey
    from pipeline.team import Team
    from pipeline.workers import Workers


class Engine(Protocol):
    """Where workers are, and how many; asked only when there is work."""

    def capacity(
        self, workers: int | Literal["auto"], threads: int | Literal["auto"], work: Work
    ) -> Capacity:
        """How many workers there are to be, and threads for each.

        Args:
            workers: How many were asked for.
            threads: Threads in each pool of each that were asked for, or that the run took whose
                work is continued.
            work: What is to be done.

        Raises:
            ShardscoreError: Where workers should be cannot be reached.
        """

    def workers(self, capacity: Capacity) -> AbstractContextManager[Workers] | None:
        """Begins workers; None: the one in this process is enough."""

    def described(self, capacity: Capacity) -> str:
        """What they are, in words."""


class ThisMachine:
    """The engine that needs no other: worker processes, or this one alone."""

    def capacity(
        self, workers: int | Literal["auto"], threads: int | Literal["auto"], work: Work
    ) -> Capacity:
        """What cores, memory and work are good for."""
        return decided(workers, threads, this_machine(), work)

    def workers(self, capacity: Capacity) -> AbstractContextManager[Workers] | None:
        """Processes, if several are wanted."""
        return Pool(capacity.workers, capacity.threads) if capacity.workers > 1 else None

    def described(self, capacity: Capacity) -> str:
        """What they are, in words."""
        threads = counted(capacity.threads, "thread")
        return f"{capacity.workers} worker processes, each with pools of {threads}"


class Staff:
    """The workers of a job. A context manager, which ends them.

    To be used in one thread: worker processes end with the thread that began them.

    Args:
        job: The job.
        engine: Where the workers are.
    """

    def __init__(self, job: Job, engine: Engine | None = None) -> None:
        self._job = job
        self._engine = engine or ThisMachine()
        self._capacity: Capacity | None = None
        self._workers: Workers | None = None
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
        """What a surveyed job uses.

        Raises:
            StorageError: The model's size cannot be asked for.
            ShardscoreError: Where workers should be cannot be reached.
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
        if self._workers is None:
            return Alone(surveyed, run, stop, capacity.threads)
        run.observer.event(
            "workers",
            self._engine.described(capacity),
            workers=capacity.workers,
            threads=capacity.threads,
        )
        return self._ends.enter_context(Crew(self._workers, surveyed, run, stop))

    def _begin(self, capacity: Capacity) -> None:
        self._capacity = capacity
        workers = self._engine.workers(capacity)
        if workers is None:
            bound_threads(capacity.threads)
            begin_import()
        else:
            self._workers = self._ends.enter_context(workers)

    def _decided(self, shards: int, size: int, threads: Any) -> Capacity:
        job = self._job
        work = Work(
            shards=shards,
            bytes=size,
            model_bytes=stored_bytes(job.model) if job.workers == "auto" else 0,
            shared=all(map(is_shared, (job.output, *job.input))),
        )
        return self._engine.capacity(job.workers, threads, work)

    @cached_property
    def _unfinished(self) -> dict[str, Any]:
        """The report of the last run, if that one has not finished; else nothing."""
        with suppress(StorageError):  # what it says is not worth failing for
            last = report.latest(storage_at(self._job.output))
            if last is not None and last.get("state") != "finished":
                return last
        return {}
