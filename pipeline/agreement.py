"""Agreement: how far what one prediction method gives is from what another gives on the same rows.

PURE. Floats are compared by their distance, all else by equality; another structure, shape or type
is said in words and needs no look at the values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Array = np.ndarray[Any, np.dtype[Any]]

LAST_BITS = 1e-5
"""What floats of batches of one size may differ by, as a part of them or of 1 if that is more."""

LAST_BITS_16 = 1e-2
"""The same where they have 16 bits."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What one method gave, held against another.

    Attributes:
        complaint: What keeps the outputs from being compared, in words, or None.
        largest: The largest distance between two floats; infinite if one alone is a number.
        unequal: Values of other types that are not equal.
        same: Whether they agree but for the last bits.
    """

    complaint: str | None
    largest: float
    unequal: int
    same: bool


def agreement(outputs: Mapping[str, Array], truth: Mapping[str, Array]) -> Agreement:
    """Compares outputs by name."""
    if list(outputs) != list(truth):
        return _apart(f"other outputs: {', '.join(outputs)}")
    for name, array in outputs.items():
        right = truth[name]
        which = f"{name}: " if len(truth) > 1 else ""
        if array.shape != right.shape:
            return _apart(f"{which}shape {array.shape}")
        if array.dtype != right.dtype:
            return _apart(f"{which}type {array.dtype}")
    largest, unequal, same = 0.0, 0, True
    for name, array in outputs.items():
        if _is_float(array):
            distance, relative = _distance(array, truth[name])
            largest = max(largest, distance)
            same &= relative <= (LAST_BITS if array.dtype.itemsize > 2 else LAST_BITS_16)
        else:
            unequal += int(np.count_nonzero(array != truth[name]))
    return Agreement(None, largest, unequal, same and not unequal)


def worst(found: Sequence[Agreement]) -> Agreement:
    """Several batches' agreements as one."""
    for one in found:
        if one.complaint is not None:
            return one
    return Agreement(
        None,
        max((one.largest for one in found), default=0.0),
        sum(one.unequal for one in found),
        all(one.same for one in found),
    )


def _apart(complaint: str) -> Agreement:
    return Agreement(complaint, float("inf"), 0, same=False)


def _is_float(array: Array) -> bool:
    # numpy does not know bfloat16 and its like for floats: their kind is "V".
    return array.dtype.kind in "fc" or array.dtype.name.startswith(("bfloat", "float"))


def _distance(array: Array, right: Array) -> tuple[float, float]:
    """The largest distance, and the largest as a part of the right value (or of 1)."""
    if array.size == 0:
        return 0.0, 0.0
    wide: Any = np.complex128 if array.dtype.kind == "c" else np.float64
    one, other = array.astype(wide), right.astype(wide)
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(one - other)
    # NaN stands for NaN and infinity for itself; one of them against a number is infinitely far.
    distance = np.where((one == other) | (np.isnan(one) & np.isnan(other)), 0.0, distance)
    distance = np.where(np.isnan(distance), np.inf, distance)
    with np.errstate(invalid="ignore"):
        part = np.where(distance == 0, 0.0, distance / np.maximum(1.0, np.abs(other)))
    part = np.where(np.isnan(part), np.inf, part)
    return float(distance.max()), float(part.max())
