"""PURE: values of an Arrow array, none of them null, as numpy values of an input's type.

Each kind of value has its own way; which rows hold a value that the type does not, is told beside
the values. Lists are `pipeline.nested`'s: here values are flat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from pipeline.conversions import MANTISSA, PER_SECOND, is_time, numpy_type, unit_of

if TYPE_CHECKING:
    from pipeline.conversions import Conversion
    from pipeline.input_options import Unit

Array = np.ndarray[Any, Any]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


def converted(
    values: pa.Array, dtype: str, conversion: Conversion, unit: Unit | None = None
) -> tuple[Array, Mask | None]:
    """Values as an input's type.

    Args:
        values: Flat, without nulls.
        dtype: numpy's name of the input's type, or `string`.
        conversion: What was found when their type was checked.
        unit: What times are counted in.

    Returns:
        The values, (n,); and which of them the type does not hold, None if it holds them all.
    """
    if pt.is_dictionary(values.type):
        values = values.dictionary_decode()
    if dtype == "string":
        return _texts(values), None
    kind = values.type
    if is_time(kind) and unit is not None:
        return _times(values, dtype, conversion, unit)
    if pt.is_decimal(kind):
        return _decimals(values, dtype, conversion)
    raw: Array = values.to_numpy(zero_copy_only=False)
    return _numbers(raw, dtype, conversion)


def _texts(values: pa.Array) -> Array:
    # As bytes: text that is not UTF-8 is the model's to judge, as it would be in predict().
    if not pt.is_binary(values.type) and not pt.is_large_binary(values.type):
        values = values.cast(pa.large_binary(), safe=False)
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=object)


def _numbers(raw: Array, dtype: str, conversion: Conversion) -> tuple[Array, Mask | None]:
    target = numpy_type(dtype)
    if raw.dtype == target:
        return raw, None
    with np.errstate(over="ignore", invalid="ignore"):
        array = raw.astype(target)
    return array, None if conversion == "exact" else _misfits(raw, array, dtype, conversion)


def _misfits(raw: Array, array: Array, dtype: str, conversion: Conversion) -> Mask | None:
    if conversion == "rounded":
        wrong = ~np.isfinite(array.astype(np.float64)) & np.isfinite(raw.astype(np.float64))
    elif dtype in MANTISSA:
        # A long double holds each 64-bit integer and each float exactly, so this is exact too.
        wrong = array.astype(np.longdouble) != raw.astype(np.longdouble)
    else:
        wrong = array.astype(raw.dtype) != raw
        wrong |= (raw < 0) != (array < 0)
    return wrong if wrong.any() else None


def _times(
    values: pa.Array, dtype: str, conversion: Conversion, unit: Unit
) -> tuple[Array, Mask | None]:
    """Times as counts of a unit: multiplied, or divided where they can be or may be rounded."""
    kind = values.type
    counts = values.cast(pa.int32() if kind.bit_width == 32 else pa.int64()).to_numpy(
        zero_copy_only=False
    )
    if unit_of(kind) == unit:
        return _numbers(counts, dtype, conversion)
    (up, down), (source_up, source_down) = PER_SECOND[unit], PER_SECOND[unit_of(kind)]
    factor, divisor = up * source_down, source_up * down
    counts = counts.astype(np.int64)
    if factor >= divisor:
        factor //= divisor
        limit = np.iinfo(np.int64).max // factor
        beyond = (counts > limit) | (counts < -limit)
        array, wrong = _numbers(np.where(beyond, 0, counts) * factor, dtype, conversion)
        return array, _either(beyond, wrong)
    divisor //= factor
    whole, rest = np.divmod(counts, divisor)
    if dtype not in MANTISSA:
        array, wrong = _numbers(whole, dtype, "checked")
        return array, _either(rest != 0, wrong)
    target = numpy_type(dtype)
    exact = whole.astype(np.longdouble) + rest.astype(np.longdouble) / divisor
    array = exact.astype(target)
    if conversion == "rounded":
        return array, None
    # Held exactly if multiplying gives the count again; a long double has the bits for both.
    wrong = array.astype(np.longdouble) * divisor != counts.astype(np.longdouble)
    return array, wrong if wrong.any() else None


def _decimals(values: pa.Array, dtype: str, conversion: Conversion) -> tuple[Array, Mask | None]:
    if values.type.scale > 0:
        return _numbers(_floats_of(values), dtype, conversion)
    wide = values.cast(pa.decimal256(76, 0))
    whole = wide.cast(pa.int64(), safe=False)
    beyond = np.asarray(
        pa.compute.not_equal(whole.cast(pa.decimal256(76, 0)), wide).to_numpy(zero_copy_only=False)
    )
    array, wrong = _numbers(whole.to_numpy(zero_copy_only=False), dtype, conversion)
    if conversion == "rounded" and beyond.any():
        array, wrong = _numbers(_floats_of(values), dtype, conversion)
        return array, wrong
    return array, _either(beyond, wrong)


def _floats_of(values: pa.Array) -> Array:
    """Decimals as the nearest doubles: by their texts, since Arrow's own cast may be one off."""
    floats: Array = values.cast(pa.string()).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return floats


def _either(one: Mask, other: Mask | None) -> Mask | None:
    wrong = one if other is None else one | other
    return wrong if wrong.any() else None
