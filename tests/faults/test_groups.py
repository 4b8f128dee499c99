"""Small shards that are published together: each is accounted for as if it were alone."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from pipeline import small
from pipeline.errors import OutputMismatchError
from tests.faults import arithmetic
from tests.faults.lake import Lake, Silent, make_lake, score_here

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
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


def before_names(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Does something when a group is written, and has no names yet."""
    name_all = small.name_all

    def late(output: Storage, finished: Sequence[ShardWriter]) -> list[bool]:
        act()
        return name_all(output, finished)

    monkeypatch.setattr(small, "name_all", late)


def put(source: Path, output: Path, names: str = "*.parquet") -> None:
    for file in source.glob(names):
        shutil.copy(file, output / file.name)


def test_rows_of_a_group_that_another_run_has_published_are_shown_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = lake_of(tmp_path)
    score_here(lake.job(tmp_path / "theirs"))
    before_names(monkeypatch, lambda: put(tmp_path / "theirs", tmp_path / "ours"))
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


def test_a_name_that_another_job_took_leaves_the_others_of_the_group_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = lake_of(tmp_path)
    other = lake.job(tmp_path / "theirs").model_copy(update={"on_bad_row": "fail"})
    assert score_here(other).state == "finished"
    before_names(monkeypatch, lambda: put(tmp_path / "theirs", tmp_path / "ours", "s1.parquet"))
    report = score_here(lake.job(tmp_path / "ours"))
    assert isinstance(report.error, OutputMismatchError)
    assert report.state == "broken"
    published = {outcome.shard for outcome in report.outcomes if outcome.status == "published"}
    assert published == {"s0.parquet", "s2.parquet", "s3.parquet"}
    assert report.counts.rows_in == 3 * ROWS


def test_a_shard_of_a_group_published_from_other_rows_meanwhile_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, changed = lake_of(tmp_path), lake_of(tmp_path / "changed", bad=(1,))
    assert score_here(changed.job(tmp_path / "theirs")).state == "finished"
    before_names(monkeypatch, lambda: put(tmp_path / "theirs", tmp_path / "ours", "s1.parquet"))
    report = score_here(lake.job(tmp_path / "ours"))
    assert report.state == "incomplete"
    statuses = {outcome.shard: outcome.status for outcome in report.outcomes}
    assert statuses.pop("s1.parquet") == "failed"
    assert list(statuses.values()) == ["published"] * 3
