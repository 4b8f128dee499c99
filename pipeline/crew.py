"""Several worker processes on one machine: who does what, and what comes of it.

The coordinator's side: this process hands out units, keeps the account of the run, and never
imports TensorFlow. All workers prepare at once, each for itself; the first that is ready speaks for
all, and the output is claimed by what it found. The others must have found the same, or prepare
again by the record. Units go to whoever is free, the biggest first, so that all end together.

A worker that dies takes nothing with it but what it had in hand: the others go on with the rest,
and the run ends with what became of it. That unit is not given to another one, which would die of
it too.
"""

from __future__ import annotations

import signal
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from pipeline.errors import (
    ModelError,
    ShardscoreError,
    StoppedError,
    WorkerDiedError,
    printable,
)
from pipeline.worker import Order, Ready, packed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.job import RunRecord
    from pipeline.pool import Died, Pool
    from pipeline.run_state import AtHand, Run
    from pipeline.stop import Stop
    from pipeline.survey import Survey

POLL_SECONDS = 0.1
"""How long a wish to stop may go unnoticed."""


_AGAIN = "run the same command again: it continues with what is left"


class WorkerBugError(Exception):
    """What no one expected was raised in a worker; its traceback there is the text."""


class Crew:
    """Workers in processes of their own. A context manager, which tells those to leave that can.

    Args:
        pool: The processes; this one begins to talk to them.
        surveyed: The job, its input and its output.
        run: Is told what happens.
        stop: May ask to stop.
    """

    def __init__(self, pool: Pool, surveyed: Survey, run: Run, stop: Stop) -> None:
        self._pool = pool
        self._run = run
        self._stop = stop
        self._listeners: dict[int, AtHand] = {n: run.listener() for n in pool.alive}
        self._prepared: dict[int, Ready] = {}
        self._again: set[int] = set()
        self._free: deque[int] = deque()
        self._busy: dict[int, Order] = {}
        self._record: RunRecord | None = None
        self._error: BaseException | None = None
        self._stopped: StoppedError | None = None
        self._died: list[WorkerDiedError] = []
        self._stopping = False
        order = packed(surveyed)
        wanted = len(surveyed.standing.pending)
        for place, number in enumerate(pool.alive):
            if place < max(1, wanted):
                pool.tell(number, "prepare", order)
            else:
                pool.kill(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is None:
            self.dismiss()

    def prepare(self) -> Ready:
        """What the first worker found that is ready.

        Raises:
            StoppedError: A stop was asked for.
            ShardscoreError: What keeps the job from beginning.
        """
        while not self._prepared:
            self._stop.heed()
            self._hear()
            if self._error is not None:
                raise self._error
            if not self._pool.alive:
                raise self._died[0]
        self._stop.heed()
        return next(iter(self._prepared.values()))

    def score(self, orders: Sequence[Order], record: RunRecord, *, fail_fast: bool) -> None:
        """Scores units, and tells the run what becomes of them.

        Raises:
            StoppedError: A stop was asked for.
            ShardscoreError: Storage failed, the output is another job's, or a worker died.
        """
        self._record = record
        for number, ready in self._prepared.items():
            self._enlist(number, ready)
        left = deque(sorted(orders, key=lambda order: -order.rows))
        while self._busy or (left and not self._stopping and self._pool.alive):
            while left and self._free and not self._stopping:
                self._give(self._free.popleft(), left.popleft())
            if not left or self._stopping:
                self.dismiss()
            self._hear()
            if not self._stopping:
                self._heed(fail_fast=fail_fast)
        self.dismiss()
        if self._error is not None:
            raise self._error
        if fail_fast and self._run.failures:
            return
        if self._stopped is not None:
            raise self._stopped
        if left:
            self._stop.heed()
        if self._died:
            raise self._died[0]
        if left:
            raise WorkerDiedError("no worker is left to score the other shards", hint=_AGAIN)

    def dismiss(self) -> None:
        """Nothing is left for those that have nothing in hand; those that still prepare end too."""
        for number in self._pool.alive:
            if number in self._free or (self._record is None and number in self._prepared):
                self._pool.dismiss(number)
                self._run.resident(number, 0)
            elif number not in self._busy:
                self._pool.kill(number)
        self._free.clear()

    def _heed(self, *, fail_fast: bool) -> None:
        """Has the workers stop if there is a reason to."""
        signum = signal.SIGTERM
        if self._error is None and not (fail_fast and self._run.failures):
            try:
                self._stop.heed()
            except StoppedError as error:
                signum = signal.Signals(error.signum)
            else:
                return
        self._stopping = True
        for number in self._pool.alive:
            if number in self._busy:
                self._pool.tell(number, "stop", int(signum))

    def _give(self, number: int, order: Order) -> None:
        self._busy[number] = order
        self._pool.tell(number, "score", order)

    def _enlist(self, number: int, ready: Ready) -> None:
        """A worker is prepared: it may score if it found what the output was begun with."""
        assert self._record is not None  # noqa: S101 - the run has been begun
        if ready.identity == self._record.identity:
            self._free.append(number)
        elif number not in self._again:
            self._again.add(number)
            self._pool.tell(number, "prepare_as", self._record)
        else:
            raise ModelError(
                "two processes do not find the same of one model",
                expected=f"what the output was begun with: {self._record.probe}",
                received=ready.probe or "no shard that can be scored",
                hint="does it depend on chance, or on the process? --workers 1 scores with one",
            )

    def _hear(self) -> None:
        for number, (word, *rest) in self._pool.answers(POLL_SECONDS):
            try:
                self._answered(number, word, rest)
            except ShardscoreError as error:  # the account cannot be kept
                self._error = self._error or error

    def _answered(self, number: int, word: str, rest: list[Any]) -> None:
        match word:
            case "told":
                self._run.resident(number, rest[1])
                for name, arguments in rest[0]:
                    getattr(self._listeners[number], name)(*arguments)
            case "done":
                self._run.measured(number, *rest[0])
                del self._busy[number]
                self._free.append(number)
            case "prepared":
                ready, memory = rest
                self._run.measured(number, *memory)
                self._run.resident(number, memory[0])
                self._prepared[number] = ready
                if self._record is not None:
                    self._enlist(number, ready)
            case "said":
                self._said(number, rest[0])
            case "failed":
                self._ended(number, rest[0])
            case "left":
                self._ended(number, SystemExit(rest[0]))
            case "bug":
                self._ended(number, WorkerBugError(f"{rest[0]}\n{rest[1]}"))
            case "died":
                self._lost(number, rest[0])

    def _ended(self, number: int, error: BaseException) -> None:
        """A worker ends with an error: the first one counts. After a stop each has one."""
        self._busy.pop(number, None)
        self._pool.dismiss(number)
        self._run.resident(number, 0)
        if isinstance(error, StoppedError):
            self._stopped = error
        else:
            self._error = self._error or error

    def _said(self, number: int, line: str) -> None:
        # While they prepare, they all say the same.
        if self._record is None and number != min(self._listeners):
            return
        self._run.observer.event("worker_said", line, worker=number)

    def _lost(self, number: int, died: Died) -> None:
        self._run.resident(number, 0)
        order = self._busy.pop(number, None)
        prepared = self._prepared.pop(number, None) is not None
        with suppress(ValueError):
            self._free.remove(number)
        error = died_error(number, died, order, prepared=prepared)
        self._died.append(error)
        self._listeners[number].shard_dropped()
        if self._pool.alive:
            self._run.observer.event(
                "worker_died",
                f"{error.message}; the other workers go on",
                level="warning",
                worker=number,
                signal=died.signum,
                said=died.said,
            )


def died_error(
    number: int, died: Died, order: Order | None, *, prepared: bool = True
) -> WorkerDiedError:
    """The error for a worker that died.

    Args:
        number: The worker's.
        died: How it ended.
        order: What it had in hand; None: it was not scoring.
        prepared: Whether its model was loaded.
    """
    how = (
        f"was killed by signal {died.signum}"
        if died.signum is not None
        else f"ended by itself, with code {died.code},"
    )
    doing = "between two shards" if prepared else "while it loaded the model"
    if order is not None:
        more = f" and {len(order.shards) - 1:,} other small shards" if order.shards[1:] else ""
        doing = f"while scoring {printable(order.shards[0])}{more}"
    memory = died.signum == signal.SIGKILL
    return WorkerDiedError(
        f"worker {number} {how} {doing}" + ("; probably out of memory" if memory else ""),
        received=died.said or None,
        hint=f"{_AGAIN}; if it happens again, "
        + ("use fewer --workers" if memory else "use --workers 1 to see the whole error"),
    )
