"""Verify: proves an output from storage alone, and against its input where that can be reached.

It trusts nothing that a run remembers: it lists the output, reads what is there, and compares it
with run.json, the plan, the manifest and the input. What it finds is told apart:

    wrong       something is damaged, foreign, lost, or not where it belongs
    unfinished  work is left; running `score` again does it
    notes       worth knowing, and no fault

It only reads; `pipeline.repair` writes what follows from files that are proven. Memory is some
hundred bytes a shard. TensorFlow is not loaded.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pipeline import layout, manifest, marks, report
from pipeline.discover import Discovery, discover
from pipeline.errors import NoInputError, OutputMismatchError, ShardscoreError, shortened
from pipeline.examine import Case, Examined, examine
from pipeline.findings import CHANGED, MOVE_AWAY, RESUME, Finding
from pipeline.layout import SUCCESS
from pipeline.plan import plan_id as id_of
from pipeline.proof import Proof
from pipeline.published import FOOTER_THREADS, take_inventory
from pipeline.quarantine import dead_letter_name
from pipeline.spans import in_progress
from pipeline.storage.at_hand import is_at_hand_in
from pipeline.threads import in_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.job import JobIdentity
    from pipeline.storage import Storage

DATA_THREADS = 4


def verify(output: Storage, *, inputs: Sequence[str] | None = None, quick: bool = False) -> Proof:
    """Verifies an output.

    Args:
        output: The output.
        inputs: Addresses of its input; None: what the latest run was asked for; none of them: the
            input is not looked at.
        quick: Whether to read footers alone: no digests of data, no comparison of rows.

    Raises:
        NoInputError: There is no output; or no input where `inputs` says.
        StorageError: Something could not be read.
    """
    proof = Proof(output, take_inventory(output), quick=quick)
    last = report.latest(output)
    identity = _identity(proof)
    fingerprint = identity.fingerprint if identity else _told_by_files(proof)
    if not fingerprint and not proof.inventory.plans:
        raise NoInputError(
            "there is no output here",
            path=output.url,
            hint="check the path; it is what `score` was given as --output",
        )
    proof.fingerprint = fingerprint
    planned = _planned(proof, last)
    found = _discovered(proof, inputs, last)
    case = Case(
        output,
        proof.inventory,
        identity,
        fingerprint,
        planned,
        {shard.name: shard for shard in found.shards} if found else {},
        quick,
    )
    proof.saved = in_progress(output)
    suspects = _files(proof, case)
    _left(proof, case, found, last)
    _leftovers(proof, case, suspects)
    missing = sum(name not in proof.inventory.files for name in planned)
    proof.mark_faults, proof_wrong = marks.check(
        output, proof.inventory, proof.manifest, missing, planned.keys(), suspects
    )
    proof.wrong += proof_wrong
    if SUCCESS not in proof.inventory.marks and manifest.is_refused(output, proof.manifest):
        proof.notes.append(
            f"there is no {SUCCESS}: the predictions have drifted from those of the baseline; "
            "`score` without --max-drift accepts them"
        )
    elif SUCCESS not in proof.inventory.marks and not proof.unfinished:
        proof.notes.append(f"there is no {SUCCESS}; `score`, or `verify --repair`, writes it")
    return proof


def _identity(proof: Proof) -> JobIdentity | None:
    try:
        record = layout.read_record(proof.output)
    except OutputMismatchError as error:
        proof.wrong.append(
            Finding(layout.RUN, "cannot be read", "a run.json", error.received or "", RESUME)
        )
        return None
    if record is not None:
        return record.identity
    proof.wrong.append(Finding(layout.RUN, "is not there", "a run.json", "no file", RESUME))
    return None


def _told_by_files(proof: Proof) -> str:
    """The fingerprint that the first file with a note tells."""
    for file, _ in manifest.pairs(proof.output, proof.inventory):
        if file.note is not None:
            return file.note.fingerprint
    return ""


def _planned(proof: Proof, last: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The shards of the latest run's plan, or of all plans: name → identity."""
    known = proof.inventory.plans
    wanted = (last or {}).get("plan_id", "")
    ids = [wanted] if wanted in known else known
    if not known or (wanted and wanted not in known):
        name = f"{layout.PLANS}/{wanted or '…'}.json"
        proof.unfinished[name] = Finding(name, "no plan", "the plan of the run", "no file", RESUME)
    planned: dict[str, dict[str, Any]] = {}
    for plan in ids:
        stored = proof.output.read(layout.plan_name(plan))
        if id_of(stored) != plan:
            name = layout.plan_name(plan)
            told = f"remove it, then {RESUME}"
            proof.wrong.append(Finding(name, "is damaged", plan, id_of(stored), told))
            continue
        for shard in json.loads(stored)["shards"]:
            before = planned.setdefault(shard["name"], shard)
            if before != shard:  # plans of different days; only that it is published counts
                planned[shard["name"]] = {"rows": shard["rows"]}
    proof.plan_id = ids[0] if len(ids) == 1 else ""
    proof.planned = len(planned)
    proof.published = sum(name in proof.inventory.files for name in planned)
    return planned


def _discovered(
    proof: Proof, inputs: Sequence[str] | None, last: dict[str, Any] | None
) -> Discovery | None:
    """The input as it is now; None if it is not looked at."""
    asked = tuple(inputs) if inputs is not None else tuple((last or {}).get("inputs", ()))
    if not asked:
        proof.input_note = "not asked for" if inputs is not None else "no run says what it was"
        return None
    try:
        found = discover(asked, proof.output.url)
    except ShardscoreError as error:
        if inputs is not None:
            raise
        proof.input_note = f"cannot be reached: {error.message} ({error.path or asked[0]})"
        return None
    proof.inputs = asked
    return found


def _files(proof: Proof, case: Case) -> set[str]:
    """Examines each file that a reader of the data set sees; returns those at fault."""
    built = manifest.Manifest()
    suspects: set[str] = set()
    rewritten: list[str] = []
    threads = FOOTER_THREADS if case.quick else DATA_THREADS

    def one(name: str) -> Examined:
        return examine(case, name)

    def at_once(name: str) -> bool:
        return case.quick and is_at_hand_in(case.output, name)

    names = sorted(proof.inventory.files)
    for result in in_threads(one, names, threads, at_once=at_once):
        file, note = result.file, result.file.note
        proof.wrong += result.wrong
        if result.wrong:
            suspects.add(file.name)
        if result.rewritten:
            rewritten.append(file.name)
        proof.compared += result.compared
        if note is None or note.fingerprint != case.fingerprint:
            continue
        built.add(file, result.letters)
        proof.counts += note.counts
        proof.size += file.size + (result.letters.size if result.letters else 0)
        proof.others += file.name not in case.planned
    if rewritten:
        proof.notes.append(
            f"shards written again since they were scored, their footers as they were: "
            f"{len(rewritten):,} ({shortened(rewritten)})"
        )
    proof.manifest = built.encoded()
    return suspects


def _left(proof: Proof, case: Case, found: Discovery | None, last: dict[str, Any] | None) -> None:
    """What is still to be scored."""
    there = proof.inventory.files
    for name, shard in case.planned.items():
        if name not in there:
            saved = proof.saved.get(name, 0)
            done = f"{saved:,} rows saved in checkpoints" if saved else "nothing"
            _leave(proof, Finding(name, "not published", f"{shard['rows']:,} rows", done, RESUME))
    known = None
    if found is not None:
        known = {shard.name for shard in found.shards} | {shard.name for shard in found.failed}
        for new in found.shards:
            if new.name not in there:
                rows = f"{new.rows:,} rows"
                _leave(proof, Finding(new.name, "new shard", rows, "nothing", RESUME))
        for broken in found.failed:
            said = broken.error.received or broken.error.message
            fault = Finding(broken.name, "input cannot be read", "a shard", said, CHANGED)
            if broken.name in there:
                proof.wrong.append(fault)
            else:
                _leave(proof, fault)
    for outcome in (last or {}).get("outcomes", ()):
        name = outcome["shard"]
        if outcome["status"] == "failed" and name not in there and (known is None or name in known):
            said = outcome["error"]["message"]
            to_do = "mend the shard or take it out of the input; then run `score` again"
            proof.unfinished[name] = Finding(name, "failed", "predictions", said, to_do)


def _leave(proof: Proof, finding: Finding) -> None:
    proof.unfinished.setdefault(finding.file, finding)


def _leftovers(proof: Proof, case: Case, suspects: set[str]) -> None:
    """What lies in our house and should not."""
    there = proof.inventory.files
    for name in proof.inventory.strays:
        proof.wrong.append(Finding(name, "stray file", "nothing", "a file", MOVE_AWAY))
    for shard in proof.inventory.letters:
        if shard not in there and shard not in case.planned:
            name = dead_letter_name(shard)
            what = "dead-letter file without its shard"
            proof.wrong.append(Finding(name, what, "predictions", "none", MOVE_AWAY))
    lost = []
    for shard, names in proof.inventory.pieces.items():
        if shard in there and shard not in suspects:
            proof.stale[shard] = names
        elif shard not in there and shard not in case.planned:
            lost.append(shard)
    if lost:
        proof.notes.append(
            f"checkpoints of shards that are in no plan: {len(lost):,} ({shortened(lost)})"
        )
    if proof.unfinished:
        if proof.inventory.staged:
            count = len(proof.inventory.staged)
            proof.notes.append(f"files being written, or left by a killed run: {count:,}")
    else:
        proof.staged = list(proof.inventory.staged)
