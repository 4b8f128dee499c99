"""Who prepares a run and scores its units: a worker in this process, or several in their own.

Owns the protocol, and the worker in this process. `pipeline.crew` has the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pipeline.runtime import bound_threads
from pipeline.worker import Order, Ready, Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.job import RunRecord
    from pipeline.run_state import Run
    from pipeline.stop import Stop
    from pipeline.survey import Survey


class Team(Protocol):
    """Prepares a run and scores its units."""

    def prepare(self) -> Ready:
        """Loads the model, binds its inputs, probes its methods.

        Raises:
            StoppedError: A stop was asked for.
            ShardscoreError: What keeps the job from beginning.
        """

    def score(self, orders: Sequence[Order], record: RunRecord, *, fail_fast: bool) -> None:
        """Scores units, and tells the run what becomes of them.

        Args:
            orders: The units.
            record: The output's run.json.
            fail_fast: Whether the first shard that fails ends it.

        Raises:
            StoppedError: A stop was asked for.
            ShardscoreError: Storage failed, the output is another job's, or a worker died.
        """


class Alone:
    """One worker, in this process: units are scored in their order."""

    def __init__(self, surveyed: Survey, run: Run, stop: Stop, threads: int) -> None:
        self._worker = Worker(surveyed, stop)
        self._asked = surveyed.job.threads
        self._threads = threads
        self._run = run
        self._stop = stop

    def prepare(self) -> Ready:
        """Loads the model, binds its inputs, probes its methods."""
        if not bound_threads(self._threads) and self._asked != "auto":
            self._run.observer.event(
                "threads",
                f"threads cannot be set to {self._threads}: TensorFlow runs in this process "
                "already, with the pools that it has",
                level="warning",
            )
        ready = self._worker.prepare()
        self._stop.heed()
        return ready

    def score(self, orders: Sequence[Order], record: RunRecord, *, fail_fast: bool) -> None:  # noqa: ARG002 - what it prepared is what was recorded
        """Scores units, and tells the run what becomes of them."""
        listener = self._run.listener()
        for order in orders:
            self._stop.heed()
            self._run.at_work(0, order.shards)
            self._worker.score(order, listener)
            if fail_fast and self._run.failures:
                return
