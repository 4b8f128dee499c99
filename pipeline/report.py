"""Reports: a run as JSON for machines, and as a closing summary for people.

A run's report lies in `_shardscore/reports/`. It is replaced while the run goes on, so that
`status` can tell where a run is from storage alone.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from pipeline.errors import printable

if TYPE_CHECKING:
    from pipeline.errors import ShardscoreError
    from pipeline.records import Outcome, RunReport
    from pipeline.storage import Storage

REPORTS = "_shardscore/reports"


def save(output: Storage, report: RunReport) -> None:
    """Writes a run's report, in the place of the one before."""
    shards = report.state != "running"  # until then only the counters are worth their bytes
    data = json.dumps(as_json(report, shards=shards), indent=1).encode() + b"\n"
    output.replace(f"{REPORTS}/{report.run_id}.json", data)


def latest(output: Storage) -> dict[str, Any] | None:
    """The report of the run that began last, as JSON, or None if there was no run."""
    names = [info.name for info in output.list(REPORTS) if info.name.endswith(".json")]
    if not names:
        return None
    found: dict[str, Any] = json.loads(output.read(max(names)))
    return found


def as_json(report: RunReport, *, shards: bool = True) -> dict[str, Any]:
    """A run as a JSON document.

    Args:
        report: The run.
        shards: Whether to list each shard's outcome.
    """
    counts = report.counts
    document: dict[str, Any] = {
        "format": 1,
        "run_id": report.run_id,
        "state": report.state,
        "started": report.started,
        "seconds": round(report.seconds, 3),
        "output": report.output,
        "plan_id": report.plan_id,
        "fingerprint": report.fingerprint,
        "model_sha256": report.model_sha256,
        "batch_size": report.batch_size,
        "probe": report.probe,
        "shards": {
            "total": report.shards,
            "done_before": report.shards_done_before,
            "published": sum(o.status != "failed" for o in report.outcomes),
            "failed": len(report.failed),
            "by_method": methods(report.outcomes),
        },
        "rows": {
            "in": counts.rows_in,
            "scored": counts.scored,
            "null_scored": counts.null_scored,
            "quarantined": counts.quarantined,
        },
        "rows_per_second": round(rate(report), 1),
        "memory": {
            "after_load_bytes": report.memory_after_load,
            "peak_bytes": report.memory_peak,
        },
        "versions": report.versions,
        "error": None if report.error is None else _error(report.error),
    }
    if shards:
        document["outcomes"] = [_outcome(outcome) for outcome in report.outcomes]
    return document


def methods(outcomes: tuple[Outcome, ...]) -> dict[str, int]:
    """How many shards each method scored."""
    return dict(sorted(Counter(o.method for o in outcomes if o.method is not None).items()))


def rate(report: RunReport) -> float:
    """Rows a second over the time that shards took, start-up left out."""
    busy = sum(outcome.seconds for outcome in report.outcomes)
    return report.counts.rows_in / busy if busy else 0.0


def summary(report: RunReport) -> str:
    """The closing summary, for people: a line a fact."""
    counts = report.counts
    if report.nothing_to_do:
        return f"nothing to do: all {report.shards:,} shards are published in {report.output}"
    lines = {"rows in": f"{counts.rows_in:,}", "scored": f"{counts.scored:,}"}
    if counts.null_scored:
        lines["null-scored"] = f"{counts.null_scored:,}"
    if counts.quarantined:
        lines["quarantined"] = (
            f"{counts.quarantined:,} (see {report.output}/_shardscore/quarantine/)"
        )
    lines["shards"] = _shards(report)
    lines["time"] = f"{report.seconds:,.1f} s, scoring at {rate(report):,.0f} rows/s"
    lines["memory"] = (
        f"{report.memory_peak / 1e6:,.0f} MB at its peak, of which "
        f"{report.memory_after_load / 1e6:,.0f} MB TensorFlow and the loaded model"
    )
    lines["output"] = report.output
    width = max(map(len, lines)) + 2
    return "\n".join(f"{name + ':':<{width}}{printable(text)}" for name, text in lines.items())


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


def _outcome(outcome: Outcome) -> dict[str, Any]:
    counts = outcome.counts
    return {
        "shard": outcome.shard,
        "status": outcome.status,
        "method": outcome.method,
        "rows_in": counts.rows_in,
        "scored": counts.scored,
        "null_scored": counts.null_scored,
        "quarantined": counts.quarantined,
        "seconds": round(outcome.seconds, 4),
        "error": None if outcome.error is None else _error(outcome.error),
    }


def _error(error: ShardscoreError) -> dict[str, Any]:
    return {"kind": type(error).__name__, "message": error.message, **error.facts}
