"""What a report says of an output: complete, under way, broken, of many runs or shares."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobs.exit_codes import of_told
from pipeline import layout, report_facts
from pipeline.errors import UsageError
from pipeline.records import FedColumn
from pipeline.storage import LocalStorage
from tests.unit.outputs import Made, begin, finished, rows

RUN = {"state": "finished", "started": "2026-01-31T02:17:00+00:00", "seconds": 4.0}


def facts(made: Made, **options: Any) -> dict[str, Any]:
    found = report_facts.facts(made.storage, exit_code=of_told, **options)
    assert found is not None
    json.dumps(found)  # nothing in it that is not plain
    return found


def kept(made: Made, run_id: str, **told: Any) -> None:
    document = {"run_id": run_id, "plan_id": made.plan_id, **RUN, "outcomes": [], **told}
    made.storage.replace(f"_shardscore/reports/{run_id}.json", json.dumps(document).encode())


def outcome(shard: str, rows_in: int, bad: int = 0, **told: Any) -> dict[str, Any]:
    counted = {"rows_in": rows_in, "scored": rows_in - bad, "quarantined": bad, "null_scored": 0}
    return {
        "shard": shard, "status": "published", "method": "predict", "seconds": 0.5,
        **counted, "error": None, **told,
    }  # fmt: skip


def failed(shard: str, **error: Any) -> dict[str, Any]:
    told = {"kind": "CorruptShardError", "message": "not a readable Parquet file", **error}
    return outcome(shard, 0, status="failed", method=None, error=told)


def row(found: dict[str, Any], name: str) -> list[Any]:
    (told,) = (shard for shard in found["shard_table"] if shard[0] == name)
    return list(told)


def test_a_complete_output_is_accounted_for(tmp_path: Path) -> None:
    found = facts(finished(tmp_path))
    assert found["verdict"] == {
        "level": "good",
        "text": "All 20 rows of 3 shards are accounted for: 17 scored, 3 set aside.",
    }
    assert found["rows"]["in"] == found["rows"]["planned"] == 20
    assert found["shards"] == {
        "total": 3, "published": 3, "failed": 0, "left": 0, "other_files": 0
    }  # fmt: skip


def test_the_predictions_are_those_of_all_shards(tmp_path: Path) -> None:
    (column,) = facts(finished(tmp_path))["predictions"]
    assert (column["name"], column["type"], column["rows"]) == ("prediction", "float", 17)
    assert (column["low"], column["high"]) == (0.0, 212.0)
    (part,) = column["parts"]
    assert sum(part["counts"]) == pytest.approx(17)


def test_bad_rows_are_told_by_reason_and_by_column(tmp_path: Path) -> None:
    bad = facts(finished(tmp_path))["bad_rows"]
    assert (bad["rows"], bad["read"], bad["others"]) == (3, 3, 0)
    assert [(told["reason"], told["rows"]) for told in bad["reasons"]] == [
        ("bad 2", 1), ("bad 5", 1), ("bad 9", 1)
    ]  # fmt: skip
    assert bad["columns"] == [{"column": "x", "rows": 3}]


def test_of_many_reasons_ten_are_named_and_the_others_counted(tmp_path: Path) -> None:
    made = begin(tmp_path, {"a.parquet": rows(30)})
    made.score("a.parquet", bad=range(14))
    bad = facts(made)["bad_rows"]
    assert len(bad["reasons"]) == 10
    assert bad["others"] == 4


def test_a_shard_is_told_by_its_report_and_by_its_footer_where_that_is_lost(tmp_path: Path) -> None:
    made = begin(tmp_path, {"a.parquet": rows(10), "b.parquet": rows(7)})
    made.score("a.parquet", bad=[2])
    made.score("b.parquet", bad=[1, 3])
    kept(made, "1", outcomes=[outcome("a.parquet", 10, 1)])
    found = facts(made)
    assert row(found, "a.parquet") == ["a.parquet", "published", 10, 9, 1, "predict", 0.5, ""]
    told = row(found, "b.parquet")
    assert told == ["b.parquet", "published", 7, 5, 2, "predict_on_batch", None, ""]


def test_of_a_complete_output_whose_reports_are_lost_the_manifest_tells(tmp_path: Path) -> None:
    made = finished(tmp_path)
    told = row(facts(made), "a.parquet")
    assert told == ["a.parquet", "published", 10, 7, 3, "", None, ""]


def test_an_output_under_way(tmp_path: Path) -> None:
    made = begin(tmp_path, {"a.parquet": rows(10), "b.parquet": rows(7), "c.parquet": rows(5)})
    made.score("a.parquet")
    piece = made.out / "_shardscore/checkpoints/b.parquet" / f"{0:012}-{4:012}.{'0' * 32}.parquet"
    piece.parent.mkdir(parents=True)
    piece.touch()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    kept(made, "2", state="running", updated=now, shards={"total": 3})
    found = facts(made)
    assert found["verdict"]["text"] == "Running: 1 of 3 shards are published."
    assert found["run"]["exit_code"] is None
    assert row(found, "b.parquet")[1:] == [
        "in progress", 7, None, None, "", None, "4 rows are saved in checkpoints"
    ]  # fmt: skip
    assert row(found, "c.parquet")[1] == "left"


def test_a_run_that_was_killed_says_what_to_do(tmp_path: Path) -> None:
    made = begin(tmp_path, {"a.parquet": rows(10), "b.parquet": rows(7)})
    made.score("a.parquet")
    kept(made, "2", state="running", updated="2026-01-31T02:18:00+00:00", shards={"total": 2})
    text = facts(made)["verdict"]["text"]
    assert text.startswith("Not finished: 1 of 2 shards is left; run the same command again.")


def test_failed_shards_are_named_also_those_that_are_in_no_plan(tmp_path: Path) -> None:
    made = begin(tmp_path, {"a.parquet": rows(10)})
    made.score("a.parquet")
    told = failed("torn.parquet", received="truncated")
    kept(made, "2", state="incomplete", outcomes=[told], shards={"total": 2})
    found = facts(made)
    assert found["verdict"]["text"] == "1 shard failed: torn.parquet; the other one is published."
    assert row(found, "torn.parquet")[1:] == [
        "failed", 0, None, None, "", None, "not a readable Parquet file; received: truncated"
    ]  # fmt: skip
    assert found["run"]["exit_code"] == 65
    assert found["shards"]["failed"] == 1


def test_a_shard_that_failed_once_and_was_scored_since_has_not_failed(tmp_path: Path) -> None:
    made = begin(tmp_path, {"a.parquet": rows(10)})
    kept(made, "1", state="incomplete", outcomes=[failed("a.parquet")])
    made.score("a.parquet")
    made.complete()
    kept(made, "2", outcomes=[outcome("a.parquet", 10)], shards={"total": 1})
    found = facts(made)
    assert found["verdict"]["level"] == "good"
    assert [run["run_id"] for run in found["runs"]] == ["2", "1"]


def test_an_error_that_ended_the_run_is_told_with_its_exit_code(tmp_path: Path) -> None:
    made = begin(tmp_path, {"a.parquet": rows(10)})
    error = {"kind": "StorageError", "message": "the disk is full", "path": "/out"}
    kept(made, "2", state="broken", error=error, shards={"total": 1})
    found = facts(made)
    expected = "Not finished: the disk is full; 1 of 1 shard is left."
    assert found["verdict"] == {"level": "bad", "text": expected}
    assert (found["run"]["exit_code"], found["run"]["errors"]) == (74, [error])


def test_shares_of_a_plan_are_added_up(tmp_path: Path) -> None:
    made = begin(tmp_path, {"a.parquet": rows(10), "b.parquet": rows(7)})
    made.score("a.parquet")
    made.score("b.parquet")
    looks = [[0, 0, 1], [1, 5, 1], [2, 7, 1]]
    for index, (name, count) in enumerate((("a.parquet", 10), ("b.parquet", 7))):
        kept(
            made,
            f"2-{index}",
            share=[index, 2],
            seconds=4.0 + index,
            outcomes=[outcome(name, count)],
            rows={"in": count, "scored": count},
            shards={"total": 2, "published": 1, "by_method": {"predict": 1}},
            memory={"peak_bytes": 100},
            rows_per_second=10.0,
            workers=2,
            timeline=looks if index else [],
        )
    run = facts(made)["run"]
    assert (run["rows"], run["seconds"], run["peak_bytes"], run["workers"]) == (17, 5.0, 200, 4)
    assert run["rows_per_second"] == 20.0
    assert run["by_method"] == {"predict": 2}
    assert [share["share"] for share in run["shares"]] == [(0, 2), (1, 2)]
    assert (run["timeline"], run["timeline_share"]) == (looks, (1, 2))


def test_a_share_that_failed_is_not_hidden_by_one_that_did_not(tmp_path: Path) -> None:
    made = begin(tmp_path, {"a.parquet": rows(10), "b.parquet": rows(7)})
    made.score("b.parquet")
    kept(made, "1", share=[0, 2], state="incomplete", outcomes=[failed("a.parquet")])
    kept(made, "2", share=[1, 2], outcomes=[outcome("b.parquet", 7)])
    found = facts(made)
    assert found["verdict"]["text"].startswith("1 shard failed: a.parquet")
    assert found["run"]["exit_code"] == 65


DRIFT = {
    "baseline": "", "max_drift": 0.2,
    "differences": [{"of": "prediction", "psi": 1.5, "ks": 0.6, "chance": 0.01}],
}  # fmt: skip


def test_drift_is_told_and_the_baseline_is_drawn_with_it(tmp_path: Path) -> None:
    before, made = finished(tmp_path / "last"), begin(tmp_path, {"a.parquet": rows(10, 500)})
    made.score("a.parquet")
    error = {"kind": "DriftError", "message": "the predictions have drifted"}
    drift = {**DRIFT, "baseline": str(before.out)}
    kept(made, "2", state="broken", error=error, drift=drift, shards={"total": 1})
    found = facts(made)
    assert found["verdict"]["text"] == (
        f"The predictions have drifted from those of {before.out}: prediction by 1.5 (0.2 is "
        "allowed)."
    )
    assert found["drift"]["differences"][0]["says"] == "beyond"
    (part,) = found["predictions"][0]["parts"]
    assert part["baseline"]["total"] == 17
    assert found["run"]["exit_code"] == 65


@pytest.mark.parametrize(
    ("psi", "chance", "says"),
    [
        (0.05, 0.001, "alike"),
        (0.15, 0.1, "alike"),
        (0.15, 0.001, "moved"),
        (0.3, 0.001, "another population"),
        (0.6, 0.001, "beyond"),
        (0.6, 0.3, "alike"),
    ],
)
def test_what_a_difference_means_is_said_in_words(
    psi: float, chance: float, says: str, tmp_path: Path
) -> None:
    made = begin(tmp_path, {"a.parquet": rows(10)})
    told = {"of": "prediction", "psi": psi, "ks": 0.1, "chance": chance}
    kept(made, "2", drift={"baseline": "gone://", "max_drift": 0.5, "differences": [told]})
    assert facts(made)["drift"]["differences"] == [{**told, "says": says}]


def test_a_baseline_that_has_gone_is_not_drawn(tmp_path: Path) -> None:
    made = begin(tmp_path, {"a.parquet": rows(10)})
    made.score("a.parquet")
    kept(made, "2", drift={**DRIFT, "baseline": "nowhere://at-all"})
    found = facts(made)
    assert found["drift"]["differences"]
    assert "baseline" not in found["predictions"][0]["parts"][0]


def test_an_earlier_run_can_be_told_of(tmp_path: Path) -> None:
    made = finished(tmp_path)
    kept(made, "2013", seconds=3.0)
    kept(made, "2014", seconds=9.0)
    assert facts(made)["run"]["seconds"] == 9.0
    assert facts(made, run_id="2013")["run"]["seconds"] == 3.0
    with pytest.raises(UsageError, match="no report of that run"):
        facts(made, run_id="2015")


def test_columns_are_bound_with_the_types_that_a_dead_letter_file_shows(tmp_path: Path) -> None:
    (used,) = facts(finished(tmp_path))["binding"]
    assert used == {
        "input": "x",
        "input_type": "",
        "column": "x",
        "column_type": "float",
        "conversion": "",
    }


def test_columns_are_bound_as_the_first_run_found_them(tmp_path: Path) -> None:
    made = finished(tmp_path)
    read = FedColumn("x", "float32 (n, 1)", "x", "int64 or int32", "checked")
    record = layout.read_record(made.storage)
    assert record is not None
    told = record.model_copy(update={"columns": (read,)}).model_dump_json()
    made.storage.replace(layout.RUN, told.encode())
    assert facts(made)["binding"] == [asdict(read)]


def test_of_very_many_shards_those_that_need_a_look_are_listed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = begin(tmp_path, {f"{name}.parquet": rows(3) for name in "abcd"})
    for name in "abc":
        made.score(f"{name}.parquet")
    kept(made, "2", outcomes=[failed("b.parquet")])
    monkeypatch.setattr(report_facts, "MOST_SHARDS", 3)
    found = facts(made)
    assert [shard[0][0] for shard in found["shard_table"]] == ["b", "d", "a"]
    assert found["unlisted_shards"] == 1


def test_where_no_run_has_begun_there_is_nothing_to_tell(tmp_path: Path) -> None:
    assert report_facts.facts(LocalStorage(tmp_path), exit_code=of_told) is None


def test_a_report_that_says_next_to_nothing_does_no_harm(tmp_path: Path) -> None:
    made = begin(tmp_path, {"a.parquet": rows(10)})
    made.storage.replace("_shardscore/reports/2.json", b'{"plan_id": "' + b"x" * 16 + b'"}')
    found = facts(made)
    assert found["verdict"]["level"] == "waiting"


def test_an_output_whose_record_is_lost_is_told_by_what_is_left(tmp_path: Path) -> None:
    made = finished(tmp_path)
    kept(made, "1", outcomes=[outcome("a.parquet", 10, 3)])
    (made.out / "_shardscore/run.json").unlink()
    found = facts(made)
    assert (found["job"], found["binding"]) == ({}, [])
    assert row(found, "a.parquet")[1] == "published"


def test_shares_of_runs_that_share_nothing_are_runs_of_their_own(tmp_path: Path) -> None:
    made = finished(tmp_path)
    kept(made, "1", share=[0, 2], outcomes=[outcome("a.parquet", 10, 3)])
    kept(made, "2", outcomes=[outcome("b.parquet", 7)])
    run = facts(made)["run"]
    assert (run["run_id"], run["shares"]) == ("2", [])
