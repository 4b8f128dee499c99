"""Processes of the command that are there at once: forks of one that has imported everything.

A sweep over system calls needs hundreds of runs, and most of a short run is imports. A `Forks` is
a process that has done them, by one run of its own. Each run is a fork of it, a process that can
be traced and killed: it begins when its tracer has come, so that the tracer counts from where the
command begins, and no import is counted.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self

from tests.conftest import ROOT, Finished, environment

if TYPE_CHECKING:
    from collections.abc import Iterable

_PR_SET_PTRACER, _ANY = 0x59616D61, -1  # sys/prctl.h


class Forks:
    """A process to fork from. A context manager, which ends it.

    Args:
        scratch: A folder for what the runs print.
        first: The command that it runs itself, to import all that a run imports.
        variables: Of the environment.
    """

    def __init__(self, scratch: Path, first: Iterable[str], **variables: str) -> None:
        self._out, self._err = scratch / "out", scratch / "err"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.forks", *first],
            cwd=ROOT,
            env=environment(**variables),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.communicate()

    def run(self, arguments: Iterable[str], tracer: Iterable[str] = ()) -> Finished:
        """Runs the command.

        Args:
            arguments: The command's.
            tracer: A command that traces a process whose number comes last; none: untraced.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        tracer = tuple(tracer)
        order = [str(self._out), str(self._err), bool(tracer), *arguments]
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        if tracer:
            traced = subprocess.run([*tracer, str(pid)], capture_output=True, text=True, timeout=60)
            assert "attached" in traced.stderr, traced.stderr
        code = int(self._process.stdout.readline())
        return Finished(code, self._out.read_text(), self._err.read_text())


def _become(out: str, err: str, traced: bool, arguments: list[str]) -> NoReturn:
    """Turns a fork into a process of the command."""
    from jobs.cli import main

    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for path, handle in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), handle)
    status = os.open("/proc/self/status", os.O_RDONLY)
    while traced and b"TracerPid:\t0\n" in os.pread(status, 1 << 16, 0):
        os.sched_yield()
    code = 1
    try:
        main(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _tell(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _serve() -> None:
    from jobs.cli import main
    from tests.faults.arithmetic import install

    install()
    with suppress(SystemExit):
        main(sys.argv[1:])
    # Where only a parent may trace, the tracer, which is a stranger, is let in.
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(_ANY))
    for line in sys.stdin:
        out, err, traced, *arguments = json.loads(line)
        if (pid := os.fork()) == 0:
            ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(_ANY))
            _become(out, err, traced, arguments)
        _tell(pid)
        _tell(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    _serve()
