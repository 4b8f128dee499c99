"""Sketches: counts that are the same however the rows arrived, and add up without rounding."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import sketch
from pipeline.column_sketch import MOST_VALUES, ColumnSketch, lowest
from pipeline.number_buckets import bounds_of, bucket_of
from pipeline.sketch import (
    PredictionSketch,
    every_of,
    sketches_of,
)
from pipeline.varints import from_varints, to_varints

FLOATS = st.floats(allow_nan=False, width=32)


@given(st.lists(st.integers(0, 2**63 - 1)))
def test_varints_come_back(numbers: list[int]) -> None:
    packed = to_varints(np.array(numbers, np.int64))
    assert from_varints(packed).tolist() == numbers
    assert len(packed) == sum(max(1, math.ceil(n.bit_length() / 7)) for n in numbers)


@pytest.mark.parametrize("packed", [b"\x80", b"\x01\xff", b"\xff" * 9 + b"\x01"])
def test_bytes_that_are_no_varints_are_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="number"):
        from_varints(packed)


@given(st.lists(FLOATS, min_size=2, max_size=2).map(sorted))
def test_buckets_keep_the_order_and_are_narrow(pair: list[float]) -> None:
    values = np.array(pair, np.float32)
    buckets = bucket_of(values)
    assert buckets[0] <= buckets[1]
    low, high = bounds_of(buckets)
    assert (low <= values).all()
    assert (values <= high).all()
    normal = np.isfinite(values) & (np.abs(values) >= np.finfo(np.float32).tiny)
    width = (high[normal] - low[normal]) / np.abs(values[normal])
    assert (width < 0.0079).all()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int8, np.int64, np.uint64])
def test_numbers_of_each_type_lie_within_their_buckets(kind: type[np.number[Any]]) -> None:
    if np.issubdtype(kind, np.integer):
        values = np.array([np.iinfo(kind).min, 0, 1, 100, np.iinfo(kind).max], kind)
    else:
        values = np.array([-np.inf, np.finfo(kind).min, -0.0, 0, 1.5, np.inf], kind)
    low, high = bounds_of(bucket_of(values))
    # A float64 beyond float32 is in the last bucket but one, that of the largest.
    told = np.clip(values.astype(np.float64), -3.4e38, 3.4e38)
    inside = np.isfinite(values.astype(np.float64))
    assert (low[inside].astype(np.float64) <= told[inside] + abs(told[inside]) * 1e-7).all()
    assert (told[inside] - abs(told[inside]) * 1e-7 <= high[inside]).all()
    assert np.isinf(low[~inside]).all()


def test_minus_nought_is_nought() -> None:
    assert bucket_of(np.array([-0.0], np.float32)) == bucket_of(np.array([0.0], np.float32))


SCHEMA = pa.schema(
    [
        ("score", pa.float32()),
        ("classes", pa.list_(pa.float64(), 3)),
        ("embedding", pa.fixed_shape_tensor(pa.float32(), (4, 5))),
        ("kind", pa.int32()),
        ("sure", pa.bool_()),
        ("label", pa.string()),
        ("tags", pa.list_(pa.string(), 2)),
        ("raw", pa.binary()),
    ]
)


def columns_of(rows: int, seed: int = 0) -> list[pa.Array]:
    rng = np.random.default_rng(seed)
    score = rng.standard_normal(rows).astype(np.float32)
    score[rng.random(rows) < 0.1] = np.nan
    tensor = pa.FixedSizeListArray.from_arrays(
        pa.array(rng.standard_normal(rows * 20).astype(np.float32)), 20
    )
    labels = [f"label {n}" for n in rng.integers(0, 200, rows)]
    return [
        pa.array(score),
        pa.FixedSizeListArray.from_arrays(pa.array(rng.random(rows * 3)), 3),
        pa.ExtensionArray.from_storage(SCHEMA.field("embedding").type, tensor),
        pa.array(rng.integers(-3, 3, rows).astype(np.int32)),
        pa.array(rng.random(rows) < 0.3),
        pa.array(labels),
        pa.FixedSizeListArray.from_arrays(pa.array([w for a in labels for w in (a, "x")]), 2),
        pa.array([b"\xff" if n % 2 else b"ab" for n in range(rows)]),
    ]


def sketched(rows: int, cuts: list[int], *, resumed_at: int | None = None) -> str:
    columns = columns_of(rows)
    edges = sorted({0, rows, *cuts})
    found = PredictionSketch(SCHEMA, rows)
    for start, stop in pairwise(edges):
        if resumed_at is not None and start >= resumed_at:
            found, resumed_at = PredictionSketch(SCHEMA, rows, found.encoded()), None
        found.add(start, [column.slice(start, stop - start) for column in columns])
    return found.encoded()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 3_000), max_size=6), st.integers(0, 3_000))
def test_a_sketch_is_the_same_however_the_rows_arrive(cuts: list[int], resumed_at: int) -> None:
    assert sketched(3_000, cuts, resumed_at=resumed_at) == sketched(3_000, [])


def test_so_it_is_where_some_rows_are_picked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketch, "MOST_ROWS", 100)
    whole = sketched(3_001, [])
    every, columns = sketches_of(whole)
    assert every == 32
    assert columns["score"].rows in {93, 94}  # of each whole block one, of the last perhaps
    random = np.random.default_rng(1)
    for _ in range(5):
        cuts = random.integers(3_001, size=40).tolist()
        assert sketched(3_001, cuts, resumed_at=1_500) == whole


def test_rows_are_picked_from_all_places_of_their_blocks() -> None:
    places = sketch._picked(0, 64 * 1_000, 64)
    assert (places // 64).tolist() == list(range(1_000))
    assert len(set((places % 64).tolist())) == 64


def test_what_is_counted() -> None:
    columns = columns_of(2_000)
    every, told = sketches_of(sketched(2_000, [700]))
    assert every == 1
    score = columns[0].to_numpy()
    assert told["score"].nan == int(np.isnan(score).sum())
    assert told["score"].low == float(np.nanmin(score))
    assert told["score"].high == float(np.nanmax(score))
    assert told["score"].counts.sum() == int((~np.isnan(score)).sum())
    classes = columns[1].flatten().to_numpy().reshape(-1, 3)
    assert told["classes"].highest == np.bincount(classes.argmax(axis=1), minlength=3).tolist()
    for element in range(3):
        mine = told["classes"].keys >> 16 == element
        expected = np.unique(bucket_of(classes[:, element]), return_counts=True)
        assert (told["classes"].keys[mine] & 0xFFFF).tolist() == expected[0].tolist()
        assert told["classes"].counts[mine].tolist() == expected[1].tolist()
    assert told["embedding"].elements == 1
    assert told["embedding"].counts.sum() == 40_000
    assert told["kind"].values == {str(n): columns[3].to_pylist().count(n) for n in range(-3, 3)}
    assert set(told["sure"].values) == {"true", "false"}
    assert told["raw"].values == {"\\xff": 1_000, "ab": 1_000}
    assert told["label"].counted == 2_000
    assert (told["kind"].counted, told["kind"].null) == (2_000, 0)
    labels = columns[5].to_pylist()
    assert all(labels.count(name) == count for name, count in told["label"].values.items())
    assert len(told["label"].values) == MOST_VALUES


def test_values_are_counted_alike_in_any_order() -> None:
    names = [f"name {n}" for n in range(1_000)]
    random = np.random.default_rng(0)
    parts: list[dict[str, int]] = [{} for _ in range(7)]
    for name in names * 3:
        part = parts[random.integers(7)]
        part[name] = part.get(name, 0) + 1
    forwards: dict[str, int] = {}
    for part in parts:
        forwards = lowest([forwards, lowest([part])])
    backwards = lowest([lowest([part]) for part in reversed(parts)])
    assert forwards == backwards
    assert len(forwards) == MOST_VALUES
    assert set(forwards.values()) == {3}


def test_long_values_are_cut_and_stay_apart() -> None:
    column = ColumnSketch.for_type(pa.string())
    column.add(pa.array(["a" * 100_000, "a" * 100_001, None]))
    assert len(column.values) == 2
    assert (column.counted, column.null) == (2, 1)
    assert all(len(name) < 90 for name in column.values)
    assert column.rows == 3


def test_bytes_that_look_like_their_own_escape_stay_apart() -> None:
    column = ColumnSketch.for_type(pa.binary())
    column.add(pa.array([b"\xff", b"\\xff", b"\\xff"]))
    assert sorted(column.values.values()) == [1, 2]


def test_a_shard_without_rows_has_a_sketch() -> None:
    _, told = sketches_of(PredictionSketch(SCHEMA, 0).encoded())
    assert list(told) == SCHEMA.names
    assert told["score"].low is None


@pytest.mark.parametrize(("rows", "every"), [(0, 1), (1 << 14, 1), ((1 << 14) + 1, 2), (10**9, 64)])
def test_one_row_in_how_many(rows: int, every: int) -> None:
    assert every_of(rows) == every


def test_infinities_are_json() -> None:
    found = PredictionSketch(pa.schema([("score", pa.float32())]), 2)
    found.add(0, [pa.array([math.inf, -math.inf], pa.float32())])
    json.loads(found.encoded(), parse_constant=pytest.fail)
    told = sketches_of(found.encoded())[1]["score"]
    assert (told.low, told.high, told.counts.tolist()) == (-math.inf, math.inf, [1, 1])


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        '{"format":2}',
        '{"format":1}',
        "[" * 100_000,
        '{"format":1,"every":1,"columns":{"a":{}}}',
        '{"format":1,"every":1,"columns":{"a":{"elements":1,"rows":1,"keys":"AQ==","counts":""}}}',
        '{"format":1,"every":1,"columns":{"a":{"elements":1,"rows":1,"keys":"?"}}}',
    ],
)
def test_what_is_no_sketch_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"sketch|count|base64|characters"):
        sketches_of(text)
