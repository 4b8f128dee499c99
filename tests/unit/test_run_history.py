"""The runs of an output, by their reports."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline import run_history
from pipeline.run_history import (
    MOST_ERRORS,
    History,
    outcomes,
    read,
    state_of,
    summary,
    together,
)
from pipeline.storage import LocalStorage


def kept(folder: Path, *runs: dict[str, Any]) -> History:
    storage = LocalStorage(folder)
    for number, run in enumerate(runs):
        storage.replace(f"_shardscore/reports/{number:03}.json", json.dumps(run).encode())
    return read(storage)


def run(name: str, index: int | None = None, plan: str = "p", **facts: Any) -> dict[str, Any]:
    share = None if index is None else [index, 2]
    return {"run_id": name, "plan_id": plan, "share": share, "state": "finished", **facts}


def names(runs: Any) -> list[str]:
    return [run["run_id"] for run in runs]


def test_the_latest_run_is_the_one_that_began_last(tmp_path: Path) -> None:
    history = kept(tmp_path, run("a"), run("b"))
    assert names(history.runs) == ["b", "a"]
    assert names(history.latest) == ["b"]


def test_of_shares_the_last_run_of_each_is_the_latest(tmp_path: Path) -> None:
    history = kept(
        tmp_path, run("old", 1, "q"), run("a", 0), run("b", 1), run("again", 0), run("c", 1, "q")
    )
    assert names(history.latest) == ["c"], "of another plan"
    history = History(history.runs[1:], 0)
    assert names(history.latest) == ["again", "b"]


def test_a_damaged_report_is_passed_over(tmp_path: Path) -> None:
    kept(tmp_path, run("a"), run("b"))
    (tmp_path / "_shardscore" / "reports" / "001.json").write_text("{")
    (tmp_path / "_shardscore" / "reports" / "002.json").write_text("[1]")
    assert names(read(LocalStorage(tmp_path)).runs) == ["a"]


def test_of_very_many_reports_the_latest_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_history, "MOST_RUNS", 3)
    history = kept(tmp_path, *(run(str(n)) for n in range(5)))
    assert names(history.runs) == ["4", "3", "2"]
    assert history.earlier == 2


def test_an_output_without_a_report_has_no_run(tmp_path: Path) -> None:
    assert kept(tmp_path).latest == ()


def test_a_run_that_has_long_said_nothing_was_killed() -> None:
    now = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
    for updated, state in (
        ("2026-01-01T11:59:50+00:00", "running"),
        ("2026-01-01T11:50:00+00:00", "killed"),
        ("sometime", "killed"),
        ("2026-01-01T11:59:50", "killed"),
    ):
        assert state_of({"state": "running", "updated": updated}, now) == state
    assert state_of({"state": "stopped", "updated": "2020-01-01T00:00:00+00:00"}, now) == "stopped"


def outcome(shard: str, status: str, seconds: float = 0.0) -> dict[str, Any]:
    return {"shard": shard, "status": status, "seconds": seconds}


def test_what_became_of_a_shard_at_last() -> None:
    older = {"outcomes": [outcome("a", "failed"), outcome("b", "published", 2.0)]}
    newer = {"outcomes": [outcome("a", "published", 1.0), outcome("b", "already_published")]}
    found = outcomes([newer, {}, older])
    assert found["a"] == outcome("a", "published", 1.0)
    assert found["b"] == outcome("b", "published", 2.0), "who scored it says how long it took"
    assert outcomes([older, newer])["a"]["status"] == "failed"


def test_shares_that_one_cause_has_ended_say_so_once() -> None:
    full, stopped = {"message": "the disk is full"}, {"message": "stopped"}
    runs = [run(str(n), n % 2, error=full if n else stopped) for n in range(9)]
    found = together(runs, lambda _: 74)
    assert found is not None
    assert found["errors"] == [stopped, full]
    many = [run(str(n), error={"message": str(n)}) for n in range(99)]
    found = together(many, lambda _: 74)
    assert found is not None
    assert len(found["errors"]) == MOST_ERRORS


def test_a_report_that_says_nothing_is_summed_up_all_the_same() -> None:
    assert summary({})["state"] == "unknown"
    assert summary({"error": None})["error"] == ""


def test_each_share_of_the_latest_plan_is_read_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_history, "MOST_RUNS", 3)
    shares = [run(f"share {n}") | {"share": [n, 7]} for n in range(7)]
    history = kept(tmp_path, run("old"), run("older"), *shares)
    assert names(history.latest) == [f"share {n}" for n in range(7)]


def test_shares_that_have_not_begun_are_not_looked_for_in_all_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_history, "MOST_RUNS", 2)
    nights = [run(f"night {n}") for n in range(9)]
    history = kept(tmp_path, *nights, run("first", plan="p") | {"share": [0, 7]})
    assert names(history.latest) == ["first"]
    assert history.earlier == 6
