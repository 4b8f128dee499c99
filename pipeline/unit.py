"""One unit of work, scored and told of: a big shard (`big`), or small ones that share a call
(`small`).

Owns what becomes of a unit in which a shard breaks the contract: that shard fails, alone, and the
others are scored without it.
"""

from __future__ import annotations

import gc
from collections import deque
from typing import TYPE_CHECKING

from pipeline.big import BigShards
from pipeline.errors import DataError
from pipeline.memory import FreedMemory
from pipeline.records import FailedShard, WorkUnit
from pipeline.scoring import Scoring
from pipeline.small import SmallShards

if TYPE_CHECKING:
    from pipeline.listener import Listener
    from pipeline.prepare import Prepared
    from pipeline.records import Shard
    from pipeline.stop import Stop
    from pipeline.survey import Survey


class UnitRunner:
    """Scores units of a prepared job, one after the other.

    Args:
        prepared: The model and how shards are scored with it.
        surveyed: The job and its output.
        run: Is told what happens.
        stop: May ask to stop.
    """

    def __init__(self, prepared: Prepared, surveyed: Survey, run: Listener, stop: Stop) -> None:
        self._run = run
        scoring = Scoring(prepared, surveyed, run)
        self._freed = FreedMemory()
        self._big = BigShards(scoring, run, stop, self._freed)
        self._small = SmallShards(scoring, run, stop)

    def __call__(self, unit: WorkUnit, *, again: bool = False) -> None:
        """Scores one unit.

        Where a shard of a group breaks the contract, it is scored, and fails, alone, and the
        others as groups without it. What is in a batch is the same either way.

        Args:
            unit: The unit.
            again: Whether another worker may have saved some of it since the survey.

        Raises:
            StoppedError: A stop was asked for.
            ShardscoreError: Storage failed, or the output is another job's.
        """
        parts = deque([unit.shards])
        while parts:
            shards = parts.popleft()
            left, error = self._attempt(WorkUnit(shards, unit.small), again=again)
            self._freed.batch_done()  # small shards share a call as if they were one
            if error is None:
                continue
            if len(shards) == 1:
                failed = FailedShard(shards[0].name, shards[0].path, error)
                self._run.shard_failed(failed, shards[0].rows)
            else:
                self._run.shard_dropped()
                parts.extendleft(reversed(_around_culprit(left, error)))

    def _attempt(
        self, unit: WorkUnit, *, again: bool
    ) -> tuple[tuple[Shard, ...], DataError | None]:
        """Scores a unit until a shard of it breaks the contract.

        Returns:
            The shards that are not finished, and the error; none, and None, if all went well.
        """
        done = 0
        shards = unit.shards
        try:
            for outcome in (
                self._small.outcomes(shards)
                if unit.small
                else self._big.outcomes(shards[0], again=again)
            ):
                done += 1
                if isinstance(outcome, FailedShard):
                    self._run.shard_failed(outcome, shards[done - 1].rows)
                else:
                    self._run.shard_done(outcome)
        except DataError as error:
            culprit = error.detached()
        else:
            return (), None
        # Keras' loop, broken off, is a cycle that holds the stream's iterator and its threads.
        gc.collect(1)
        return shards[done:], culprit


def _around_culprit(shards: tuple[Shard, ...], error: DataError) -> list[tuple[Shard, ...]]:
    """The shards in parts, in order: the one at fault alone, or all if it is not known which."""
    places = [i for i, shard in enumerate(shards) if shard.path == error.path]
    if not places:
        return [(shard,) for shard in shards]
    place = places[0]
    parts = [shards[:place], shards[place : place + 1], shards[place + 1 :]]
    return [part for part in parts if part]
