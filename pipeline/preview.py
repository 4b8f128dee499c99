"""What `plan` and `status` tell: a job before it runs, and an output as it stands.

Both are documents for machines first; `text` turns each into lines for people. Neither reads a
row. `plan` loads the model only if asked to; `status` needs the output's storage and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline import ledger, report
from pipeline.errors import DataError, ModelError, printable
from pipeline.plan import work_units
from pipeline.storage import storage_at
from pipeline.survey import Survey, survey

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.binding import Binding
    from pipeline.job import Job
    from pipeline.records import FailedShard, Shard


def plan(job: Job, *, with_model: bool) -> tuple[dict[str, Any], list[FailedShard]]:
    """What `score` would do.

    Args:
        job: The job.
        with_model: Whether to load the model, and so to check each shard's columns against it.

    Returns:
        The plan as a JSON document, and the shards that cannot be scored.

    Raises:
        ShardscoreError: What would keep `score` from beginning.
    """
    surveyed = survey(job)
    at = surveyed.standing
    failed = [*surveyed.found.failed, *at.changed]
    document: dict[str, Any] = {
        "format": 1,
        "output": surveyed.output.url,
        "begun": surveyed.record is not None,
        "model": job.model,
        "model_sha256": surveyed.model_sha256,
        "shards": {"total": surveyed.shards, "done": len(at.done), "pending": len(at.pending)},
        "rows": {"total": _rows(surveyed.found.shards), "pending": _rows(at.pending)},
        "bytes": {
            "total": sum(shard.size for shard in surveyed.found.shards),
            "pending": sum(shard.size for shard in at.pending),
        },
        "on_bad_row": job.on_bad_row,
        "keep": list(job.keep),
    }
    document.update(_decided(surveyed))
    if with_model and at.pending:
        failed += _with_model(surveyed, document)
    document["failed"] = [
        {"shard": broken.name, "message": broken.error.message, **broken.error.facts}
        for broken in failed
    ]
    document["shards"]["failed"] = len(failed)
    return document, failed


def status(output: str) -> dict[str, Any]:
    """How an output stands, from its storage alone, as a JSON document."""
    storage = storage_at(output)
    record = ledger.read_record(storage)
    last = report.latest(storage)
    there = ledger.published(storage)
    listed = ledger.read_plan(storage, last["plan_id"]) if last else []
    done = [shard for shard in listed if shard["name"] in there]
    return {
        "format": 1,
        "output": storage.url,
        "begun": record is not None,
        "fingerprint": record.identity.fingerprint if record else None,
        "method": record.identity.method if record else None,
        "batch_size": record.identity.batch_size if record else None,
        "shards": {"total": len(listed), "published": len(done)},
        "rows": {
            "total": sum(shard["rows"] for shard in listed),
            "published": sum(shard["rows"] for shard in done),
        },
        "complete": bool(listed) and len(done) == len(listed) and last["state"] == "finished"
        if last
        else False,
        "last_run": last,
    }


def plan_text(document: dict[str, Any]) -> str:
    """A plan as lines for people."""
    shards, rows, size = document["shards"], document["rows"], document["bytes"]
    lines = {
        "model": f"{document['model']} (sha256 {document['model_sha256'][:12]}…)",
        "output": document["output"] + ("" if document["begun"] else " (to be begun)"),
        "shards": f"{shards['total']:,}: {shards['done']:,} published, {shards['pending']:,} "
        f"pending, {shards['failed']:,} that cannot be scored",
        "rows": f"{rows['pending']:,} pending of {rows['total']:,} "
        f"({size['pending'] / 1e6:,.1f} MB of {size['total'] / 1e6:,.1f} MB)",
    }
    if "batch_size" in document:
        lines["batch size"] = f"{document['batch_size']:,} rows"
        lines["small shards"] = (
            f"{document['small_shards']:,} pending ones of at most "
            f"{document['small_shard_rows']:,} rows, by {document['small_method']}()"
        )
        lines["big shards"] = f"{document['big_shards']:,} pending, by {document['method']}"
    lines["bad rows"] = document["on_bad_row"]
    lines["kept"] = ", ".join(document["keep"])
    text = _aligned(lines)
    if "binding" in document:
        text += "\n\n" + _table(
            ("input", "type", "column", "type", "conversion"),
            [tuple(row.values()) for row in document["binding"]],
        )
    return text


def status_text(document: dict[str, Any]) -> str:
    """The status of an output that has been begun, as lines for people."""
    shards, rows, last = document["shards"], document["rows"], document["last_run"]
    lines = {
        "output": document["output"],
        "job": f"{document['fingerprint'][:12]}…, batches of {document['batch_size']:,} rows, "
        f"{document['method']}",
        "shards": f"{shards['published']:,} of {shards['total']:,} published",
        "rows": f"{rows['published']:,} of {rows['total']:,} in published shards",
    }
    if last:
        counts = last["rows"]
        lines["last run"] = f"{last['state']}, begun {last['started']}, {last['seconds']:,.1f} s"
        lines["  scored"] = (
            f"{counts['scored']:,} rows, {counts['quarantined']:,} quarantined, "
            f"{counts['null_scored']:,} null-scored"
        )
        if last["shards"]["failed"]:
            lines["  failed"] = f"{last['shards']['failed']:,} shards"
        if last["error"]:
            lines["  error"] = last["error"]["message"]
    lines["complete"] = "yes" if document["complete"] else "no"
    return _aligned(lines)


def _decided(surveyed: Survey) -> dict[str, Any]:
    """What the output's record has decided already."""
    if surveyed.record is None:
        return {}
    identity = surveyed.record.identity
    return {
        "fingerprint": identity.fingerprint,
        "method": f"{identity.method} ({surveyed.record.probe})",
        **_sizes(
            surveyed.standing.pending,
            identity.batch_size,
            identity.small_shard_rows,
            identity.small_method,
        ),
    }


def _sizes(
    pending: Sequence[Shard], batch_size: int, small_shard_rows: int, small_method: str
) -> dict[str, Any]:
    units = work_units(pending, batch_size, small_shard_rows)
    return {
        "batch_size": batch_size,
        "small_shard_rows": small_shard_rows,
        "small_method": small_method,
        "small_shards": sum(len(unit.shards) for unit in units if unit.small),
        "big_shards": sum(len(unit.shards) for unit in units if not unit.small),
    }


def _with_model(surveyed: Survey, document: dict[str, Any]) -> list[FailedShard]:
    """Loads the model and adds the binding; returns the shards that break the contract."""
    from pipeline.contract import broken, choose_columns, contracts
    from pipeline.job import small_method
    from pipeline.model import load
    from pipeline.prepare import batch_size
    from pipeline.probe import without_rows

    job, record, pending = surveyed.job, surveyed.record, surveyed.standing.pending
    model = load(job.model, job.imports, surveyed.model_sha256)
    size = batch_size(job, record, model)
    small = size if job.small_shard_rows is None else job.small_shard_rows
    document.update(_sizes(pending, size, small, small_method(job.method)))
    document.setdefault(
        "method",
        "predict_on_batch, if the probe proves it" if job.method == "auto" else job.method,
    )
    try:
        chosen = (
            choose_columns(model.signature, job, pending)
            if record is None
            else record.identity.binding
        )
    except DataError as error:
        return [broken(shard, error) for shard in pending]
    try:
        schema = without_rows(model, job.method).schema
    except ModelError:
        schema = None  # it wants rows to tell; `score` finds a collision before it writes
    good, failed = contracts(model.signature, chosen, job, pending, schema)
    if good:
        document["binding"] = list(_binding_rows(next(iter(good.values())).binding))
    if schema is not None:
        document["predictions"] = schema.described()
    return failed


def _binding_rows(binding: Binding) -> Iterable[dict[str, str]]:
    for bound in binding.inputs:
        shape = ", ".join(["n", *("?" if d is None else str(d) for d in bound.spec.shape)])
        for use in bound.uses:
            yield {
                "input": bound.spec.name,
                "input_type": f"{bound.spec.dtype} ({shape})",
                "column": use.column,
                "column_type": str(use.type),
                "conversion": use.conversion,
            }


def _rows(shards: Iterable[Shard]) -> int:
    return sum(shard.rows for shard in shards)


def _aligned(lines: dict[str, str]) -> str:
    width = max(map(len, lines)) + 2
    return "\n".join(f"{name + ':':<{width}}{printable(text)}" for name, text in lines.items())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])
