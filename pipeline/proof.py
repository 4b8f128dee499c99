"""`Proof`: what is known of an output, gathered while it is verified; and its document.

A record that `verify` fills and `repair` strikes from. It decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.findings import REPAIR, Finding
from pipeline.layout import SUCCESS
from pipeline.records import RowCounts

if TYPE_CHECKING:
    from pipeline.published import Inventory
    from pipeline.storage import Storage

STAGING = "_shardscore/staging"
CHECKPOINTS = "_shardscore/checkpoints"


@dataclass(slots=True)
class Proof:
    """What is known of an output, gathered while it is verified.

    Attributes:
        output: The output.
        inventory: What it holds.
        fingerprint: The job's; empty if nothing tells.
        plan_id: The plan that it is held against; empty if there is none, or several.
        quick: Whether nothing but footers was read.
        planned: Shards of the plan, or of all plans.
        published: Those of them that are published.
        others: Published files of this job that are not in the plan.
        counts: Rows of all published files of this job.
        size: Bytes of all published files of this job, dead-letter files included.
        compared: Shards whose rows were compared with the input's.
        inputs: The addresses of the input that were looked at.
        input_note: Why the input was not looked at; empty if it was.
        manifest: The manifest as it should be.
        wrong: Faults, but for the next three.
        mark_faults: Faults of the manifest and of `_SUCCESS`.
        stale: Published shards whose checkpoints are still there: shard → names.
        staged: Staged files that are left.
        unfinished: Work that is left, by shard.
        saved: Shards in progress: rows saved in checkpoints.
        notes: Lines for people.
        repaired: What was repaired, a line each.
    """

    output: Storage
    inventory: Inventory
    fingerprint: str = ""
    plan_id: str = ""
    quick: bool = False
    planned: int = 0
    published: int = 0
    others: int = 0
    counts: RowCounts = field(default_factory=RowCounts)
    size: int = 0
    compared: int = 0
    inputs: tuple[str, ...] = ()
    input_note: str = ""
    manifest: bytes = b""
    wrong: list[Finding] = field(default_factory=list)
    mark_faults: list[Finding] = field(default_factory=list)
    stale: dict[str, list[str]] = field(default_factory=dict)
    staged: list[str] = field(default_factory=list)
    unfinished: dict[str, Finding] = field(default_factory=dict)
    saved: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[Finding]:
        """All that is wrong, sorted."""
        found = [*self.wrong, *self.mark_faults]
        for shard, names in self.stale.items():
            there = f"{len(names):,} files"
            found.append(
                Finding(f"{CHECKPOINTS}/{shard}", "checkpoints left over", "none", there, REPAIR)
            )
        if self.staged:
            there = f"{len(self.staged):,} files"
            left = Finding(
                STAGING,
                "staged files left over",
                "none",
                there,
                f"{REPAIR}; what another machine has left, remove by hand once no run goes on",
            )
            found.append(left)
        return sorted(found)


def document(proof: Proof) -> dict[str, Any]:
    """A proof as a JSON document."""
    counts, faults = proof.counts, proof.faults
    unfinished = sorted(proof.unfinished.values())
    return {
        "format": 1,
        "output": proof.output.url,
        "ok": not faults and not unfinished,
        "fingerprint": proof.fingerprint,
        "plan_id": proof.plan_id,
        "quick": proof.quick,
        "shards": {
            "planned": proof.planned,
            "published": proof.published,
            "others": proof.others,
            "compared": proof.compared,
        },
        "rows": {
            "in": counts.rows_in,
            "scored": counts.scored,
            "null_scored": counts.null_scored,
            "quarantined": counts.quarantined,
        },
        "bytes": proof.size,
        "inputs": list(proof.inputs),
        "input_note": proof.input_note,
        "in_progress": proof.saved,
        "success": SUCCESS in proof.inventory.marks,
        "wrong": [_row(finding) for finding in faults],
        "unfinished": [_row(finding) for finding in unfinished],
        "notes": proof.notes,
        "repaired": proof.repaired,
    }


def _row(finding: Finding) -> dict[str, str]:
    return {
        "file": finding.file,
        "what": finding.what,
        "expected": finding.expected,
        "found": finding.found,
        "to_do": finding.to_do,
    }
