"""Runs of contestants, ours among them: one at a time, each in a process of its own.

What "after loading" means is not the same thing for all, so it is said here. A contestant tells it
of itself (see `contestants/common.py`): from the moment when all is imported, started and loaded.
Ours is what is left of the whole process when a process is taken away that does nothing but import
TensorFlow and load the model, measured in the same rounds (`loading`): our own start-up, the
listing of the input, the proof of the prediction methods, worker processes and the final marks are
all in it. "Scoring" of ours is from the moment when the model is loaded and proved, which a line of
the log tells, to the end of the process.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench import processes
from tests.bench.environments import CONTESTANTS, HOME, OURS_ALONE, ROOT, python_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.bench.processes import Measured
    from tests.bench.workloads import Workload

TIMEOUT = 3600
OUTPUTS = HOME / "out"

_LOADING = "import sys, tensorflow, keras; keras.models.load_model(sys.argv[1], compile=False)"


@dataclass
class Run:
    """One run of one contestant on one workload.

    Attributes:
        workload: The workload's name.
        contestant: Who ran.
        round: The round, from 0.
        rows: Rows that it scored.
        wall: Seconds of the whole process.
        cpu: CPU seconds of all its processes.
        peak: Highest memory of all its processes together, in bytes.
        after_loading: Seconds after loading, as said above; 0 where it does not apply.
        scoring: Ours: seconds from the proof of the methods on; 0 for others.
        above_loaded: Bytes above the loaded model, at the highest; 0 where it is not known.
        processes: How many there were at once.
        fault: Why it does not count, if it does not.
        facts: What else it told.
    """

    workload: str
    contestant: str
    round: int = 0
    rows: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    peak: int = 0
    after_loading: float = 0.0
    scoring: float = 0.0
    above_loaded: int = 0
    processes: int = 0
    fault: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def ours(
    work: Workload,
    *,
    name: str = "shardscore",
    extra: Sequence[object] = (),
    source: str | None = None,
    target: str | None = None,
    env: Mapping[str, str] | None = None,
) -> tuple[Run, Path]:
    """Scores a workload with the project's own command.

    Args:
        work: The workload.
        name: What the run is called.
        extra: More words for the command line.
        source: Where the input is, if not where the workload lies.
        target: Where the output goes, if not to a folder of this machine.
        env: More variables.

    Returns:
        The run, without `after_loading`, which needs the round's `loading`; and its output.
    """
    output = _emptied(name)
    command: list[object] = [sys.executable, "-m", "jobs", "score", "--model", work.model]
    command += ["--input", source or work.input, "--output", target or output]
    for glob in work.features:
        command += ["--features", glob]
    if not work.features:
        command += ["--on-bad-row", "quarantine"]
    command += ["--log-format", "json", "--json", *extra]
    _settle(work.input)
    done = processes.run(command, cwd=ROOT, env=_environment(**(env or {})), timeout=TIMEOUT)
    run = _run(work, name, done)
    if run.fault is None:
        report = json.loads(done.out)
        memory = report["memory"]
        run.rows = report["rows"]["in"]
        run.above_loaded = max(0, memory["peak_bytes"] - memory["after_load_bytes"])
        run.scoring = done.wall - _moment(done, "probe")
        keys = ("batch_size", "seconds", "rows_per_second", "workers", "threads", "memory")
        run.facts = {key: report[key] for key in keys if key in report}
    return run, output


def contestant(name: str, work: Workload, batch_size: int, *, part: bool) -> tuple[Run, Path]:
    """Has a contestant score a workload, or the part of it."""
    output = _emptied(name)
    source = work.part if part else work.input
    command: list[object] = [python_of(name), CONTESTANTS / name / "run.py"]
    command += ["--model", work.model, "--input", source, "--output", output]
    command += ["--batch-size", batch_size, "--key", work.key]
    _settle(source)
    with tempfile.TemporaryDirectory(prefix="bench-") as stamps:
        env = _environment(PYTHONPATH=str(CONTESTANTS), BENCH_STAMPS=stamps)
        done = processes.run(command, cwd=output.parent, env=env, timeout=TIMEOUT)
    run = _run(work, name, done)
    if run.fault is None:
        told = json.loads(done.out.strip().splitlines()[-1])
        run.rows, run.after_loading = told["rows"], told["after_loading"]
        if name in OURS_ALONE:  # who works in one process, and so knows its memory
            run.above_loaded = max(0, done.peak - told["loaded_rss"])
        run.facts = told
    return run, output


def loading(work: Workload) -> Run:
    """A process that imports TensorFlow, loads the model, and ends."""
    command = [sys.executable, "-c", _LOADING, work.model]
    done = processes.run(command, cwd=ROOT, env=_environment(), timeout=TIMEOUT)
    return _run(work, "loading", done)


def command(*words: object) -> Measured:
    """One of the project's commands, as it is."""
    return processes.run(
        [sys.executable, "-m", "jobs", *words], cwd=ROOT, env=_environment(), timeout=TIMEOUT
    )


def clear(output: Path) -> None:
    """Takes an output away."""
    shutil.rmtree(output, ignore_errors=True)


def _run(work: Workload, name: str, done: Measured) -> Run:
    fault = None
    if done.code != 0:
        last = [line.strip() for line in done.err.splitlines() if line.strip()][-8:]
        fault = f"it ended with {done.code}: " + " | ".join(last)
    return Run(
        workload=work.name,
        contestant=name,
        wall=done.wall,
        cpu=done.cpu,
        peak=done.peak,
        processes=done.processes,
        fault=fault,
    )


def _moment(done: Measured, event: str) -> float:
    """Seconds after the start at which the log told of an event."""
    for seconds, line in done.lines:
        if f'"event": "{event}"' in line:
            return seconds
    raise RuntimeError(f"the log tells nothing of {event}")


def _environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SHARDSCORE_")}
    return {**kept, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **more}


def _emptied(name: str) -> Path:
    output = OUTPUTS / name
    clear(output)
    output.mkdir(parents=True)
    return output


def _settle(folder: Path) -> None:
    """The same start for all: the input in the page cache, nothing waiting for the disk."""
    os.sync()
    for path in folder.glob("*.parquet"):
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 24):
                pass
