"""Outputs: whose they are, and what status says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.errors import StorageError
from pipeline.storage import LocalStorage
from tests.e2e.lake import published, shard, truncate

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_an_output_that_cannot_be_created_is_74(score: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = score(output=tmp_path / "file" / "out")
    assert done.code == 74
    assert str(tmp_path / "file") in done.err


def test_an_output_of_another_job_is_73_and_says_what_differs(score: Any, tmp_path: Path) -> None:
    assert score("--batch-size", 4).code == 0
    done = score("--batch-size", 5, "--keep", "none")
    assert done.code == 73
    assert "batch_size: 4" in done.err
    assert "batch_size: 5" in done.err
    assert "keep: none" in done.err


def test_auto_continues_what_an_explicit_choice_began(score: Any, lake: Path) -> None:
    assert score("--batch-size", 4).code == 0
    shard(lake / "4.parquet")
    done = score("--json")
    assert done.code == 0
    assert done.document["batch_size"] == 4
    assert done.document["shards"]["done_before"] == 3


def test_a_foreign_file_in_our_place_is_73_and_stays(score: Any, tmp_path: Path) -> None:
    foreign = shard(tmp_path / "out" / "2.parquet")
    before = foreign.read_bytes()
    done = score()
    assert done.code == 73
    assert "shardscore did not write" in done.err
    assert foreign.read_bytes() == before


def test_a_lost_run_json_is_made_again_from_the_same_job_alone(
    score: Any, lake: Path, tmp_path: Path
) -> None:
    assert score("--batch-size", 4).code == 0
    shard(lake / "4.parquet")
    (tmp_path / "out" / "_shardscore" / "run.json").unlink()
    assert score("--batch-size", 5).code == 73
    assert not (tmp_path / "out" / "_shardscore" / "run.json").exists()
    assert score("--batch-size", 4).code == 0
    assert len(published(tmp_path)) == 4


def test_a_lost_run_json_and_another_model_is_73_also_with_nothing_left_to_do(
    score: Any, model: Path, lookup: Path, tmp_path: Path
) -> None:
    assert score().code == 0
    (tmp_path / "out" / "_shardscore" / "run.json").unlink()
    assert score(model=lookup).code == 73
    assert score().code == 0


def test_the_output_may_not_be_the_input(score: Any, lake: Path) -> None:
    assert score(output=lake).code == 64


def test_the_status_of_what_is_no_output_is_66(cli: Any, tmp_path: Path) -> None:
    done = cli("status", tmp_path / "typo", "--json")
    assert done.code == 66
    assert str(tmp_path / "typo") in done.err
    assert done.out == ""


def test_status_is_complete_again_once_the_bad_shard_is_gone(
    score: Any, cli: Any, lake: Path, tmp_path: Path
) -> None:
    truncate(lake / "2.parquet")
    assert score().code == 65
    (lake / "2.parquet").unlink()
    assert score().code == 0
    assert cli("status", tmp_path / "out", "--json").document["complete"] is True


def test_a_damaged_report_does_not_hide_the_status(score: Any, cli: Any, tmp_path: Path) -> None:
    assert score().code == 0
    (tmp_path / "out" / "_shardscore" / "reports" / "99999999.json").write_text("{")
    assert cli("status", tmp_path / "out", "--json").document["complete"] is True


def test_files_of_other_input_in_the_output_are_counted(
    score: Any, cli: Any, lake: Path, tmp_path: Path
) -> None:
    assert score().code == 0
    shard(tmp_path / "later" / "9.parquet")
    assert score(input=tmp_path / "later").code == 0
    status = cli("status", tmp_path / "out", "--json").document
    assert status["shards"] == {"total": 1, "published": 1}
    assert status["other_files"] == 3
    assert "3 files of earlier runs" in cli("status", tmp_path / "out").out


def test_a_lost_run_json_is_proved_and_made_again_also_with_nothing_left_to_do(
    score: Any, tmp_path: Path
) -> None:
    assert score("--batch-size", 4).code == 0
    record = tmp_path / "out" / "_shardscore" / "run.json"
    before = record.read_bytes()
    record.unlink()
    assert score("--batch-size", 5).code == 73
    assert not record.exists()
    assert score("--batch-size", 4).code == 0
    assert record.read_bytes() == before


def test_a_lost_plan_and_a_lost_run_json_do_not_hide_the_status(
    score: Any, cli: Any, tmp_path: Path
) -> None:
    assert score().code == 0
    for plan in (tmp_path / "out" / "_shardscore" / "plans").iterdir():
        plan.unlink()
    (tmp_path / "out" / "_shardscore" / "run.json").unlink()
    assert cli("status", tmp_path / "out").code == 0


def test_nothing_to_do_in_an_output_that_can_only_be_read_is_0(
    score: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert score().code == 0

    def read_only(*_: object) -> None:
        raise StorageError("read-only file system")

    monkeypatch.setattr(LocalStorage, "stage", read_only)
    done = score()
    assert done.code == 0
    assert done.out.startswith("nothing to do")


def test_status_names_the_shards_that_failed(
    score: Any, cli: Any, lake: Path, tmp_path: Path
) -> None:
    truncate(lake / "2.parquet")
    score()
    shown = cli("status", tmp_path / "out").out
    assert "2 of 3 published" in shown
    assert shown.splitlines()[-1] == "2.parquet  not a readable Parquet file"
    assert shown.splitlines()[-5].split() == ["complete:", "no"]
