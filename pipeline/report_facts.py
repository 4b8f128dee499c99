"""What the report of an output says, as one document: from its storage alone.

Gathers what reports, plan, manifest, published files and dead-letter files tell, at any moment: of
an output that is complete, under way, broken, or made by many runs. It draws nothing. What has no
bound by itself (shards, reasons, values) is bounded here, and what is left out is told.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline import layout, looks, run_history, shard_facts
from pipeline.entries import entries
from pipeline.errors import NotFoundError, ShardscoreError, UsageError
from pipeline.histograms import column
from pipeline.reason_counts import count as count_reasons
from pipeline.records import RowCounts
from pipeline.spans import in_progress
from pipeline.storage import storage_at
from pipeline.verdicts import Standing, beyond, explained, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pipeline.distributions import Distribution
    from pipeline.footer import Provenance
    from pipeline.job import JobIdentity, RunRecord
    from pipeline.published import FileFacts
    from pipeline.reason_counts import Reasons
    from pipeline.run_history import History, Run
    from pipeline.shard_facts import ShardFacts
    from pipeline.storage import Storage

MOST_SHARDS = 20_000
"""Shards that are listed: those that failed first, then those that are left, then the others."""

MOST_LISTED_RUNS = 60
MOST_REASONS = 10


def facts(
    output: Storage, *, run_id: str | None = None, exit_code: Callable[[Run], int | None]
) -> dict[str, Any] | None:
    """What the report of an output says.

    Args:
        output: The output.
        run_id: The run to tell of; None: the latest.
        exit_code: A run's exit code, by its report; None: it has none.

    Returns:
        The document; None if no run has begun an output there.

    Raises:
        UsageError: There is no report of that run.
        OutputMismatchError: The output was begun by another version.
        StorageError: Storage failed.
    """
    record = layout.read_record(output)
    history = _up_to(run_history.read(output), run_id, output)
    if record is None and not history.runs:
        return None
    last = history.runs[0] if history.runs else {}
    noted: dict[str, Provenance] = {}

    def opened(file: FileFacts) -> None:
        if file.note is not None:
            noted[file.name] = file.note

    seen = looks.of_output(output, opened)
    there = layout.published(output)
    failed = [
        outcome["shard"]
        for run in history.latest
        for outcome in run.get("outcomes", ())
        if outcome["status"] == "failed"
    ]
    shards = shard_facts.of_shards(
        entries(output, layout.plan_name(str(last.get("plan_id", "")))),
        there,
        run_history.outcomes(history.runs),
        noted,
        shard_facts.listed_in_manifest(output),
        in_progress(output),
        failed,
    )
    counts = sum((s.counts for s in shards if s.counts is not None), RowCounts())
    success = _is_there(output, layout.SUCCESS)
    total = max(len(shards), last.get("shards", {}).get("total", 0))
    states = {run_history.state_of(run) for run in history.latest}
    state = "running" if "running" in states else run_history.state_of(last) if last else ""
    drift = run_history.said(history.latest, "drift")
    level, text = verdict(
        Standing(
            state=state,
            error=run_history.error_of(history.latest),
            shards=total,
            published=sum(s.state == shard_facts.PUBLISHED for s in shards),
            failed=[s.name for s in shards if s.state == shard_facts.FAILED],
            success=success,
            rows_in=counts.rows_in,
            scored=counts.scored,
            null_scored=counts.null_scored,
            quarantined=counts.quarantined,
            drifted=beyond(drift),
            baseline=str((drift or {}).get("baseline", "")),
        )
    )
    reasons = count_reasons(
        output,
        {s.name: s.counts.quarantined for s in shards if s.counts is not None},
        {s.name: s.counts.null_scored for s in shards if s.counts is not None},
    )
    identity = record.identity if record else None
    return {
        "format": 1,
        "output": output.url,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "verdict": {"level": level, "text": text},
        "success": success,
        "rows": {
            "planned": sum(s.rows for s in shards),
            "in": counts.rows_in,
            "scored": counts.scored,
            "null_scored": counts.null_scored,
            "quarantined": counts.quarantined,
            "nonfinite": counts.nonfinite,
        },
        "shards": _counted(shards, total, len(there)),
        "bad_rows": _reasons(reasons),
        "predictions": _predictions(seen.columns, drift, identity),
        "unsketched_shards": seen.without,
        "drift": None if not drift else explained(drift),
        "run": run_history.together(history.latest, exit_code),
        "runs": [run_history.summary(run) for run in history.runs[:MOST_LISTED_RUNS]],
        "earlier_runs": len(history.runs[MOST_LISTED_RUNS:]) + history.earlier,
        "job": _job(record.model_dump(mode="json") if record else {}, identity),
        "binding": _binding(record, reasons.types),
        "shard_table": _table(shards),
        "unlisted_shards": max(0, len(shards) - MOST_SHARDS),
    }


def _up_to(history: History, run_id: str | None, output: Storage) -> History:
    """The history as it was when a run was the latest."""
    if run_id is None:
        return history
    for place, run in enumerate(history.runs):
        if run.get("run_id") == run_id:
            return run_history.History(history.runs[place:], history.earlier)
    raise UsageError(
        "the output has no report of that run",
        path=output.url,
        received=run_id,
        hint="its runs are listed on the page, and are the names in _shardscore/reports/",
    )


def _counted(shards: Sequence[ShardFacts], total: int, there: int) -> dict[str, int]:
    states = [shard.state for shard in shards]
    published = states.count(shard_facts.PUBLISHED)
    return {
        "total": total,
        "published": published,
        "failed": states.count(shard_facts.FAILED),
        "left": total - published - states.count(shard_facts.FAILED),
        "other_files": max(0, there - published),
    }


def _reasons(reasons: Reasons) -> dict[str, Any]:
    most = reasons.counted.most_common()
    first = most[:MOST_REASONS]
    columns: dict[str, int] = {}
    for (name, _), rows in most:
        if name:
            columns[name] = columns.get(name, 0) + rows
    by_column = sorted(columns.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_REASONS]
    return {
        "rows": reasons.of_rows,
        "read": reasons.rows,
        "reasons": [{"column": c, "reason": reason, "rows": n} for (c, reason), n in first],
        "others": reasons.rows - sum(rows for _, rows in first),
        "columns": [{"column": name, "rows": rows} for name, rows in by_column],
    }


def _predictions(
    found: Mapping[str, Distribution],
    drift: Mapping[str, Any] | None,
    identity: JobIdentity | None,
) -> list[dict[str, Any]]:
    types = identity.predictions if identity else {}
    labels = identity.labels if identity else ()
    before = _baseline(str(drift["baseline"])) if drift else {}
    return [
        column(name, types.get(name, ""), distribution, before.get(name), labels)
        for name, distribution in found.items()
    ]


def _baseline(address: str) -> Mapping[str, Distribution]:
    """What the baseline's predictions look like; nothing if it cannot be reached any more."""
    try:
        return looks.of_output(storage_at(address)).columns
    except ShardscoreError:
        return {}


def _job(record: Mapping[str, Any], identity: JobIdentity | None) -> dict[str, Any]:
    if identity is None:
        return {}
    said = record["identity"]
    shown = (
        *("model_sha256", "code_sha256", "batch_size", "small_shard_rows", "method"),
        *("small_method", "on_bad_row", "nonfinite", "keep", "predictions", "labels", "top_k"),
        *("preprocess", "postprocess", "time_unit", "allow_lossy"),
    )
    return {
        "fingerprint": identity.fingerprint,
        "probe": record["probe"],
        "created_with": record["created_with"],
        **{name: said[name] for name in shown},
    }


def _binding(record: RunRecord | None, types: Mapping[str, str]) -> list[dict[str, Any]]:
    """Which column feeds which input, in the order of the model's inputs.

    An output that an earlier version began says of columns no more than their names; a dead-letter
    file may still tell their types.
    """
    if record is None:
        return []
    if record.columns:
        return [asdict(one) for one in record.columns]
    identity = record.identity
    fed = {one.name: f"{one.dtype} (n, {', '.join(map(str, one.shape))})" for one in identity.fed}
    return [
        {
            "input": name,
            "input_type": fed.get(name, ""),
            "column": used,
            "column_type": types.get(used, ""),
            "conversion": "",
        }
        for name, columns in identity.binding.items()
        for used in columns
    ]


def _table(shards: Sequence[ShardFacts]) -> list[list[Any]]:
    """A row a shard: name, state, rows, scored, bad, method, seconds, note."""
    order = (shard_facts.FAILED, shard_facts.SAVED, shard_facts.LEFT, shard_facts.PUBLISHED)
    listed = shards
    if len(shards) > MOST_SHARDS:
        listed = sorted(shards, key=lambda shard: order.index(shard.state))[:MOST_SHARDS]
    return [
        [
            shard.name,
            shard.state,
            shard.rows,
            None if shard.counts is None else shard.counts.scored,
            None if shard.counts is None else shard.counts.bad,
            shard.method,
            None if shard.seconds is None else round(shard.seconds, 3),
            shard.note,
        ]
        for shard in listed
    ]


def _is_there(output: Storage, name: str) -> bool:
    try:
        output.info(name)
    except NotFoundError:
        return False
    return True
