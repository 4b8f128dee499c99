"""What a shard's predictions look like, in kilobytes: counts that add up.

For each prediction column a sketch counts how many values fall where (`column_sketch`). It is a
function of the
shard's predictions and their places alone, and is part of the published file, so it is there
whoever scored the shard, and whenever. Sketches are added up without rounding, so their sum is the
same to the last bit whether one worker scored all shards or a thousand pods did; sketches of ranks
(KLL, t-digest) are smaller, and differ with the order in which they are merged.

Of a shard of more than `MOST_ROWS` rows one row in 2, 4, 8 … up to 64 is looked at: one of each
block of so many, chosen by the block's number. Looking at all would cost a tenth of the rate.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.column_sketch import ColumnSketch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

SKETCH_KEY = b"shardscore.sketch"
"""Key of a published file's metadata under which its sketch is."""

FORMAT = 1
MOST_ROWS = 1 << 14
MOST_EVERY = 64


class PredictionSketch:
    """The sketch of one shard's predictions, while they are written.

    Args:
        schema: The prediction columns.
        rows: Rows of the shard.
        begun: What `encoded` gave of the rows before, if the shard is continued.
    """

    def __init__(self, schema: pa.Schema, rows: int, begun: str = "") -> None:
        self._names = list(schema.names)
        self._every = every_of(rows)
        if begun:
            self._columns = sketches_of(begun)[1]
        else:
            self._columns = {f.name: ColumnSketch.for_type(f.type) for f in schema}

    def add(self, start: int, columns: Sequence[pa.Array]) -> None:
        """Looks at the predictions of some rows.

        Args:
            start: How many scored rows of the shard were before them.
            columns: The prediction columns.
        """
        if not columns:
            return
        if self._every > 1:
            picked = pa.array(_picked(start, len(columns[0]), self._every))
            columns = [_taken(column, picked) for column in columns]
        for name, column in zip(self._names, columns, strict=True):
            self._columns[name].add(column)

    def encoded(self) -> str:
        """The sketch as text, for the file's metadata: the same predictions give the same."""
        return text_of({name: self._columns[name] for name in self._names}, self._every)


def text_of(columns: Mapping[str, ColumnSketch], every: int = 1) -> str:
    """Sketches of columns as text, which `sketches_of` reads; the same give the same.

    Args:
        columns: Column → its sketch.
        every: How many rows each that was looked at stands for.
    """
    told = {name: column.as_json() for name, column in columns.items()}
    whole = {"format": FORMAT, "every": every, "columns": told}
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False)


def sketches_of(text: str) -> tuple[int, dict[str, ColumnSketch]]:
    """What a sketch says: each count stands for so many rows; column → its sketch.

    Raises:
        ValueError: It is none that we can read.
    """
    try:
        told = json.loads(text)
    except RecursionError as error:
        raise ValueError("not a sketch: nested") from error
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise ValueError("not a sketch of a known format")
    try:
        columns = {str(name): ColumnSketch.of_json(c) for name, c in told["columns"].items()}
        return int(told["every"]), columns
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"not a sketch: {error}") from error


def every_of(rows: int) -> int:
    """One in how many rows is looked at, a power of two, in a shard of so many."""
    every = 1
    while every < MOST_EVERY and rows > every * MOST_ROWS:
        every *= 2
    return every


def _picked(start: int, count: int, every: int) -> NDArray[np.int64]:
    """Which of some rows are looked at: one of each block of `every`, as its number says.

    Args:
        start: Number of the first of the rows.
        count: How many there are.
        every: Rows of a block, a power of two.

    Returns:
        Their places among the rows.
    """
    blocks = np.arange(start // every, (start + count - 1) // every + 1, dtype=np.uint64)
    mixed = blocks * np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: the high bits are mixed
    rows = blocks * np.uint64(every) + ((mixed >> np.uint64(40)) & np.uint64(every - 1))
    places = rows.astype(np.int64) - start
    return places[(places >= 0) & (places < count)]


def _taken(column: pa.Array, places: pa.Array) -> pa.Array:
    if isinstance(column, pa.ExtensionArray):
        return pa.ExtensionArray.from_storage(column.type, column.storage.take(places))
    return column.take(places)
