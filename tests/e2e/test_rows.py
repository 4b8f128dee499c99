"""Rows that cannot be scored, and rows of odd data: each has exactly one outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.lake import published, shard, sums

if TYPE_CHECKING:
    from pathlib import Path

HOLES = pa.array([0.0, None, 2.0, None, *map(float, range(4, 10))], pa.float32())


def test_a_null_feature_fails_its_shard_alone_and_names_the_row(
    score: Any, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "2.parquet", a=HOLES)
    done = score()
    assert done.code == 65
    assert "null in column 'a'" in done.err
    assert "row:      1" in done.err
    assert published(tmp_path) == ["1.parquet", "3.parquet"]


@pytest.mark.parametrize("small", [0, 1000], ids=["streamed", "grouped"])
def test_null_keeps_the_row_with_a_null_prediction_and_the_reason(
    small: int, score: Any, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "2.parquet", a=HOLES)
    assert score("--on-bad-row", "null", "--small-shard-rows", small, "--batch-size", 3).code == 0
    rows = pq.read_table(tmp_path / "out" / "2.parquet")
    assert rows["id"].to_pylist() == list(range(10))
    assert rows["prediction"].to_pylist() == [
        1.0,
        None,
        3.0,
        None,
        *(i + 1.0 for i in range(4, 10)),
    ]
    reasons = rows["bad_row_reason"].to_pylist()
    assert [i for i, reason in enumerate(reasons) if reason] == [1, 3]
    whole = pq.read_table(tmp_path / "out" / "1.parquet")
    assert whole.schema.equals(rows.schema)


def test_a_shard_of_bad_rows_alone_is_published_empty(
    score: Any, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "1.parquet", a=pa.array([None] * 10, pa.float32()))
    shard(lake / "2.parquet", a=pa.array([None] * 10, pa.float32()))
    for small in (0, 1000):
        output = tmp_path / f"out{small}"
        done = score("--on-bad-row", "quarantine", "--small-shard-rows", small, output=output)
        assert done.code == 0, done.err
        assert pq.read_metadata(output / "1.parquet").num_rows == 0
        dead = pq.read_table(output / "_shardscore" / "quarantine" / "1.parquet")
        assert dead.num_rows == 10


def test_more_bad_rows_than_fit_a_row_group_are_all_in_the_dead_letter_file(
    score: Any, tmp_path: Path
) -> None:
    rows = 30_000
    values = [None if i % 2 else float(i) for i in range(rows)]
    shard(
        tmp_path / "many" / "1.parquet",
        rows,
        a=pa.array(values, pa.float32()),
    )
    assert score("--on-bad-row", "quarantine", input=tmp_path / "many").code == 0
    dead = pq.read_table(tmp_path / "out" / "_shardscore" / "quarantine" / "1.parquet")
    assert dead["quarantine_row"].to_pylist() == list(range(1, rows, 2))
    assert dead["id"].to_pylist() == list(range(1, rows, 2))
    assert pq.read_table(tmp_path / "out" / "1.parquet")["id"].to_pylist() == list(
        range(0, rows, 2)
    )


def test_an_integer_that_float32_cannot_hold_is_a_bad_row(
    score: Any, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "2.parquet", a=pa.array([1, 2**24 + 1, *range(8)], pa.int64()))
    assert score("--on-bad-row", "quarantine").code == 0
    dead = pq.read_table(tmp_path / "out" / "_shardscore" / "quarantine" / "2.parquet")
    assert dead["quarantine_row"].to_pylist() == [1]
    assert "16777217" in dead["quarantine_reason"][0].as_py()


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view()], ids=str)
def test_strings_of_any_layout_are_carried_and_quarantined(
    kind: pa.DataType, score: Any, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "2.parquet", a=HOLES, name=pa.array(list("abcdefghij"), kind))
    assert score("--on-bad-row", "quarantine").code == 0
    kept = pq.read_table(tmp_path / "out" / "2.parquet")["name"].to_pylist()
    dead = pq.read_table(tmp_path / "out" / "_shardscore" / "quarantine" / "2.parquet")
    assert kept == list("acefghij")
    assert dead["name"].to_pylist() == ["b", "d"]


def test_text_that_is_not_utf8_reaches_the_model_as_its_bytes(
    score: Any, lookup: Path, tmp_path: Path
) -> None:
    words = pa.array([b"a", b"caf\xe9", b"b"]).view(pa.string())
    columns = {"id": None, "a": None, "b": None, "word": words}
    shard(tmp_path / "words" / "1.parquet", rows=3, **columns)
    done = score(model=lookup, input=tmp_path / "words")
    assert done.code == 0, done.err
    assert sums(tmp_path / "out" / "1.parquet") == [1.0, 0.0, 2.0]


@pytest.mark.parametrize(
    "column",
    [
        pytest.param(lambda n: pa.array([[1] * 1000] * n, pa.list_(pa.int32())), id="lists"),
        pytest.param(
            lambda n: pa.array([str(i % 9) * 4000 for i in range(n)]).dictionary_encode(),
            id="dictionary of texts",
        ),
        pytest.param(
            lambda n: pa.array([[("k" * 500, "v" * 3500)]] * n, pa.map_(pa.string(), pa.string())),
            id="maps",
        ),
        pytest.param(
            lambda n: pa.array([["x" * 2000, None]] * n, pa.list_(pa.string(), 2)), id="pairs"
        ),
    ],
)
def test_wide_columns_of_any_kind_end_a_row_group_early(
    column: Any, score: Any, tmp_path: Path
) -> None:
    rows = 3_000
    shard(tmp_path / "wide" / "1.parquet", rows=rows, wide=column(rows))
    assert score("--batch-size", 100, input=tmp_path / "wide").code == 0
    metadata = pq.read_metadata(tmp_path / "out" / "1.parquet")
    assert metadata.num_row_groups > 1
    published = pq.read_table(tmp_path / "out" / "1.parquet")
    assert published["wide"].to_pylist() == column(rows).to_pylist()


def test_long_texts_end_a_row_group_early(score: Any, tmp_path: Path) -> None:
    texts = [str(i) * 1000 for i in range(10, 99)] * 40
    ones = pa.array([1.0] * len(texts), pa.float32())
    columns = {"id": None, "a": ones, "b": ones}
    shard(tmp_path / "texts" / "1.parquet", rows=len(texts), text=texts, **columns)
    assert score("--batch-size", 100, input=tmp_path / "texts").code == 0
    metadata = pq.read_metadata(tmp_path / "out" / "1.parquet")
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert len(groups) > 1
    assert all(rows % 100 == 0 for rows in groups[:-1])
    assert pq.read_table(tmp_path / "out" / "1.parquet")["text"].to_pylist() == texts


INFINITE = pa.array([0.0, float("inf"), 2.0, float("nan"), *map(float, range(4, 10))], pa.float32())


def test_predictions_that_are_no_number_are_told_and_set_aside_only_if_asked_for(
    score: Any, cli: Any, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "2.parquet", a=INFINITE)
    done = score()
    assert done.code == 0, done.err
    assert "not finite: 2 of the scored have a NaN or infinite prediction" in done.out
    assert "2 rows with a NaN or infinite prediction" in cli("status", tmp_path / "out").out
    assert cli("verify", tmp_path / "out").code == 0
    other = tmp_path / "other"
    done = score("--nonfinite", "bad", "--on-bad-row", "quarantine", output=other)
    assert done.code == 0, done.err
    assert "not finite" not in done.out
    dead = pq.read_table(other / "_shardscore" / "quarantine" / "2.parquet")
    assert dead["quarantine_reason"].to_pylist() == [
        "infinite prediction 'prediction'",
        "NaN in the prediction 'prediction'",
    ]
    assert cli("verify", other).code == 0


@pytest.mark.parametrize(("limit", "code"), [("1", 65), ("19%", 65), ("20%", 0), ("2", 0)])
def test_too_many_bad_rows_are_65(
    limit: str, code: int, score: Any, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "2.parquet", a=HOLES)
    done = score("--on-bad-row", "quarantine", "--max-bad-rows", limit)
    assert done.code == code, done.err
    assert ("too many bad rows" in done.err) == (code == 65)
    left = ["1.parquet", "3.parquet"] if code else ["1.parquet", "2.parquet", "3.parquet"]
    assert published(tmp_path) == left
    assert (tmp_path / "out" / "_SUCCESS").exists() == (code == 0)
