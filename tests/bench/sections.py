"""What is measured, section by section: each runs its contestants in turn, A B A B.

A section adds to what was found so far and asserts nothing: a contestant that fails, or that gives
other predictions, has its runs marked with what is wrong, and the others go on.
"""

from __future__ import annotations

import shutil
import statistics
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.bench import contest, limit
from tests.bench.check import complaint, predictions
from tests.bench.environments import HOME, missing
from tests.bench.workloads import workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.bench.contest import Run
    from tests.bench.workloads import Workload

RIVALS = {
    "W1": ("pandas_loop", "tf_data", "daft", "ray_data", "spark", "beam"),
    "W2-1M": ("pandas_loop",),
    "W2-4M": ("pandas_loop",),
    "W2-16M": ("pandas_loop",),
    "W3": ("pandas_loop", "tf_data", "daft", "ray_data"),
    "W4": ("pandas_loop",),
    "W5": ("pandas_loop",),
}
"""Who is held against ours on which workload: the flights want what each tool does otherwise."""

IN_PART = {"beam": {"W1"}, "spark": {"W1"}, "pandas_loop": {"W5"}}
"""Who is given a part of which workloads, since the whole would take it hours."""

LIMITED = ("W1", "W3", "W4")
"""Workloads whose limit is measured."""

BATCH_SIZES = (1024, 2048, 4096, 8192, 16_384, 32_768, 65_536)
LIMIT_SECONDS = 5.0
STARTS = 5
"""Starts of each command whose start-up is measured, at full scale."""

OURS = "shardscore"


@dataclass
class Bench:
    """What is asked for, and what was found so far.

    Attributes:
        scale: How big the workloads are; 1: as big as is promised.
        rounds: How often each contestant runs.
        contestants: Those that may run.
        runs: The runs.
        limits: Workload → way → rows a second, a round each.
        parts: Workload → CPU seconds a million rows of reading, scoring, writing.
        seconds: Command → seconds, a start each.
        notes: What a reader should know.
    """

    scale: float
    rounds: int
    contestants: tuple[str, ...]
    runs: list[Run] = field(default_factory=list)
    limits: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    parts: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "format": 1,
            "scale": self.scale,
            "rounds": self.rounds,
            "runs": [run.as_json() for run in self.runs],
            "limits": self.limits,
            "parts": self.parts,
            "seconds": self.seconds,
            "notes": self.notes,
        }


def versus(name: str) -> Callable[[Bench], None]:
    """The section of one workload: ours, the rivals, and the limit."""

    def section(bench: Bench) -> None:
        work = workload(name, bench.scale)
        rivals = [rival for rival in RIVALS[name] if _can_run(bench, rival)]
        wrong: dict[str, str] = {}
        for number in range(bench.rounds):
            _told(bench, contest.loading(work), number)
            run, output = contest.ours(work)
            _told(bench, run, number)
            if run.fault is not None:
                break
            for rival in rivals:
                if rival not in wrong:
                    fault = _rival(bench, rival, work, run, output, number)
                    if fault is not None:
                        wrong[rival] = fault
            if name in LIMITED:
                _limit(bench, work, run)
            contest.clear(output)
        _without_loading(bench, name)
        if name in LIMITED and run.fault is None:
            bench.parts[name] = limit.parts(_job(work, run.facts["batch_size"]))

    return section


def memory(bench: Bench) -> None:
    """W2: one shard, three sizes."""
    for name in ("W2-1M", "W2-4M", "W2-16M"):
        versus(name)(bench)


def on_s3(bench: Bench) -> None:
    """W6: ours on a real S3 server against ours on the disk, both on the same shards."""
    from tests.services import SeaweedServer, s3_client

    work = workload("W1", bench.scale)
    folder = HOME / "s3"
    shutil.rmtree(folder, ignore_errors=True)
    server = SeaweedServer(folder)
    server.start()
    try:
        client = s3_client(server.endpoint)
        for path in sorted(work.input.glob("*.parquet")):
            client.upload_file(str(path), server.bucket, f"in/{path.name}")
        for number in range(bench.rounds):
            _told(bench, contest.loading(work), number, "W6")
            run, output = contest.ours(work, name="on the disk")
            _told(bench, run, number, "W6")
            contest.clear(output)
            run, output = contest.ours(
                work,
                name="on S3",
                source=server.url("in"),
                target=server.url(f"out-{number}"),
                env=server.environment,
            )
            _told(bench, run, number, "W6")
            contest.clear(output)
        _without_loading(bench, "W6")
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def workers(bench: Bench) -> None:
    """Ours with one worker and with two, a thread each."""
    if "--workers" not in contest.command("score", "--help").out:
        bench.notes.append("workers: the command has no --workers")
        return
    work = workload("W1", bench.scale)
    for number in range(bench.rounds):
        _told(bench, contest.loading(work), number, "workers")
        for count in (1, 2):
            name = "1 worker" if count == 1 else f"{count} workers"
            run, output = contest.ours(work, name=name, extra=("--workers", count, "--threads", 1))
            _told(bench, run, number, "workers")
            contest.clear(output)
    _without_loading(bench, "workers")


def batch_sizes(bench: Bench) -> None:
    """Ours with the automatic batch size, and with fixed ones."""
    for name in LIMITED:
        work, section = workload(name, bench.scale), f"batch-{name}"
        for number in range(bench.rounds):
            _told(bench, contest.loading(work), number, section)
            for size in ("auto", *BATCH_SIZES):
                run, output = contest.ours(
                    work, name=f"batch size {size}", extra=("--batch-size", size)
                )
                _told(bench, run, number, section)
                contest.clear(output)
        _without_loading(bench, section)


def start_up(bench: Bench) -> None:
    """What commands take that do little, and what `score` adds to loading the model."""
    work = workload("W5", min(bench.scale, 0.01))
    (first, *_) = sorted(work.input.glob("*.parquet"))
    one = HOME / "one"
    shutil.rmtree(one, ignore_errors=True)
    one.mkdir(parents=True)
    (one / first.name).hardlink_to(first)
    starts = STARTS if bench.scale >= 1 else 2
    again = ["score", "--model", work.model, "--input", one, "--features", "f*"]
    for number in range(starts):
        loading = contest.loading(work)
        run, output = contest.ours(work, name="one shard", source=str(one))
        took = {
            "--help": contest.command("--help").wall,
            "score --help": contest.command("score", "--help").wall,
            "status": contest.command("status", output).wall,
            "score, nothing to do": contest.command(*again, "--output", output).wall,
            "TensorFlow and the model alone": loading.wall,
            "score, one shard of 100 rows": run.wall,
            "score beyond TensorFlow and the model": run.wall - loading.wall,
        }
        for name, seconds in took.items():
            bench.seconds.setdefault(name, []).append(seconds)
        contest.clear(output)
        _say(f"start-up {number + 1} of {starts}: status {took['status']:.2f} s")
    shutil.rmtree(one, ignore_errors=True)


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "W1": versus("W1"),
    "W2": memory,
    "W3": versus("W3"),
    "W4": versus("W4"),
    "W5": versus("W5"),
    "W6": on_s3,
    "workers": workers,
    "batch": batch_sizes,
    "startup": start_up,
}


def _rival(
    bench: Bench, name: str, work: Workload, ours: Run, output: Path, number: int
) -> str | None:
    """One run of a contestant; its predictions are checked in the first round.

    Returns:
        Why it does not count; None if it does.
    """
    part = work.name in IN_PART.get(name, ())
    run, theirs = contest.contestant(name, work, ours.facts["batch_size"], part=part)
    if run.fault is None and number == 0:
        whole = len(predictions(output, work.key)[0])
        run.fault = complaint(output, theirs, work.key, run.rows if part else whole)
    if run.fault is None:
        # Rows that cannot be scored are rows that were dealt with, for ours and for theirs.
        run.rows = work.part_rows if part else work.rows
    run.facts["part"] = part
    contest.clear(theirs)
    _told(bench, run, number)
    return run.fault


def _limit(bench: Bench, work: Workload, run: Run) -> None:
    seconds = LIMIT_SECONDS * min(1.0, max(0.1, bench.scale))
    try:
        ways = limit.limit(_job(work, run.facts["batch_size"]), seconds)
    except RuntimeError as error:
        bench.notes.append(f"{work.name}: {error}")
        return
    for way, rate in ways.items():
        bench.limits.setdefault(work.name, {}).setdefault(way, []).append(rate)
        _say(f"{work.name} limit, {way}: {rate:,.0f} rows/s")


def _job(work: Workload, batch_size: int) -> dict[str, Any]:
    return {
        "model": str(work.model),
        "input": [str(work.input)],
        "features": list(work.features),
        "batch_size": batch_size,
        "on_bad_row": "fail" if work.features else "quarantine",
    }


def _without_loading(bench: Bench, section: str) -> None:
    """Tells of our runs of a section what they took beyond loading.

    Loading takes a second more or less each time, so it is the median of the section that is taken
    away; and what a run did after its model was proved was surely after loading.
    """
    runs = [run for run in bench.runs if run.workload == section]
    loading = median(run.wall for run in runs if run.contestant == "loading")
    for run in runs:
        if run.scoring:
            run.after_loading = max(run.scoring, run.wall - loading)


def _told(bench: Bench, run: Run, number: int, section: str | None = None) -> None:
    run.round = number
    run.workload = section or run.workload
    bench.runs.append(run)
    seconds = run.scoring or run.after_loading
    rate = f", {run.rows / seconds:,.0f} rows/s" if seconds else ""
    _say(
        f"{run.workload} round {number + 1}: {run.contestant}: {run.wall:.1f} s, "
        f"{run.peak / 2**20:,.0f} MiB{rate}" + (f": {run.fault}" if run.fault else "")
    )


def _can_run(bench: Bench, name: str) -> bool:
    if name not in bench.contestants:
        return False
    why = missing(name)
    note = f"{name} did not run: {why}"
    if why is not None and note not in bench.notes:
        bench.notes.append(note)
        _say(note)
    return why is None


def median(values: Iterable[float]) -> float:
    """The median; 0 of nothing."""
    found = list(values)
    return statistics.median(found) if found else 0.0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
