"""PURE: numbers in buckets of fixed bounds, so that counts of them add up without rounding.

A bucket holds the numbers of one sign, exponent and first seven bits behind the point, which are
less than 0.8% apart. (It is a bfloat16, cut, not rounded.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BUCKETS = 1 << 16
"""How many there are."""

_SIGN = 0x8000


def bucket_of(values: NDArray[Any]) -> NDArray[np.uint32]:
    """The bucket of each number; a higher number's is not lower.

    Args:
        values: Numbers other than NaN.
    """
    if values.dtype == np.float32:
        narrow = values + np.float32(0)  # minus 0 becomes 0
    else:
        with np.errstate(over="ignore"):
            narrow = values.astype(np.float32) + np.float32(0)
        most = np.finfo(np.float32).max  # what overflows is not infinite
        narrow = np.where(np.isfinite(values), np.clip(narrow, -most, most), narrow)
    bits = narrow.view(np.uint32) >> np.uint32(16)
    # The bits of negative numbers rise as these fall.
    turned: NDArray[np.uint32] = np.where(
        bits & np.uint32(_SIGN), np.uint32(0xFFFF), np.uint32(_SIGN)
    )
    return bits ^ turned


def bounds_of(buckets: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The lowest and the highest number of each bucket."""
    keys = np.asarray(buckets, np.uint32)
    negative = keys < _SIGN
    bits = np.where(negative, keys ^ 0xFFFF, keys ^ _SIGN).astype(np.uint32) << 16
    near = bits.view(np.float32)
    finite = np.isfinite(near)
    far = np.where(finite, bits | 0xFFFF, bits).astype(np.uint32).view(np.float32)
    return np.where(negative, far, near), np.where(negative, near, far)


def summed(
    parts: Sequence[tuple[NDArray[np.uint32], NDArray[np.int64]]],
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Keys and counts of several parts, added up."""
    keys = np.concatenate([part[0] for part in parts])
    found, places = np.unique(keys, return_inverse=True)
    counts = np.zeros(len(found), np.int64)
    np.add.at(counts, places, np.concatenate([part[1] for part in parts]))
    return found, counts
