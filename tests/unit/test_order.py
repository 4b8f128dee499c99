"""Order: kept columns against the input's, row for row, however the pieces fall."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import order
from pipeline.discover import discover
from pipeline.errors import CorruptShardError
from pipeline.order import Difference
from pipeline.storage import LocalStorage

NAN = float("nan")


def compare(
    folder: Path, source: pa.Table, published: pa.Table, bad: list[int] | None = None
) -> Difference | None:
    plain = [
        f.with_type(pa.string()) if f.type == pa.string_view() else f for f in published.schema
    ]
    for name, table in {"lake": source, "out": published.cast(pa.schema(plain))}.items():
        (folder / name).mkdir(exist_ok=True)
        pq.write_table(table, folder / name / "a.parquet", row_group_size=3000)
    if bad is not None:
        letters = folder / "out/_shardscore/quarantine/a.parquet"
        letters.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"quarantine_row": pa.array(bad, pa.int64())}), letters)
    (shard,) = discover([str(folder / "lake")], str(folder / "out")).shards
    return order.first_difference(
        LocalStorage(folder / "out"),
        LocalStorage(folder / "lake"),
        shard,
        source.schema.names,
        quarantined=bad is not None,
    )


COLUMNS: dict[str, Any] = {
    "numbers": pa.array([1, None, 3], pa.int64()),
    "texts": pa.array(["a", None, ""]),
    "views": pa.array(["a", None, "long enough to be out of line"], pa.string_view()),
    "floats with NaN": pa.array([1.0, NAN, None]),
    "halves with NaN": pa.array(np.array([1, NAN, 2], np.float16)),
    "lists with NaN": pa.array([[1.0, NAN], None, []]),
    "structs": pa.array([{"a": NAN, "b": "x"}, None, {"a": 1.0, "b": None}]),
    "dictionaries": pa.array(["b", None, "a"]).dictionary_encode(),
    "times": pa.array([0, None, 1], pa.timestamp("us", "Europe/Berlin")),
    "bools": pa.array([True, None, False]),
    "tensors": pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(12.0).reshape(3, 2, 2)),
}


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_equal_columns_of_any_type_are_equal(column: Any, tmp_path: Path) -> None:
    table = pa.table({"c": column})
    assert compare(tmp_path, table, table) is None


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_two_rows_that_changed_places_are_found(column: Any, tmp_path: Path) -> None:
    table = pa.table({"c": column})
    found = compare(
        tmp_path, table, pa.concat_tables([table.slice(1, 1), table.slice(0, 1), table.slice(2)])
    )
    assert found is not None
    assert (found.row, found.column) == (0, "c")


@pytest.mark.parametrize("row", [0, 2999, 8191, 8192, 19_999])
def test_the_first_row_that_differs_is_named(row: int, tmp_path: Path) -> None:
    ids = np.arange(20_000)
    other = ids.copy()
    other[[row, -1]] = -1
    found = compare(tmp_path, pa.table({"id": ids}), pa.table({"id": other}))
    assert found == Difference(row, "id", str(row), "-1")


@pytest.mark.parametrize(
    "bad", [[0], [19_999], [8191, 8192], list(range(20_000)), list(range(0, 20_000, 7)), []]
)
def test_quarantined_rows_are_left_out(bad: list[int], tmp_path: Path) -> None:
    ids = np.arange(20_000)
    left = np.delete(ids, bad)
    assert compare(tmp_path, pa.table({"id": ids}), pa.table({"id": left}), bad) is None


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (9_000, Difference(9_000, "", "a row", "none")),
        (10_001, Difference(10_000, "", "none", "a row")),
    ],
)
def test_a_row_too_few_or_too_many_is_found(
    rows: int, expected: Difference, tmp_path: Path
) -> None:
    ids = pa.table({"id": range(10_001)})
    assert compare(tmp_path, ids.slice(0, 10_000), ids.slice(0, rows)) == expected


def test_a_nan_is_not_a_null_nor_another_number(tmp_path: Path) -> None:
    one = pa.table({"c": [NAN, NAN, 1.0]})
    assert compare(tmp_path, one, pa.table({"c": [NAN, None, 1.0]})) == Difference(
        1, "c", "nan", "None"
    )
    assert compare(tmp_path, one, pa.table({"c": [NAN, NAN, NAN]})) == Difference(
        2, "c", "1.0", "nan"
    )


def test_a_column_that_is_missing_names_the_file(tmp_path: Path) -> None:
    table = pa.table({"c": [1], "d": [2]})
    with pytest.raises(CorruptShardError, match="no column 'd'") as caught:
        compare(tmp_path, table, table.select(["c"]))
    assert caught.value.path == str(tmp_path / "out/a.parquet")


def test_a_prediction_whose_dotted_name_begins_with_a_kept_column_is_no_difference(
    tmp_path: Path,
) -> None:
    table = pa.table({"box": [1, 2, 3]})
    published = table.append_column("box.score", pa.array([0.1, 0.2, 0.3]))
    assert compare(tmp_path, table, published) is None
    moved = compare(tmp_path, table, published.take([0, 2, 1]))
    assert moved == Difference(1, "box", "2", "3")
