"""Whether two folders of Parquet hold the same predictions, row by row by their key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

TOLERANCE = 1e-5


def complaint(ours: Path, theirs: Path, key: str, rows: int) -> str | None:
    """What is wrong with a contestant's predictions, in words; None if nothing is.

    Args:
        ours: The folder of our predictions; may hold more rows than were asked of the contestant.
        theirs: The folder of its predictions.
        key: The column that names a row.
        rows: Rows that it was to score.
    """
    our_keys, right = predictions(ours, key)
    their_keys, given = predictions(theirs, key)
    if len(their_keys) != rows:
        return f"{len(their_keys)} rows, not {rows}"
    if len(np.unique(their_keys)) != rows:
        return "rows that occur twice"
    places = np.searchsorted(our_keys, their_keys)
    if places.max(initial=0) >= len(our_keys) or (our_keys[places] != their_keys).any():
        return "rows that are none of the input's"
    if given.shape[1:] != right.shape[1:]:
        return f"predictions of shape {given.shape[1:]}, not {right.shape[1:]}"
    apart = np.abs(given - right[places])
    if not np.allclose(given, right[places], rtol=TOLERANCE, atol=TOLERANCE):
        return f"predictions that differ by up to {np.nanmax(apart):.2g}"
    return None


def predictions(folder: Path, key: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Keys in order, and their predictions: (rows,), (rows, values)."""
    keys, values = [], []
    for path in sorted(folder.glob("*.parquet")):
        names = pq.read_schema(path).names
        chosen = [name for name in names if re.fullmatch(r"prediction(_\d+)?", name)]
        table = pq.read_table(path, columns=[key, *chosen])
        keys.append(table[key].to_numpy())
        columns = [_matrix(table[name]) for name in chosen]
        values.append(np.concatenate(columns, axis=1))
    all_keys, matrix = np.concatenate(keys), np.concatenate(values)
    order = np.argsort(all_keys, kind="stable")
    return all_keys[order], matrix[order]


def _matrix(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    parts = []
    for chunk in column.chunks:
        array = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
        while pa.types.is_nested(array.type):
            array = array.flatten()
        parts.append(array.to_numpy(zero_copy_only=False).reshape(len(chunk), -1))
    return np.concatenate(parts) if parts else np.empty((0, 1))
