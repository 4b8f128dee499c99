"""A worker in a process of its own: its end of the pipes.

Begins as a fork of the stem, which imports TensorFlow while its coordinator still looks at the
input, and then does as it is told. Forking is safe as long as TensorFlow has only been imported:
its threads begin with its first operation. (Where there is a graphics card, asking for it begins
the driver: there each worker imports for itself.) Orders and answers are pickled tuples between
processes of one program. What a model or a hook prints cannot get into them: it goes to standard
error.

    order                       answer
    ("prepare", survey)         ("prepared", Ready, memory)
    ("prepare_as", run record)  ("prepared", Ready, memory)
    ("score", Order)            ("told", [(name, arguments), …], resident bytes) …,
                                ("done", memory)
    ("stop", signal number)     ("failed", StoppedError), once what is scored has been saved
    ("leave",)                  the end of the process
    any                         ("failed", error), ("left", text) or ("bug", text, traceback),
                                and the end of the process

`memory` is (resident bytes when the model was loaded, highest resident bytes).
"""

from __future__ import annotations

import gc
import os
import queue
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline.errors import ShardscoreError
from pipeline.fresh import apart, die_with_parent
from pipeline.machine import this_machine
from pipeline.memory import peak_bytes, resident_bytes, share_one_heap
from pipeline.pool import Begun, Ended
from pipeline.stop import Stop

if TYPE_CHECKING:
    from pipeline.records import BadRow, FailedShard, Outcome, RowCounts, Shard
    from pipeline.worker import Worker

TELL_SECONDS = 0.1
"""How often a worker tells how far it is, at most."""


def stem(parent: int, threads: int, *ends: int) -> None:
    """The process that workers are forks of: imports TensorFlow, forks, and tells how they end.

    Args:
        parent: The number of the process that began this one.
        threads: Threads in each pool of a worker; 0: what each takes by itself.
        ends: Descriptors of each worker in turn: its orders, its answers, its standard error.
    """
    _, writing = apart(parent)
    # A stop comes by the pipe. Who sends signals to all processes must not end the batch at hand.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    share_one_heap()
    if not this_machine().card:
        from pipeline.runtime import bound_threads, tensorflow

        bound_threads(threads)
        tensorflow()
    reports = Connection(writing, readable=False)
    own = os.getpid()
    # Else each fork's first collection would touch, and so copy, all that was imported.
    gc.collect()
    gc.freeze()
    numbers: dict[int, int] = {}
    workers = [ends[first : first + 3] for first in range(0, len(ends), 3)]
    for number, mine in enumerate(workers, start=1):
        if (pid := os.fork()) == 0:
            reports.close()
            for end in ends:
                if end not in mine:
                    os.close(end)
            _become_worker(own, threads, *mine)
        numbers[pid] = number
        reports.send(Begun(number, pid))
    for end in ends:
        os.close(end)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the end of a worker's standard error is its own
    os.dup2(1, 2)
    while numbers:
        pid, status = os.wait()
        if pid in numbers:
            reports.send(Ended(numbers.pop(pid), os.waitstatus_to_exitcode(status)))


def _become_worker(stem: int, threads: int, orders: int, answers: int, stderr: int) -> NoReturn:
    """Turns a fork of the stem into a worker, and ends it."""
    os.setsid()
    os.dup2(stderr, 1)
    os.dup2(stderr, 2)
    os.close(stderr)
    die_with_parent(stem)
    serve(orders, answers, threads)
    gc.freeze()  # else the last collection walks all that TensorFlow has made, for seconds
    sys.exit(0)


def serve(reading: int, writing: int, threads: int) -> None:
    """A worker, from its beginning to its end.

    Args:
        reading: The descriptor of its orders.
        writing: That of its answers.
        threads: Threads in each of its pools; 0: what each takes by itself.
    """
    answers = Connection(writing, readable=False)
    stop = Stop()
    orders: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
    threading.Thread(
        target=_hear, args=(Connection(reading, writable=False), orders, stop), daemon=True
    ).start()
    try:
        _work(orders, answers, stop, threads)
    except ShardscoreError as error:
        answers.send(("failed", error.detached()))
    except SystemExit as error:  # none of ours: code of the user's
        answers.send(("left", str(error)))
    # A model, or a hook of the user's, raises whatever it likes.
    except Exception as error:
        answers.send(("bug", f"{type(error).__name__}: {error}", traceback.format_exc()))


def _hear(orders: Connection, waiting: queue.SimpleQueue[tuple[Any, ...]], stop: Stop) -> None:
    """Takes orders while a batch is scored, so that a stop is heard at once."""
    while True:
        try:
            order = orders.recv()
        except (EOFError, OSError):  # whoever gave them is gone
            os.kill(os.getpid(), signal.SIGKILL)
        if order[0] == "stop":
            stop.request(order[1])
        else:
            waiting.put(order)


def _work(
    orders: queue.SimpleQueue[tuple[Any, ...]], answers: Connection, stop: Stop, threads: int
) -> None:
    from pipeline.runtime import bound_threads, tensorflow

    bound_threads(threads)
    tensorflow()
    from pipeline.worker import Worker, unpacked

    worker: Worker | None = None
    telling = Telling(answers)
    loaded = 0
    while True:
        kind, *rest = orders.get()
        if kind == "leave":
            return
        if kind == "prepare":
            worker = Worker(unpacked(rest[0]), stop)
        assert worker is not None  # noqa: S101 - `prepare` comes first
        if kind == "score":
            try:
                worker.score(rest[0], telling)
            finally:
                telling.flush()
            answers.send(("done", (loaded, peak_bytes())))
        else:
            ready = worker.prepare(rest[0] if kind == "prepare_as" else None)
            loaded = resident_bytes()
            answers.send(("prepared", ready, (loaded, peak_bytes())))


class Telling:
    """A `Listener` that sends what it is told, some of it at a time."""

    def __init__(self, answers: Connection) -> None:
        self._answers = answers
        self._waiting: list[tuple[str, tuple[Any, ...]]] = []
        self._last = time.monotonic()

    def flush(self) -> None:
        """Sends what waits."""
        if self._waiting:
            self._answers.send(("told", self._waiting, resident_bytes()))
            self._waiting = []
        self._last = time.monotonic()

    def batch_done(self, rows: int) -> None:
        """A batch of the shard at hand was written to its staged file."""
        if self._waiting and self._waiting[-1][0] == "batch_done":
            rows += self._waiting.pop()[1][0]
        self._tell("batch_done", rows)

    def resumed(self, shard: Shard, rows: int, expected: int) -> None:
        """A shard goes on behind its last checkpoint."""
        self._tell("resumed", shard, rows, expected)

    def checkpoint_saved(self, shard: Shard, rows: int) -> None:
        """A checkpoint of the shard at hand holds that many of its rows."""
        self._tell("checkpoint_saved", shard, rows)

    def bad_rows(self, shard: Shard, counts: RowCounts, first: BadRow | None) -> None:
        """A shard was published."""
        if first is not None:
            self._tell("bad_rows", shard, counts, first)

    def memory_short(self, rows: int, fitting: int) -> None:
        """A batch did not fit into memory; from now on that many rows are scored in a call."""
        self._tell("memory_short", rows, fitting)

    def shard_done(self, outcome: Outcome) -> None:
        """A shard was published, by this run or by another meanwhile."""
        self._tell("shard_done", outcome)

    def shard_failed(self, failed: FailedShard, rows: int = 0) -> None:
        """A shard cannot be scored."""
        failed.error.detached()
        self._tell("shard_failed", failed, rows)

    def shard_dropped(self) -> None:
        """The shard at hand will be scored again from its first row."""
        self._tell("shard_dropped")

    def _tell(self, name: str, *arguments: Any) -> None:
        self._waiting.append((name, arguments))
        if time.monotonic() - self._last >= TELL_SECONDS:
            self.flush()
