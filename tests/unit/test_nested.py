"""Lists as rectangles: sequences padded and cut, tensors, and which rows are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.binding import Reading, check
from pipeline.extract import extract
from pipeline.input_options import InputOptions
from pipeline.nested import pad_fits
from pipeline.records import BadRow
from pipeline.signature import InputSpec, Signature

TOKENS = pa.list_(pa.int64())
WORDS = pa.list_(pa.string())
VECTORS = pa.list_(pa.list_(pa.float32(), 2))


def fed(
    column: pa.Array, dtype: str, shape: tuple[int, ...], **options: Any
) -> tuple[np.ndarray[Any, Any], tuple[BadRow, ...]]:
    """What reaches an input that a column feeds, and the rows that do not."""
    batch = pa.record_batch({"x": column})
    signature = Signature((InputSpec("x", shape, dtype),), "tensor", (), custom_step=False)
    reading = Reading({"x": InputOptions(**options)})
    (array,), _, bad = extract(check(signature, {"x": ("x",)}, batch.schema, reading), batch, 0)
    assert array.shape[1:] == shape
    return array, bad


# Sequences


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({}, [[1, 2, 0], [1, 2, 3], [0, 0, 0]]),
        ({"pad": "before"}, [[0, 1, 2], [1, 2, 3], [0, 0, 0]]),
        ({"pad_value": -1}, [[1, 2, -1], [1, 2, 3], [-1, -1, -1]]),
        ({"pad": "before", "pad_value": 9}, [[9, 1, 2], [1, 2, 3], [9, 9, 9]]),
        ({"pad_value": True}, [[1, 2, 1], [1, 2, 3], [1, 1, 1]]),
        ({"pad_value": 7.0}, [[1, 2, 7], [1, 2, 3], [7, 7, 7]]),
    ],
)
def test_a_short_sequence_is_padded(options: dict[str, Any], rows: list[list[int]]) -> None:
    array, bad = fed(pa.array([[1, 2], [1, 2, 3], []], TOKENS), "int32", (3,), length=3, **options)
    assert array.tolist() == rows
    assert array.dtype == np.int32
    assert bad == ()


@pytest.mark.parametrize(
    ("options", "row"),
    [
        ({"truncate": "end"}, [1, 2, 3]),
        ({"truncate": "start"}, [3, 4, 5]),
        ({"truncate": "end", "pad": "before"}, [1, 2, 3]),
        ({"truncate": "start", "pad": "before"}, [3, 4, 5]),
    ],
)
def test_a_long_sequence_is_cut_at_the_end_that_is_said(
    options: dict[str, Any], row: list[int]
) -> None:
    column = pa.array([[1, 2, 3, 4, 5], [7]], TOKENS)
    array, bad = fed(column, "int64", (3,), length=3, **options)
    filled = [0, 0, 7] if "pad" in options else [7, 0, 0]
    assert array.tolist() == [row, filled]
    assert bad == ()


def test_a_long_sequence_is_a_bad_row_unless_it_may_be_cut() -> None:
    column = pa.array([[1, 2, 3, 4], [1]], TOKENS)
    array, (row,) = fed(column, "int64", (3,), length=3)
    assert array.tolist() == [[1, 0, 0]]
    assert row.row == 0
    assert row.reason == (
        "a list of 4 values in column 'x'; the model's input takes 3, and nothing is cut off "
        "(truncate)"
    )


def test_what_is_cut_off_is_looked_at_all_the_same() -> None:
    column = pa.array([[1, 2, None], [1, 2, 300], [1, 2, 3]], TOKENS)
    array, bad = fed(column, "uint8", (2,), length=2, truncate="end")
    assert array.tolist() == [[1, 2]]
    assert [row.row for row in bad] == [0, 1]


def test_sequences_of_texts_are_padded_with_no_text_or_with_the_one_that_is_said() -> None:
    column = pa.array([["a"], ["b", "c"]], WORDS)
    assert fed(column, "string", (2,), length=2)[0].tolist() == [[b"a", b""], [b"b", b"c"]]
    array, _ = fed(column, "string", (2,), length=2, pad_value="[PAD]")
    assert array.tolist() == [[b"a", b"[PAD]"], [b"b", b"c"]]


def test_sequences_of_booleans_are_padded_with_booleans() -> None:
    column = pa.array([[True], [False, True]], pa.list_(pa.bool_()))
    array, _ = fed(column, "bool", (2,), length=2, pad_value=True)
    assert array.tolist() == [[True, True], [False, True]]
    assert array.dtype == np.bool_


def test_sequences_of_vectors_are_padded_with_vectors() -> None:
    column = pa.array([[[1, 2]], [[1, 2], [3, 4], [5, 6]], []], VECTORS)
    array, _ = fed(column, "float32", (2, 2), length=2, truncate="start", pad_value=-1)
    assert array.tolist() == [[[1, 2], [-1, -1]], [[3, 4], [5, 6]], [[-1, -1], [-1, -1]]]


def test_lists_of_one_width_are_padded_and_cut_alike() -> None:
    column = pa.array([[1, 2], [3, 4]], pa.list_(pa.int64(), 2))
    assert fed(column, "int64", (3,), length=3)[0].tolist() == [[1, 2, 0], [3, 4, 0]]
    assert fed(column, "int64", (1,), length=1, truncate="start")[0].tolist() == [[2], [4]]


def test_a_value_that_does_not_fit_is_found_in_sequences_of_any_length() -> None:
    column = pa.array([[], [1, 2, 3], [300], [4, 300, 301], None, [5]], TOKENS)
    array, bad = fed(column, "uint8", (3,), length=3)
    assert array.tolist() == [[0, 0, 0], [1, 2, 3], [5, 0, 0]]
    assert [row.row for row in bad] == [2, 3, 4]
    assert bad[1].reason.startswith("300 in column 'x'")


# Nested lists and tensors


def test_lists_of_lists_become_matrices() -> None:
    kind = pa.list_(pa.large_list(pa.int8()))
    rows = [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    array, bad = fed(pa.array(rows, kind), "float32", (2, 2))
    assert array.tolist() == rows
    assert bad == ()


def test_what_is_ragged_inside_is_told_by_its_level() -> None:
    kind = pa.list_(pa.list_(pa.list_(pa.int8())))
    rows = [
        [[[1], [2]]],
        [[[1], [2]], [[3], [4]]],
        [[[1]]],
        [[[1], [2, 3]]],
        [[[1], None]],
        [[[1], [None]]],
        None,
    ]
    array, bad = fed(pa.array(rows, kind), "int8", (1, 2, 1))
    assert array.tolist() == [rows[0]]
    takes = "the model's input takes"
    assert [row.reason for row in bad] == [
        f"a list of 2 values in column 'x'; {takes} 1 (1 x 2 x 1 in all)",
        f"a list of 1 values inside a list of column 'x'; {takes} 2 (1 x 2 x 1 in all)",
        f"a list of 2 values inside a list of column 'x'; {takes} 1 (1 x 2 x 1 in all)",
        "null inside the list of column 'x'",
        "null inside the list of column 'x'",
        "null in column 'x', read by the model's input 'x'",
    ]
    assert [row.row for row in bad] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("order", [None, [0, 1, 2]])
def test_tensors_become_arrays_of_their_shape(order: list[int] | None) -> None:
    kind = pa.fixed_shape_tensor(pa.int16(), [2, 1, 3], permutation=order)
    values = np.arange(18).reshape(3, 2, 1, 3)
    storage = pa.array(list(values.reshape(3, 6)), kind.storage_type)
    tensors = pa.ExtensionArray.from_storage(kind, storage)
    array, bad = fed(tensors.slice(1), "float32", (2, 1, 3))
    np.testing.assert_array_equal(array, values[1:])
    assert bad == ()


def test_a_null_tensor_and_one_with_a_hole_are_bad_rows() -> None:
    kind = pa.fixed_shape_tensor(pa.int16(), [2, 2])
    storage = pa.array([[1, 2, 3, 4], None, [1, None, 3, 4], [1, 2, 3, 300]], kind.storage_type)
    array, bad = fed(pa.ExtensionArray.from_storage(kind, storage), "uint8", (2, 2))
    assert array.tolist() == [[[1, 2], [3, 4]]]
    assert [row.row for row in bad] == [1, 2, 3]


def test_lists_of_one_width_are_not_copied() -> None:
    values = pa.array(np.arange(6, dtype=np.float32))
    column = pa.FixedSizeListArray.from_arrays(values, 3)
    array, _ = fed(column, "float32", (3,))
    assert np.shares_memory(array, values.to_numpy())


# What sequences may be padded with


@pytest.mark.parametrize(
    ("dtype", "fitting", "others"),
    [
        ("uint8", [0, 255, True, 3.0], [-1, 256, 0.5, "0", "", 10**400]),
        ("int64", [-1, 2**63 - 1, -1.0], [2**63, 1e300, 0.5, "a"]),
        ("float32", [0, 0.1, True, 2**24, -1], [2**24 + 1, 1e300, 10**400, "a", ""]),
        ("float16", [65504, 0.1], [65520.0, 2049, 10**6]),
        ("bfloat16", [256, 0.1], [257, "a"]),
        ("bool", [0, 1, True, False, 0.0], [2, -1, 0.5, "true"]),
        ("string", ["", "a", 0, False], [1, 2.5, True]),
    ],
)
def test_padding_is_a_value_that_the_input_holds(
    dtype: str, fitting: list[Any], others: list[Any]
) -> None:
    assert [value for value in [*fitting, *others] if pad_fits(value, dtype)] == fitting
