"""One command, measured from outside with all that it starts.

Engines do their work in many processes, some of which leave their parent. So this process makes
itself the heir of orphans (`PR_SET_CHILD_SUBREAPER`), and all of its descendants, but for those
that were there before, are the command's. What is still there when the command has ended is ended
too, by its number.

* Wall: from the start of the command to its end.
* CPU: of all processes that were waited for, which the kernel adds up; or what was last seen of
  each process, if that is more (a process that nobody waits for would be lost).
* Memory: for one process, what the kernel kept as its highest resident size. For several: of the
  memory that they made, a page that n of them share counts a nth in each (PSS), so once; of the
  files that they mapped, libraries above all, what the process with most of them has, once for each
  program. (A file's pages are shared with all who use it on the machine, so that their PSS would
  depend on who else is there.) It is looked at about twice a second, since looking costs the
  process that is looked at some milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

EVERY = 0.05
"""Seconds between two looks at which processes there are, and at their own highest sizes."""

TOGETHER_EVERY = 0.5
"""Seconds between two looks at how big they are together."""

GRACE = 5.0
"""Seconds that an engine has to end itself, once its command has ended."""

_SUBREAPER = 36
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measured:
    """One run of a command.

    Attributes:
        code: Its exit code.
        out: Its standard output.
        lines: Its lines on standard error, each with the seconds since the start.
        wall: Seconds.
        cpu: Seconds of all processes.
        peak: Bytes of all processes together, at the highest.
        processes: How many there were at once, at most.
    """

    code: int
    out: str
    lines: tuple[tuple[float, str], ...]
    wall: float
    cpu: float
    peak: int
    processes: int

    @property
    def err(self) -> str:
        return "".join(line for _, line in self.lines)


@dataclass
class _Seen:
    """What was seen of the processes so far."""

    together: int = 0
    highest: int = 0
    most: int = 0
    cpu: dict[tuple[int, str], float] = field(default_factory=dict)


def run(
    command: Sequence[object], *, cwd: Path, env: Mapping[str, str], timeout: float
) -> Measured:
    """Runs a command to its end, and ends what it leaves behind.

    A command that takes longer than `timeout` seconds is ended, and so by a signal.
    """
    with _heir_of_orphans():
        return _run(command, cwd, env, timeout)


def _run(command: Sequence[object], cwd: Path, env: Mapping[str, str], timeout: float) -> Measured:
    before = set(_descendants())
    used = _children_cpu()
    begun = time.monotonic()
    process = subprocess.Popen(
        [str(word) for word in command],
        cwd=cwd,
        env=dict(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    out: list[str] = []
    lines: list[tuple[float, str]] = []
    readers = [
        threading.Thread(target=lambda: out.append(process.stdout.read()), daemon=True),
        threading.Thread(
            target=lambda: lines.extend(
                (time.monotonic() - begun, line) for line in process.stderr
            ),
            daemon=True,
        ),
    ]
    for reader in readers:
        reader.start()
    seen = _Seen()
    try:
        _watch(process, before, seen, begun + timeout)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        wall = time.monotonic() - begun
        _end(before)
    for reader in readers:
        reader.join(10)
    return Measured(
        code=process.returncode,
        out="".join(out),
        lines=tuple(lines),
        wall=wall,
        cpu=max(_children_cpu() - used, sum(seen.cpu.values())),
        peak=seen.highest if seen.most <= 1 else max(seen.together, seen.highest),
        processes=seen.most,
    )


@contextlib.contextmanager
def _heir_of_orphans() -> Iterator[None]:
    """Processes whose parents have ended become this one's children meanwhile."""
    libc = ctypes.CDLL(None)
    libc.prctl(_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_SUBREAPER, 0, 0, 0, 0)


def _watch(process: subprocess.Popen[str], before: set[int], seen: _Seen, end: float) -> None:
    look = 0.0
    while process.poll() is None:
        now = time.monotonic()
        if now > end:
            return
        pids = [pid for pid in _descendants() if pid not in before]
        seen.most = max(seen.most, len(pids))
        for pid in pids:
            _look(pid, seen)
        if len(pids) > 1 and now >= look:
            seen.together = max(seen.together, _together(pids))
            look = time.monotonic() + TOGETHER_EVERY
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(EVERY)


def _look(pid: int, seen: _Seen) -> None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # A number may be given again: the start of a process tells it apart.
        seen.cpu[pid, fields[19]] = (int(fields[11]) + int(fields[12])) / _TICKS
        seen.highest = max(seen.highest, _sizes(f"/proc/{pid}/status")["VmHWM"])


def _together(pids: Sequence[int]) -> int:
    """Bytes of several processes, what they share counted once."""
    made = 0
    mapped: dict[str, int] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            sizes = _sizes(f"/proc/{pid}/smaps_rollup")
            made += sizes["Pss_Anon"] + sizes["Pss_Shmem"]
            program = str(Path(f"/proc/{pid}/exe").readlink())
            files = _sizes(f"/proc/{pid}/status")["RssFile"]
            mapped[program] = max(mapped.get(program, 0), files)
    return made + sum(mapped.values())


def _sizes(path: str) -> dict[str, int]:
    """The sizes that a file of `/proc` tells, in bytes."""
    found: dict[str, int] = defaultdict(int)
    for line in Path(path).read_text().splitlines():
        words = line.split()
        if words[-1:] == ["kB"]:
            found[words[0].rstrip(":")] = int(words[1]) * 1024
    return found


def _descendants() -> list[int]:
    """This process's children, and theirs, and so on."""
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        children = list(_children(waiting.pop()))
        found += children
        waiting += children
    return found


def _children(pid: int) -> Iterator[int]:
    # Each thread has its own list of those that it started.
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            yield from map(int, path.read_text().split())


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _end(before: set[int]) -> None:
    """Ends what the command left, and waits for it: an engine may take a moment to end itself."""
    deadline = time.monotonic() + GRACE
    while left := [pid for pid in _descendants() if pid not in before]:
        if time.monotonic() > deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for pid in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(EVERY)
