"""Worker processes and the pipes to them: begun, heard, told, and ended.

Owns the processes, and knows nothing of what is scored. Each is a new interpreter in a session of
its own, so that Ctrl-C at a terminal is its coordinator's to hear. It ends when its coordinator
ends, whatever ends that one: the kernel kills it, and the end of its orders does so too. Whoever
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
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

Answer = tuple[Any, ...]
"""What a worker says: a word, and what belongs to it. Besides the worker's own words there are
("said", line), a line on its standard error, and ("died", Died)."""

CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from pipeline.worker_process import serve; serve(*map(int, sys.argv[2:]))"
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


@dataclass(frozen=True, slots=True)
class Died:
    """A process that ended without having been told to.

    Attributes:
        signum: The signal that killed it, or None.
        code: What it ended with, if no signal killed it.
        said: What it wrote last on standard error.
    """

    signum: int | None
    code: int
    said: str


@dataclass(eq=False)
class _Process:
    number: int
    popen: subprocess.Popen[bytes]
    orders: Connection
    answers: Connection
    said: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    rest: bytes = b""
    leaving: bool = False


class Pool:
    """Worker processes, numbered from 1. A context manager, which ends them: those that were told
    to leave may do so first.

    To be made in a thread that lives as long as they are needed: the kernel ends them with it.

    Args:
        count: How many to begin.
        threads: Threads in each pool of each process; 0: what each takes by itself.
    """

    def __init__(self, count: int, threads: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._processes = {n: self._began(n, threads) for n in range(1, count + 1)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is None:
            self._wait_for_those_who_leave()
        for number in [*self._processes]:
            self.kill(number)
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
        with suppress(ProcessLookupError):
            # Its group too: what a hook of the user's has begun.
            os.killpg(process.popen.pid, signal.SIGKILL)
        self._forget(process)

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

    def _heard(self, process: _Process) -> Iterator[tuple[int, Answer]]:
        try:
            answer = process.answers.recv()
        except (EOFError, OSError):
            yield from self._ended(process)
            return
        if not process.leaving:
            yield process.number, answer

    def _read(self, process: _Process) -> Iterator[tuple[int, Answer]]:
        assert process.popen.stderr is not None  # noqa: S101 - opened as a pipe
        part = os.read(process.popen.stderr.fileno(), 1 << 16)
        if not part:
            self._selector.unregister(process.popen.stderr)
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
        try:
            code = process.popen.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.popen.kill()
            code = process.popen.wait()
        stderr = process.popen.stderr
        assert stderr is not None  # noqa: S101 - opened as a pipe
        os.set_blocking(stderr.fileno(), False)
        with suppress(BlockingIOError, KeyError):  # its children may hold the pipe open
            while stderr in self._selector.get_map():
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
        stderr = process.popen.stderr
        assert stderr is not None  # noqa: S101 - opened as a pipe
        for file in (process.answers, stderr):
            with suppress(KeyError):
                self._selector.unregister(file)
        process.orders.close()
        process.answers.close()
        stderr.close()
        process.popen.wait()

    def _began(self, number: int, threads: int) -> _Process:
        bounds = dict.fromkeys(_POOLS, str(threads)) if threads else {}
        popen = subprocess.Popen(  # noqa: S603 - our own interpreter and code
            # -P: the caller's path alone, not the folder that it happens to be in.
            [
                *(sys.executable, "-P", "-c", CODE),
                *(json.dumps(sys.path), str(os.getpid()), str(threads)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**bounds, **os.environ},
            start_new_session=True,
        )
        assert popen.stdin is not None  # noqa: S101 - opened as a pipe
        assert popen.stdout is not None  # noqa: S101 - likewise
        process = _Process(
            number,
            popen,
            Connection(os.dup(popen.stdin.fileno()), readable=False),
            Connection(os.dup(popen.stdout.fileno()), writable=False),
        )
        popen.stdin.close()
        popen.stdout.close()
        self._selector.register(process.answers, selectors.EVENT_READ, (process, True))
        assert popen.stderr is not None  # noqa: S101 - opened as a pipe
        self._selector.register(popen.stderr, selectors.EVENT_READ, (process, False))
        return process
