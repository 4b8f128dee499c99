"""PURE: values of an Arrow array, none of them null, as numpy values of an input's type.

Each kind of value has its own way; which rows hold a value that the type does not, is told beside
the values. Lists are `pipeline.nested`'s: here values are flat.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from pipeline.conversions import MANTISSA, PER_SECOND, is_time, numpy_type, unit_of

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    if raw.dtype.kind in "iu" and _all_held(raw, dtype):
        return None
    if conversion == "rounded":
        wrong = ~np.isfinite(array.astype(np.float64)) & np.isfinite(raw.astype(np.float64))
    elif dtype in MANTISSA:
        # A long double holds each 64-bit integer and each float exactly, so this is exact too.
        wrong = array.astype(np.longdouble) != raw.astype(np.longdouble)
    else:
        wrong = array.astype(raw.dtype) != raw
        wrong |= (raw < 0) != (array < 0)
    return wrong if wrong.any() else None


def _all_held(raw: Array, dtype: str) -> bool:
    """Whether integers are all where the input holds each: so it is with most, and soon seen."""
    if raw.size == 0:
        return True
    if dtype in MANTISSA:
        low, high = -(2 ** MANTISSA[dtype]), 2 ** MANTISSA[dtype]
    else:
        limits = np.iinfo(dtype)
        low, high = int(limits.min), int(limits.max)
    return bool(low <= int(raw.min()) and int(raw.max()) <= high)


def _times(
    values: pa.Array, dtype: str, conversion: Conversion, unit: Unit
) -> tuple[Array, Mask | None]:
    """Times as counts of a unit: those of their own type, multiplied or divided."""
    kind = values.type
    counts: Array = values.cast(pa.int32() if kind.bit_width == 32 else pa.int64()).to_numpy(
        zero_copy_only=False
    )
    if unit_of(kind) == unit:
        return _numbers(counts, dtype, conversion)
    counts = counts.astype(np.int64)
    (up, down), (source_up, source_down) = PER_SECOND[unit], PER_SECOND[unit_of(kind)]
    ratio = Fraction(up * source_down, source_up * down)
    if ratio > 1:
        return _multiplied(counts, int(ratio), dtype, conversion)
    return _divided(counts, int(1 / ratio), dtype, conversion)


def _multiplied(
    counts: Array, factor: int, dtype: str, conversion: Conversion
) -> tuple[Array, Mask | None]:
    limit = np.iinfo(np.int64).max // factor
    beyond = (counts > limit) | (counts < -limit)
    array, wrong = _numbers(np.where(beyond, 0, counts) * factor, dtype, conversion)
    if beyond.any():
        products = [Fraction(int(count) * factor) for count in counts[beyond]]
        return _with_big_ones(array, wrong, beyond, products, dtype, conversion)
    return array, wrong


def _divided(
    counts: Array, divisor: int, dtype: str, conversion: Conversion
) -> tuple[Array, Mask | None]:
    if dtype not in MANTISSA:
        whole, rest = np.divmod(counts, divisor)
        array, wrong = _numbers(whole, dtype, "checked")
        return array, _either(rest != 0, wrong)
    if conversion == "rounded":
        # Python divides integers of any size to the nearest double, where numpy rounds them first.
        exact = np.abs(counts) < 2**53
        doubles = counts / divisor
        doubles[~exact] = [count / divisor for count in counts[~exact].tolist()]
        return _numbers(doubles, dtype, conversion)
    # n / (odd * 2**k) is a binary fraction if odd divides n, and then a long double holds it.
    twos = divisor & -divisor
    whole, rest = np.divmod(counts, divisor // twos)
    quotients = whole.astype(np.longdouble) / twos
    array, wrong = _numbers(quotients, dtype, conversion)
    return array, _either(rest != 0, wrong)


def _decimals(values: pa.Array, dtype: str, conversion: Conversion) -> tuple[Array, Mask | None]:
    if values.type.scale > 0:
        return _numbers(_floats_of(values), dtype, conversion)
    wide = values.cast(pa.decimal256(76, 0))
    whole = wide.cast(pa.int64(), safe=False)
    beyond: Mask = pc.not_equal(whole.cast(wide.type), wide).to_numpy(zero_copy_only=False)
    array, wrong = _numbers(whole.to_numpy(zero_copy_only=False), dtype, conversion)
    if beyond.any():
        found = [Fraction(value) for value in wide.filter(pa.array(beyond)).to_pylist()]
        return _with_big_ones(array, wrong, beyond, found, dtype, conversion)
    return array, wrong


def _with_big_ones(
    array: Array,
    wrong: Mask | None,
    big: Mask,
    values: Sequence[Fraction],
    dtype: str,
    conversion: Conversion,
) -> tuple[Array, Mask | None]:
    """Puts in what an int64 does not hold, and the input may: one by one, for there are few."""
    wrong = np.zeros(len(array), bool) if wrong is None else wrong.copy()
    array = array.copy()
    if dtype not in MANTISSA:
        top = int(np.iinfo(dtype).max)
        held = [0 <= value <= top for value in values]
        wrong[big] = ~np.array(held)
        array[big] = [int(v) if fits else 0 for v, fits in zip(values, held, strict=True)]
        return array, wrong if wrong.any() else None
    with np.errstate(over="ignore"):
        array[big] = np.array([float(value) for value in values]).astype(array.dtype)
    floats = array[big].astype(np.float64)
    if conversion == "rounded":
        wrong[big] = np.isinf(floats)
    else:
        pairs = zip(floats.tolist(), values, strict=True)
        wrong[big] = [math.isinf(one) or Fraction(one) != value for one, value in pairs]
    return array, wrong if wrong.any() else None


def _floats_of(values: pa.Array) -> Array:
    """Decimals as the nearest doubles: by their texts, since Arrow's own cast may be one off."""
    floats: Array = values.cast(pa.string()).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return floats


def _either(one: Mask, other: Mask | None) -> Mask | None:
    wrong = one if other is None else one | other
    return wrong if wrong.any() else None


def shown(values: pa.Array, place: int) -> str:
    """A value as people write it; a time that no calendar of Python's holds, as its number."""
    value = values[place]
    try:
        return str(value.as_py())
    except (OverflowError, ValueError):
        return str(value.value)
