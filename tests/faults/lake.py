"""A small lake, what a run makes of it, and the proof that a fault did no harm.

What every fault test asserts is here, once: at the moment of death each final name holds the bytes
of an undisturbed run or nothing; one resume later all of them are there, and nothing else is.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.job import Job
from pipeline.proof import document
from pipeline.run import score
from pipeline.stop import Stop
from pipeline.storage import LocalStorage
from pipeline.verify import verify
from tests.conftest import ROOT, Finished, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from pipeline.records import RunReport
    from pipeline.storage import Storage

HOUSE = "_shardscore/"
PASSING = tuple(f"{HOUSE}{folder}/" for folder in ("staging", "locks", "checkpoints"))
"""Folders of which nothing is left when all is done."""

REPORTS = f"{HOUSE}reports/"
CHECKPOINTS = f"{HOUSE}checkpoints/"

GROUP_ROWS = 12
"""Rows of a row group: a big shard of a few batches has several, and some end within a batch."""


class Silent:
    """An observer that keeps the events and shows nothing."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, Any]]] = []

    def event(self, name: str, text: str, **facts: Any) -> None:
        self.events.append((name, text, facts))

    def begin(self, *, rows: int, shards: int) -> None: ...

    def advance(self, rows: int) -> None: ...

    def shard(self, outcome: Any) -> None: ...

    def standing(self, report: Any) -> None: ...

    def at_work(self, worker: int, shards: Any) -> None: ...

    def end(self) -> None: ...


@dataclass(frozen=True)
class Lake:
    """Shards, a stand-in of a model, and how they are scored.

    Attributes:
        folder: Where they lie.
        batch_size: Rows a batch; shards of no more than that are small.
        every: Seconds between two checkpoints.
    """

    folder: Path
    batch_size: int = 8
    every: float = 0.0

    @property
    def model(self) -> Path:
        return self.folder / "model.keras"

    @property
    def shards(self) -> Path:
        return self.folder / "lake"

    def job(self, output: object, **more: Any) -> Job:
        return Job(
            model=str(self.model),
            input=(str(self.shards),),
            output=str(output),
            batch_size=self.batch_size,
            on_bad_row="quarantine",
            checkpoint_every=self.every,
            **more,
        )

    def arguments(self, output: object, *more: object) -> list[str]:
        """The same job as a command line."""
        return [
            *("score", "--model", str(self.model), "--input", str(self.shards)),
            *("--output", str(output), "--batch-size", str(self.batch_size)),
            *("--on-bad-row", "quarantine", "--checkpoint-every", str(self.every)),
            *map(str, more),
        ]


def make_lake(folder: Path, shards: Mapping[str, tuple[int, Iterable[int]]], **how: Any) -> Lake:
    """Writes shards, given as name → rows and which of them are bad."""
    lake = Lake(folder, **how)
    lake.shards.mkdir(parents=True)
    lake.model.write_bytes(b"arithmetic")
    for name, (rows, bad) in shards.items():
        write_shard(lake.shards / f"{name}.parquet", rows, bad)
    return lake


def write_shard(path: Path, rows: int, bad: Iterable[int] = ()) -> None:
    """Writes one of so many rows, of which some are bad."""
    holes = set(bad)
    table = pa.table(
        {
            "id": pa.array([f"row {i}" for i in range(rows)]),
            "a": pa.array([None if i in holes else i / 4 for i in range(rows)], pa.float32()),
            "b": pa.array([1.0] * rows, pa.float32()),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def begin(arguments: Iterable[str], **variables: str) -> subprocess.Popen[str]:
    """Starts the command in a process of its own, with arithmetic in the place of TensorFlow."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.arithmetic", *arguments],
        cwd=ROOT,
        env=environment(**{"GROUP_ROWS": str(GROUP_ROWS), **variables}),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ended(process: subprocess.Popen[str], seconds: float = 120) -> Finished:
    out, err = process.communicate(timeout=seconds)
    return Finished(process.returncode, out, err)


def kill(process: subprocess.Popen[str]) -> None:
    """What `kill -9` does; it may have ended by itself a moment before."""
    process.kill()
    process.communicate()
    assert process.returncode in {-signal.SIGKILL, 0}


def wait_for(true: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Until something is so, which must be while the process, if one is given, still runs."""
    deadline = time.monotonic() + 60
    while not true():
        over = process is not None and process.poll() is not None
        assert not over or true(), "the run ended too early"
        assert time.monotonic() < deadline, "the run does not get on"
        time.sleep(0.002)


def scored_rows(told: Path, shard: str) -> list[tuple[int, int]]:
    """The batches of a shard that a run has scored, as it told in its file `SCORED`."""
    lines = told.read_text().splitlines() if told.exists() else []
    parts = [line.split() for line in lines]
    return [(int(part[1]), int(part[2])) for part in parts if len(part) == 3 and part[0] == shard]


def score_here(job: Job, observer: Any = None) -> RunReport:
    """A run in this process, where the arithmetic must be in its place."""
    return score(job, observer or Silent(), Stop())


def contents(storage: Storage) -> dict[str, bytes]:
    """All that is meant to stay in an output, by name: not its reports, nor what is passing."""
    passing = (*PASSING, REPORTS)
    return {
        info.name: storage.read(info.name)
        for info in storage.list()
        if not info.name.startswith(passing)
    }


def left_over(storage: Storage) -> list[str]:
    """What a finished output must not hold."""
    return [info.name for info in storage.list() if info.name.startswith(PASSING)]


def assert_whole(output: Storage | Path, reference: Mapping[str, bytes]) -> None:
    """Whatever has a final name holds the bytes that belong there, whatever happened."""
    storage = _storage(output)
    there = contents(storage)
    assert "_SUCCESS" not in there or there == reference, "marked complete, and is not"
    for name, data in there.items():
        assert name in reference, f"{name} has no business here"
        assert data == reference[name], f"{name} holds other bytes"
    for info in storage.list(HOUSE):
        if info.name.startswith(REPORTS):
            json.loads(storage.read(info.name))
        elif info.name.startswith(CHECKPOINTS):
            pq.read_metadata(io.BytesIO(storage.read(info.name)))


def assert_finished(output: Storage | Path, reference: Mapping[str, bytes]) -> None:
    """All is there, byte for byte, and nothing else; and the output can prove it."""
    storage = _storage(output)
    assert contents(storage) == reference
    assert left_over(storage) == []
    assert_proven(storage)


def assert_proven(output: Storage) -> None:
    """`verify` finds nothing wrong, nor anything left to do."""
    found = document(verify(output))
    assert found["ok"], found
    assert found["success"]


def _storage(output: Storage | Path) -> Storage:
    return LocalStorage(output) if isinstance(output, os.PathLike) else output
