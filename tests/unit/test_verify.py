"""Verify: each kind of damage is found and named, and what is whole is proven."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import manifest
from pipeline.errors import NoInputError, UsageError
from pipeline.proof import document
from pipeline.repair import repair
from pipeline.storage import LocalStorage
from pipeline.verify import verify
from tests.unit.conftest import parquet_bytes
from tests.unit.outputs import (
    IDENTITY,
    Made,
    begin,
    finished,
    letters,
    note_for,
    report,
    rows,
    scored,
)

LETTERS = "_shardscore/quarantine/a.parquet"


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return finished(tmp_path)


def unmarked(made: Made) -> None:
    """Takes the manifest away, so that the file itself must tell."""
    manifest.withdraw(made.storage)


# What is whole


@pytest.mark.parametrize("quick", [False, True])
def test_a_whole_output_is_proven(quick: bool, made: Made) -> None:
    told = document(made.verified(quick=quick))
    assert told["ok"]
    assert told["shards"] == {
        "planned": 3,
        "published": 3,
        "others": 0,
        "compared": 0 if quick else 3,
    }
    assert told["rows"] == {"in": 20, "scored": 17, "null_scored": 0, "quarantined": 3}
    assert told["inputs"] == [str(made.lake)]
    assert (told["wrong"], told["unfinished"], told["notes"]) == ([], [], [])


def test_verify_writes_nothing(made: Made) -> None:
    unmarked(made)
    before = {p: p.stat().st_mtime_ns for p in made.folder.rglob("*")}
    assert made.whats() == []
    assert {p: p.stat().st_mtime_ns for p in made.folder.rglob("*")} == before


def test_without_marks_an_output_is_proven_and_they_are_missed_in_a_note(made: Made) -> None:
    unmarked(made)
    proof = made.verified()
    assert document(proof)["ok"]
    assert "there is no _SUCCESS" in proof.notes[0]


def test_hidden_files_of_others_are_passed_over(made: Made) -> None:
    (made.out / ".hidden").write_text("x")
    (made.out / "_metadata").write_text("x")
    assert made.whats() == []


def test_files_of_earlier_runs_are_proven_too(made: Made) -> None:
    (made.lake / "old.parquet").write_bytes(parquet_bytes(rows(4)))
    made.score("old.parquet")
    (made.lake / "old.parquet").unlink()
    unmarked(made)
    assert made.complete()
    proof = made.verified()
    assert document(proof)["ok"]
    assert (proof.others, proof.counts.rows_in) == (1, 24)
    flip(made.out / "old.parquet", 40)
    assert made.whats() == [("old.parquet", "data is damaged")]


# Bits that flip


def flip(path: Path, place: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "name", ["a.parquet", LETTERS, "_MANIFEST.json", "_SUCCESS"], ids=lambda n: n.split("/")[-1]
)
def test_each_bit_that_flips_is_found(name: str, made: Made) -> None:
    path = made.out / name
    data = path.read_bytes()
    # All of the ends, where magics and lengths are, and steps over what lies between.
    step = max(1, len(data) // 100)
    chosen = [*range(8), *range(8, len(data) - 12, step), *range(len(data) - 12, len(data))]
    for place in chosen:
        flip(path, place, bit=place % 8)
        proof = made.verified(inputs=())
        assert proof.faults, f"the flip at byte {place} of {len(data)} was not found"
        path.write_bytes(data)
    assert made.whats() == []


def test_a_footer_that_is_damaged_unseen_is_found_by_the_manifest_and_never_repaired_away(
    made: Made,
) -> None:
    # The same rows and the same note, with another statistic: the file itself looks sound.
    path = made.out / "b.parquet"
    data = path.read_bytes()
    place = data.rindex(b"row 106")
    path.write_bytes(data[:place] + b"row 107" + data[place + 7 :])
    assert made.whats() == [("b.parquet", "not what the manifest says")]
    proof = made.verified()
    repair(proof)
    assert proof.repaired == []
    assert made.whats() == [("b.parquet", "not what the manifest says")]


# What is wrong with a file, one kind at a time


def cut(made: Made) -> None:
    path = made.out / "b.parquet"
    path.write_bytes(path.read_bytes()[:-20])


def data_damaged(made: Made) -> None:
    flip(made.out / "b.parquet", 30)


def letters_damaged(made: Made) -> None:
    flip(made.out / LETTERS, 30)


def foreign(made: Made) -> None:
    (made.out / "b.parquet").write_bytes(parquet_bytes())


def of_another_job(made: Made) -> None:
    note = replace(note_for(made.shards["b.parquet"]), fingerprint="e" * 64)
    made.publish("b.parquet", scored(rows(7, 100)), note)


def of_another_shard(made: Made) -> None:
    made.publish("b.parquet", scored(rows(3)), note_for(made.shards["d=1/c.parquet"]))


def a_row_short(made: Made) -> None:
    made.publish("b.parquet", scored(rows(6, 100)), note_for(made.shards["b.parquet"]))


def unbalanced(made: Made) -> None:
    note = note_for(made.shards["b.parquet"])
    made.publish(
        "b.parquet", scored(rows(6, 100)), replace(note, counts=replace(note.counts, scored=6))
    )


def left_out(made: Made) -> None:
    note = note_for(made.shards["b.parquet"])
    counts = replace(note.counts, rows_in=6, scored=6)
    made.publish("b.parquet", scored(rows(6, 100)), replace(note, counts=counts))


def letters_gone(made: Made) -> None:
    (made.out / LETTERS).unlink()


def letters_needless(made: Made) -> None:
    made.publish(
        "_shardscore/quarantine/b.parquet",
        letters(rows(7, 100), [1]),
        note_for(made.shards["b.parquet"]),
    )


def letters_short(made: Made) -> None:
    made.publish(LETTERS, letters(rows(10), [2, 5]), note_for(made.shards["a.parquet"], 3))


def letters_of_another(made: Made) -> None:
    note = replace(note_for(made.shards["a.parquet"], 3), batch_size=99)
    made.publish(LETTERS, letters(rows(10), [2, 5, 9]), note)


def letters_cut(made: Made) -> None:
    (made.out / LETTERS).write_bytes((made.out / LETTERS).read_bytes()[:-5])


def letters_with_rows(made: Made, numbers: list[Any]) -> None:
    table = letters(rows(10), [2, 5, 9]).set_column(3, "quarantine_row", pa.array(numbers))
    made.publish(LETTERS, table, note_for(made.shards["a.parquet"], 3))


def letters_without_numbers(made: Made) -> None:
    table = letters(rows(10), [2, 5, 9]).drop_columns(["quarantine_row"])
    made.publish(LETTERS, table, note_for(made.shards["a.parquet"], 3))


def letters_without_shard(made: Made) -> None:
    (made.out / "_shardscore/quarantine/gone.parquet").write_bytes(parquet_bytes())


def visible_stray(made: Made) -> None:
    (made.out / "notes.txt").write_text("hello, this is no Parquet file")


def visible_foreign(made: Made) -> None:
    (made.out / "z.parquet").write_bytes(parquet_bytes())


def stray_in_the_house(made: Made) -> None:
    (made.out / "_shardscore/core.1234").write_text("x")


def stray_among_checkpoints(made: Made) -> None:
    path = made.out / "_shardscore/checkpoints/b.parquet/0-4.parquet"
    path.parent.mkdir(parents=True)
    path.write_text("x")


def staged_left(made: Made) -> None:
    path = made.out / "_shardscore/staging/another-machine.tmp"
    path.parent.mkdir(exist_ok=True)
    path.write_text("x")


def checkpoint(made: Made, shard: str, start: int, end: int) -> Path:
    path = made.out / f"_shardscore/checkpoints/{shard}/{start:012}-{end:012}.{0:032x}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    return path


def checkpoints_left(made: Made) -> None:
    checkpoint(made, "d=1/c.parquet", 0, 4)


def run_lost(made: Made) -> None:
    (made.out / "_shardscore/run.json").unlink()


def run_damaged(made: Made) -> None:
    (made.out / "_shardscore/run.json").write_text("{")


def plan_damaged(made: Made) -> None:
    flip(made.out / f"_shardscore/plans/{made.plan_id}.json", 20)


B, HOUSE = "b.parquet", "_shardscore/"
KINDS: list[tuple[Callable[[Made], None], str, str]] = [
    (cut, B, "cannot be read"),
    (data_damaged, B, "data is damaged"),
    (letters_damaged, LETTERS, "data is damaged"),
    (foreign, B, "stray file"),
    (of_another_job, B, "file of another job"),
    (of_another_shard, B, "made from another shard"),
    (a_row_short, B, "number of rows"),
    (unbalanced, B, "rows unaccounted for"),
    (left_out, B, "rows left out"),
    (letters_gone, LETTERS, "no dead-letter file"),
    (letters_needless, HOUSE + "quarantine/b.parquet", "needless dead-letter file"),
    (letters_short, LETTERS, "number of rows"),
    (letters_of_another, LETTERS, "note"),
    (letters_cut, LETTERS, "cannot be read"),
    (lambda made: letters_with_rows(made, [2, 9, 5]), LETTERS, "row numbers"),
    (lambda made: letters_with_rows(made, [2, 2, 5]), LETTERS, "row numbers"),
    (lambda made: letters_with_rows(made, [-1, 2, 5]), LETTERS, "row numbers"),
    (lambda made: letters_with_rows(made, [2, 5, 10]), LETTERS, "row numbers"),
    (lambda made: letters_with_rows(made, [2, 5, None]), LETTERS, "row numbers"),
    (letters_without_numbers, LETTERS, "row numbers"),
    (
        letters_without_shard,
        HOUSE + "quarantine/gone.parquet",
        "dead-letter file without its shard",
    ),
    (visible_stray, "notes.txt", "cannot be read"),
    (visible_foreign, "z.parquet", "stray file"),
    (stray_in_the_house, HOUSE + "core.1234", "stray file"),
    (stray_among_checkpoints, HOUSE + "checkpoints/b.parquet/0-4.parquet", "stray file"),
    (staged_left, HOUSE + "staging", "staged files left over"),
    (checkpoints_left, HOUSE + "checkpoints/d=1/c.parquet", "checkpoints left over"),
    (run_lost, HOUSE + "run.json", "is not there"),
    (run_damaged, HOUSE + "run.json", "cannot be read"),
]


@pytest.mark.parametrize(("damage", "file", "what"), KINDS)
def test_damage_is_found_and_named_once(
    damage: Callable[[Made], None], file: str, what: str, made: Made
) -> None:
    unmarked(made)
    damage(made)
    proof = made.verified()
    assert [(finding.file, finding.what) for finding in proof.faults] == [(file, what)]
    assert not document(proof)["ok"]
    assert proof.faults[0].to_do


def test_a_damaged_plan_is_named(made: Made) -> None:
    plan_damaged(made)
    assert made.whats() == [(f"_shardscore/plans/{made.plan_id}.json", "is damaged")]


def test_findings_are_sorted(made: Made) -> None:
    for damage in (visible_foreign, data_damaged, letters_gone, staged_left):
        damage(made)
    found = made.verified().faults
    assert found == sorted(found)
    assert len(found) >= 4


# Marks


def marks_of(made: Made) -> tuple[Path, Path]:
    return made.out / "_MANIFEST.json", made.out / "_SUCCESS"


def test_success_without_a_manifest_is_wrong(made: Made) -> None:
    marks_of(made)[0].unlink()
    assert made.whats() == [("_SUCCESS", "there without a manifest")]


def test_a_manifest_without_success_is_no_fault(made: Made) -> None:
    marks_of(made)[1].unlink()
    assert made.whats() == []


def test_success_that_names_an_unknown_plan_is_wrong(made: Made) -> None:
    stored, line = marks_of(made)
    line.write_bytes(manifest.success("0" * 16, stored.read_bytes()))
    assert made.whats() == [("_SUCCESS", "names an unknown plan")]


def test_success_with_a_planned_shard_missing_is_wrong(made: Made) -> None:
    (made.out / B).unlink()
    assert made.whats() == [("_SUCCESS", "there, though work is left"), (B, "not published")]


def test_a_file_that_the_manifest_lists_and_that_is_gone_is_wrong(made: Made) -> None:
    (made.lake / B).unlink()
    left = begin(made.folder, {})
    report(made, 2, plan_id=left.plan_id)
    (made.out / B).unlink()
    assert made.whats() == [(B, "listed in the manifest, but gone")]


def test_a_manifest_that_does_not_know_a_file_is_wrong(made: Made) -> None:
    (made.lake / "new.parquet").write_bytes(parquet_bytes(rows(4)))
    made.score("new.parquet")
    assert made.whats() == [("_MANIFEST.json", "says otherwise of new.parquet")]


# Work that is left


def test_a_shard_in_progress_is_work_left_with_its_rows(made: Made) -> None:
    unmarked(made)
    (made.out / B).unlink()
    checkpoint(made, B, 0, 4)
    proof = made.verified()
    assert proof.faults == []
    (left,) = proof.unfinished.values()
    assert (left.file, left.found) == (B, "4 rows saved in checkpoints")
    assert document(proof)["in_progress"] == {B: 4}
    assert not document(proof)["ok"]


def test_files_being_written_are_no_fault_while_work_is_left(made: Made) -> None:
    unmarked(made)
    (made.out / B).unlink()
    staged_left(made)
    proof = made.verified()
    assert proof.faults == []
    assert proof.notes == ["files being written, or left by a killed run: 1"]


def test_the_dead_letters_of_a_shard_that_is_still_to_be_published_are_no_fault(made: Made) -> None:
    unmarked(made)
    (made.out / "a.parquet").unlink()
    assert made.whats() == [("a.parquet", "not published")]


def test_a_new_shard_of_the_input_is_work_left(made: Made) -> None:
    (made.lake / "new.parquet").write_bytes(parquet_bytes(rows(4)))
    assert made.whats() == [("new.parquet", "new shard")]


def test_a_new_file_of_the_input_that_cannot_be_read_is_work_left(made: Made) -> None:
    (made.lake / "new.parquet").write_bytes(b"x")
    assert made.whats() == [("new.parquet", "input cannot be read")]


def failed(made: Made) -> None:
    outcome = {"shard": "bad.parquet", "status": "failed", "error": {"message": "no column x"}}
    report(made, 2, state="incomplete", outcomes=[outcome])


def test_a_shard_that_failed_in_the_last_run_is_work_left(made: Made) -> None:
    failed(made)
    (finding,) = made.verified(inputs=()).unfinished.values()
    assert (finding.file, finding.what, finding.found) == ("bad.parquet", "failed", "no column x")


def test_a_shard_that_failed_and_was_taken_out_of_the_input_is_forgotten(made: Made) -> None:
    failed(made)
    assert made.whats() == []


def test_a_lost_plan_leaves_nothing_to_prove_the_output_by(made: Made) -> None:
    (made.out / f"_shardscore/plans/{made.plan_id}.json").unlink()
    assert made.whats() == [(f"_shardscore/plans/{made.plan_id}.json", "no plan")]


def test_without_reports_all_plans_count(made: Made) -> None:
    (made.out / "_shardscore/reports/1.json").unlink()
    unmarked(made)
    (made.lake / "later.parquet").write_bytes(parquet_bytes(rows(4)))
    begin(made.folder, {})
    (made.out / "_shardscore/reports/1.json").unlink()
    proof = made.verified()
    assert [f.file for f in proof.unfinished.values()] == ["later.parquet"]
    assert proof.input_note == "no run says what it was"


# The input


def rewrite(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path)


def test_a_shard_that_changed_since_is_wrong(made: Made) -> None:
    rewrite(made.lake / B, rows(8, 100))
    (finding,) = made.verified().faults
    assert (finding.file, finding.what) == (B, "input has changed")
    assert "rows 7" in finding.expected
    assert "rows 8" in finding.found


def test_a_plan_that_knew_another_input_is_told_from_storage_alone(made: Made) -> None:
    rewrite(made.lake / B, rows(8, 100))
    later = begin(made.folder, {})
    assert later.plan_id != made.plan_id
    assert made.whats(inputs=()) == [(B, "input had changed")]


def test_a_published_shard_whose_input_cannot_be_read_any_more_is_wrong(made: Made) -> None:
    cut_input = made.lake / B
    cut_input.write_bytes(cut_input.read_bytes()[:-9])
    assert made.whats() == [(B, "input cannot be read")]


def test_a_shard_written_again_with_the_same_footer_is_a_note(made: Made) -> None:
    later = (made.out / B).stat().st_mtime_ns + 10**9
    os.utime(made.lake / B, ns=(later, later))
    proof = made.verified()
    assert document(proof)["ok"]
    assert "written again" in proof.notes[0]
    assert B in proof.notes[0]


def test_an_input_that_cannot_be_reached_is_said_and_no_failure(made: Made) -> None:
    made.lake.rename(made.folder / "elsewhere")
    proof = made.verified()
    assert document(proof)["ok"]
    assert proof.input_note == f"cannot be reached: the input does not exist ({made.lake})"
    assert (
        document(made.verified(inputs=[str(made.folder / "elsewhere")]))["shards"]["compared"] == 3
    )


def test_an_input_that_was_named_and_is_not_there_is_an_error(made: Made) -> None:
    with pytest.raises(NoInputError):
        made.verified(inputs=[str(made.folder / "typo")])


def test_rows_that_were_moved_are_found_by_the_columns_that_travelled_along(made: Made) -> None:
    table = scored(rows(7, 100))
    made.publish(B, table.take([0, 1, 2, 4, 3, 5, 6]), note_for(made.shards[B]))
    unmarked(made)
    (finding,) = made.verified().faults
    assert (finding.file, finding.what) == (B, "order or content, row 3, column id")
    assert (finding.expected, finding.found) == ("103", "104")
    assert made.whats(inputs=()) == []
    assert made.whats(quick=True) == []


def test_a_bad_row_that_was_not_left_out_is_found(made: Made) -> None:
    table = scored(rows(10), [2, 5, 8])  # where the dead letters name 2, 5 and 9
    made.publish("a.parquet", table, note_for(made.shards["a.parquet"], 3))
    unmarked(made)
    assert made.whats() == [("a.parquet", "order or content, row 6, column id")]


def test_columns_that_should_not_be_there_are_found(made: Made) -> None:
    table = scored(rows(7, 100)).append_column("more", pa.array(range(7)))
    made.publish(B, table, note_for(made.shards[B]))
    unmarked(made)
    assert made.whats() == [(B, "columns")]


# No output


@pytest.mark.parametrize("there", [False, True], ids=["nothing", "a folder of other files"])
def test_what_is_no_output_is_said_to_be_none(there: bool, tmp_path: Path) -> None:
    if there:
        (tmp_path / "x.parquet").write_bytes(parquet_bytes())
    with pytest.raises(NoInputError, match="no output"):
        verify(LocalStorage(tmp_path))


# Repair


def repaired(made: Made) -> list[str]:
    proof = made.verified()
    repair(proof)
    return proof.repaired


@pytest.mark.parametrize(
    "damage",
    [
        unmarked,
        lambda made: marks_of(made)[0].unlink(),
        lambda made: marks_of(made)[1].unlink(),
        lambda made: flip(marks_of(made)[0], 700),
        lambda made: marks_of(made)[0].write_text("{}"),
        lambda made: flip(marks_of(made)[1], 5),
        lambda made: flip(marks_of(made)[1], 20),
    ],
)
def test_marks_are_made_anew_as_they_were(damage: Callable[[Made], None], made: Made) -> None:
    before = [path.read_bytes() for path in marks_of(made)]
    damage(made)
    assert repaired(made) == ["wrote _MANIFEST.json and _SUCCESS from the published files"]
    assert [path.read_bytes() for path in marks_of(made)] == before
    assert repaired(made) == []


def test_leftovers_are_removed_and_what_another_machine_left_stays(made: Made) -> None:
    checkpoints_left(made)
    staged_left(made)
    with made.storage.stage("a.parquet") as staged:
        mine = staged.path.with_name(staged.path.name.replace(staged.path.stem[-16:], "0" * 16))
        mine.write_text("left by a killed run of this machine")
    assert repaired(made) == [
        "removed 1 checkpoints of d=1/c.parquet, which is published",
        "removed 1 staged files that a killed run has left",
    ]
    assert made.whats() == [("_shardscore/staging", "staged files left over")]


@pytest.mark.parametrize(("damage", "file", "what"), KINDS)
def test_repair_changes_no_published_file_and_vouches_for_nothing_that_is_wrong(
    damage: Callable[[Made], None], file: str, what: str, made: Made
) -> None:
    unmarked(made)
    damage(made)
    keep = (made.out, made.out / "_shardscore/quarantine", made.out / "d=1")
    before = {p: p.read_bytes() for folder in keep for p in folder.iterdir() if p.is_file()}
    proof = made.verified()
    repair(proof)
    after = {p: p.read_bytes() for folder in keep for p in folder.iterdir() if p.is_file()}
    marks = set(marks_of(made))
    assert {p: d for p, d in after.items() if p not in marks} == before
    assert bool(marks & after.keys()) == (
        what in {"checkpoints left over", "staged files left over"}
    )


def test_an_unfinished_output_is_not_vouched_for(made: Made) -> None:
    unmarked(made)
    (made.out / B).unlink()
    assert repaired(made) == []
    assert not marks_of(made)[1].exists()


def test_the_checkpoints_of_a_damaged_shard_stay(made: Made) -> None:
    left = checkpoint(made, B, 0, 4)
    data_damaged(made)
    assert repaired(made) == []
    assert left.exists()


def test_what_was_not_read_is_not_repaired(made: Made) -> None:
    with pytest.raises(UsageError):
        repair(made.verified(quick=True))


def test_the_document_is_json(made: Made) -> None:
    data_damaged(made)
    told = json.loads(json.dumps(document(made.verified())))
    assert told["wrong"][0].keys() == {"file", "what", "expected", "found", "to_do"}
    assert told["fingerprint"] == IDENTITY.fingerprint


def test_shards_that_several_plans_know_need_only_be_published(made: Made) -> None:
    """Which plan is the output's nobody knows, without marks and reports: it may be any of them."""
    unmarked(made)
    before = made.shards["a.parquet"].identity
    (made.lake / "a.parquet").write_bytes(parquet_bytes(rows(4)))
    begin(made.folder, {})
    (made.out / "_shardscore/reports/1.json").unlink()
    assert made.shards["a.parquet"].identity != before
    proof = made.verified(inputs=())
    assert document(proof)["ok"]
    repair(proof)
    assert proof.repaired == []
    assert any("no one plan is known to be complete" in note for note in proof.notes)
    assert not marks_of(made)[1].exists()


def test_checkpoints_of_a_shard_that_no_plan_knows_are_noted_and_left(made: Made) -> None:
    left = checkpoint(made, "gone.parquet", 0, 4)
    proof = made.verified()
    assert "checkpoints of shards that are in no plan: 1 (gone.parquet)" in proof.notes
    repair(proof)
    assert left.exists()
