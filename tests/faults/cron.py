"""A machine with cron, as far as the shipped crontabs need one: in a folder, without waiting for
the hour.

A crontab is read as cron reads it, and the very commands in it are run as cron runs them: by
`sh -c`, in the user's home, in a session of their own, with a handful of variables and no terminal.
What a command prints is what would be mailed. The paths that a crontab's variables name lie in the
machine's folder; `date` is what the test says.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import ROOT, Finished
from tests.faults.lake import GROUP_ROWS, ended

if TYPE_CHECKING:
    from collections.abc import Iterable

_FOLDERS = (
    "opt/shardscore/.venv/bin",
    "etc/shardscore",
    "var/log/shardscore",
    "home",
    "lake/scores",
)
_WHEN = re.compile(r"(@\w+|\S+\s+\S+\s+\S+\s+\S+\s+\S+)\s+(.*)")


@dataclass(frozen=True)
class Entry:
    """A line that says what is to be run, and when: five fields, or a word with an @."""

    when: str
    command: str


@dataclass(frozen=True)
class Crontab:
    """A user's crontab."""

    variables: dict[str, str]
    entries: tuple[Entry, ...]

    @property
    def nightly(self) -> Entry:
        """The entry that scores each night."""
        (entry,) = (e for e in self.entries if e.when[0] != "@" and "shardscore score" in e.command)
        return entry

    @property
    def after_a_reboot(self) -> Entry:
        (entry,) = (e for e in self.entries if e.when == "@reboot")
        return entry

    @property
    def tidying(self) -> Entry:
        """The entry that takes old logs away."""
        (entry,) = (e for e in self.entries if "-delete" in e.command)
        return entry


def read(path: Path) -> Crontab:
    """Reads a crontab by the rules of crontab(5)."""
    variables: dict[str, str] = {}
    entries = []
    for line in path.read_text().splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if assigned := re.fullmatch(r"(\w+)\s*=\s*(.*)", text):
            variables[assigned[1]] = assigned[2]
            continue
        entry = _WHEN.fullmatch(text)
        assert entry is not None, f"no line of a crontab: {text}"
        # cron makes a line's end of it, and of what follows the command's standard input.
        assert "%" not in entry[2]
        entries.append(Entry(entry[1], entry[2]))
    return Crontab(variables, tuple(entries))


class Machine:
    """A machine whose root folder is `folder`.

    Args:
        folder: Where all of it lies.
        crontab: Whose variables name its paths.
        job: Lines of its job file, besides the paths.
    """

    def __init__(self, folder: Path, crontab: Crontab, job: Iterable[str] = ()) -> None:
        self.folder = folder
        self.crontab = crontab
        self.today = "2026-01-01 02:17:00"
        self.pids = folder / "pids"
        self.told = folder / "told"
        for name in _FOLDERS:
            (folder / name).mkdir(parents=True)
        self._program("shardscore", "exit 1")  # what it does is said at each start
        self.output = folder / "lake/scores"
        model = folder / "etc/shardscore/model.keras"
        model.write_bytes(b"arithmetic")
        paths = {"model": model, "input": folder / "lake/shards", "output": self.output}
        lines = [f'{name} = "{path}"' for name, path in paths.items()]
        self.job_file = folder / "etc/shardscore/job.toml"
        self.job_file.write_text("\n".join([*lines, *job]) + "\n")

    @property
    def shards(self) -> Path:
        return self.folder / "lake/shards"

    @property
    def logs(self) -> Path:
        return self.folder / "var/log/shardscore"

    def at(self, path: str) -> str:
        """Where a path of this machine's, or each of several, is on the real one."""
        parts = (Path(f"{self.folder}{part}") for part in path.split(":"))
        return ":".join(
            str(here) if here.exists() else part
            for here, part in zip(parts, path.split(":"), strict=True)
        )

    def start(
        self, command: str, module: str = "tests.faults.arithmetic", **variables: str
    ) -> subprocess.Popen[str]:
        """Starts what a line of the crontab says.

        Args:
            command: The command.
            module: What `shardscore` is.
            variables: Said to that module alone.
        """
        self._program("date", f'exec /bin/date --utc --date "{self.today}" "$@"')
        said = {"PYTHONPATH": str(ROOT), "GROUP_ROWS": str(GROUP_ROWS), **variables}
        lines = [f'export {name}="{value}"' for name, value in said.items()]
        begun = [f'echo $$ >>"{self.pids}"', f'exec "{sys.executable}" -m {module} "$@"']
        self._program("shardscore", *lines, *begun)
        home = self.folder / "home"
        cron = {
            "HOME": str(home),
            "LOGNAME": "shardscore",
            "SHELL": "/bin/sh",
            "PATH": "/usr/bin:/bin",
        }
        said_there = {name: self.at(value) for name, value in self.crontab.variables.items()}
        environment = {**cron, **said_there}
        return subprocess.Popen(
            [environment["SHELL"], "-c", command],
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self, command: str, module: str = "tests.faults.arithmetic", **variables: str
    ) -> Finished:
        """As `start`, to its end."""
        return ended(self.start(command, module, **variables))

    def last_pid(self) -> int:
        """The number of the `shardscore` that was started last."""
        return int(self.pids.read_text().split()[-1])

    def power_off(self, running: subprocess.Popen[str]) -> None:
        """Ends all that runs here, at once: the command's group, and who has left it."""
        os.killpg(running.pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while left := self._processes():
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            assert time.monotonic() < deadline
            time.sleep(0.01)
        running.communicate()

    def _processes(self) -> list[int]:
        """Those whose environment says that they are at home here."""
        home = f"HOME={self.folder / 'home'}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if home in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def _program(self, name: str, *lines: str) -> None:
        """A program that is found first. Replaced in one step: a shell may be reading it."""
        path = self.folder / "opt/shardscore/.venv/bin" / name
        new = path.with_suffix(".new")
        new.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
        new.chmod(0o755)
        new.replace(path)
