"""Fresh processes: each order is carried out by a process that has done nothing before it.

What a process has once needed it keeps, so honest figures on memory want a new process each time.
Importing TensorFlow takes seconds each time, so one process does that and nothing else, and each
order is carried out by a fork of it. Forking is safe as long as TensorFlow has only been imported:
its threads begin with its first operation. It is not where there is a graphics card, since asking
for one begins the driver: there each order has a whole process of its own, imports and all.

The processes are no children of the caller's interpreter state: the first is a new interpreter.
Orders and answers are lines of JSON; nothing is pickled. Whatever ends the caller ends them all.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from select import select
from typing import TYPE_CHECKING, Any, NoReturn, Self

from pipeline import errors
from pipeline.errors import ShardscoreError
from pipeline.memory import share_one_heap

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipeline.stop import Stop

_PR_SET_PDEATHSIG = 1  # sys/prctl.h
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Died:
    """A process that ended without an answer.

    Attributes:
        signum: The signal that killed it, or None.
        said: What it wrote last.
    """

    signum: int | None
    said: str


@dataclass(frozen=True, slots=True)
class Raised:
    """An order that ended in an error that is none of ours.

    Attributes:
        text: Kind and first line of the error.
        trace: All of it.
    """

    text: str
    trace: str


class Fresh:
    """Fresh processes for orders. A context manager, which ends them.

    Args:
        scratch: A folder for what they write: their standard error, and TensorFlow's temporary
            files, which a process that is killed leaves behind.
        stop: Is heeded while an order is carried out.
        modules: What the orders' functions lie in, to be imported once for all.
    """

    def __init__(self, scratch: Path, stop: Stop, modules: Sequence[str]) -> None:
        self._scratch = scratch
        self._noise = scratch / "stderr"
        self._stop = stop
        self._modules = tuple(modules)
        self._first: subprocess.Popen[bytes] | None = None
        self._answers = b""

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    def run(self, function: str, order: dict[str, Any]) -> Any:
        """Has a function carried out by a fresh process.

        Args:
            function: `module:function`, which takes the order and returns what JSON can hold.
            order: What JSON can hold.

        Returns:
            What the function returned, or a `Died` or `Raised`.

        Raises:
            ShardscoreError: What the function raised of these.
            StoppedError: A stop was asked for; the process is ended.
        """
        if self._first is None:
            self._start()
        assert self._first is not None  # noqa: S101 - started above
        assert self._first.stdin is not None  # noqa: S101 - opened as a pipe
        line = json.dumps([function, order]).encode() + b"\n"
        with suppress(BrokenPipeError):  # its end is seen below
            self._first.stdin.write(line)
            self._first.stdin.flush()
        answer = self._answer()
        if answer is None:
            code = self._first.wait()
            self._end()
            return Died(-code if code < 0 else None, self._said())
        if answer.get("last"):
            self._end()
        if "died" in answer:
            return Died(answer["died"], self._said())
        if "error" in answer:
            kind, message, facts = answer["error"]
            raise getattr(errors, kind)(message, **facts)
        if "raised" in answer:
            return Raised(*answer["raised"])
        return answer["value"]

    def _start(self) -> None:
        code = (
            "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
            "from pipeline.fresh import serve; serve(sys.argv[2:])"
        )
        with self._noise.open("ab") as noise:
            self._first = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                # -P: the caller's path alone, not the folder that it happens to be in.
                [sys.executable, "-P", "-c", code, json.dumps(sys.path), *self._modules],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=noise,
                env={**os.environ, "TMPDIR": str(self._scratch)},
                # Ctrl-C is the caller's to hear, who then ends the group.
                start_new_session=True,
            )
        self._answers = b""

    def _end(self) -> None:
        if self._first is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._first.pid, signal.SIGKILL)
        self._first.communicate()
        self._first = None

    def _answer(self) -> dict[str, Any] | None:
        """The next answer; None if the process has ended without one."""
        assert self._first is not None  # noqa: S101 - only called while it is there
        assert self._first.stdout is not None  # noqa: S101 - opened as a pipe
        handle = self._first.stdout.fileno()
        while b"\n" not in self._answers:
            self._stop.heed()
            if not select([handle], [], [], _POLL_SECONDS)[0]:
                continue
            if not (part := os.read(handle, 1 << 16)):
                return None
            self._answers += part
        line, _, self._answers = self._answers.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _said(self) -> str:
        lines = self._noise.read_text(errors="replace").strip().splitlines()
        return "\n".join(lines[-20:])


def serve(modules: Sequence[str]) -> None:
    """The first process: imports TensorFlow and `modules`, then forks for each order."""
    reading, answers = apart()
    orders = os.fdopen(reading, "rb")
    share_one_heap()
    from pipeline.runtime import tensorflow

    for module in modules:
        importlib.import_module(module)
    may_fork = not tensorflow().config.list_physical_devices("GPU")
    # Else each fork's first collection would touch, and so copy, all that was imported.
    gc.collect()
    gc.freeze()
    for line in orders:
        function, order = json.loads(line)
        if may_fork:
            os.write(answers, _of_a_fork(function, order) + b"\n")
        else:
            os.write(answers, json.dumps(_carried_out(function, order) | {"last": True}).encode())
            os.write(answers, b"\n")
            return


def apart(parent: int | None = None) -> tuple[int, int]:
    """Sets up a process that takes orders on standard input and answers on standard output.

    What is printed from then on is no answer: it goes to standard error. The process ends when
    the one that began it does.

    Args:
        parent: The number of that process, if it may have ended already.

    Returns:
        The descriptors of the orders and the answers.
    """
    orders, answers = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    die_with_parent(parent)
    return orders, answers


def _of_a_fork(function: str, order: dict[str, Any]) -> bytes:
    ours, its = os.pipe()
    if (pid := os.fork()) == 0:
        os.close(ours)
        _become(function, order, its)
    os.close(its)
    with os.fdopen(ours, "rb") as answer:
        told = answer.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == 0 and told:
        return told
    return json.dumps({"died": -status if status < 0 else None}).encode()


def _become(function: str, order: dict[str, Any], answer: int) -> NoReturn:
    """Turns a fork into the process that carries out an order, and ends it."""
    code = 1
    try:
        die_with_parent()
        with os.fdopen(answer, "wb") as file:
            file.write(json.dumps(_carried_out(function, order)).encode())
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def _carried_out(function: str, order: dict[str, Any]) -> dict[str, Any]:
    module, _, name = function.partition(":")
    try:
        value = getattr(importlib.import_module(module), name)(order)
    except ShardscoreError as error:
        return {"error": (type(error).__name__, error.message, error.facts)}
    # A model, or a hook of the user's, raises whatever it likes.
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        return {"raised": (f"{type(error).__name__}: {first}", traceback.format_exc())}
    return {"value": value}


def die_with_parent(parent: int | None = None) -> None:
    """Has the kernel kill this process when the one that began it ends, however it does.

    Args:
        parent: The number of that process, if it may have ended already: then this one ends.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent not in {None, os.getppid()}:
        os._exit(1)
