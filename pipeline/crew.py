"""Several workers, in processes of their own: who does what, and what comes of it.

The coordinator's side: this process hands out units, keeps the account of the run, and never
imports TensorFlow. All workers prepare at once, each for itself; the first that is ready speaks for
all, and the output is claimed by what it found. The others must have found the same, or prepare
again by the record. Units go to whoever is free, the biggest first, so that all end together.

A worker that dies takes nothing with it but what it had in hand: the others go on with the rest.
What becomes of that unit depends on where workers are (`pipeline.losses`). On one machine it is not
given to another one, which would die of it too; of several machines one may go for reasons of its
own, so it is, unless it has taken several workers with it. What is set aside is what the run ends
with.
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
    StorageError,
    WorkerDiedError,
)
from pipeline.losses import AGAIN, Losses, died_error, what_is_left
from pipeline.worker import Order, Ready, packed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.job import RunRecord
    from pipeline.run_state import AtHand, Run
    from pipeline.stop import Stop
    from pipeline.survey import Survey
    from pipeline.workers import Died, Workers

POLL_SECONDS = 0.1
"""How long a wish to stop may go unnoticed."""


class WorkerBugError(Exception):
    """What no one expected was raised in a worker; its traceback there is the text."""


class Crew:
    """Workers in processes of their own. A context manager, which tells those to leave that can.

    Args:
        workers: They; the crew begins to talk to them.
        surveyed: The job, its input and its output.
        run: Is told what happens.
        stop: May ask to stop.
    """

    def __init__(self, workers: Workers, surveyed: Survey, run: Run, stop: Stop) -> None:
        self._workers = workers
        self._run = run
        self._stop = stop
        self._listeners: dict[int, AtHand] = {n: run.listener() for n in workers.alive}
        self._prepared: dict[int, Ready] = {}
        self._again: set[int] = set()
        self._left: deque[Order] = deque()
        self._free: deque[int] = deque()
        self._busy: dict[int, Order] = {}
        self._finished: dict[int, set[str]] = {}
        self._losses = Losses(workers.tries)
        self._lost_any = False
        self._output = surveyed.output
        self._record: RunRecord | None = None
        self._error: BaseException | None = None
        self._stopped: StoppedError | None = None
        self._died: list[WorkerDiedError] = []
        self._stopping = False
        self._packed = packed(surveyed)
        wanted = len(surveyed.standing.pending)
        for place, number in enumerate(workers.alive):
            if place < max(1, wanted):
                workers.tell(number, "prepare", self._packed, None)
            else:
                workers.kill(number)

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
            if not self._workers.alive:
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
        left = self._left
        left.extend(sorted(orders, key=lambda order: -order.rows))
        while self._busy or (left and not self._stopping and self._workers.alive):
            while left and self._free and not self._stopping:
                self._give(self._free.popleft(), left.popleft())
            # What is in hand may come back, where it is given to another one.
            if self._stopping or (not left and self._workers.tries == 1):
                self.dismiss()
            self._hear()
            if not self._stopping:
                self._heed(fail_fast=fail_fast)
        self.dismiss()
        if self._lost_any:
            with suppress(StorageError):  # what they had staged; it is in nobody's way
                self._output.sweep()
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
            raise WorkerDiedError("no worker is left to score the other shards", hint=AGAIN)

    def dismiss(self) -> None:
        """Nothing is left for those that have nothing in hand; those that still prepare end too."""
        for number in self._workers.alive:
            if number in self._free or (self._record is None and number in self._prepared):
                self._workers.dismiss(number)
                self._run.resident(number, 0)
            elif number not in self._busy:
                self._workers.kill(number)
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
        for number in self._workers.alive:
            if number in self._busy:
                self._workers.tell(number, "stop", int(signum))

    def _give(self, number: int, order: Order) -> None:
        self._busy[number] = order
        self._finished[number] = set()
        self._run.at_work(number, order.shards)
        self._workers.tell(number, "score", order)

    def _enlist(self, number: int, ready: Ready) -> None:
        """A worker is prepared: it may score if it found what the output was begun with."""
        assert self._record is not None  # noqa: S101 - the run has been begun
        if ready.identity == self._record.identity:
            self._free.append(number)
        elif number not in self._again:
            self._again.add(number)
            self._workers.tell(number, "prepare", self._packed, self._record)
        else:
            raise ModelError(
                "two processes do not find the same of one model",
                expected=f"what the output was begun with: {self._record.probe}",
                received=ready.probe or "no shard that can be scored",
                hint="does it depend on chance, or on the process? --workers 1 scores with one",
            )

    def _hear(self) -> None:
        for number, (word, *rest) in self._workers.answers(POLL_SECONDS):
            try:
                self._answered(number, word, rest)
            except ShardscoreError as error:  # the account cannot be kept
                self._error = self._error or error

    def _answered(self, number: int, word: str, rest: list[Any]) -> None:
        match word:
            case "told":
                self._run.resident(number, rest[1])
                for name, arguments in rest[0]:
                    self._told(number, name, arguments)
            case "done":
                self._run.measured(number, *rest[0])
                del self._busy[number]
                self._run.at_work(number, ())
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
            case "back":
                self._workers.tell(number, "prepare", self._packed, self._record)
            case "lost" | "died":
                self._lost(number, rest[0], for_good=word == "died")

    def _told(self, number: int, name: str, arguments: tuple[Any, ...]) -> None:
        if name == "shard_done":
            self._finished[number].add(arguments[0].shard)
        elif name == "shard_failed":
            self._finished[number].add(arguments[0].name)
        getattr(self._listeners[number], name)(*arguments)

    def _ended(self, number: int, error: BaseException) -> None:
        """A worker ends with an error: the first one counts. After a stop each has one."""
        self._busy.pop(number, None)
        self._run.at_work(number, ())
        self._workers.dismiss(number)
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

    def _lost(self, number: int, died: Died, *, for_good: bool) -> None:
        self._run.resident(number, 0)
        order = self._busy.pop(number, None)
        self._run.at_work(number, ())
        prepared = self._prepared.pop(number, None) is not None
        with suppress(ValueError):
            self._free.remove(number)
        self._lost_any = True
        error = died_error(number, died, order, prepared=prepared)
        self._listeners[number].shard_dropped()
        goes_on = "the other workers go on" if for_good else "it is begun again"
        left = order and what_is_left(order, self._finished[number])
        if left and self._losses.bearable(left):
            self._left.appendleft(left)
            goes_on = "what it had in hand is given to the next one that is free"
        elif left or for_good:
            self._died.append(error)
            if left and not for_good:
                goes_on = f"that was lost {self._workers.tries} times, and is left"
        if self._workers.alive:
            self._run.observer.event(
                "worker_died",
                f"{error.message}; {goes_on}",
                level="warning",
                worker=number,
                signal=died.signum,
                said=died.said,
            )
