"""Figures in Prometheus' text format: names, escaping, numbers; what stays of an earlier text."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.metrics import METRICS, as_text, number, of_end, of_run, one, with_kept
from pipeline.records import Outcome, RowCounts, RunReport
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pipeline.metrics import Figures

MONITORING = ROOT / "jobs" / "metrics"
SUCCESS = "shardscore_last_success_timestamp_seconds"


def report(state: str = "finished", **facts: Any) -> RunReport:
    stated: dict[str, Any] = {
        "run_id": "r", "started": "", "seconds": 9.0, "output": "out", "plan_id": "",
        "fingerprint": "", "model_sha256": "", "batch_size": 8, "probe": "", "shards": 5,
        "shards_done_before": 1, "counts": RowCounts(100, 90, 4, 6, 2),
        "outcomes": (
            Outcome("a", "published"), Outcome("b", "already_published"), Outcome("c", "failed"),
        ),
        "memory_after_load": 0, "memory_peak": 12345, "versions": {"shardscore": "0.1.0"},
        "scoring_seconds": 4.0,
    }  # fmt: skip
    return RunReport(state=state, **{**stated, **facts})  # type: ignore[arg-type]


def states(figures: Figures, name: str) -> dict[str, float]:
    return {own["state"]: value for own, value in figures[name]}


# The text


def test_each_metric_is_told_with_its_help_its_type_and_its_samples() -> None:
    figures: Figures = {
        "shardscore_rows_total": [({"state": "scored"}, 3), ({"state": "null"}, 0)],
        "shardscore_exit_code": one(75),
    }
    exit_code, rows = METRICS["shardscore_exit_code"][1], METRICS["shardscore_rows_total"][1]
    assert as_text(figures, {"name": "flights"}) == (
        f"# HELP shardscore_exit_code {exit_code}\n"
        "# TYPE shardscore_exit_code gauge\n"
        'shardscore_exit_code{name="flights"} 75\n'
        f"# HELP shardscore_rows_total {rows}\n"
        "# TYPE shardscore_rows_total counter\n"
        'shardscore_rows_total{name="flights",state="scored"} 3\n'
        'shardscore_rows_total{name="flights",state="null"} 0\n'
    )


def test_a_sample_without_labels_has_no_braces() -> None:
    assert as_text({"shardscore_exit_code": one(0)}, {}).endswith("\nshardscore_exit_code 0\n")


def test_backslashes_quotes_and_line_feeds_in_a_label_are_escaped() -> None:
    text = as_text({"shardscore_info": [({"keras": 'a\\b"c\nd'}, 1)]}, {})
    assert r'shardscore_info{keras="a\\b\"c\nd"} 1' in text.split("\n")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0, "0"),
        (75, "75"),
        (328521.0, "328521"),
        (0.25, "0.25"),
        (1732473600.125, "1732473600.125"),
        (2**53, "9007199254740992"),
        (1e300, "1e+300"),
        (-3.5, "-3.5"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_numbers_are_told_as_go_reads_them(value: float, told: str) -> None:
    assert number(value) == told


def test_names_follow_the_conventions() -> None:
    for name, (kind, meaning) in METRICS.items():
        assert re.fullmatch(r"shardscore_[a-z_]+", name)
        assert name.endswith("_total") == (kind == "counter")
        assert meaning.endswith(".")


# What is told of a run


def test_each_shard_is_in_one_state_and_each_row_of_the_finished_ones_too() -> None:
    figures = of_run(report(), planned=200, done=150)
    assert states(figures, "shardscore_shards") == {
        "done_before": 1, "published": 2, "failed": 1, "pending": 1,
    }  # fmt: skip
    assert states(figures, "shardscore_rows_total") == {"scored": 90, "null": 4, "quarantined": 6}
    assert figures["shardscore_nonfinite_rows_total"] == one(2)
    assert figures["shardscore_rows_planned"] == one(200)
    assert figures["shardscore_rows_done"] == one(150)
    assert figures["shardscore_peak_memory_bytes"] == one(12345)
    assert figures["shardscore_info"] == [({"shardscore": "0.1.0"}, 1)]


def test_the_speed_is_told_when_a_run_that_scored_has_ended() -> None:
    assert of_run(report(), 100, 100)["shardscore_rows_per_second"] == one(25.0)
    assert "shardscore_rows_per_second" not in of_run(report("running"), 100, 50)
    nothing = report(counts=RowCounts(), outcomes=())
    assert "shardscore_rows_per_second" not in of_run(nothing, 100, 0)


def test_a_run_that_has_not_come_to_scoring_tells_no_rows() -> None:
    assert set(of_run(report("running"), None, 0)) == {
        "shardscore_info", "shardscore_shards", "shardscore_peak_memory_bytes",
    }  # fmt: skip


def test_a_success_is_told_for_0_alone() -> None:
    assert of_end(7.5, 0)[SUCCESS] == one(7.5)
    for code in (64, 65, 75, 130):
        assert SUCCESS not in of_end(7.5, code)


def test_no_shard_is_named() -> None:
    outcomes = (Outcome("secret.parquet", "published"),)
    assert "secret" not in as_text(of_run(report(outcomes=outcomes), 1, 1), {})


# What stays of an earlier text

TEXTS = st.text(st.characters(exclude_categories=("Cs",)))
STATED = st.dictionaries(st.sampled_from(["state", "keras"]), TEXTS)
FIGURES = st.dictionaries(
    st.sampled_from(sorted(METRICS)),
    st.lists(st.tuples(STATED, st.floats(allow_nan=False)), min_size=1, max_size=3),
)
COMMON = st.dictionaries(st.sampled_from(["name", "shard_index"]), TEXTS)


@given(FIGURES, COMMON)
def test_what_was_told_is_read_back_as_it_was(figures: Figures, labels: dict[str, str]) -> None:
    assert with_kept({}, as_text(figures, labels), labels) == figures


def test_what_is_told_now_takes_the_place_of_what_was_told_before() -> None:
    before = as_text({SUCCESS: one(5), "shardscore_exit_code": one(0)}, {})
    now: Figures = {"shardscore_exit_code": one(65)}
    assert with_kept(now, before, {}) == {SUCCESS: one(5), "shardscore_exit_code": one(65)}


@pytest.mark.parametrize("labels", [{}, {"name": "b"}, {"name": "a", "shard_index": "1"}])
def test_what_another_job_or_share_has_told_is_left_out(labels: dict[str, str]) -> None:
    before = as_text({SUCCESS: one(5)}, {"name": "a"})
    assert with_kept({}, before, labels) == {}


@pytest.mark.parametrize(
    "line",
    [
        "",
        f"# HELP {SUCCESS} 5",
        f"{SUCCESS} soon",
        f"{SUCCESS}",
        f"{SUCCESS} 5 1732473600000",
        "up 1",
        "shardscore_of_a_later_version 1",
        '{"json": 1}',
    ],
)
def test_a_line_that_is_no_sample_of_ours_is_left_out(line: str) -> None:
    assert with_kept({}, line, {}) == {}


# What asks for them


def test_alerts_and_dashboard_ask_for_metrics_that_there_are() -> None:
    alerts = (MONITORING / "alerts.yml").read_text()
    dashboard = (MONITORING / "dashboard.json").read_text()
    for text in (alerts, dashboard):
        asked = set(re.findall(r"\bshardscore_\w+", text))
        assert len(asked) >= 5
        assert asked <= set(METRICS)
    recorded = set(re.findall(r"record: (\S+)", alerts))
    assert set(re.findall(r"\bshardscore:[\w:]+", dashboard)) <= recorded


def test_the_panels_of_the_dashboard_fit_beside_each_other() -> None:
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for at in (panel["gridPos"] for panel in panels):
        assert at["x"] + at["w"] <= 24
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not cells & taken
        taken |= cells
