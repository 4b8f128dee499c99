"""PURE: predictions that are no number: NaN or infinite values in the outputs of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.outputs import is_float

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.outputs import Array


def not_finite(outputs: Mapping[str, Array]) -> dict[int, str]:
    """The rows with a NaN or an infinite value in any output, in order, and what they have.

    Args:
        outputs: Name → array, (rows, …). Whatever is no float is finite.

    Returns:
        Row → the reason, of the first such output.
    """
    found: dict[int, str] = {}
    for name, array in outputs.items():
        if not is_float(array.dtype):
            continue
        finite = np.isfinite(array)
        if finite.all():  # nearly always: nothing else is looked at
            continue
        rows = finite.reshape(len(array), -1).all(axis=1)
        for row in np.flatnonzero(~rows):
            nan = bool(np.isnan(array[row]).any())
            reason = f"NaN in the prediction {name!r}" if nan else f"infinite prediction {name!r}"
            found.setdefault(int(row), reason)
    return dict(sorted(found.items()))
