"""What each contestant's script is asked, and the one line that it tells.

A script prints a JSON object as its last line: `rows`; `after_loading`: seconds from the moment
when TensorFlow and the engine were up and the model was loaded, to the last written file; `total`:
seconds of the whole process up to then; and `loaded_rss`, the bytes that it held when it was
loaded. Whole-process time, CPU time and memory are measured from outside.

Some engines load the model in processes of their own, when the work has begun. These note the
moment (`note_loaded`), and loading ends when as many of them as there are cores are ready: what is
read or started meanwhile is a present to the contestant.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

_STAMPS = "BENCH_STAMPS"


def options() -> argparse.Namespace:
    """What the harness asks for: paths as strings, without a slash at the end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--input", required=True, help="a folder of shards")
    parser.add_argument("--output", required=True, help="an empty folder")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--key", default="id", help="the column that travels along")
    return parser.parse_args()


def shards(folder: str) -> list[Path]:
    return sorted(Path(folder).glob("*.parquet"))


def features(folder: str, key: str) -> list[str]:
    """The names of the model's columns: all but the key."""
    import pyarrow.parquet as pq

    return [name for name in pq.read_schema(shards(folder)[0]).names if name != key]


def note_loaded() -> None:
    """Called where a process of an engine has loaded the model."""
    folder = os.environ.get(_STAMPS)
    if folder:
        moment = time.monotonic()  # of one clock for all processes of a machine
        (Path(folder) / f"{os.getpid()}-{moment:.6f}").write_text(str(moment))


class Clock:
    """Seconds of one contestant."""

    def __init__(self) -> None:
        self._loaded = 0.0
        self._rss = 0

    def loaded(self) -> None:
        """All is imported, started and loaded."""
        self._loaded = time.monotonic()
        self._rss = _resident()

    def done(self, rows: int, cores: int = 1) -> None:
        """All is written: prints the line.

        Args:
            rows: How many were scored.
            cores: How many processes load the model, where it is not this one.
        """
        ended = time.monotonic()
        folder = os.environ.get(_STAMPS)
        stamps = sorted(float(p.read_text()) for p in Path(folder).iterdir()) if folder else []
        loaded = stamps[: max(1, cores)][-1] if stamps else self._loaded
        told = {
            "rows": rows,
            "after_loading": ended - max(loaded, self._loaded),
            "total": ended - _process_start(),
            "loaded_rss": self._rss,
        }
        sys.stdout.write(f"\n{json.dumps(told)}\n")
        sys.stdout.flush()


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _process_start() -> float:
    """When this process began, on the clock of `time.monotonic()`, to a hundredth of a second."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    since_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return since_boot + time.monotonic() - time.clock_gettime(time.CLOCK_BOOTTIME)
