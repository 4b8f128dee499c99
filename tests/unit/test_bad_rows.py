"""How many bad rows a shard may have, how they leave a batch; predictions that are no number."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bad_rows import most_bad_rows, refuse_too_many, set_aside
from pipeline.errors import TooManyBadRowsError
from pipeline.finite import not_finite
from pipeline.records import BadRow, Batch, RowCounts, Shard

SHARD = Shard("a.parquet", "/in", "a.parquet", 1, 0, 1_000, "0" * 64, pa.schema([]))


@pytest.mark.parametrize(
    ("limit", "rows", "most"),
    [
        (None, 1_000, None),
        (0, 1_000, 0),
        (7, 1_000, 7),
        ("0%", 1_000, 0),
        ("1%", 300, 3),
        ("1%", 299, 2),
        ("0.1%", 3_000, 3),  # 0.1 / 100 * 3000 is less than 3, of floats
        ("100%", 17, 17),
        ("250%", 10, 25),
    ],
)
def test_a_limit_is_a_number_or_a_share_of_the_shards_rows(
    limit: int | str | None, rows: int, most: int | None
) -> None:
    assert most_bad_rows(limit, rows) == most


def test_one_bad_row_more_than_allowed_is_refused_with_what_was_found() -> None:
    refuse_too_many(SHARD, 10, 10)
    refuse_too_many(SHARD, 1_000, None)
    with pytest.raises(TooManyBadRowsError) as raised:
        refuse_too_many(SHARD, 11, 10)
    assert raised.value.path == "/in/a.parquet"
    assert raised.value.expected == "at most 10 of 1,000 rows (--max-bad-rows)"
    assert raised.value.received == "11 bad rows, and the shard was not read further"


def batch(bad: list[int], rows: int = 10, start: int = 100) -> Batch:
    good = np.ones(rows, bool)
    good[bad] = False
    return Batch(
        shard=SHARD,
        start=start,
        rows=rows,
        features=(np.arange(rows)[good],),
        carried=pa.record_batch({"x": list(range(rows))}),
        good=good if bad else None,
        bad=tuple(BadRow(start + row, "x", "null") for row in bad),
    )


@given(st.sets(st.integers(0, 9)), st.data())
def test_rows_that_are_set_aside_later_leave_a_batch_as_if_they_had_been_read_so(
    first: set[int], data: st.DataObject
) -> None:
    left = [row for row in range(10) if row not in first]
    later = data.draw(st.sets(st.sampled_from(left))) if left else set()
    whole = batch(sorted(first))
    found = {left.index(row): BadRow(100 + row, None, "raised") for row in later}
    after = set_aside(whole, found)
    assert [bad.row - 100 for bad in after.bad] == sorted(first | later)
    assert after.good_rows == 10 - len(first | later)
    assert after.features == ()
    assert after.good is not None
    assert np.flatnonzero(~after.good).tolist() == sorted(first | later)
    assert whole.good_rows == 10 - len(first)  # it is as it was


# Predictions that are no number


def test_rows_whose_predictions_are_no_number_are_named_with_the_output() -> None:
    outputs: dict[str, Any] = {
        "y": np.array([[0.0, np.nan], [1.0, 2.0], [np.inf, 1.0], [np.nan, np.inf]]),
        "label": np.array(["a", "b", "c", "d"], object),
        "count": np.array([1, 2, 3, 4]),
        "z": np.array([np.inf, -np.inf, 0.0, 0.0], "float16"),
    }
    assert not_finite(outputs) == {
        0: "NaN in the prediction 'y'",
        1: "infinite prediction 'z'",
        2: "infinite prediction 'y'",
        3: "NaN in the prediction 'y'",
    }


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 3), (4, 2, 2)], ids=str)
def test_floats_of_every_type_and_rank_are_looked_at(kind: str, shape: tuple[int, ...]) -> None:
    import ml_dtypes

    dtype = ml_dtypes.bfloat16 if kind == "bfloat16" else np.dtype(kind)
    values = np.zeros(shape, dtype)
    assert not_finite({"y": values}) == {}
    values[2, ...] = np.nan
    assert not_finite({"y": values}) == {2: "NaN in the prediction 'y'"}


def test_looking_costs_microseconds_a_batch() -> None:
    outputs = {"y": np.zeros((8_192, 10), "float32")}
    spent = []
    for _ in range(20):
        begun = time.perf_counter()
        not_finite(outputs)
        spent.append(time.perf_counter() - begun)
    assert min(spent) < 500e-6


def test_rows_that_are_not_finite_are_counted_beside_their_outcome() -> None:
    counts = RowCounts(10, 8, 0, 2, 3) + RowCounts(5, 5, nonfinite=1)
    assert (counts.rows_in, counts.scored, counts.bad, counts.nonfinite) == (15, 13, 2, 4)
    assert counts.balanced
    assert counts == RowCounts(15, 13, 0, 2)  # no outcome of its own
