"""Worker processes and the pipes to them: begun, heard, told, and ended.

Owns the processes, and knows nothing of what is scored. They are forks of one new interpreter, the
stem, which imports TensorFlow and does nothing else with it: two imports at once take half as long
again, and forks share the memory of one. Each is in a session of its own, so that Ctrl-C at a
terminal is its coordinator's to hear. It ends when its coordinator ends, whatever ends that one:
the kernel kills the stem, and the workers with it, and the end of their orders does so too. Whoever
waits for an answer looks at all processes, so that one that dies is an answer as well.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pipeline.workers import Answer, Died

if TYPE_CHECKING:
    from collections.abc import Iterator

CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from pipeline.worker_process import stem; stem(*map(int, sys.argv[2:]))"
)
LAST_LINES = 20
END_SECONDS = 10.0
"""How long a process that was told to leave may take, for what it does at its exit."""

_POOLS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""Pools that take their size from the environment, when they are loaded."""


class Begun(NamedTuple):
    """What the stem reports of a worker that it has forked: its number, and its process."""

    number: int
    pid: int


class Ended(NamedTuple):
    """What it reports of one that has ended: the code, or minus the signal, that it ended with."""

    number: int
    code: int


@dataclass(eq=False)
class _Process:
    number: int
    orders: Connection
    answers: Connection
    stderr: int
    pid: int | None = None
    code: int | None = None
    said: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    rest: bytes = b""
    leaving: bool = False


class Pool:
    """Worker processes, numbered from 1: `Workers` of this machine. A context manager, which ends
    them: those that were told to leave may do so first.

    To be made in a thread that lives as long as they are needed: the kernel ends them with it.

    Args:
        count: How many to begin.
        threads: Threads in each pool of each process; 0: what each takes by itself.
    """

    tries = 1
    """Another process of this machine would die of the same unit."""

    def __init__(self, count: int, threads: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._all: dict[int, _Process] = {}
        pipes = {number: self._piped(number) for number in range(1, count + 1)}
        self._processes = dict(self._all)
        self._stem, self._reports = self._began(pipes, threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is None:
            self._wait_for_those_who_leave()
        for number in [*self._processes]:
            self.kill(number)
        with suppress(ProcessLookupError):
            os.killpg(self._stem.pid, signal.SIGKILL)
        self._stem.wait()
        self._reports.close()
        self._selector.close()

    @property
    def alive(self) -> tuple[int, ...]:
        """The numbers of the workers that have not ended, nor been told to."""
        return tuple(n for n, process in self._processes.items() if not process.leaving)

    def tell(self, number: int, *order: Any) -> None:
        """Gives a worker an order. One that has died is heard of by `answers`."""
        with suppress(OSError):
            self._processes[number].orders.send(order)

    def dismiss(self, number: int) -> None:
        """Tells a worker to leave; it is not heard any more."""
        self.tell(number, "leave")
        self._processes[number].leaving = True

    def kill(self, number: int) -> None:
        """Ends a worker at once."""
        process = self._processes.pop(number)
        while self._hear_stem(0.0):
            pass
        if process.pid is not None and process.code is None:
            with suppress(ProcessLookupError):
                # Its group too: what a hook of the user's has begun.
                os.killpg(process.pid, signal.SIGKILL)
        self._forget(process)  # one that has not begun ends with its orders

    def answers(self, seconds: float) -> Iterator[tuple[int, Answer]]:
        """What the workers say.

        Args:
            seconds: How long to wait, if none of them says anything.

        Yields:
            The number of a worker, and what it says.
        """
        for key, _ in self._selector.select(seconds):
            process, hears = key.data
            if process.number not in self._processes:
                continue  # was ended by who hears this
            if hears:
                yield from self._heard(process)
            else:
                yield from self._read(process)
        yield from self._reported()

    def _reported(self) -> Iterator[tuple[int, Answer]]:
        """Those that the stem says have ended. What a hook has forked may hold a worker's pipes
        open, so that their end alone would be heard of when that ends too, or never."""
        while self._reports.poll() and self._hear_stem(0.0):
            pass
        for process in [p for p in self._processes.values() if p.code is not None]:
            while process.number in self._processes and process.answers.poll():
                yield from self._heard(process)
            if process.number in self._processes:
                yield from self._ended(process)

    def _heard(self, process: _Process) -> Iterator[tuple[int, Answer]]:
        try:
            answer = process.answers.recv()
        except (EOFError, OSError):
            yield from self._ended(process)
            return
        if not process.leaving:
            yield process.number, answer

    def _read(self, process: _Process) -> Iterator[tuple[int, Answer]]:
        part = os.read(process.stderr, 1 << 16)
        if not part:
            self._selector.unregister(process.stderr)
            part = b"\n" if process.rest else b""
        *lines, process.rest = (process.rest + part).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace").rstrip()
            if text:
                process.said.append(text)
                yield process.number, ("said", text)

    def _ended(self, process: _Process) -> Iterator[tuple[int, Answer]]:
        """The pipe of its answers is closed: the process has ended, or is about to."""
        del self._processes[process.number]
        code = self._code_of(process)
        os.set_blocking(process.stderr, False)
        with suppress(BlockingIOError, KeyError):  # its children may hold the pipe open
            while process.stderr in self._selector.get_map():
                yield from self._read(process)
        self._forget(process)
        if not process.leaving:
            died = Died(-code if code < 0 else None, max(code, 0), "\n".join(process.said))
            yield process.number, ("died", died)

    def _wait_for_those_who_leave(self) -> None:
        until = time.monotonic() + END_SECONDS
        while len(self._processes) > len(self.alive) and time.monotonic() < until:
            for _ in self.answers(0.1):
                pass

    def _forget(self, process: _Process) -> None:
        for file in (process.answers, process.stderr):
            with suppress(KeyError):
                self._selector.unregister(file)
        process.orders.close()
        process.answers.close()
        os.close(process.stderr)

    def _code_of(self, process: _Process) -> int:
        """What a process that ends has ended with; it is killed if that takes too long."""
        until = time.monotonic() + END_SECONDS
        while process.code is None and self._hear_stem(until - time.monotonic()):
            pass
        if process.code is None and process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        if process.code is None:
            # The stem is gone, before or after it has forked: what it ended with is what is known.
            return self._stem.poll() or -signal.SIGKILL
        return process.code

    def _hear_stem(self, seconds: float) -> bool:
        """Takes one report of the stem's; False if there is none within some seconds."""
        try:
            if not self._reports.poll(max(seconds, 0.0)):
                return False
            report: Begun | Ended = self._reports.recv()
        except (EOFError, OSError):
            with suppress(subprocess.TimeoutExpired):
                self._stem.wait(END_SECONDS)
            return False
        process = self._all[report.number]
        match report:
            case Begun():
                process.pid = report.pid
            case Ended():
                process.code = report.code
        return True

    def _piped(self, number: int) -> tuple[int, int, int]:
        """Pipes to a worker that is to be; the worker's ends: orders, answers, standard error."""
        its_orders, orders = os.pipe()
        answers, its_answers = os.pipe()
        stderr, its_stderr = os.pipe()
        process = self._all[number] = _Process(
            number,
            Connection(orders, readable=False),
            Connection(answers, writable=False),
            stderr,
        )
        self._selector.register(process.answers, selectors.EVENT_READ, (process, True))
        self._selector.register(stderr, selectors.EVENT_READ, (process, False))
        return its_orders, its_answers, its_stderr

    def _began(
        self, pipes: dict[int, tuple[int, int, int]], threads: int
    ) -> tuple[subprocess.Popen[bytes], Connection]:
        """The stem, and what it reports."""
        bounds = dict.fromkeys(_POOLS, str(threads)) if threads else {}
        ends = [end for three in pipes.values() for end in three]
        popen = subprocess.Popen(  # noqa: S603 - our own interpreter and code
            # -P: the caller's path alone, not the folder that it happens to be in.
            [
                *(sys.executable, "-P", "-c", CODE),
                *(json.dumps(sys.path), str(os.getpid()), str(threads), *map(str, ends)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=ends[2],  # what keeps it from importing is told by the first worker
            env={**bounds, **os.environ},
            pass_fds=ends,
            start_new_session=True,
        )
        for end in ends:
            os.close(end)
        assert popen.stdout is not None  # noqa: S101 - opened as a pipe
        reports = Connection(os.dup(popen.stdout.fileno()), writable=False)
        popen.stdout.close()
        return popen, reports
