"""Values of one kind as values of an input's type: a line a case, and what no input holds."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.conversions import conversion_of, numpy_type
from pipeline.values import converted, shown

DAY = 86_400
DAY_NS = DAY * 10**9
NOW = 1_700_000_000_123_456_789
SENTINEL = 2_932_896  # 9999-12-31, in days


def times(kind: pa.DataType, *counts: int) -> pa.Array:
    return pa.array(counts, pa.int32() if kind.bit_width == 32 else pa.int64()).cast(kind)


def decimals(kind: pa.DataType, *texts: str) -> pa.Array:
    return pa.array([Decimal(text) for text in texts], kind)


STAMP = {unit: pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")}
SPAN = {unit: pa.duration(unit) for unit in ("s", "ms", "us", "ns")}
ZONED = pa.timestamp("ms", "Asia/Tokyo")

# fmt: off
WITHOUT_A_WORD: list[tuple[pa.Array, str, str | None, list[Any], list[int]]] = [
    # what                                           as        in      gives               but not
    (times(pa.date32(), 0, -1, 20_000),              "int32",   "days", [0, -1, 20_000],    []),
    (times(pa.date32(), 0, -1, 20_000),              "float32", "days", [0, -1, 20_000],    []),
    (times(pa.date32(), 0, -1, 20_000),              "int64",   "s",    [0, -DAY, 1.728e9], []),
    (times(pa.date32(), 1, SENTINEL),                "int64",   "ns",   [DAY_NS],           [1]),
    (times(pa.date32(), 1, -SENTINEL),               "int64",   "ns",   [DAY_NS],           [1]),
    (times(pa.date32(), 200_000, -1),                "uint64",  "ns",   [200_000 * DAY_NS], [1]),
    (times(pa.date32(), SENTINEL),                   "float64", "days", [SENTINEL],         []),
    (times(pa.date32(), 1, 2**24 + 1),               "float32", "days", [1],                [1]),
    (times(pa.date64(), DAY * 1000, 1),              "int32",   "days", [1],                [1]),
    (times(STAMP["us"], 1, -1),                      "int64",   "us",   [1, -1],            []),
    (times(STAMP["us"], 3_000_000, 3_000_001),       "int64",   "s",    [3],                [1]),
    (times(STAMP["us"], -3_000_000, -1),             "int64",   "s",    [-3],               [1]),
    (times(STAMP["s"], 1, 2**33),                    "int64",   "ns",   [10**9, 2**33 * 10**9], []),
    (times(STAMP["s"], 1, 2**34, -(2**34)),          "int64",   "ns",   [10**9],            [1, 2]),
    (times(STAMP["s"], 1_700_000_000, 2**33),        "int32",   "s",    [1_700_000_000],    [1]),
    (times(STAMP["ms"], 1500, 1250, 1001, -500),     "float64", "s",    [1.5, 1.25, -0.5],  [2]),
    (times(STAMP["ns"], 500_000_000, 1),             "float64", "s",    [0.5],              [1]),
    (times(SPAN["ns"], 43_200 * 10**9),              "float16", "days", [0.5],              []),
    (times(SPAN["s"], 6 * 3600, 1),                  "float16", "days", [0.25],             [1]),
    (times(ZONED, 1_700_000_000_000),                "int64",   "s",    [1_700_000_000],    []),
    (times(SPAN["ms"], 60_000, 1),                   "int64",   "s",    [60],               [1]),
    (times(SPAN["ns"], -1),                          "int64",   "ns",   [-1],               []),
    (times(pa.time32("s"), 43_200),                  "float32", "s",    [43_200],           []),
    (times(pa.time64("us"), 43_200_000_000),         "float32", "days", [0.5],              []),
    (decimals(pa.decimal128(5, 0), "-7", "99999"),   "int32",   None,   [-7, 99_999],       []),
    (decimals(pa.decimal64(12, 0), "7", "2147483648"), "int32", None,   [7],                [1]),
    (decimals(pa.decimal128(38, 0), "1", str(2**64)), "uint64", None,   [1],                [1]),
    (decimals(pa.decimal128(38, 0), str(2**64 - 1)), "uint64",  None,   [2**64 - 1],        []),
    (decimals(pa.decimal128(38, 0), str(2**70), str(2**70 + 1)), "float64", None, [2.0**70], [1]),
    (decimals(pa.decimal128(38, 0), str(2**70), "70000"), "float16", None, [],              [0, 1]),
    (pa.array([True, False]),                        "uint8",   None,   [1, 0],             []),
    (pa.array([3, 257], pa.int16()),                 "bfloat16", None,  [3],                [1]),
    (pa.array(["a", "b", "a"]).dictionary_encode(),  "string",  None,   [b"a", b"b", b"a"], []),
    (times(STAMP["s"], 5, 5).dictionary_encode(),    "int64",   "ms",   [5000, 5000],       []),
]

ALLOWED: list[tuple[pa.Array, str, str | None, list[Any], list[int]]] = [
    (pa.array([0.1, 1e300]),                         "float32", None,   [np.float32(0.1)],  [1]),
    (pa.array([1 / 3], pa.float32()),                "bfloat16", None,  [0.333984375],      []),
    (pa.array([2**24 + 1, 2**53 + 1]),               "float32", None,   [2**24, 2**53],     []),
    (pa.array([70_000, 2049]),                       "float16", None,   [2048],             [0]),
    (times(STAMP["ms"], 1001),                       "float64", "s",    [1.001],            []),
    (times(STAMP["ns"], NOW),                        "float64", "s",    [NOW / 10**9],      []),
    (times(STAMP["ns"], NOW),                        "float32", "s",    [1_700_000_000],    []),
    (times(pa.date32(), SENTINEL),                   "float64", "ns",   [SENTINEL * DAY_NS], []),
    (times(pa.date32(), SENTINEL, 1),                "int64",   "ns",   [DAY_NS],           [0]),
    (decimals(pa.decimal128(5, 2), "0.10", "-1.25"), "float64", None,   [0.1, -1.25],       []),
    (decimals(pa.decimal256(60, 10), "1e40"),        "float64", None,   [1e40],             []),
    (decimals(pa.decimal128(38, 0), str(2**70 + 1)), "float64", None,   [2.0**70],          []),
    (decimals(pa.decimal128(12, 2), "70000.00"),     "float16", None,   [],                 [0]),
]
# fmt: on


@pytest.mark.parametrize(
    ("values", "dtype", "unit", "kept", "refused", "lossy"),
    [(*case, False) for case in WITHOUT_A_WORD] + [(*case, True) for case in ALLOWED],
)
def test_values_become_those_of_the_input_or_are_refused_one_by_one(
    values: pa.Array, dtype: str, unit: Any, kept: list[Any], refused: list[int], lossy: bool
) -> None:
    conversion = conversion_of(values.type, dtype, unit, allow_lossy=lossy)
    assert conversion is not None
    assert lossy or conversion != "rounded"
    array, wrong = converted(values, dtype, conversion, unit)
    assert array.dtype == (object if dtype == "string" else numpy_type(dtype))
    good = np.ones(len(array), bool) if wrong is None else ~wrong
    if dtype not in {"string", "bfloat16"}:
        kept = [numpy_type(dtype).type(value).item() for value in kept]
    assert array[good].tolist() == kept
    assert np.flatnonzero(~good).tolist() == refused


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (pa.array([300]), "300"),
        (decimals(pa.decimal128(5, 2), "1.50"), "1.50"),
        (times(STAMP["ns"], 1), "1970-01-01 00:00:00.000000001"),
        (times(pa.date32(), 1), "1970-01-02"),
        (times(pa.date32(), 2**30), str(2**30)),
        (times(STAMP["s"], 2**60), str(2**60)),
        (times(SPAN["s"], 2**62), str(2**62)),
        (times(STAMP["s"], 5).dictionary_encode(), "1970-01-01 00:00:05"),
    ],
)
def test_a_value_is_shown_whatever_it_is(values: pa.Array, text: str) -> None:
    assert shown(values, 0) == text


@pytest.mark.parametrize("dtype", ["complex64", "int4", "float8_e4m3fn", "any"])
def test_no_column_feeds_an_input_of_a_type_that_is_not_known(dtype: str) -> None:
    for kind in (pa.int8(), pa.bool_(), pa.float32(), pa.decimal128(3, 0), pa.date32()):
        assert conversion_of(kind, dtype, "s", allow_lossy=True) is None
