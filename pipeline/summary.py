"""A run's last words: what became of its rows and shards, how long it took, what to do next."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from pipeline.errors import printable
from pipeline.report import methods, rate
from pipeline.screen import WIDTH, aligned, cut, on_screen, short_path, size
from pipeline.wording import counted, short_duration

if TYPE_CHECKING:
    from pipeline.reason_counts import Reasons
    from pipeline.records import RunReport

SHOWN_REASONS = 3
_REASON = 80
"""Columns of a reason."""


def summary_text(
    report: RunReport,
    width: int = WIDTH,
    reasons: Reasons | None = None,
    *,
    what_next: bool = False,
) -> str:
    """The closing summary of a run.

    Args:
        report: The run.
        width: Columns.
        reasons: Why rows could not be scored, if that is known.
        what_next: Whether to say what to do now that all is published.
    """
    counts = report.counts
    output = short_path(report.output)
    if report.nothing_to_do:
        what = "the only shard is" if report.shards == 1 else f"all {report.shards:,} shards are"
        return on_screen(f"nothing to do: {what} published in {printable(output)}", width)
    lines = {"rows in": f"{counts.rows_in:,}", "scored": f"{counts.scored:,}"}
    if report.rows_failed:
        shards = counted(len(report.failed), "shard")
        lines["rows in"] += f"; {report.rows_failed:,} more are in the {shards} that failed"
    if counts.null_scored:
        lines["null-scored"] = f"{counts.null_scored:,} (kept, without a prediction)"
    if counts.quarantined:
        lines["quarantined"] = f"{counts.quarantined:,} (see {output}/_shardscore/quarantine/)"
    if reasons is not None and reasons.rows:
        lines["why"] = _why(reasons)
    if counts.nonfinite:
        lines["not finite"] = (
            f"{counts.nonfinite:,} of the scored have a NaN or infinite prediction "
            "(--nonfinite bad sets them aside)"
        )
    lines["shards"] = _shards(report)
    if report.failed:
        # Where none could be scored the output was never begun, and has no report.
        by = f"status {output}" if report.plan_id else "plan --json"
        lines["failed"] = f"`shardscore {by}` lists them, and why"
    lines["time"] = _time(report)
    if report.memory_after_load:
        lines["memory"] = (
            f"{size(report.memory_peak)} at its peak, of which "
            f"{size(report.memory_after_load)} TensorFlow and the loaded model"
        )
        if report.workers > 1:
            lines["memory"] += f", over {report.workers} workers"
    if report.fitting_batch_rows:
        lines["out of memory"] = (
            f"batches of {report.batch_size:,} rows did not fit, and were scored by at most "
            f"{report.fitting_batch_rows:,} rows a call"
        )
    if report.drift is not None and report.drift.differences:
        largest = report.drift.differences[0]
        lines["drift"] = (
            f"{largest.psi:.3g} at most ({largest.name}; population stability index against "
            f"{short_path(report.drift.baseline)})"
        )
    lines["output"] = output
    if what_next and report.state == "finished":
        where = shlex.quote(output)
        lines["next"] = f"shardscore verify {where} and shardscore report {where}"
    return aligned(lines, width)


def _why(reasons: Reasons) -> str:
    """The most frequent reasons, with their rows, and how many rows were not looked at."""
    most = reasons.counted.most_common(SHOWN_REASONS)
    parts = [
        f"{cut(printable(reason.removesuffix('.')), _REASON)} ({counted(rows, 'row')})"
        for (_, reason), rows in most
    ]
    others = reasons.rows - sum(rows for _, rows in most)
    if others:
        parts.append(f"others ({counted(others, 'row')})")
    if unseen := reasons.of_rows - reasons.rows:
        parts.append(f"of {counted(unseen, 'row')} more the report tells")
    return "; ".join(parts)


def _time(report: RunReport) -> str:
    """How long a run took, and how fast it scored: start-up is no part of the rate."""
    text = short_duration(report.seconds)
    if not report.counts.rows_in:
        return text
    speed = f"at {rate(report):,.0f} rows/s"
    if not report.scoring_seconds:
        return f"{text}, scoring {speed}"
    start = short_duration(report.seconds - report.scoring_seconds)
    return f"{text}: {start} to start, then {short_duration(report.scoring_seconds)} {speed}"


def _shards(report: RunReport) -> str:
    parts = [f"{n:,} by {method}()" for method, n in methods(report.outcomes).items()]
    if report.shards_done_before:
        parts.append(f"{report.shards_done_before:,} published before")
    if report.failed:
        parts.append(f"{len(report.failed):,} failed")
    left = report.shards - report.shards_done_before - len(report.outcomes)
    if left:
        parts.append(f"{left:,} left")
    return f"{report.shards:,}: " + ", ".join(parts)
