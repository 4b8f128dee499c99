"""Scoring again: shards that changed since, and shares of one output."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import files_below
from tests.e2e.lake import published, shard, sums

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Finished

    Score = Callable[..., Finished]


ONES = pa.array([1.0, 1.0], pa.float32())


def changed(lake: Path) -> Path:
    return shard(lake / "2.parquet", a=pa.array([100.0] * 10, pa.float32()))


def written_again(lake: Path) -> Path:
    """A shard with other rows, but with the size and the footer that it had."""
    path = lake / "2.parquet"

    def write(rows: list[float]) -> tuple[int, int]:
        shard(path, a=pa.array(rows, pa.float32()))
        table = pq.read_table(path)
        pq.write_table(table, path, write_statistics=False, compression="none")
        return path.stat().st_size, pq.read_metadata(path).serialized_size

    before = write([float(i) for i in range(10)])
    assert write([float(i) for i in range(9)] + [50.0]) == before
    return path


def content(output: Path) -> dict[str, object]:
    """What an output says of its shards and its job, however it came to be.

    On which rows the methods were proved is told in words: it depends on what was pending then.
    """
    found: dict[str, object] = {
        name: data for name, data in files_below(output).items() if "/plans/" not in name
    }
    record = json.loads((output / "_shardscore" / "run.json").read_text())
    return {**found, "_shardscore/run.json": record["identity"]}


def test_a_changed_shard_is_refused_and_the_way_out_is_named(
    score: Score, lake: Path, tmp_path: Path
) -> None:
    assert score().code == 0
    before = files_below(tmp_path / "out")
    changed(lake)
    finished = score()
    assert finished.code == 65
    assert "has changed since it was scored" in finished.err
    assert "--rescore-changed" in finished.err
    assert files_below(tmp_path / "out")["2.parquet"] == before["2.parquet"]


@pytest.mark.parametrize("small_shard_rows", [0, 100], ids=["streamed", "one predict call"])
def test_a_changed_shard_is_rescored_in_its_place_and_the_others_are_left_alone(
    small_shard_rows: int, score: Score, lake: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ("--small-shard-rows", small_shard_rows)
    assert score(*options).code == 0
    others = [(out / f"{n}.parquet").stat().st_mtime_ns for n in (1, 3)]
    changed(lake)
    assert score(*options, "--rescore-changed").code == 0
    assert sums(out / "2.parquet") == [101.0] * 10
    assert [(out / f"{n}.parquet").stat().st_mtime_ns for n in (1, 3)] == others
    assert "nothing to do" in score(*options, "--rescore-changed").out


def test_a_rescored_output_is_the_same_bytes_as_one_begun_with_the_new_shard(
    score: Score, lake: Path, tmp_path: Path
) -> None:
    assert score("--on-bad-row", "quarantine").code == 0
    shard(lake / "2.parquet", a=pa.array([None, 1.0], pa.float32()), id=[1, 2], b=ONES)
    assert score("--on-bad-row", "quarantine", "--rescore-changed").code == 0
    assert score("--on-bad-row", "quarantine", output=tmp_path / "new").code == 0
    again = content(tmp_path / "out")
    assert "_shardscore/quarantine/2.parquet" in again
    assert again == content(tmp_path / "new")


def test_dead_letters_of_a_changed_shard_go_when_its_rows_are_good(
    score: Score, lake: Path, tmp_path: Path
) -> None:
    letters = tmp_path / "out" / "_shardscore" / "quarantine" / "2.parquet"
    shard(lake / "2.parquet", a=pa.array([None, 1.0], pa.float32()), id=[1, 2], b=ONES)
    assert score("--on-bad-row", "quarantine").code == 0
    assert letters.exists()
    changed(lake)
    assert score("--on-bad-row", "quarantine", "--rescore-changed").code == 0
    assert not letters.exists()


def test_a_shard_written_again_with_the_same_footer_is_pointed_out_and_can_be_rescored(
    score: Score, lake: Path, tmp_path: Path
) -> None:
    path = written_again(lake)
    assert score().code == 0
    written_again(lake)
    now = (tmp_path / "out" / "2.parquet").stat().st_mtime_ns + 10**9
    os.utime(path, ns=(now, now))
    told = score()
    assert told.code == 0
    assert "written again since they were scored" in told.err
    assert "--rescore-changed" in told.err
    assert score("--rescore-changed").code == 0
    assert sums(tmp_path / "out" / "2.parquet")[-1] == 51.0


def test_plan_tells_what_would_be_rescored(
    cli: Score, score: Score, lake: Path, model: Path, tmp_path: Path
) -> None:
    assert score().code == 0
    changed(lake)
    options = ("--model", model, "--input", lake, "--output", tmp_path / "out", "--no-model")
    refused = cli("plan", *options, "--json")
    assert (refused.code, refused.document["shards"]["pending"]) == (65, 0)
    allowed = cli("plan", *options, "--json", "--rescore-changed")
    assert (allowed.code, allowed.document["shards"]["pending"]) == (0, 1)
    assert allowed.document["shards"]["replaced"] == 1


def test_shares_together_are_the_whole(score: Score, lake: Path, tmp_path: Path) -> None:
    shard(lake / "4.parquet", rows=25)
    assert score(output=tmp_path / "whole").code == 0
    for index in range(3):
        before = published(tmp_path)
        finished = score("--shard-index", index, "--shard-count", 3, "--json")
        assert finished.code == 0
        assert finished.document["shards"]["total"] == len(published(tmp_path)) - len(before)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_share_that_is_done_has_nothing_to_do(score: Score) -> None:
    share = ("--shard-index", 1, "--shard-count", 2)
    assert score(*share).code == 0
    assert "nothing to do" in score(*share).out


def test_an_unreadable_shard_is_reported_by_one_share(score: Score, lake: Path) -> None:
    (lake / "bad.parquet").write_bytes(b"PAR1")
    codes = [score("--shard-index", i, "--shard-count", 3).code for i in range(3)]
    assert sorted(codes) == [0, 0, 65]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--shard-index", 1), "go together"),
        (("--shard-index", 2, "--shard-count", 2), "counts from 0"),
    ],
)
def test_a_share_that_cannot_be_is_64(options: tuple[object, ...], told: str, score: Score) -> None:
    finished = score(*options)
    assert finished.code == 64
    assert told in finished.err
