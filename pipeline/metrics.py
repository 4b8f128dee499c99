"""PURE: a run's figures as Prometheus reads them, in its text format.

Owns the names, kinds and meanings of all metrics. Labels are few and bounded: a job's name, a
share's number, a state; never the name of a shard. Units are seconds and bytes.

A figure that a run does not tell stays what was told before: a Pushgateway keeps it so (POST), and
`with_kept` does the same for a file. So the last success outlives a failed run, how the last run
ended stays until the next one has ended, and a run with nothing to do leaves the last speed alone.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from pipeline.report import rate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.records import RunReport

Labels = dict[str, str]
Figures = dict[str, list[tuple[Labels, float]]]
"""Metric → its samples: what labels each has of its own, and its value."""

LABELS = ("name", "shard_index")
"""What may be on each sample: the job's name, if it has one; the share's number, if it is one."""

METRICS = {
    "shardscore_info": ("gauge", "Versions of the programs that score; always 1."),
    "shardscore_run_start_timestamp_seconds": ("gauge", "When the latest run began, Unix time."),
    "shardscore_run_end_timestamp_seconds": (
        "gauge",
        "When the latest run that has ended did so, Unix time. A run that is killed tells no end.",
    ),
    "shardscore_last_success_timestamp_seconds": (
        "gauge",
        "When a run last ended with 0 (all is published), Unix time; failed runs leave it.",
    ),
    "shardscore_exit_code": ("gauge", "What the latest run that has ended did so with; 0: well."),
    "shardscore_run_duration_seconds": ("gauge", "Wall time of the latest run, so far."),
    "shardscore_rows_total": (
        "counter",
        "Rows of the shards that the latest run with work to do has finished, by what became of "
        "them; each run counts from 0.",
    ),
    "shardscore_nonfinite_rows_total": (
        "counter",
        "Those of the scored rows with a NaN or an infinity among their predictions.",
    ),
    "shardscore_rows_planned": ("gauge", "Rows that this run had to score."),
    "shardscore_rows_done": (
        "gauge",
        "Those of them that are scored or set aside, in shards under way too.",
    ),
    "shardscore_rows_per_second": (
        "gauge",
        "Rows a second of the latest run that scored any and ended, start-up left out.",
    ),
    "shardscore_shards": ("gauge", "Shards of the input, by how they stand."),
    "shardscore_peak_memory_bytes": (
        "gauge",
        "Highest resident memory of the latest run, so far; the sum of its processes.",
    ),
}
"""Name → its type, and what it means."""

_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def of_run(report: RunReport, planned: int | None, done: int) -> Figures:
    """What is told of a run.

    Args:
        report: How it stands, or how it ended.
        planned: Rows that it had to score; None: it has not come to scoring.
        done: Those of them that are scored or set aside.
    """
    counts, outcomes = report.counts, len(report.outcomes)
    failed = len(report.failed)
    shards = {
        "done_before": report.shards_done_before,
        "published": outcomes - failed,
        "failed": failed,
        "pending": max(0, report.shards - report.shards_done_before - outcomes),
    }
    figures = {
        "shardscore_info": [(dict(report.versions), 1.0)],
        "shardscore_shards": _by_state(shards),
        "shardscore_peak_memory_bytes": one(report.memory_peak),
    }
    if planned is None:
        return figures
    rows = {
        "scored": counts.scored,
        "null": counts.null_scored,
        "quarantined": counts.quarantined,
    }
    figures |= {
        "shardscore_rows_total": _by_state(rows),
        "shardscore_nonfinite_rows_total": one(counts.nonfinite),
        "shardscore_rows_planned": one(planned),
        "shardscore_rows_done": one(done),
    }
    if report.state != "running" and (speed := rate(report)) > 0:
        figures["shardscore_rows_per_second"] = one(speed)
    return figures


def of_end(moment: float, code: int) -> Figures:
    """What is told when a run has ended.

    Args:
        moment: Unix time.
        code: Its exit code.
    """
    figures = {
        "shardscore_run_end_timestamp_seconds": one(moment),
        "shardscore_exit_code": one(code),
    }
    if code == 0:
        figures["shardscore_last_success_timestamp_seconds"] = one(moment)
    return figures


def one(value: float) -> list[tuple[Labels, float]]:
    """The samples of a metric that has no labels of its own."""
    return [({}, value)]


def with_kept(figures: Figures, before: str, labels: Labels) -> Figures:
    """What is told now, and of all else what a text has told before.

    Args:
        figures: What is told now.
        before: The earlier text. Lines that are no metrics of ours, or another job's or share's,
            are left out.
        labels: What is on each sample, of `LABELS`.
    """
    kept: Figures = {}
    for line in before.split("\n"):  # other breaks may be in a label
        sample = _SAMPLE.fullmatch(line)
        if sample is None or sample[1] not in METRICS or sample[1] in figures:
            continue
        try:
            value = float(sample[3])
        except ValueError:
            continue
        said = {name: _unescaped(text) for name, text in _LABEL.findall(sample[2] or "")}
        common = {name: said.pop(name) for name in LABELS if name in said}
        if common == labels:
            kept.setdefault(sample[1], []).append((said, value))
    return figures | kept


def as_text(figures: Figures, labels: Mapping[str, str]) -> str:
    """The text that Prometheus, its node exporter and a Pushgateway read.

    Args:
        figures: What is told, of `METRICS`.
        labels: What is on each sample.
    """
    lines = []
    for name, (kind, meaning) in METRICS.items():
        if name not in figures:
            continue
        told = meaning.replace("\\", r"\\").replace("\n", r"\n")
        lines += [f"# HELP {name} {told}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{_braced({**labels, **own})} {number(v)}" for own, v in figures[name]]
    return "".join(f"{line}\n" for line in lines)


def number(value: float) -> str:
    """A number as Go's ParseFloat takes it; whole ones without a point, up to 2^53."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    whole = abs(value) <= 2**53 and value == int(value)
    return str(int(value)) if whole else repr(float(value))


def _by_state(counts: dict[str, int]) -> list[tuple[Labels, float]]:
    return [({"state": state}, count) for state, count in counts.items()]


def _braced(labels: Labels) -> str:
    pairs = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], text)
