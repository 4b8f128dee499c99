"""`status --watch`: shown until no run is at work."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from jobs.watching import at_work, watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Finished


def told(state: str, published: int, ago: float = 0.0) -> dict[str, Any]:
    """A run's report, as far as `status` reads it."""
    updated = datetime.now(UTC) - timedelta(seconds=ago)
    return {
        "run_id": "a",
        "state": state,
        "started": updated.isoformat(),
        "updated": updated.isoformat(),
        "seconds": 1.0,
        "plan_id": "p",
        "shards": {"total": 3, "done_before": 0, "published": published, "failed": 0},
        "rows": {
            "in": 10 * published,
            "scored": 10 * published,
            "null_scored": 0,
            "quarantined": 0,
        },
        "rows_per_second": 10.0,
        "error": None,
    }


def keep(folder: Path, report: dict[str, Any]) -> None:
    reports = folder / "_shardscore" / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    (reports / "a.json").write_text(json.dumps(report))


def test_it_is_shown_until_the_run_has_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [told("running", 1), told("running", 1), told("running", 2), told("finished", 3)]
    keep(tmp_path, steps.pop(0))

    def sleep(seconds: float) -> None:
        assert seconds > 0
        keep(tmp_path, steps.pop(0))

    assert watch(str(tmp_path), sleep)["last_run"]["state"] == "finished"
    assert steps == []
    out = capsys.readouterr().out
    assert out.index("running") < out.index("finished")


def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    keep(tmp_path, told("running", 1))

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    assert watch(str(tmp_path), interrupted)["last_run"]["state"] == "running"


def test_where_nothing_was_begun_nothing_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not watch(str(tmp_path))["begun"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("state", "ago", "expected"),
    [("finished", 0, False), ("running", 0, True), ("running", 3_600, False)],
)
def test_whether_a_run_is_at_work(state: str, ago: float, expected: bool) -> None:
    assert at_work(told(state, 1, ago)) is expected


@pytest.mark.parametrize("run", [None, {"state": "running"}, {"state": "running", "updated": "?"}])
def test_a_run_that_says_nothing_of_itself_is_not_at_work(run: dict[str, Any] | None) -> None:
    assert not at_work(run)


def test_the_command_watches_and_says_where_there_is_nothing(
    cli: Callable[..., Finished], tmp_path: Path
) -> None:
    assert cli("status", tmp_path, "--watch").code == 66
    assert cli("status", tmp_path, "--watch", "--json").code == 64
    keep(tmp_path, told("finished", 3))
    done = cli("status", tmp_path, "--watch")
    assert (done.code, done.err) == (0, "")
    assert "finished" in done.out
