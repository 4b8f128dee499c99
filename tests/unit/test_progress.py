"""What a run shows while it goes on: lines for logs, and a live display."""

from __future__ import annotations

import io
import json

import pytest

from pipeline import progress
from pipeline.errors import CorruptShardError
from pipeline.progress import SHOWN_FAILURES, Bar, Lines
from pipeline.records import Outcome, RowCounts


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def outcome(name: str, *, fails: bool = False) -> Outcome:
    if fails:
        return Outcome(name, "failed", error=CorruptShardError("not a readable Parquet file"))
    return Outcome(name, "published", RowCounts(10, 9, 0, 1), "predict")


@pytest.fixture(autouse=True)
def _each_look_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL_SECONDS", 0.0)


def told(lines: Lines) -> None:
    """A run of two shards, of which one fails."""
    lines.event("checkpoint", "saved", level="debug")
    lines.event("loading", "loading the model")
    lines.event("notes", "one column is rounded", level="warning")
    lines.begin(rows=20, shards=2)
    lines.at_work(1, ("a.parquet",))
    lines.advance(10)
    lines.shard(outcome("a.parquet"))
    lines.shard(outcome("b.parquet", fails=True))
    lines.end()


def test_programs_are_told_all_as_objects() -> None:
    out = io.StringIO()
    told(Lines(out, as_json=True, quiet=False))
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [one["event"] for one in found] == [
        "checkpoint", "loading", "notes", "progress", "shard_failed"
    ]  # fmt: skip
    assert [one["level"] for one in found] == ["debug", "info", "warning", "info", "error"]
    assert (found[3]["rows_done"], found[3]["rows"]) == (10, 20)
    assert found[4]["message"] == "not a readable Parquet file"


def test_people_are_told_what_they_need_and_where_it_stands() -> None:
    out = io.StringIO()
    told(Lines(out, as_json=False, quiet=False))
    lines = [line.split(" ", 1)[1] for line in out.getvalue().splitlines()]
    assert lines[:2] == ["loading the model", "warning: one column is rounded"]
    assert lines[2].startswith("10 of 20 rows (50%)")
    assert lines[3] == "shard b.parquet failed: not a readable Parquet file"
    assert len(lines) == 4


@pytest.mark.parametrize("as_json", [False, True])
def test_who_wants_it_quiet_is_told_of_problems_alone(as_json: bool) -> None:
    out = io.StringIO()
    told(Lines(out, as_json=as_json, quiet=True))
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert "rounded" in lines[0]
    assert "not a readable Parquet file" in lines[1]


def test_a_line_on_a_terminal_goes_on_below(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out = Terminal()
    Lines(out, as_json=False, quiet=False).event("notes", "word " * 30, level="warning")
    lines = out.getvalue().splitlines()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 40


def test_a_display_shows_the_first_shards_that_fail_and_is_gone_at_its_end() -> None:
    out = Terminal()
    bar = Bar(out)
    bar.end()  # that has not begun
    bar.begin(rows=200, shards=20)
    bar.event("checkpoint", "saved", level="debug")
    bar.event("notes", "one column is rounded", level="warning")
    bar.advance(10)
    bar.shard(outcome("good.parquet"))
    for number in range(SHOWN_FAILURES + 5):
        damage = CorruptShardError("not a readable Parquet file", received=f"damage {number}")
        bar.shard(Outcome(f"{number:02}.parquet", "failed", error=damage))
    bar.end()
    bar.end()
    shown = out.getvalue()
    assert "warning: one column is rounded" in shown
    assert "saved" not in shown
    assert shown.count("not a readable Parquet file") == SHOWN_FAILURES
    assert shown.count("further shards that fail are not told of here; `status` lists them") == 1
