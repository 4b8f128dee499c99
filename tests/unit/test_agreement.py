"""Agreement of two methods' outputs, and arrays on their way from one process to another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from pipeline.agreement import agreement, worst
from pipeline.array_file import read_arrays, write_arrays

ROWS = np.array([[1.0, 2.0], [3.0, np.nan]], np.float32)


def test_the_same_is_the_same_nan_and_infinity_too() -> None:
    rows = {"y": np.array([1.0, np.nan, np.inf, -np.inf]), "n": np.array([1, 2]), "s": texts()}
    found = agreement(rows, {name: array.copy() for name, array in rows.items()})
    assert (found.same, found.largest, found.unequal, found.complaint) == (True, 0.0, 0, None)


def texts() -> Any:
    return np.array([b"a", b"\0b", b""], object)


def test_last_bits_may_differ_and_are_told() -> None:
    found = agreement({"y": ROWS + np.float32(2e-6)}, {"y": ROWS})
    assert found.same
    assert found.largest == pytest.approx(2e-6, rel=0.2)


@pytest.mark.parametrize(
    ("outputs", "largest"),
    [
        (ROWS + 1, 1.0),
        (np.array([[1, 2], [3, 4]], np.float32), np.inf),
        (np.array([[1, np.inf], [3, np.nan]], np.float32), np.inf),
    ],
)
def test_other_values_are_no_agreement(outputs: Any, largest: float) -> None:
    found = agreement({"y": outputs}, {"y": ROWS})
    assert not found.same
    assert found.largest == pytest.approx(largest)


def test_sixteen_bits_may_differ_by_more() -> None:
    half = np.array([1.0], ml_dtypes.bfloat16)
    assert agreement({"y": half + ml_dtypes.bfloat16(2**-7)}, {"y": half}).same
    single = half.astype(np.float32)
    assert not agreement({"y": single + np.float32(2**-7)}, {"y": single}).same


def test_integers_and_texts_are_equal_or_counted() -> None:
    found = agreement({"n": np.array([1, 2, 3])}, {"n": np.array([1, 0, 0])})
    assert (found.same, found.unequal) == (False, 2)
    assert not agreement({"s": texts()}, {"s": texts()[::-1]}).same


@pytest.mark.parametrize(
    ("outputs", "complaint"),
    [
        ({"z": ROWS}, "other outputs: z"),
        ({"y": ROWS[None]}, "shape (1, 2, 2)"),
        ({"y": ROWS.astype(np.float64)}, "type float64"),
    ],
)
def test_what_cannot_be_compared_is_said(outputs: Any, complaint: str) -> None:
    found = agreement(outputs, {"y": ROWS})
    assert (found.same, found.complaint) == (False, complaint)


def test_of_several_outputs_the_one_at_fault_is_named() -> None:
    outputs = {"a": ROWS, "b": ROWS}
    found = agreement({"a": ROWS, "b": ROWS[:1]}, outputs)
    assert found.complaint == "b: shape (1, 2)"


def test_the_worst_batch_counts() -> None:
    good, bad = agreement({"y": ROWS}, {"y": ROWS}), agreement({"y": ROWS + 1}, {"y": ROWS})
    assert worst([good, good]).same
    assert worst([good, bad, good]).largest == 1.0
    assert worst([good, agreement({}, {"y": ROWS}), bad]).complaint == "other outputs: "


@pytest.mark.parametrize(
    "array",
    [
        ROWS,
        ROWS[:, ::-1],
        np.zeros((0, 3), np.int8),
        np.array([True, False]),
        np.array([1.5, -2.0], ml_dtypes.bfloat16),
        np.array([["a\0", "ü"], ["", "b"]], object),
        texts(),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_arrays_come_back_as_they_were_written(array: Any, tmp_path: Path) -> None:
    write_arrays(tmp_path / "file", {"x/y": array, "": np.arange(3)})
    back = read_arrays(tmp_path / "file")
    assert list(back) == ["x/y", ""]
    assert (back["x/y"].dtype, back["x/y"].shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(back["x/y"], array)
