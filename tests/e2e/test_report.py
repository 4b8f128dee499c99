"""The command `report`, on outputs that the command made."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from tests.conftest import SAMPLE, FlightsRun, run_command
from tests.e2e.lake import shard, truncate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Finished


def report(cli: Any, output: object, *more: object) -> Any:
    return cli("report", output, "--json", *more).document


def test_the_flights_are_accounted_for(
    flights_run: FlightsRun, cli: Callable[..., Finished], tmp_path: Path
) -> None:
    done = cli("report", flights_run.output, "--html", tmp_path / "r.html")
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        "All 336,776 rows of 42 shards are accounted for: 328,521 scored, 8,255 set aside.",
        f"report: {tmp_path}/r.html",
    ]
    page = (tmp_path / "r.html").read_text()
    assert "null in column" in page
    assert len(page) < 1_000_000


def test_the_page_lies_in_the_output_and_is_no_stray_file_there(
    flights_run: FlightsRun, cli: Callable[..., Finished]
) -> None:
    done = cli("report", flights_run.output)
    path = flights_run.output / "_shardscore" / "report.html"
    assert done.out.splitlines()[-1] == f"report: {path}"
    assert path.read_text().startswith("<!doctype html>")
    assert cli("verify", flights_run.output, "--quick").code == 0


def test_the_report_says_how_the_run_went_and_how_to_repeat_it(
    flights_run: FlightsRun, cli: Callable[..., Finished]
) -> None:
    # Other tests may have found since that there is nothing to do.
    first = min((flights_run.output / "_shardscore" / "reports").glob("*.json")).stem
    run = report(cli, flights_run.output, "--run", first)["run"]
    assert run["exit_code"] == 0
    assert run["host"]
    config = str(SAMPLE / "flights.toml")
    command = ["shardscore", "score", "--config", config, "--output", str(flights_run.output)]
    assert run["invocation"]["command"] == command
    assert shlex.join(command) in (flights_run.output / "_shardscore/report.html").read_text()
    seconds, rows, resident = zip(*run["timeline"], strict=True)
    assert list(seconds) == sorted(seconds)
    assert (rows[0], rows[-1]) == (0, 336_776)
    # What is told of memory is less than its peak, and more than an interpreter takes.
    assert 100e6 < max(resident) <= run["peak_bytes"]


def test_columns_feed_the_model_as_the_plan_said(
    cli: Callable[..., Finished], model: Path, lake: Path, tmp_path: Path
) -> None:
    doubles = pa.array([1.0] * 10, pa.float64())
    shard(lake / "4.parquet", b=doubles)  # in one shard of four
    job = ("--model", model, "--input", lake, "--output", tmp_path / "out", "--allow-lossy", "b")
    planned = cli("plan", *job, "--json").document["binding"]
    assert [(row["column_type"], row["conversion"]) for row in planned] == [
        ("float", "exact"),
        ("float or double", "exact or rounded"),
    ]
    assert cli("score", *job, "--workers", 2).code == 0
    assert report(cli, tmp_path / "out")["binding"] == planned


def test_the_command_is_no_part_of_what_an_output_is(flights_run: FlightsRun) -> None:
    record = (flights_run.output / "_shardscore" / "run.json").read_text()
    assert "invocation" not in record
    assert "flights.toml" not in record


def test_where_no_output_is_it_ends_with_66(cli: Callable[..., Finished], tmp_path: Path) -> None:
    done = cli("report", tmp_path / "none")
    assert (done.code, done.out) == (66, "")
    assert "no run has begun an output here" in done.err
    assert not (tmp_path / "none").exists()


def test_a_run_that_failed_and_one_that_mended_it(
    score: Callable[..., Finished],
    cli: Callable[..., Finished],
    lake: Path,
    tmp_path: Path,
) -> None:
    truncate(lake / "2.parquet")
    assert score().code == 65
    told = report(cli, tmp_path / "out")
    assert told["verdict"]["text"] == "1 shard failed: 2.parquet; the other 2 are published."
    assert told["run"]["exit_code"] == 65
    shard(lake / "2.parquet")
    assert score().code == 0
    told = report(cli, tmp_path / "out")
    assert told["verdict"]["level"] == "good"
    assert told["rows"]["in"] == 30
    assert [run["state"] for run in told["runs"]] == ["finished", "incomplete"]
    assert [run["rows"] for run in told["runs"]] == [10, 20]
    first = told["runs"][1]["run_id"]
    assert report(cli, tmp_path / "out", "--run", first)["run"]["exit_code"] == 65
    assert cli("report", tmp_path / "out", "--run", "none").code == 64


@pytest.mark.parametrize("policy", ["null", "quarantine"])
def test_rows_that_could_not_be_scored_are_told_by_their_reasons(
    policy: str,
    score: Callable[..., Finished],
    cli: Callable[..., Finished],
    lake: Path,
    tmp_path: Path,
) -> None:
    shard(lake / "1.parquet", a=[None, *([1.0] * 9)])
    shard(lake / "2.parquet", b=[None, None, *([1.0] * 8)])
    assert score("--on-bad-row", policy, "--allow-lossy", "a", "--allow-lossy", "b").code == 0
    bad = report(cli, tmp_path / "out")["bad_rows"]
    assert (bad["rows"], bad["read"]) == (3, 3)
    assert [told["rows"] for told in bad["reasons"]] == [2, 1]
    assert "'b'" in bad["reasons"][0]["reason"]
    expected = [{"column": "b", "rows": 2}, {"column": "a", "rows": 1}]
    assert bad["columns"] == (expected if policy == "quarantine" else [])


def test_shares_are_told_together(
    score: Callable[..., Finished], cli: Callable[..., Finished], tmp_path: Path
) -> None:
    for index in (0, 1):
        assert score("--shard-index", index, "--shard-count", 2).code == 0
    told = report(cli, tmp_path / "out")
    assert told["run"]["rows"] == 30
    assert [share["share"] for share in told["run"]["shares"]] == [[0, 2], [1, 2]]
    assert told["verdict"]["text"].startswith("All 30 rows of 3 shards")


def test_the_memory_of_workers_is_told_while_they_score(
    score: Callable[..., Finished], cli: Callable[..., Finished], tmp_path: Path
) -> None:
    assert score("--workers", 2).code == 0
    run = report(cli, tmp_path / "out")["run"]
    alone = run["timeline"][0][2]
    assert max(point[2] for point in run["timeline"]) > alone + 100e6, "two models are loaded"
    assert run["timeline"][-1][1] == 30


def test_in_an_object_store_the_page_lies_there_too(
    score: Callable[..., Finished], cli: Callable[..., Finished], s3: str
) -> None:
    assert score(output=s3).code == 0
    done = cli("report", s3)
    assert done.out.splitlines() == [
        "All 30 rows of 3 shards are accounted for: 30 scored, none set aside.",
        f"report: {s3}/_shardscore/report.html",
    ]
    from pipeline.storage import storage_at

    assert storage_at(s3).read("_shardscore/report.html").startswith(b"<!doctype html>")


def test_it_does_without_tensorflow(flights_run: FlightsRun, tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')")
    (tmp_path / "keras.py").write_text("raise SystemExit('Keras was imported')")
    page = tmp_path / "r.html"
    path = f"{tmp_path}:{SAMPLE.parent}"
    done = run_command("report", flights_run.output, "--html", page, PYTHONPATH=path)
    assert done.code == 0, done.err
    assert json.loads(run_command("report", flights_run.output, "--json", PYTHONPATH=path).out)[
        "success"
    ]
