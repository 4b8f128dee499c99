"""Extraction: from the rows of a batch to the model's inputs, each row accounted for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.binding import Reading, check
from pipeline.columns import nesting
from pipeline.extract import extract
from pipeline.records import BadRow
from pipeline.signature import InputSpec, Signature

Extracted = tuple[tuple[np.ndarray[Any, Any], ...], Any, tuple[BadRow, ...]]


def extracted(columns: dict[str, pa.Array], *specs: InputSpec, start: int = 0) -> Extracted:
    """The inputs, each fed by the column of its name; one named `a|b`, by the columns a and b."""
    batch = pa.record_batch(columns)
    signature = Signature(specs, "dict", (), custom_step=False)
    chosen = {spec.name: tuple(spec.name.split("|")) for spec in specs}
    # Floats may be rounded here; integers are checked, as without a word they are.
    floats = [f.name for f in batch.schema if pa.types.is_floating(nesting(f.type)[1])]
    reading = Reading({}, None, tuple(floats))
    return extract(check(signature, chosen, batch.schema, reading), batch, start)


def one_input(
    values: pa.Array, dtype: str = "float32", shape: tuple[int, ...] = (), start: int = 0
) -> Extracted:
    return extracted({"x": values}, InputSpec("x", shape, dtype), start=start)


def fates(values: pa.Array, dtype: str, shape: tuple[int, ...] = ()) -> tuple[list[Any], list[int]]:
    """The values that reach the model, and the numbers of the rows that do not."""
    (array,), _, bad = one_input(values, dtype, shape)
    return array.tolist(), [row.row for row in bad]


def as_bytes(values: Any) -> Any:
    """Text as it reaches the model, in lists too; all else as it is."""
    if isinstance(values, list):
        return [as_bytes(value) for value in values]
    return values.encode() if isinstance(values, str) else values


PAIRS = {
    "list": pa.list_(pa.int32()),
    "large_list": pa.large_list(pa.int32()),
    "fixed_size_list": pa.list_(pa.int32(), 2),
}
every_list = pytest.mark.parametrize("kind", PAIRS.values(), ids=PAIRS)


# Good rows


def test_a_batch_without_a_bad_row_has_no_mask() -> None:
    (array,), good, bad = one_input(pa.array([1.5, 2.5]), "float64")
    assert array.tolist() == [1.5, 2.5]
    assert good is None
    assert bad == ()


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (pa.array([1, 255], pa.uint8()), "float32", [1.0, 255.0]),
        (pa.array([True, False]), "float32", [1.0, 0.0]),
        (pa.array([True, False]), "int32", [1, 0]),
        (pa.array([True, False]), "bool", [True, False]),
        (pa.array(np.array([0.5, 65504], np.float16)), "float32", [0.5, 65504.0]),
        (pa.array([0.1, 1e-300]), "float32", [np.float32(0.1), 0.0]),
        (pa.array([-5, 7]), "int8", [-5, 7]),
        (pa.array(["a", "é"]), "string", [b"a", "é".encode()]),
        (pa.array(["a", "é"], pa.large_string()), "string", [b"a", "é".encode()]),
        (pa.array(["a", "é"], pa.string_view()), "string", [b"a", "é".encode()]),
        (pa.array([b"a", b"\xff"]), "string", [b"a", b"\xff"]),
        (pa.array(["b", "a", "b"]).dictionary_encode(), "string", [b"b", b"a", b"b"]),
        (pa.array([7, 5, 7]).dictionary_encode(), "int32", [7, 5, 7]),
    ],
)
def test_values_reach_the_model_as_its_type(
    values: pa.Array, dtype: str, expected: list[Any]
) -> None:
    (array,), _, bad = one_input(values, dtype)
    assert array.dtype == (object if dtype == "string" else dtype)
    assert array.tolist() == expected
    assert bad == ()


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_scalar_column_takes_the_shape_of_its_input(shape: tuple[int, ...]) -> None:
    (array,), _, _ = one_input(pa.array([1.0, 2.0]), shape=shape)
    assert array.shape == (2, *shape)


def test_columns_stand_side_by_side_in_the_order_of_the_binding() -> None:
    columns = {"a": pa.array([1, 2], pa.int8()), "b": pa.array([3.0, 4.0])}
    (array,), _, _ = extracted(columns, InputSpec("b|a", (2,), "float32"))
    assert array.tolist() == [[3, 1], [4, 2]]


@every_list
def test_lists_become_rows_of_their_width(kind: pa.DataType) -> None:
    (array,), _, _ = one_input(pa.array([[1, 2], [3, 4]], kind), shape=(2,))
    assert array.dtype == np.float32
    assert array.tolist() == [[1, 2], [3, 4]]


def test_lists_of_strings_become_rows_too() -> None:
    values = pa.array([["a", "b"], ["c", "d"]], pa.list_(pa.string()))
    assert fates(values, "string", (2,)) == ([[b"a", b"b"], [b"c", b"d"]], [])


@pytest.mark.parametrize("kind", [pa.float32(), pa.string(), *PAIRS.values()])
def test_a_batch_of_no_rows_gives_empty_inputs(kind: pa.DataType) -> None:
    dtype = "string" if kind == pa.string() else "float32"
    shape = (2,) if kind in PAIRS.values() else ()
    (array,), good, bad = one_input(pa.array([], kind), dtype, shape)
    assert array.shape == (0, *shape)
    assert good is None
    assert bad == ()


def test_rows_that_are_all_bad_give_empty_inputs() -> None:
    (array,), good, bad = one_input(pa.array([None, None], PAIRS["list"]), shape=(2,))
    assert array.shape == (0, 2)
    assert good.tolist() == [False, False]
    assert len(bad) == 2


# Nulls and lists of the wrong width


def test_a_null_is_a_bad_row_that_names_its_column_and_input() -> None:
    (array,), good, bad = one_input(pa.array([1.0, None, 3.0]))
    assert array.tolist() == [1.0, 3.0]
    assert good.tolist() == [True, False, True]
    (row,) = bad
    assert (row.row, row.column) == (1, "x")
    assert "null in column 'x'" in row.reason
    assert "input 'x'" in row.reason


@pytest.mark.parametrize(
    ("kind", "values", "dtype"),
    [
        (pa.string(), ["a", None, "c"], "string"),
        (pa.large_string(), ["a", None, "c"], "string"),
        (pa.binary(), [b"a", None, b"c"], "string"),
        (pa.dictionary(pa.int8(), pa.string()), ["a", None, "c"], "string"),
        (pa.bool_(), [True, None, False], "bool"),
        (pa.int64(), [1, None, 3], "int64"),
        (pa.uint8(), [1, None, 3], "float32"),
        (pa.float16(), [1.0, None, 3.0], "float16"),
        (pa.list_(pa.string()), [["a"], None, ["c"]], "string"),
        (pa.list_(pa.bool_(), 1), [[True], None, [False]], "bool"),
    ],
)
def test_a_null_of_any_type_is_found(kind: pa.DataType, values: list[Any], dtype: str) -> None:
    shape = (1,) if isinstance(values[0], list) else ()
    kept = [value for value in values if value is not None]
    assert fates(pa.array(values, kind), dtype, shape) == (as_bytes(kept), [1])


def test_nan_and_infinity_are_no_nulls() -> None:
    (array,), good, _ = one_input(pa.array([math.nan, math.inf, -math.inf]))
    np.testing.assert_array_equal(array, [math.nan, math.inf, -math.inf])
    assert good is None


def test_a_list_of_the_wrong_width_says_both_widths() -> None:
    (array,), _, bad = one_input(pa.array([[1, 2], [3], [], [4, 5, 6]], PAIRS["list"]), shape=(2,))
    assert array.tolist() == [[1, 2]]
    assert [row.row for row in bad] == [1, 2, 3]
    found = [row.reason.split(" in column")[0] for row in bad]
    assert found == ["a list of 1 values", "a list of 0 values", "a list of 3 values"]
    assert all("takes 2" in row.reason for row in bad)


@every_list
def test_nulls_of_lists_and_inside_lists_are_told_apart(kind: pa.DataType) -> None:
    values = pa.array([[1, 2], None, [3, None], [None, None], [4, 5]], kind)
    (array,), _, bad = one_input(values, shape=(2,))
    assert array.tolist() == [[1, 2], [4, 5]]
    assert [row.row for row in bad] == [1, 2, 3]
    assert ["inside" in row.reason for row in bad] == [False, True, True]


@every_list
@pytest.mark.parametrize("holes", [[None], [[3, None]], [None, [3, None]]])
def test_a_slice_of_lists_has_rows_of_its_own(kind: pa.DataType, holes: list[Any]) -> None:
    whole = pa.array([None, [9, None], [8, 8], [1, 2], *holes, [4, 5], [7, 7], None], kind)
    (array,), _, bad = one_input(whole.slice(3, 2 + len(holes)), shape=(2,))
    assert array.tolist() == [[1, 2], [4, 5]]
    assert [row.row for row in bad] == list(range(1, 1 + len(holes)))


@pytest.mark.parametrize("kind", [PAIRS["list"], PAIRS["large_list"]])
def test_null_lists_wrong_lists_and_holes_stand_together(kind: pa.DataType) -> None:
    rows = [[1, 2], None, [1], [3, None], None, [], [4, 5], [None], [6, 7]]
    whole = pa.array([[9], None, *rows, [8, None]], kind)
    (array,), _, bad = one_input(whole.slice(2, len(rows)), shape=(2,))
    assert array.tolist() == [[1, 2], [4, 5], [6, 7]]
    assert [row.row for row in bad] == [1, 2, 3, 4, 5, 7]


def test_a_null_list_that_hides_values_is_passed_over() -> None:
    offsets, values = pa.array([0, 2, 4, 6], pa.int32()), pa.array([1, 2, 8, 9, 5, 6], pa.int32())
    hidden = pa.ListArray.from_arrays(offsets, values, mask=pa.array([False, True, False]))
    assert fates(hidden, "float32", (2,)) == ([[1, 2], [5, 6]], [1])


# Values that an input cannot hold

BIG = 2**24


@pytest.mark.parametrize(
    ("kind", "dtype", "held", "refused"),
    [
        (pa.int64(), "float32", [0, BIG, BIG + 2, -BIG, -(2**63)], [BIG + 1, -BIG - 1, 2**63 - 1]),
        (pa.uint64(), "float32", [2**63, 2**63 + 2**40], [2**64 - 1, BIG + 1]),
        (pa.int32(), "float32", [-(2**31), BIG], [2**31 - 1]),
        (pa.int64(), "float64", [2**53, 2**53 + 2, -(2**63)], [2**53 + 1, 2**63 - 1]),
        (pa.int16(), "float16", [2048, 2050, -(2**15)], [2049, 2**15 - 1]),
        (pa.int64(), "float16", [2048], [10**6, 2049]),
        (pa.int64(), "uint8", [0, 255], [-1, 256, -(2**63)]),
        (pa.int64(), "int8", [-128, 127], [-129, 128, 300]),
        (pa.int8(), "uint64", [0, 127], [-1]),
        (pa.int64(), "uint64", [0, 2**63 - 1], [-1, -(2**63)]),
        (pa.uint64(), "int64", [0, 2**63 - 1], [2**63, 2**64 - 1]),
        (pa.uint8(), "int8", [0, 127], [128, 255]),
        (pa.uint32(), "int32", [2**31 - 1], [2**31]),
    ],
)
def test_an_integer_that_the_input_cannot_hold_is_a_bad_row(
    kind: pa.DataType, dtype: str, held: list[int], refused: list[int]
) -> None:
    values = [*held, *refused, held[0]]
    kept, bad = fates(pa.array(values, kind), dtype)
    assert [int(value) for value in kept] == [*held, held[0]]
    assert bad == list(range(len(held), len(held) + len(refused)))


@pytest.mark.parametrize(
    ("kind", "dtype", "largest", "refused"),
    [
        (pa.float64(), "float32", np.finfo(np.float32).max, [1e300, -1e300, 3.5e38]),
        (pa.float64(), "float16", 65504.0, [65520.0, 1e300]),
        (pa.float32(), "float16", 65504.0, [-1e5]),
    ],
)
def test_a_float_beyond_the_range_of_the_input_is_a_bad_row(
    kind: pa.DataType, dtype: str, largest: float, refused: list[float]
) -> None:
    passing = [math.inf, math.nan, -math.inf, float(largest), 0.1]
    (array,), _, bad = one_input(pa.array([*passing, *refused], kind), dtype)
    np.testing.assert_array_equal(array, np.array(passing, dtype))
    assert [row.row for row in bad] == list(range(5, 5 + len(refused)))


def test_a_value_that_does_not_fit_is_named_with_both_types() -> None:
    *_, (row,) = one_input(pa.array([1, 300]), "int8")
    assert row.column == "x"
    for fact in ("300", "'x'", "int64", "int8"):
        assert fact in row.reason


@every_list
def test_a_value_inside_a_list_makes_its_row_bad(kind: pa.DataType) -> None:
    values = pa.array([[1, 2], [3, 300], None, [301, 302], [4, 5]], kind)
    (array,), _, bad = one_input(values, "int8", (2,))
    assert array.tolist() == [[1, 2], [4, 5]]
    assert [row.row for row in bad] == [1, 2, 3]
    assert "300" in bad[0].reason
    assert "301" in bad[2].reason


# Which reason, and which number


def test_rows_are_numbered_from_the_start_of_the_batch() -> None:
    *_, bad = one_input(pa.array([None, 1, 2**40]), "int8", start=1000)
    assert [row.row for row in bad] == [1000, 1002]


def test_the_first_reason_of_a_row_wins() -> None:
    columns = {
        "a": pa.array([None, 300, 1, 300], pa.int64()),
        "b": pa.array([None, None, 400, 400], pa.int64()),
    }
    specs = [InputSpec(name, (), "int8") for name in "ab"]
    _, good, bad = extracted(columns, *specs)
    assert good.tolist() == [False] * 4
    assert [(row.row, row.column, row.reason.split()[0]) for row in bad] == [
        (0, "a", "null"),
        (1, "b", "null"),
        (2, "b", "400"),
        (3, "a", "300"),
    ]


def test_a_list_that_is_wrong_in_two_ways_has_the_width_as_its_reason() -> None:
    *_, (row,) = one_input(pa.array([[1, 2], [None, 1, 2]], PAIRS["list"]), shape=(2,))
    assert "list of 3" in row.reason


def test_a_row_that_is_bad_in_one_input_is_left_out_of_all() -> None:
    columns = {
        "a": pa.array([1.0, None, 3.0, 4.0, 5.0]),
        "b": pa.array([[1, 1], [2, 2], [3], [4, 4], [5, 500]], PAIRS["list"]),
        "c": pa.array(["1", "2", "3", None, "5"]),
    }
    specs = [
        InputSpec("a", (), "float32"),
        InputSpec("b", (2,), "int8"),
        InputSpec("c", (), "string"),
    ]
    arrays, good, bad = extracted(columns, *specs)
    assert [array.tolist() for array in arrays] == [[1.0], [[1, 1]], [b"1"]]
    assert good.tolist() == [True, False, False, False, False]
    assert [row.column for row in bad] == ["a", "b", "c", "b"]


# The law: each row is good or bad, and the good ones are what the columns hold

INTERESTING = st.sampled_from([0, 1, -1, 127, 128, 255, BIG, BIG + 1, BIG + 2, 2**63 - 1, -(2**63)])
WHOLE = st.one_of(INTERESTING, st.integers(-(2**63), 2**63 - 1))
SMALL = st.one_of(st.integers(-150, 150), st.none())
REAL = st.floats(allow_nan=False)

COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any], InputSpec]] = {
    "as_float": (pa.int64(), WHOLE, InputSpec("as_float", (), "float32")),
    "as_byte": (pa.int64(), WHOLE, InputSpec("as_byte", (1,), "uint8")),
    "real": (pa.float64(), REAL, InputSpec("real", (), "float32")),
    "text": (pa.string(), st.text(max_size=3), InputSpec("text", (), "string")),
    "flag": (pa.bool_(), st.booleans(), InputSpec("flag", (), "float32")),
    "pair": (
        pa.list_(pa.int16()),
        st.lists(SMALL, max_size=3),
        InputSpec("pair", (2,), "int8"),
    ),
    "triple": (
        pa.list_(pa.int16(), 3),
        st.lists(SMALL, min_size=3, max_size=3),
        InputSpec("triple", (3,), "int8"),
    ),
}


@st.composite
def batches(draw: st.DrawFn) -> pa.RecordBatch:
    """Rows of some of the columns, now and then null, cut out of a longer batch."""
    names = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=3, unique=True))
    rows = draw(st.integers(0, 12))
    columns = {}
    for name in names:
        kind, values, _ = COLUMNS[name]
        values = values if draw(st.booleans()) else st.one_of(values, st.none())
        drawn = draw(st.lists(values, min_size=rows, max_size=rows))
        columns[name] = pa.array(drawn, kind)
    offset = draw(st.integers(0, rows))
    return pa.record_batch(columns).slice(offset, draw(st.integers(0, rows)))


def fits(value: Any, spec: InputSpec) -> bool:
    """Whether an input can take a Python value, by arithmetic without bounds."""
    if value is None:
        return False
    if isinstance(value, list):
        scalar = InputSpec(spec.name, (), spec.dtype)
        return len(value) == spec.shape[0] and all(fits(item, scalar) for item in value)
    if spec.dtype in {"int8", "uint8"}:
        limits = np.iinfo(spec.dtype)
        return int(limits.min) <= value <= int(limits.max)
    if spec.dtype == "float32" and isinstance(value, int):
        return int(np.float32(value)) == value
    if spec.dtype == "float32":
        with np.errstate(over="ignore"):
            return math.isinf(value) or not np.isinf(np.float32(value))
    return True


@given(batches(), st.integers(0, 10**9))
def test_each_row_is_good_or_bad_and_the_good_ones_keep_their_order_and_values(
    batch: pa.RecordBatch, start: int
) -> None:
    names = batch.schema.names
    specs = [COLUMNS[name][2] for name in names]
    columns = dict(zip(names, batch.columns, strict=True))
    arrays, good, bad = extracted(columns, *specs, start=start)
    rows = [list(row.values()) for row in batch.to_pylist()]
    fitting = [all(map(fits, row, specs)) for row in rows]
    assert [row.row - start for row in bad] == [i for i, fit in enumerate(fitting) if not fit]
    assert (good is None) == all(fitting)
    assert good is None or good.tolist() == fitting
    for i, (array, spec) in enumerate(zip(arrays, specs, strict=True)):
        dtype = object if spec.dtype == "string" else spec.dtype
        kept = [row[i] for row, fit in zip(rows, fitting, strict=True) if fit]
        expected = np.array(as_bytes(kept), dtype).reshape(-1, *spec.shape)
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, expected)
