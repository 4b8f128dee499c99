"""Small shards that are published together: each is accounted for as if it were alone."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import unit
from tests.faults import arithmetic
from tests.faults.lake import Lake, Silent, make_lake, score_here

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipeline.storage import Storage
    from pipeline.writer import ShardWriter

ROWS = 8
SHARDS = 4


@pytest.fixture(autouse=True)
def _arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    arithmetic.install(monkeypatch.setattr)


class Bar(Silent):
    """Adds up what a progress bar is told."""

    def __init__(self) -> None:
        super().__init__()
        self.total = self.rows = self.most = 0

    def begin(self, *, rows: int, shards: int) -> None:  # noqa: ARG002 - the observer's protocol
        self.total = rows

    def advance(self, rows: int) -> None:
        self.rows += rows
        self.most = max(self.most, self.rows)


def lake_of(folder: Path, bad: Sequence[int] = ()) -> Lake:
    """Small shards, some of which have more bad rows than they may."""
    shards = {f"s{i}": (ROWS, range(5) if i in bad else ()) for i in range(SHARDS)}
    return make_lake(folder / "lake", shards)


def test_rows_of_a_group_that_another_run_has_published_are_shown_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = lake_of(tmp_path)
    score_here(lake.job(tmp_path / "theirs"))
    commit_all = unit.commit_all

    def too_late(output: Storage, finished: Sequence[ShardWriter]) -> Any:
        for file in (tmp_path / "theirs").glob("*.parquet"):
            shutil.copy(file, tmp_path / "ours" / file.name)
        return commit_all(output, finished)

    monkeypatch.setattr(unit, "commit_all", too_late)
    bar = Bar()
    report = score_here(lake.job(tmp_path / "ours"), bar)
    assert [outcome.status for outcome in report.outcomes] == ["already_published"] * SHARDS
    assert bar.rows == bar.most == bar.total == ROWS * SHARDS


@pytest.mark.parametrize("bad", [(0,), (2,), (0, 3), range(SHARDS)])
def test_rows_of_a_group_are_shown_once_where_shards_of_it_fail(
    tmp_path: Path, bad: Sequence[int]
) -> None:
    lake = lake_of(tmp_path, bad)
    bar = Bar()
    report = score_here(lake.job(tmp_path / "out", max_bad_rows=2), bar)
    assert len(report.failed) == len(bad)
    assert report.state == "incomplete"
    assert bar.rows == bar.most == bar.total == ROWS * SHARDS
