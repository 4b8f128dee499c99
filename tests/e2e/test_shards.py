"""Shards as they come: none, empty, damaged, of another schema, oddly named, changed since."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.lake import published, shard, sums, truncate

if TYPE_CHECKING:
    from pathlib import Path


def test_good_shards_are_scored(score: Any, tmp_path: Path) -> None:
    assert score().code == 0
    assert published(tmp_path) == ["1.parquet", "2.parquet", "3.parquet"]
    assert sums(tmp_path / "out" / "1.parquet") == [i + 1.0 for i in range(10)]


def test_an_input_that_does_not_exist_is_66(score: Any, tmp_path: Path) -> None:
    done = score(input=tmp_path / "nowhere")
    assert done.code == 66
    assert "does not exist" in done.err
    assert str(tmp_path / "nowhere") in done.err


def test_an_empty_folder_is_66(score: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = score(input=tmp_path / "empty")
    assert done.code == 66
    assert "holds no Parquet file" in done.err


def test_an_empty_shard_is_published_as_an_empty_file_with_the_right_schema(
    score: Any, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "0.parquet", rows=0, id=pa.array([], pa.int64()))
    assert score().code == 0
    empty = pq.read_table(tmp_path / "out" / "0.parquet")
    assert empty.num_rows == 0
    assert empty.schema.equals(pq.read_table(tmp_path / "out" / "1.parquet").schema)


def test_a_lake_of_empty_shards_alone_is_published(score: Any, tmp_path: Path) -> None:
    for name in ("1", "2"):
        shard(tmp_path / "hollow" / f"{name}.parquet", rows=0, id=pa.array([], pa.int64()))
    assert score(input=tmp_path / "hollow").code == 0
    assert published(tmp_path) == ["1.parquet", "2.parquet"]


def garble_pages(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4:200] = os.urandom(196)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda p: p.write_bytes(b""), id="no bytes"),
        pytest.param(lambda p: p.write_text("id,a,b\n1,2,3\n" * 9), id="a CSV file"),
        pytest.param(truncate, id="truncated"),
        pytest.param(garble_pages, id="garbled pages under a sound footer"),
    ],
)
def test_a_damaged_shard_is_named_and_does_not_stop_the_others(
    damage: Any, score: Any, lake: Path, tmp_path: Path
) -> None:
    damage(lake / "2.parquet")
    done = score()
    assert done.code == 65
    assert "not a readable Parquet file" in done.err
    assert str(lake / "2.parquet") in done.err
    assert published(tmp_path) == ["1.parquet", "3.parquet"]
    shard(lake / "2.parquet")
    assert score().code == 0
    assert published(tmp_path) == ["1.parquet", "2.parquet", "3.parquet"]


@pytest.mark.parametrize(
    ("columns", "message", "named"),
    [
        ({"b": None}, "missing", "b"),
        ({"b": ["x"] * 10}, "type that its input cannot take", "b"),
        ({"prediction": [0.0] * 10}, "has the name of a prediction", "prediction"),
    ],
    ids=["missing column", "wrong type", "collision with a prediction"],
)
def test_a_shard_that_breaks_the_contract_is_named_and_does_not_stop_the_others(
    columns: dict[str, Any], message: str, named: str, score: Any, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "2.parquet", **columns)
    done = score()
    assert done.code == 65
    assert message in done.err
    assert f"column:   {named}" in done.err
    assert str(lake / "2.parquet") in done.err
    assert published(tmp_path) == ["1.parquet", "3.parquet"]


def test_the_contract_is_broken_by_the_first_shard_and_the_others_are_still_scored(
    score: Any, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "1.parquet", b=None)
    assert score().code == 65
    assert published(tmp_path) == ["2.parquet", "3.parquet"]


def test_fail_fast_ends_at_the_first_failure(score: Any, lake: Path, tmp_path: Path) -> None:
    shard(lake / "1.parquet", a=pa.array([None] * 10, pa.float32()))
    done = score("--fail-fast", "--small-shard-rows", 0)
    assert done.code == 65
    assert published(tmp_path) == []


def test_plan_finds_what_breaks_the_contract_before_a_row_is_read(
    cli: Any, model: Path, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "2.parquet", b=None)
    truncate(lake / "3.parquet")
    done = cli("plan", "--model", model, "--input", lake, "--output", tmp_path / "out", "--json")
    assert done.code == 65
    assert [broken["shard"] for broken in done.document["failed"]] == ["3.parquet", "2.parquet"]


def test_a_shard_that_changed_after_it_was_scored_is_65_and_its_file_stays(
    score: Any, lake: Path, tmp_path: Path
) -> None:
    assert score().code == 0
    before = (tmp_path / "out" / "2.parquet").read_bytes()
    shard(lake / "2.parquet", rows=11, id=list(range(11)))
    shard(lake / "4.parquet")
    done = score()
    assert done.code == 65
    assert "has changed since it was scored" in done.err
    assert (tmp_path / "out" / "2.parquet").read_bytes() == before
    assert "4.parquet" in published(tmp_path)


def test_a_shard_written_again_with_the_same_footer_is_pointed_out(
    score: Any, cli: Any, model: Path, lake: Path, tmp_path: Path
) -> None:
    assert score().code == 0
    assert "written again" not in score().err
    shard(lake / "2.parquet")
    done = score()
    assert done.code == 0
    assert "shards written again since they were scored: 1 (2.parquet)" in done.err


def test_hostile_names_are_scored_and_shown_escaped(score: Any, lake: Path, tmp_path: Path) -> None:
    name = "new\nline \x1b[31mred.parquet"
    shard(lake / name)
    shard(lake / ("bad " + name), b=None)
    done = score()
    assert done.code == 65
    assert "\x1b" not in done.err
    assert np.isclose(sums(tmp_path / "out" / name), [i + 1.0 for i in range(10)]).all()


def test_two_shards_for_one_name_are_64_and_both_named(
    score: Any, lake: Path, tmp_path: Path
) -> None:
    shard(tmp_path / "other" / "1.parquet")
    done = score("--input", tmp_path / "other")
    assert done.code == 64
    assert str(lake / "1.parquet") in done.err
    assert str(tmp_path / "other" / "1.parquet") in done.err
    assert published(tmp_path) == []


def test_hive_folders_are_kept(score: Any, lake: Path, tmp_path: Path) -> None:
    shard(lake / "year=2013" / "month=1" / "part.parquet")
    assert score().code == 0
    assert (tmp_path / "out" / "year=2013" / "month=1" / "part.parquet").exists()
