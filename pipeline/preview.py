"""What `plan` tells: a job before it runs.

A document for machines; `pipeline.tables` turns it into lines for people. No row is read, and the
model is loaded only if asked for.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline.plan import work_units
from pipeline.runtime import begin_import
from pipeline.shares import balance
from pipeline.staffing import Staff
from pipeline.survey import Survey, survey

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.job import Job
    from pipeline.records import FailedShard, Shard


def plan(
    job: Job, *, with_model: bool, shares: int | None = None
) -> tuple[dict[str, Any], list[FailedShard]]:
    """What `score` would do.

    Args:
        job: The job.
        with_model: Whether to load the model, and so to check each shard's columns against it.
        shares: How many shares to tell of: how even they are; None: of none.

    Returns:
        The plan as a JSON document, and the shards that cannot be scored.

    Raises:
        ShardscoreError: What would keep `score` from beginning.
    """

    def on_work(_shards: int, _bytes: int) -> None:
        if with_model:
            begin_import()

    surveyed = survey(job, on_work)
    at = surveyed.standing
    failed = [*surveyed.unreadable, *at.changed]
    document: dict[str, Any] = {
        "format": 1,
        "output": surveyed.output.url,
        "begun": surveyed.record is not None,
        "model": job.model,
        "model_sha256": surveyed.model_sha256,
        "shards": {
            "total": surveyed.shards,
            "done": len(at.done),
            "pending": len(at.pending),
            "replaced": len(at.replaced),
        },
        "rows": {"total": _rows(surveyed.found.shards), "pending": _rows(at.pending)},
        "bytes": {
            "total": sum(shard.size for shard in surveyed.found.shards),
            "pending": sum(shard.size for shard in at.pending),
        },
        "on_bad_row": job.on_bad_row,
        "keep": list(job.keep),
    }
    if shares is not None:
        document["shares"] = _shares(surveyed.found.shards, shares)
    if at.pending:
        capacity = Staff(job).capacity(surveyed)
        document |= {"workers": capacity.workers, "threads": capacity.threads}
    document.update(_decided(surveyed))
    document["other_files"] = surveyed.other_files
    document["notes"] = [surveyed.rewritten_note] if surveyed.rewritten_note else []
    if with_model and at.pending:
        unfit = _with_model(surveyed, document)
        failed += unfit
        rows = {shard.name: shard for shard in at.pending}
        document["shards"]["pending"] -= len(unfit)
        document["rows"]["pending"] -= sum(rows[broken.name].rows for broken in unfit)
        document["bytes"]["pending"] -= sum(rows[broken.name].size for broken in unfit)
    document["failed"] = [
        {"shard": broken.name, "message": broken.error.message, **broken.error.facts}
        for broken in failed
    ]
    document["shards"]["failed"] = len(failed)
    return document, failed


def _shares(shards: Iterable[Shard], count: int) -> dict[str, Any]:
    """How even shares of the whole input are, whatever is published of it."""
    found = balance([shard.rows for shard in shards], count)
    return {
        "count": count,
        "smallest_rows": found.smallest,
        "biggest_rows": found.biggest,
        "mean_rows": round(found.mean, 1),
        "imbalance": round(found.imbalance, 4),
        "biggest_shard_rows": found.biggest_shard,
    }


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
    from pipeline.contract import contracts, order_notes, rounding_notes
    from pipeline.fed_columns import fed_columns
    from pipeline.feed import options_of
    from pipeline.job import small_method
    from pipeline.model import load
    from pipeline.prepare import columns_for, program_for, reading_of, sizes
    from pipeline.probe import foreseen
    from pipeline.target import REASON_COLUMN

    job, record, pending = surveyed.job, surveyed.record, surveyed.standing.pending
    model = load(
        job.model,
        job.imports,
        surveyed.model_sha256,
        said=options_of(job, record.identity if record else None),
    )
    program = program_for(surveyed, model)
    feed = program.feed
    chosen = columns_for(surveyed, feed)
    schema = foreseen(program)  # if it takes rows, `score` finds a collision before it writes
    good, failed = contracts(feed, chosen, job, pending, schema, reading_of(surveyed, feed))
    fit = [shard for shard in pending if shard.name in good]
    size, small = sizes(job, record.identity if record else None, feed)
    small_by = record.identity.small_method if record else small_method(job.method)
    document.update(_sizes(fit, size, small, small_by))
    document.setdefault(
        "method",
        "predict_on_batch(), if the probe proves it" if job.method == "auto" else job.method,
    )
    if good:
        distinct = {id(contract): contract for contract in good.values()}.values()
        document["kept"] = list(dict.fromkeys(n for c in distinct for n in c.kept.names))
        fed = fed_columns((c.binding for c in good.values()), feed.decoders)
        document["binding"] = [asdict(one) for one in fed]
        document["notes"] += rounding_notes(good.values()) + order_notes(job, chosen)
    if schema is not None:
        document["predictions"] = schema.described()
        if job.on_bad_row == "null":
            document["predictions"][REASON_COLUMN] = "string"
    return failed


def _rows(shards: Iterable[Shard]) -> int:
    return sum(shard.rows for shard in shards)
