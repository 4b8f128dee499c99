"""At each system call that a run makes on its output: a full disk, a disk that fails, death.

A clean run under `strace` tells which calls there are: the nth of its kind, on what. Then each of
them gets its fault, by `strace -e inject`. The command runs as a process of its own each time, and
so does the resume. By default the first, the last and every third between are taken of each kind of
place (file, call, fault); with FAULTS=all in the environment all are.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest

from pipeline.storage import LocalStorage
from tests.faults.forks import Forks
from tests.faults.lake import GROUP_ROWS, assert_finished, assert_whole, contents, make_lake

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.conftest import Finished
    from tests.faults.lake import Lake

pytestmark = pytest.mark.faults

SHARDS: dict[str, tuple[int, tuple[int, ...]]] = {
    "big": (21, (2, 9)),
    "small-1": (5, ()),
    "small-2": (6, (1, 4)),
    "small-3": (4, (2,)),
    "small-4": (3, ()),
    "small-5": (4, ()),
}
EVERY = TRIES = 3
PARALLEL = 2

ERRORS: dict[str, tuple[str, ...]] = {
    "write": ("ENOSPC", "EIO"),
    "pwrite64": ("ENOSPC", "EIO"),
    "ftruncate": ("EIO",),
    "fsync": ("EIO",),
    "fdatasync": ("EIO",),
    "openat": ("ENOSPC",),
    "mkdir": ("ENOSPC",),
    "mkdirat": ("ENOSPC",),
    "link": ("ENOSPC",),
    "linkat": ("ENOSPC",),
    "rename": ("EIO",),
    "renameat": ("EIO",),
    "renameat2": ("EIO",),
    "unlink": ("EIO",),
    "unlinkat": ("EIO",),
    "rmdir": ("EIO",),
}
DEATH = "KILL"

_CALL = re.compile(r"(?P<pid>\d+) +(?P<call>\w+)\((?P<rest>.*)")
_KINDS = (
    ("staged", "/_shardscore/staging/"),
    ("checkpoint", "/_shardscore/checkpoints/"),
    ("dead letters", "/_shardscore/quarantine/"),
    ("report", "/_shardscore/reports/"),
    ("plan", "/_shardscore/plans/"),
    ("lock", "/_shardscore/locks/"),
    ("run.json", "/_shardscore/run.json"),
    ("mark", "/_MANIFEST.json"),
    ("mark", "/_SUCCESS"),
    ("prediction", ".parquet"),
)


@dataclass(frozen=True)
class Fault:
    """The nth call of its kind in the main thread fails, or kills.

    Attributes:
        call: The system call.
        number: Which one, from 1.
        kind: What it is about.
        mode: An errno, or KILL.
    """

    call: str
    number: int
    kind: str
    mode: str

    @property
    def place(self) -> tuple[str, str, str]:
        return self.kind, self.call, self.mode

    @property
    def injected(self) -> str:
        how = "signal=KILL" if self.mode == DEATH else f"error={self.mode}"
        return f"inject={self.call}:{how}:when={self.number}"


def tracer(log: Path, *more: str) -> list[str]:
    return [
        *("strace", "-f", "-y", "-o", str(log), "-e", "trace=" + ",".join(ERRORS)),
        *("-s", "0", *more, "-p"),
    ]


def calls_in(log: Path, output: Path) -> Iterator[tuple[str, int, str]]:
    """The main thread's calls that change an output, in order: call, its number, the line."""
    numbers: Counter[str] = Counter()
    first: str | None = None
    for line in log.read_text().splitlines():
        found = _CALL.match(line)
        if found is None:
            continue
        first = first or found["pid"]
        if found["pid"] != first:
            continue
        numbers[found["call"]] += 1
        creates = found["call"] != "openat" or "O_CREAT" in line or "O_TRUNC" in line
        if str(output) in line and creates:
            yield found["call"], numbers[found["call"]], line


def struck(log: Path) -> str | None:
    """The line of the call that failed; None if none did, since the process was killed."""
    hits = [line for line in log.read_text().splitlines() if "(INJECTED)" in line]
    assert len(hits) <= 1
    return hits[0] if hits else None


def kind_of(line: str, output: Path) -> str:
    """What a call is about; of a link or a rename, what it makes."""
    about = re.sub(r'\d+<([^>]*)>, "([^"]*)"', r'"\1/\2"', line).replace(str(output), "")
    if re.search(r" (link|linkat|rename|renameat|renameat2)\(", line):
        about = about.rpartition("/_shardscore/staging/")[2].partition(" ")[2] or about
    return next((kind for kind, part in _KINDS if part in about), "folder")


def chosen(faults: list[Fault]) -> list[Fault]:
    """All faults, or by a fixed rule some of each place."""
    if os.environ.get("FAULTS") == "all":
        return faults
    places: defaultdict[tuple[str, str, str], list[Fault]] = defaultdict(list)
    for fault in faults:
        places[fault.place].append(fault)
    return [f for same in places.values() for f in {*same[::EVERY], same[-1]}]


@dataclass(frozen=True)
class Sweep:
    """What all faults of a sweep have in common."""

    lake: Lake
    disk: Path
    reference: Mapping[str, bytes]

    def survive(self, fault: Fault, forks: Forks, number: int) -> str:
        """Runs into a fault, resumes, compares; in a word how the run ended."""
        output, log = self.disk / f"out-{number}", self.disk / f"log-{number}"
        arguments = self.lake.arguments(output, "--quiet")
        for _ in range(TRIES):
            run = forks.run(arguments, tracer(log, "-e", fault.injected))
            if (hit := struck(log)) is None or str(output) in hit:
                break
            # Python looked for a module once more than in the clean run: the count was of that.
            shutil.rmtree(output, ignore_errors=True)
        try:
            self._ended_well(fault, run, output, log)
            assert_whole(output, self.reference)
            resumed = forks.run(arguments)
            assert resumed.code == 0, resumed.err
            assert_finished(output, self.reference)
        except BaseException as error:
            error.add_note(f"after {fault}: exit {run.code}\n{run.err}")
            raise
        shutil.rmtree(output)
        log.unlink()
        return {0: "no harm", 74: "exit 74"}.get(run.code, "killed")

    def _ended_well(self, fault: Fault, run: Finished, output: Path, log: Path) -> None:
        if fault.mode == DEATH:
            assert run.code == -signal.SIGKILL
            return
        hit = struck(log)
        assert hit is not None
        assert str(output) in hit, f"the fault went astray: {hit}"
        assert run.code in {0, 74}
        if run.code == 0:
            published = contents(LocalStorage(output))
            assert published == self.reference, "exit 0 with work left"
            return
        assert "error: " in run.err
        assert f"file:     {output}" in run.err
        if fault.mode == "ENOSPC":
            assert "make room" in run.err
        if fault.call == "fsync" and fault.kind == "staged":
            (path,) = re.findall(r"<(/[^>]*\.tmp)>", hit)
            synced = [
                line for line in log.read_text().splitlines() if "fsync(" in line and path in line
            ]
            assert synced == [hit], "a file whose fsync failed was synced again"


@pytest.mark.timeout(600)
def test_a_fault_at_any_system_call_costs_one_resume(tmp_path: Path, quick_disk: Path) -> None:
    lake = make_lake(tmp_path / "lake", SHARDS)
    with ExitStack() as stack:
        idle: SimpleQueue[Forks] = SimpleQueue()
        for number in range(PARALLEL):
            scratch = tmp_path / f"scratch-{number}"
            scratch.mkdir()
            idle.put(
                stack.enter_context(
                    Forks(
                        scratch,
                        lake.arguments(scratch / "first", "--quiet"),
                        GROUP_ROWS=str(GROUP_ROWS),
                    )
                )
            )
        forks = idle.get()
        whole, log = quick_disk / "whole", quick_disk / "log"
        clean = forks.run(lake.arguments(whole, "--quiet"), tracer(log))
        assert clean.code == 0, clean.err
        idle.put(forks)
        sweep = Sweep(lake, quick_disk, contents(LocalStorage(whole)))
        assert_finished(whole, sweep.reference)
        faults = [
            Fault(call, number, kind_of(line, whole), mode)
            for call, number, line in calls_in(log, whole)
            for mode in (*ERRORS[call], DEATH)
        ]

        def survive(numbered: tuple[int, Fault]) -> tuple[Fault, str]:
            forks = idle.get()
            try:
                return numbered[1], sweep.survive(numbered[1], forks, numbered[0])
            finally:
                idle.put(forks)

        with ThreadPoolExecutor(PARALLEL) as pool:
            survived = list(pool.map(survive, enumerate(chosen(faults))))
    told = Counter((*fault.place, how) for fault, how in survived)
    print(f"{len(survived)} faults survived:")
    for (kind, call, mode, how), times in sorted(told.items()):
        print(f"{times:4} times {mode:6} at {call} of {kind}: {how}")
    assert len(survived) >= 200
