"""Whole numbers in as few bytes as they need: seven bits a byte, the lowest first (LEB128)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MORE = np.uint8(0x80)
_SEVEN = np.uint8(0x7F)
_LONGEST = 9
"""Bytes of the longest number, of 63 bits."""


def to_varints(numbers: NDArray[Any]) -> bytes:
    """The bytes of numbers, none of them negative."""
    left = np.asarray(numbers).astype(np.uint64)
    most = int(left.max(initial=0))
    if most < _MORE:
        return left.astype(np.uint8).tobytes()
    shifts = np.arange(0, most.bit_length(), 7, dtype=np.uint64)
    seven = (left[:, None] >> shifts).astype(np.uint8) & _SEVEN
    has = left[:, None] >= np.uint64(1) << shifts
    has[:, 0] = True
    seven[:, :-1] += has[:, 1:] * _MORE
    return seven[has].tobytes()


def from_varints(packed: bytes) -> NDArray[np.int64]:
    """The numbers that `to_varints` packed.

    Raises:
        ValueError: The last one is cut, or one is longer than 63 bits.
    """
    raw = np.frombuffer(packed, np.uint8)
    ends = np.flatnonzero(raw < _MORE)
    if len(raw) and (not len(ends) or ends[-1] != len(raw) - 1):
        raise ValueError("the last number is cut")
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    lengths = ends - starts + 1
    if len(lengths) and lengths.max() > _LONGEST:
        raise ValueError("a number of more than 63 bits")
    numbers = np.zeros(len(ends), np.int64)
    for byte in range(int(lengths.max()) if len(lengths) else 0):
        has = lengths > byte
        numbers[has] |= (raw[starts[has] + byte].astype(np.int64) & 0x7F) << (7 * byte)
    return numbers
