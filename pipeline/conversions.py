"""PURE: how values of an Arrow type become values of an input's type, and whether anything is lost.

    exact     each value of the type is held by the input
    checked   most are; each value is checked, and one that is not held makes its row a bad one
    rounded   most are not: to the nearest value, and only where the user has allowed it

Nothing else is a conversion: floats never become integers, numbers never booleans, texts never
numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

if TYPE_CHECKING:
    from pipeline.input_options import Unit

Conversion = Literal["exact", "checked", "rounded"]

MANTISSA = {"bfloat16": 8, "float16": 11, "float32": 24, "float64": 53}
"""Bits of an integer that each float type holds exactly."""

TYPES = {
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *MANTISSA,
}
"""What columns of numbers can become. No column feeds inputs of other types."""

PER_SECOND: dict[str, tuple[int, int]] = {
    "days": (1, 86_400),
    "s": (1, 1),
    "ms": (1_000, 1),
    "us": (1_000_000, 1),
    "ns": (1_000_000_000, 1),
}
"""How many of a unit are a second, as a fraction."""

UNITS: dict[str, str] = {
    "days": "days",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
}


def conversion_of(
    kind: pa.DataType, dtype: str, unit: Unit | None = None, *, allow_lossy: bool = False
) -> Conversion | None:
    """How values of an Arrow type become an input's dtype; None if they cannot.

    A conversion that is `rounded` needs to be allowed; with `allow_lossy` what would be `checked`
    is rounded too, where the input's type is a float.

    Args:
        kind: The type, not a list.
        dtype: numpy's name of the input's type, or `string`.
        unit: What times are counted in; without it they cannot be converted.
        allow_lossy: Whether values may lose precision.
    """
    if pt.is_dictionary(kind):
        kind = kind.value_type
    if dtype == "string":
        return "exact" if is_text(kind) or is_bytes(kind) else None
    if dtype not in TYPES:
        return None
    if pt.is_boolean(kind):
        return "exact"
    if dtype == "bool" or is_text(kind) or is_bytes(kind):
        return None
    if is_time(kind):
        found = None if unit is None else _of_time(kind, dtype, unit)
    elif pt.is_decimal(kind):
        found = _of_decimal(kind, dtype)
    elif pt.is_floating(kind):
        found = _of_float(kind, dtype)
    elif pt.is_integer(kind):
        found = _of_integer(np.dtype(kind.to_pandas_dtype()), dtype)
    else:
        found = None
    return "rounded" if found == "checked" and allow_lossy and dtype in MANTISSA else found


def _of_float(kind: pa.DataType, dtype: str) -> Conversion | None:
    if dtype not in MANTISSA:
        return None
    return "exact" if MANTISSA[dtype] >= MANTISSA[f"float{kind.bit_width}"] else "rounded"


def _of_integer(source: np.dtype[Any], dtype: str) -> Conversion:
    if dtype in MANTISSA:
        bits = source.itemsize * 8 - (source.kind == "i")
        return "exact" if bits <= MANTISSA[dtype] else "checked"
    return "exact" if np.can_cast(source, np.dtype(dtype)) else "checked"


def _of_decimal(kind: pa.DataType, dtype: str) -> Conversion | None:
    if kind.scale > 0:
        return "rounded" if dtype in MANTISSA else None
    digits = kind.precision - kind.scale
    if dtype in MANTISSA:
        return "exact" if 10**digits <= 2 ** MANTISSA[dtype] else "checked"
    return "exact" if 10**digits - 1 <= np.iinfo(dtype).max and _is_signed(dtype) else "checked"


def _is_signed(dtype: str) -> bool:
    return np.dtype(dtype).kind == "i"


def _of_time(kind: pa.DataType, dtype: str, unit: Unit) -> Conversion:
    narrow = kind.bit_width == 32
    instant = pt.is_timestamp(kind) or (pt.is_date(kind) and unit != "days")
    if instant and MANTISSA.get(dtype, 64) < MANTISSA["float64"]:
        return "rounded"  # the seconds since 1970 alone have 31 bits
    if unit_of(kind) != unit:
        return "checked"
    return _of_integer(np.dtype(np.int32 if narrow else np.int64), dtype)


def unit_of(kind: pa.DataType) -> Unit:
    """What a time type counts."""
    if pt.is_date32(kind):
        return "days"
    if pt.is_date64(kind):
        return "ms"
    unit: Unit = kind.unit
    return unit


def is_time(kind: pa.DataType) -> bool:
    """Whether values are dates, times of day, timestamps or durations."""
    return bool(
        pt.is_date(kind) or pt.is_timestamp(kind) or pt.is_duration(kind) or pt.is_time(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Whether values are texts."""
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def is_bytes(kind: pa.DataType) -> bool:
    """Whether values are bytes."""
    return bool(
        pt.is_binary(kind)
        or pt.is_large_binary(kind)
        or pt.is_fixed_size_binary(kind)
        or pt.is_binary_view(kind)
    )


def is_own_type(kind: pa.DataType, dtype: str) -> bool:
    """Whether values of an Arrow type are, in memory, values of an input's type."""
    if not (pt.is_floating(kind) or pt.is_integer(kind)):
        return False
    return bool(np.dtype(kind.to_pandas_dtype()).name == dtype)


def numpy_type(dtype: str) -> np.dtype[Any]:
    """numpy's type of an input; bfloat16 is one of TensorFlow's own."""
    if dtype == "bfloat16":
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return found
    return np.dtype(dtype)
