"""What is promised, held against what was found. Nothing is asserted: a figure that is
missed is shown as missed."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

OURS = "shardscore"
_TIMES = {"pandas_loop": 4, "ray_data": 15, "spark": 30, "daft": 2, "beam": 100}
MIB = 2**20


@dataclass(frozen=True)
class Target:
    """A figure that was promised.

    Attributes:
        text: What it is.
        wanted: The figure; at least that much, or with `at_most`, at most.
        found: What was measured; None: it was not.
        unit: What stands behind the figure.
        at_most: Whether less is better.
    """

    text: str
    wanted: float
    found: float | None
    unit: str = ""
    at_most: bool = False

    @property
    def reached(self) -> bool | None:
        if self.found is None:
            return None
        return self.found <= self.wanted if self.at_most else self.found >= self.wanted


def targets(found: dict[str, Any]) -> list[Target]:
    """The figures that were promised, with what was measured."""
    listed = [
        Target(f"W1: times {rival}", times, ratio(found, "W1", OURS, rival), "x")
        for rival, times in _TIMES.items()
    ]
    listed += [
        Target("W1: share of the model alone, while scoring", 0.8, of_limit(found, "W1")),
        Target("W1: share of what nothing waiting would reach", 0.8, of_parts(found, "W1")),
        *_memory(found),
        Target("W3: share of the model alone, while scoring", 0.97, of_limit(found, "W3")),
        Target("W4: times pandas_loop", 2, ratio(found, "W4", OURS, "pandas_loop"), "x"),
        Target("W5: times a predict() a shard", 50, ratio(found, "W5", OURS, "pandas_loop"), "x"),
        Target("W6: S3 to disk", 0.8, ratio(found, "W6", "on S3", "on the disk")),
        Target(
            "2 workers to 1, while scoring",
            1.8,
            ratio(found, "workers", "2 workers", "1 worker", "scoring"),
            "x",
        ),
    ]
    listed += [
        Target(f"{name}: automatic batch size to the best", 0.9, _auto(found, f"batch-{name}"))
        for name in ("W1", "W3", "W4")
    ]
    starts = {
        "--help": 0.5,
        "status": 0.5,
        "score, nothing to do": 1.0,
        "score beyond TensorFlow and the model": 0.5,
    }
    listed += [
        Target(name, most, _middle(found["seconds"].get(name)), "s", at_most=True)
        for name, most in starts.items()
    ]
    return listed


def counted(found: dict[str, Any], workload: str, contestant: str) -> list[dict[str, Any]]:
    """A contestant's runs on a workload, if none of them was at fault."""
    runs = [
        run
        for run in found["runs"]
        if run["workload"] == workload and run["contestant"] == contestant
    ]
    return [] if any(run["fault"] for run in runs) else runs


def rates(runs: list[dict[str, Any]], seconds: str) -> list[float]:
    """Rows a second over one of the times of a run."""
    return [run["rows"] / run[seconds] for run in runs if run[seconds] > 0]


def ratio(
    found: dict[str, Any], workload: str, one: str, other: str, by: str = "after_loading"
) -> float | None:
    """Rates over one of the times of a run, round by round: the median of the ratios."""
    ones = rates(counted(found, workload, one), by)
    others = rates(counted(found, workload, other), by)
    pairs = list(zip(ones, others, strict=False))
    return statistics.median(a / b for a, b in pairs) if pairs else None


def of_limit(found: dict[str, Any], workload: str) -> float | None:
    """What share of the limit ours reaches while it scores."""
    ours = rates(counted(found, workload, OURS), "scoring")
    best = limit_of(found, workload)
    return None if best is None or not ours else statistics.median(ours) / best


def limit_of(found: dict[str, Any], workload: str) -> float | None:
    """Rows a second of the faster way to use all cores."""
    ways = found["limits"].get(workload)
    return max(statistics.median(rates) for rates in ways.values()) if ways else None


def of_parts(found: dict[str, Any], workload: str) -> float | None:
    """What share ours reaches, while it scores, of a run in which nothing ever waits: one that
    takes the CPU seconds of reading, scoring and writing, each measured alone, over the cores."""
    ours = rates(counted(found, workload, OURS), "scoring")
    parts = found["parts"].get(workload)
    if not parts or not ours:
        return None
    return statistics.median(ours) * sum(parts.values()) / (found["machine"]["cores"] * 1e6)


def _memory(found: dict[str, Any]) -> list[Target]:
    sizes = [
        [run["above_loaded"] for run in counted(found, f"W2-{size}", OURS)]
        for size in ("1M", "4M", "16M")
    ]
    if not all(sizes):
        return [Target("W2: memory above the loaded model", 100, None, "MB", at_most=True)]
    middles = [statistics.median(size) for size in sizes]
    spread = max(abs(middle / statistics.mean(middles) - 1) for middle in middles)
    return [
        Target("W2: memory above the loaded model", 100, max(middles) / 1e6, "MB", at_most=True),
        Target("W2: from 1 M to 16 M rows, apart by", 0.05, spread, at_most=True),
    ]


def _auto(found: dict[str, Any], section: str) -> float | None:
    by_name: dict[str, float] = {}
    for name in {run["contestant"] for run in found["runs"] if run["workload"] == section}:
        reached = rates(counted(found, section, name), "scoring")
        if reached:
            by_name[name] = statistics.median(reached)
    auto = by_name.pop("batch size auto", None)
    return None if auto is None or not by_name else auto / max(by_name.values())


def _middle(values: list[float] | None) -> float | None:
    return statistics.median(values) if values else None
