"""What a worker does when it is told to, in a process of this machine as on any other.

    order                                  answer
    ("prepare", survey, run record | None) ("prepared", Ready, memory)
    ("score", Order)                       ("done", memory), when all of it has been told
    any                                    what `telling.ending` makes of an error; the worker ends

`memory` is (resident bytes when the model was loaded, highest resident bytes).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.memory import peak_bytes, resident_bytes
from pipeline.worker import Worker, unpacked

if TYPE_CHECKING:
    from pipeline.job import RunRecord
    from pipeline.stop import Stop
    from pipeline.telling import Telling
    from pipeline.worker import Order
    from pipeline.workers import Answer


class Service:
    """A worker that holds a model, and answers orders.

    Args:
        packed: The survey of the job that it works for.
        telling: Is told what becomes of a unit's shards.
        stop: May ask to stop.
    """

    def __init__(self, packed: bytes, telling: Telling, stop: Stop) -> None:
        self.surveyed = unpacked(packed)
        self._telling = telling
        self._worker = Worker(self.surveyed, stop)
        self._loaded = 0

    def prepare(self, record: RunRecord | None) -> Answer:
        """Loads the model, binds its inputs, probes its methods.

        Args:
            record: The output's run.json, if it has been begun since the survey.

        Raises:
            ShardscoreError: What keeps the job from beginning.
        """
        ready = self._worker.prepare(record)
        self._loaded = resident_bytes()
        return "prepared", ready, self._memory

    def score(self, order: Order) -> Answer:
        """Scores a unit.

        Raises:
            StoppedError: A stop was asked for; what was scored is saved.
            ShardscoreError: Storage failed, or the output is another job's.
        """
        try:
            self._worker.score(order, self._telling)
        finally:
            self._telling.flush()
        return "done", self._memory

    @property
    def _memory(self) -> tuple[int, int]:
        return self._loaded, peak_bytes()
