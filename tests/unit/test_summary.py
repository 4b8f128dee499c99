"""The last words of a run, as people see them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import reason_counts
from pipeline.errors import ContractError
from pipeline.reason_counts import Reasons
from pipeline.records import Outcome, RowCounts, RunReport
from pipeline.summary import summary_text

if TYPE_CHECKING:
    from pathlib import Path

REPORT = RunReport(
    run_id="1",
    state="finished",
    started="2026-11-28T03:00:00+00:00",
    seconds=28.8,
    output="/data/out",
    plan_id="p",
    fingerprint="f",
    model_sha256="m",
    batch_size=8192,
    probe="",
    shards=1,
    shards_done_before=0,
    counts=RowCounts(36_000, 35_940, quarantined=60),
    outcomes=(Outcome("a", "published", RowCounts(36_000, 35_940, 0, 60), "predict"),),
    memory_after_load=0,
    memory_peak=0,
    versions={},
    scoring_seconds=24.0,
)


def lines(report: RunReport, **more: Any) -> dict[str, str]:
    told = summary_text(report, 200, **more).splitlines()
    return {name: text.strip() for name, text in (line.split(":", 1) for line in told)}


def test_start_up_is_no_part_of_the_rate() -> None:
    told = "28.8 s: 4.8 s to start, then 24.0 s at 1,500 rows/s"
    assert lines(REPORT)["time"] == told


def test_three_reasons_are_told_with_their_counts_and_the_other_rows_counted() -> None:
    reasons = Reasons(Counter(), rows=60, of_rows=60)
    reasons.counted.update({("a", "null in a"): 40, ("b", "null in b"): 12})
    assert (
        lines(REPORT, reasons=reasons)["why"]
        == "null in a (40 rows); null in b (12 rows); others (8 rows)"
    )
    reasons.counted.update({("", "NaN"): 5, ("c", "too long"): 3})
    told = "null in a (40 rows); null in b (12 rows); NaN (5 rows); others (3 rows)"
    assert lines(REPORT, reasons=reasons)["why"] == told
    told = told.replace("others (3 rows)", "others (3 rows); of 900 rows more the report tells")
    assert lines(REPORT, reasons=replace(reasons, of_rows=960))["why"] == told
    assert "why" not in lines(REPORT)


def test_rows_of_failed_shards_are_told_beside_those_that_went_in() -> None:
    failed = Outcome("a", "failed", error=ContractError("a column is missing"))
    report = replace(
        REPORT, state="incomplete", counts=RowCounts(), outcomes=(failed,), rows_failed=104_857
    )
    assert lines(report)["rows in"] == "0; 104,857 more are in the 1 shard that failed"
    assert lines(report)["failed"] == "`shardscore status /data/out` lists them, and why"
    never_begun = replace(report, plan_id="")
    assert lines(never_begun)["failed"] == "`shardscore plan --json` lists them, and why"
    assert lines(REPORT)["rows in"] == "36,000"


def test_what_to_do_next_is_said_of_a_finished_run_if_asked_for() -> None:
    there = replace(REPORT, output="/data/my out")
    told = "shardscore verify '/data/my out' and shardscore report '/data/my out'"
    assert lines(there, what_next=True)["next"] == told
    assert "next" not in lines(there)
    assert "next" not in lines(replace(there, state="stopped"), what_next=True)


def test_reasons_of_a_run_are_those_of_its_shards(tmp_path: Path) -> None:
    letters = tmp_path / "_shardscore" / "quarantine" / "a"
    letters.parent.mkdir(parents=True)
    told = {"quarantine_column": ["x", "x"], "quarantine_reason": ["null", "null"]}
    pq.write_table(pa.table(told), letters)
    found = reason_counts.of_run(replace(REPORT, output=str(tmp_path)))
    assert found is not None
    assert found.counted == {("x", "null"): 2}
    assert found.of_rows == 60
    assert reason_counts.of_run(replace(REPORT, counts=RowCounts(1, 1))) is None
