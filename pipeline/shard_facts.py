"""What is known of each shard of an output: its rows, who scored it and how long that took.

Of each published file that its run's report, its footer or the manifest tells of, in this order: a
report knows the seconds, a footer the method, the manifest at least where the rows went.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.entries import entries
from pipeline.layout import MANIFEST
from pipeline.records import RowCounts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipeline.footer import Provenance
    from pipeline.storage import Storage

PUBLISHED, FAILED, SAVED, LEFT = "published", "failed", "in progress", "left"


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """One shard.

    Attributes:
        name: Its name.
        state: `published`, `failed`, `in progress` (checkpoints hold some of it), or `left`.
        rows: Rows of it; of one that could not be read 0.
        counts: Where they went; None if it is not published, or nothing tells.
        method: Keras' method that scored it; empty if nothing tells.
        seconds: Wall time that it took; None if nothing tells.
        note: Why it failed; or how far it has come.
    """

    name: str
    state: str
    rows: int
    counts: RowCounts | None = None
    method: str = ""
    seconds: float | None = None
    note: str = ""


def of_shards(
    planned: Iterable[Mapping[str, Any]],
    published: Iterable[str],
    told: Mapping[str, Mapping[str, Any]],
    noted: Mapping[str, Provenance],
    listed: Mapping[str, RowCounts],
    saved: Mapping[str, int],
    failed: Iterable[str],
) -> list[ShardFacts]:
    """What is known of each shard, by name.

    Args:
        planned: The shards of the plan, as their identities.
        published: Names of published files.
        told: Shard → what became of it at last, as a report has it.
        noted: Shard → the note in its published file, of those that were opened.
        listed: Shard → counts, as the manifest has them.
        saved: Shard → rows that its checkpoints hold.
        failed: Shards that the latest run names as failed; some may be in no plan.
    """
    there, broken = set(published), set(failed)
    found: list[ShardFacts] = []
    names = set()
    for shard in planned:
        name, rows = shard["name"], int(shard["rows"])
        names.add(name)
        outcome = told.get(name, {})
        if name in broken:
            found.append(ShardFacts(name, FAILED, rows, note=_why(outcome)))
        elif name in there:
            found.append(_published(name, rows, outcome, noted.get(name), listed.get(name)))
        elif name in saved:
            note = f"{saved[name]:,} rows are saved in checkpoints"
            found.append(ShardFacts(name, SAVED, rows, note=note))
        else:
            found.append(ShardFacts(name, LEFT, rows))
    found += (ShardFacts(name, FAILED, 0, note=_why(told.get(name, {}))) for name in broken - names)
    return sorted(found, key=lambda shard: shard.name)


def listed_in_manifest(output: Storage) -> dict[str, RowCounts]:
    """Shard → where its rows went, as the manifest has it; empty if there is none."""
    return {
        entry["name"]: RowCounts(
            *(int(entry[key]) for key in ("rows_in", "scored", "null_scored", "quarantined"))
        )
        for entry in entries(output, MANIFEST)
    }


def _published(
    name: str,
    rows: int,
    outcome: Mapping[str, Any],
    note: Provenance | None,
    listed: RowCounts | None,
) -> ShardFacts:
    if outcome.get("status") in {"published", "already_published"}:
        keys = ("rows_in", "scored", "null_scored", "quarantined", "nonfinite")
        counts = RowCounts(*(int(outcome.get(key, 0)) for key in keys))
        seconds = float(outcome.get("seconds", 0))
        mine = outcome["status"] == "published"
        return ShardFacts(
            name, PUBLISHED, rows, counts, outcome.get("method") or "", seconds if mine else None
        )
    if note is not None:
        return ShardFacts(name, PUBLISHED, rows, note.counts, note.method)
    return ShardFacts(name, PUBLISHED, rows, listed)


def _why(outcome: Mapping[str, Any]) -> str:
    error = outcome.get("error") or {}
    facts = (f"{key}: {error[key]}" for key in ("column", "row", "received") if key in error)
    return "; ".join([str(error.get("message", "")), *facts])
