"""Reports: a run as JSON, and where it is kept.

A run's report lies in `_shardscore/reports/`. It is replaced while the run goes on, so that
`status` can tell where a run is from storage alone.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline.errors import StoppedError

if TYPE_CHECKING:
    from pipeline.drift import Drift
    from pipeline.errors import ShardscoreError
    from pipeline.records import Invocation, Outcome, RunReport
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
    for name in sorted(names, reverse=True):
        try:
            found: dict[str, Any] = json.loads(output.read(name))
        except ValueError:
            continue  # damaged: the one before it says more
        return found
    return None


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
        "updated": datetime.now(UTC).isoformat(timespec="seconds"),
        "inputs": list(report.inputs),
        "output": report.output,
        "plan_id": report.plan_id,
        "fingerprint": report.fingerprint,
        "model_sha256": report.model_sha256,
        "batch_size": report.batch_size,
        "workers": report.workers,
        "threads": report.threads,
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
            "nonfinite": counts.nonfinite,
            "resumed": resumed(report),
            "failed": report.rows_failed,
        },
        "fitting_batch_rows": report.fitting_batch_rows,
        "rows_per_second": round(rate(report), 1),
        "memory": {
            "after_load_bytes": report.memory_after_load,
            "peak_bytes": report.memory_peak,
        },
        "versions": report.versions,
        "drift": None if report.drift is None else _drift(report.drift),
        "share": None if report.share is None else list(report.share),
        "host": report.host,
        "invocation": None if report.invocation is None else _invocation(report.invocation),
        "timeline": [[round(p.seconds, 2), p.rows, p.resident] for p in report.timeline],
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
    busy = report.scoring_seconds or sum(outcome.seconds for outcome in report.outcomes)
    scored = report.counts.rows_in - resumed(report)
    return scored / busy if busy else 0.0


def resumed(report: RunReport) -> int:
    """Rows of the shards of a run that checkpoints of earlier runs held."""
    return sum(outcome.resumed for outcome in report.outcomes)


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
        "nonfinite": counts.nonfinite,
        "seconds": round(outcome.seconds, 4),
        "resumed": outcome.resumed,
        "error": None if outcome.error is None else _error(outcome.error),
    }


def _drift(drift: Drift) -> dict[str, Any]:
    return {
        "baseline": drift.baseline,
        "max_drift": drift.limit,
        "differences": [
            {
                "of": difference.name,
                "psi": round(difference.psi, 6),
                "ks": round(difference.ks, 6),
                "chance": round(difference.chance, 6),
            }
            for difference in drift.differences
        ],
    }


def _invocation(invocation: Invocation) -> dict[str, Any]:
    return {
        "command": list(invocation.command),
        "variables": dict(invocation.variables),
        "folder": invocation.folder,
    }


def _error(error: ShardscoreError) -> dict[str, Any]:
    told = {"kind": type(error).__name__, "message": error.message, **error.facts}
    return told | ({"signum": error.signum} if isinstance(error, StoppedError) else {})
