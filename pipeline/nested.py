"""PURE: lists as rectangles: which rows are none, and the values of those that are.

A row's lists must have the length that each level wants, hold no null at any level, and may be
padded or cut at the outermost where the job says so.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from pipeline.conversions import MANTISSA, numpy_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.input_options import InputOptions

Array = np.ndarray[Any, Any]


def misshapen(
    column: pa.Array, dims: tuple[int, ...], sequence: InputOptions | None
) -> Iterator[tuple[Array, list[int] | None, int]]:
    """The rows of a column of lists that are no rectangle.

    Args:
        column: Lists, none of them null.
        dims: The length of each level.
        sequence: How the outermost level is padded and cut, if it is.

    Yields:
        Positions of rows; the length of the list that is wrong in each, or None where there is
        a null inside; and the level of the lists, from 0.
    """
    owners = np.arange(len(column))
    column, dims = _stored(column, dims)
    for level, wanted in enumerate(dims):
        if not pt.is_fixed_size_list(column.type):
            lengths = _lengths(column)
            loose = sequence if level == 0 else None
            wrong = lengths != wanted if loose is None else _too_long(lengths, wanted, loose)
            if wrong.any():
                yield owners[wrong], lengths[wrong].tolist(), level
        values = pc.list_flatten(column)
        if not values.null_count and level == len(dims) - 1:
            return  # what most are: whose each value is, need not be known
        owners = owners[pc.list_parent_indices(column).to_numpy(zero_copy_only=False)]
        column = values
        if column.null_count:
            there = column.is_valid().to_numpy(zero_copy_only=False)
            yield np.unique(owners[~there]), None, level
            owners, column = owners[there], column.drop_null()


def _too_long(lengths: Array, wanted: int, sequence: InputOptions) -> Array:
    if sequence.truncate != "never":
        return np.zeros(len(lengths), bool)
    too_long: Array = lengths > wanted
    return too_long


def flat(column: pa.Array, dims: tuple[int, ...]) -> pa.Array:
    """The values of sound lists, without their nesting."""
    column, dims = _stored(column, dims)
    for _ in dims:
        column = pc.list_flatten(column)
    return column


def lengths_of(column: pa.Array) -> Array:
    """The length of each list of a column without nulls."""
    return _lengths(_stored(column, ())[0])


def padded(values: Array, lengths: Array, length: int, sequence: InputOptions) -> Array:
    """Sequences of any length as sequences of one.

    Args:
        values: Of all sequences, end to end: (sum of lengths, …).
        lengths: Of each, (rows,).
        length: The length to make.
        sequence: Where to pad, with what, and which end to cut.

    Returns:
        (rows, length, …).
    """
    taken = np.minimum(lengths, length)
    first = np.cumsum(lengths) - lengths
    if sequence.truncate == "start":
        first = first + lengths - taken
    places = np.arange(length)
    offset = (length - taken)[:, None] if sequence.pad == "before" else 0
    inside = (places >= offset) & (places < taken[:, None] + offset)
    out = np.full((len(lengths), length, *values.shape[1:]), _pad_value(values, sequence))
    out = out.astype(values.dtype, copy=False)
    out[inside] = values[(first[:, None] + places - offset)[inside]]
    return out


def pad_fits(value: bool | float | str, dtype: str) -> bool:
    """Whether sequences of an input's type can be padded with a value."""
    if dtype == "string":
        return isinstance(value, str) or value == 0
    if isinstance(value, str):
        return False
    if dtype == "bool":
        return value in {0, 1}
    if dtype in MANTISSA:
        with np.errstate(over="ignore"):
            try:
                held = float(np.array(value, np.float64).astype(numpy_type(dtype)))
            except OverflowError:  # an integer beyond all floats
                return False
        return held == value if isinstance(value, int) else math.isfinite(held)
    limits = np.iinfo(dtype)
    return value == int(value) and int(limits.min) <= value <= int(limits.max)


def _pad_value(values: Array, sequence: InputOptions) -> Any:
    if values.dtype != object:
        return np.asarray(sequence.pad_value).astype(values.dtype)
    # Zero, which is the default, would be no text.
    value = "" if sequence.pad_value == 0 else sequence.pad_value
    return str(value).encode()


def _stored(column: pa.Array, dims: tuple[int, ...]) -> tuple[pa.Array, tuple[int, ...]]:
    """A column of tensors as the lists that they are stored as: one level, all values of a row."""
    if not isinstance(column, pa.ExtensionArray):
        return column, dims
    return column.storage, (int(np.prod(dims)),)


def _lengths(column: pa.Array) -> Array:
    if pt.is_fixed_size_list(column.type):
        return np.full(len(column), column.type.list_size)
    lengths: Array = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    return lengths
