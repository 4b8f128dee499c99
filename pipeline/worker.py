"""A worker: prepares a job with a model of its own, then scores units and tells of them.

What a worker is told and what it answers are records without a model or an open file in them, so
that it can be in this process, in another one, or on another machine. It publishes by itself: who
hands out units distributes names, and never touches what is published. That is why a worker may be
lost, or a unit be given out twice, without harm.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from pipeline.discover import Discovery
from pipeline.plan import Standing
from pipeline.prepare import prepare
from pipeline.records import WorkUnit
from pipeline.storage import Storage, storage_at
from pipeline.unit import UnitRunner

if TYPE_CHECKING:
    from pipeline.job import JobIdentity, RunRecord
    from pipeline.listener import Listener
    from pipeline.prepare import Prepared
    from pipeline.records import FailedShard, FedColumn
    from pipeline.stop import Stop
    from pipeline.survey import Survey


@dataclass(frozen=True, slots=True)
class Order:
    """A unit of work, by the names of its shards.

    Attributes:
        shards: Their names.
        small: Whether they share a call.
        rows: Rows of them all.
        again: Whether a worker was lost that had them in hand, and may have saved some of it.
    """

    shards: tuple[str, ...]
    small: bool
    rows: int
    again: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """What a worker found while it prepared.

    Attributes:
        identity: The job's identity; None if no shard can be scored.
        probe: What the probe found.
        failed: The shards that cannot be scored.
        units: The work, in order.
        columns: How columns feed the model.
        notes: What the user should know of that, a line each.
    """

    identity: JobIdentity | None
    probe: str
    failed: tuple[FailedShard, ...]
    units: tuple[Order, ...]
    columns: tuple[FedColumn, ...]
    notes: tuple[str, ...]


class Worker:
    """Prepares, then scores unit after unit.

    Args:
        surveyed: The job, its input and its output.
        stop: May ask to stop.
    """

    def __init__(self, surveyed: Survey, stop: Stop) -> None:
        self._surveyed = surveyed
        self._stop = stop
        self._shards = {shard.name: shard for shard in surveyed.shards_at_hand}
        self._prepared: Prepared | None = None
        self._runner: UnitRunner | None = None

    def prepare(self, record: RunRecord | None = None) -> Ready:
        """Loads the model, binds its inputs, probes its methods.

        Args:
            record: The output's run.json, if it has been begun since the survey.

        Raises:
            ShardscoreError: What keeps the job from beginning.
        """
        if record is not None:
            self._surveyed = replace(self._surveyed, record=record)
        self._prepared, failed = prepare(self._surveyed)
        self._runner = None
        if self._prepared is None:
            return Ready(None, "", tuple(failed), (), (), ())
        return Ready(
            identity=self._prepared.identity,
            probe=self._prepared.proof.note,
            failed=tuple(failed),
            units=tuple(
                Order(tuple(shard.name for shard in unit.shards), unit.small, unit.rows)
                for unit in self._prepared.units
            ),
            columns=self._prepared.columns,
            notes=self._prepared.notes,
        )

    def score(self, order: Order, listener: Listener) -> None:
        """Scores a unit.

        Raises:
            StoppedError: A stop was asked for.
            ShardscoreError: Storage failed, or the output is another job's.
        """
        if self._runner is None:
            assert self._prepared is not None  # noqa: S101 - there is work only when prepared
            self._runner = UnitRunner(self._prepared, self._surveyed, listener, self._stop)
        shards = tuple(self._shards[name] for name in order.shards)
        self._runner(WorkUnit(shards, order.small), again=order.again)


def packed(surveyed: Survey) -> bytes:
    """What a worker elsewhere needs of a survey: not what is done, unless nothing else is there."""
    at = surveyed.standing
    return pickle.dumps(
        replace(
            surveyed,
            output=cast(Storage, None),  # opened anew, by its address
            found=Discovery((), ()),
            unreadable=(),
            rewritten=(),
            standing=Standing(() if at.pending else at.done, at.pending, (), at.replaced),
        )
    )


def unpacked(data: bytes) -> Survey:
    """The survey that was packed, by this program."""
    surveyed: Survey = pickle.loads(data)  # noqa: S301 - of our own process
    return replace(surveyed, output=storage_at(surveyed.job.output))
