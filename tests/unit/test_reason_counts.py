"""Why rows could not be scored, counted within bounds."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import reason_counts
from pipeline.reason_counts import count
from pipeline.storage import LocalStorage


def letters(folder: Path, shard: str, *reasons: tuple[str | None, str]) -> None:
    path = folder / "_shardscore" / "quarantine" / shard
    path.parent.mkdir(parents=True, exist_ok=True)
    columns, texts = zip(*reasons, strict=True)
    table = pa.table(
        {
            "x": pa.array([1.5] * len(reasons), pa.float32()),
            "quarantine_column": pa.array(columns, pa.string()),
            "quarantine_reason": pa.array(texts),
        }
    )
    pq.write_table(table, path)


def nulls(folder: Path, shard: str, *reasons: str | None) -> None:
    pq.write_table(
        pa.table({"bad_row_reason": pa.array(reasons, pa.string()), "a.b": [0] * len(reasons)}),
        folder / shard,
    )


def test_reasons_of_several_shards_are_added_up(tmp_path: Path) -> None:
    letters(tmp_path, "a", ("x", "null"), ("x", "null"), (None, "raised"))
    letters(tmp_path, "d=1/b", ("x", "null"), ("y", "too big"))
    found = count(LocalStorage(tmp_path), {"a": 3, "d=1/b": 2, "c": 0}, {})
    assert found.counted == {
        ("x", "null"): 3,
        ("", "raised"): 1,
        ("y", "too big"): 1,
    }
    assert (found.rows, found.of_rows) == (5, 5)
    assert found.types["x"] == "float"


def test_null_scored_rows_say_why_in_their_shard(tmp_path: Path) -> None:
    nulls(tmp_path, "a", None, "null in x", None, "null in x")
    nulls(tmp_path, "b", None, None)
    found = count(LocalStorage(tmp_path), {}, {"a": 2, "b": 0})
    assert found.counted == {("", "null in x"): 2}


def test_of_many_rows_and_files_a_part_is_read_and_the_whole_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reason_counts, "MOST_FILES", 2)
    monkeypatch.setattr(reason_counts, "MOST_ROWS", 4)
    for shard, rows in (("a", 1), ("b", 10), ("c", 3)):
        letters(tmp_path, shard, *[("x", shard)] * rows)
    found = count(LocalStorage(tmp_path), {"a": 1, "b": 10, "c": 3}, {})
    assert found.counted == {("x", "b"): 4, ("x", "c"): 3}, "the files with the most rows first"
    assert (found.rows, found.of_rows) == (7, 14)


def test_reasons_that_differ_in_each_row_do_not_pile_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reason_counts, "_MOST_REASONS", 3)
    letters(tmp_path, "a", *[("x", f"value {n}") for n in range(10)], ("x", "value 0"))
    found = count(LocalStorage(tmp_path), {"a": 11}, {})
    assert len(found.counted) == 3
    assert found.counted["x", "value 0"] == 2
    assert found.rows == 11


def test_a_damaged_or_foreign_file_is_passed_over(tmp_path: Path) -> None:
    letters(tmp_path, "a", ("x", "null"))
    (tmp_path / "_shardscore" / "quarantine" / "b").write_bytes(b"no Parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "_shardscore" / "quarantine" / "c")
    found = count(LocalStorage(tmp_path), {"a": 1, "b": 5, "c": 1, "gone": 2}, {})
    assert found.counted == {("x", "null"): 1}
    assert (found.rows, found.of_rows) == (1, 9)
