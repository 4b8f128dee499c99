"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench.environments import CONTESTANTS, ROOT

_PROGRAMS = ("tensorflow", "keras", "numpy", "pyarrow", "pandas")


def machine() -> dict[str, Any]:
    """The machine and the versions of what ran on it."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(_field("/proc/meminfo", "MemTotal").split()[0]) / 2**20, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PROGRAMS},
        "contestants": {
            path.parent.name: _pins(path) for path in sorted(CONTESTANTS.glob("*/requirements.txt"))
        },
        "commit": _commit(),
    }


def _pins(requirements: Path) -> list[str]:
    lines = requirements.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return "unknown"


def _commit() -> str:
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or "unknown"
