"""A worker in a process of its own: its end of the pipes.

Begins as a fork of the stem, which imports TensorFlow while its coordinator still looks at the
input, and then does as it is told. Forking is safe as long as TensorFlow has only been imported:
its threads begin with its first operation. (Where there is a graphics card, asking for it begins
the driver: there each worker imports for itself.) Orders and answers are pickled tuples between
processes of one program. What a model or a hook prints cannot get into them: it goes to standard
error.

What a worker is told to do, and what it answers, `pipeline.service` says. Besides there are

    ("stop", signal number)  ("failed", StoppedError), once what is scored has been saved
    ("leave",)               the end of the process
"""

from __future__ import annotations

import gc
import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline.fresh import apart, die_with_parent
from pipeline.machine import this_machine
from pipeline.memory import share_one_heap
from pipeline.pool import Begun, Ended
from pipeline.stop import Stop
from pipeline.telling import Telling, ending

if TYPE_CHECKING:
    from pipeline.service import Service


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
    # A model, or a hook of the user's, raises whatever it likes, SystemExit included.
    except (Exception, SystemExit) as error:
        answers.send(ending(error))


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
    from pipeline.service import Service

    service: Service | None = None
    telling = Telling(answers.send)
    while True:
        kind, *rest = orders.get()
        if kind == "leave":
            return
        if kind == "prepare":
            packed, record = rest
            service = service or Service(packed, telling, stop)
            answers.send(service.prepare(record))
        else:
            assert service is not None  # noqa: S101 - `prepare` comes first
            answers.send(service.score(*rest))
