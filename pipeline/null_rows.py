"""PURE: bad rows that stay in their shard: null predictions, and the reason beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa


def with_nulls(
    predictions: list[pa.Array], good: np.ndarray[Any, np.dtype[np.bool_]] | None
) -> list[pa.Array]:
    """The predictions of the good rows, spread over all rows, null in between."""
    if good is None:
        return predictions
    places = pa.array(np.cumsum(good) - 1, mask=~good, type=pa.int64())
    return [_take(array, places) for array in predictions]


def _take(array: pa.Array, places: pa.Array) -> pa.Array:
    if isinstance(array.type, pa.ExtensionType):
        return pa.ExtensionArray.from_storage(array.type, array.storage.take(places))
    return array.take(places)


def reason_column(rows: int, reasons: dict[int, str]) -> pa.Array:
    """The reasons of the rows that have one, null for the others."""
    return pa.array([reasons.get(row) for row in range(rows)], pa.string())
