"""What `status` tells: an output as it stands, from its storage alone.

From a listing, the latest report and its plan: no published file is opened, and nothing is imported
that would be needed for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline import layout, report
from pipeline.entries import entries
from pipeline.errors import NotFoundError
from pipeline.spans import in_progress
from pipeline.storage import storage_at

if TYPE_CHECKING:
    from pipeline.storage import Storage


def status(output: str) -> dict[str, Any]:
    """How an output stands, as a JSON document for `pipeline.tables`."""
    storage = storage_at(output)
    record = layout.read_record(storage)
    last = report.latest(storage)
    there = layout.published(storage).keys()
    # A plan that is lost lists nothing; the next run writes it again.
    planned = entries(storage, layout.plan_name(last["plan_id"])) if last else iter(())
    listed = done = rows = rows_done = big = 0
    small_rows = record.identity.small_shard_rows if record else 0
    for shard in planned:
        listed += 1
        rows += shard["rows"]
        big += shard["rows"] > small_rows
        if shard["name"] in there:
            done += 1
            rows_done += shard["rows"]
    # A shard that could not be read is in no plan, but the run has counted it; a run with a share
    # of the plan has counted no more than that.
    total = max(listed, last["shards"]["total"] if last else 0)
    success = _is_there(storage, layout.SUCCESS)
    return {
        "format": 1,
        "output": storage.url,
        "begun": record is not None or last is not None,
        "fingerprint": record.identity.fingerprint if record else None,
        "method": record.identity.method if record else None,
        "small_method": record.identity.small_method if record else None,
        "big_shards": big,
        "batch_size": record.identity.batch_size if record else None,
        "shards": {"total": total, "published": done},
        "rows": {"total": rows, "published": rows_done},
        "other_files": len(there) - done,
        "in_progress": {n: rows for n, rows in in_progress(storage).items() if n not in there},
        "success": success,
        "complete": success and done == total,
        "last_run": last,
    }


def _is_there(storage: Storage, name: str) -> bool:
    try:
        storage.info(name)
    except NotFoundError:
        return False
    return True
