"""Repair: makes anew what follows from published files, and removes what no run needs.

It changes or removes no published file, however damaged: that is left to people, and the findings
say what to do. The manifest and `_SUCCESS` are written only for an output that is complete and
proven, its data read; the checkpoints of a shard go only if its predictions were found right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline import manifest
from pipeline.errors import UsageError
from pipeline.layout import MANIFEST, SUCCESS
from pipeline.published import take_inventory

if TYPE_CHECKING:
    from pipeline.proof import Proof


def repair(proof: Proof) -> None:
    """Repairs an output; what was done is added to the proof, and its faults are struck out.

    Raises:
        UsageError: The proof did not read the data.
        StorageError: Storage failed.
    """
    if proof.quick:
        raise UsageError(
            "--repair needs a whole proof", received="--quick", hint="leave --quick out"
        )
    output = proof.output
    for shard, names in proof.stale.items():
        for name in names:
            output.delete(name)
        proof.repaired.append(f"removed {len(names):,} checkpoints of {shard}, which is published")
    proof.stale.clear()
    if proof.inventory.staged:
        swept = output.sweep()
        if swept:
            proof.repaired.append(f"removed {swept:,} staged files that a killed run has left")
            left = set(take_inventory(output).staged)
            proof.staged = [name for name in proof.staged if name in left]
    if proof.wrong or proof.unfinished:
        return
    if not proof.plan_id:
        proof.notes.append(f"no one plan is known to be complete: `score` writes {SUCCESS}")
        return
    if manifest.is_refused(output, proof.manifest):
        return  # what is to be done about it is noted
    whole = {MANIFEST, SUCCESS} <= proof.inventory.marks
    if proof.mark_faults or not whole:
        manifest.write(output, proof.plan_id, proof.manifest)
        proof.repaired.append(f"wrote {MANIFEST} and {SUCCESS} from the published files")
        proof.inventory.marks.update({MANIFEST, SUCCESS})
        proof.mark_faults.clear()
        proof.notes[:] = [note for note in proof.notes if SUCCESS not in note]
