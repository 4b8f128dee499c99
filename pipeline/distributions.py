"""What the predictions of many shards look like together.

`Distributions` adds up what `pipeline.sketch` counted in each shard. All of it is whole numbers, so
the sum is the same in whatever order the shards are added.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from pipeline.column_sketch import ColumnSketch, lowest
from pipeline.number_buckets import bounds_of, summed
from pipeline.sketch import sketches_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

_ELEMENT = 16
_BUCKET = 0xFFFF
_TOGETHER = 64
"""Sketches that are added up at once: each time takes sorting what is there."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """How the numbers of one column, or of one element of its lists, are distributed.

    Attributes:
        buckets: Those that occur, rising (see `pipeline.sketch.bucket_of`).
        counts: How often each occurs.
    """

    buckets: NDArray[np.uint32]
    counts: NDArray[np.int64]

    @property
    def total(self) -> int:
        """How many numbers there are, but for NaN."""
        return int(self.counts.sum())

    def quantile(self, share: float) -> float:
        """The number below which a share of all lies, within 0.8%.

        Args:
            share: From 0 to 1.

        Raises:
            ValueError: There is no number.
        """
        if not self.total:
            raise ValueError("no number has no quantile")
        reached = np.cumsum(self.counts)
        place = int(np.searchsorted(reached, share * reached[-1]))
        low, high = bounds_of(self.buckets[min(place, len(reached) - 1)])
        return float(low) if not np.isfinite(high - low) else float(low + (high - low) / 2)

    def histogram(self, edges: Sequence[float]) -> list[float]:
        """How many numbers lie between edges; a bucket across an edge is divided.

        Args:
            edges: Rising, finite.

        Returns:
            One count fewer than edges. What lies outside is in none.
        """
        low, high = (bound.astype(np.float64) for bound in bounds_of(self.buckets))
        width = np.maximum(high - low, np.finfo(np.float64).tiny)
        finite = np.isfinite(width)
        below = np.clip((np.asarray(edges)[:, None] - low[finite]) / width[finite], 0, 1)
        return [float(count) for count in np.diff(below @ self.counts[finite])]


@dataclass
class Distribution:
    """One prediction column of an output.

    Attributes:
        elements: Elements that are counted apart; 0 if only values are counted.
        rows: Rows that the counts stand for.
        looked: Rows that were looked at.
        nan: NaNs.
        low: The lowest number that was looked at; None if there is none.
        high: The highest.
        highest: For each class, in how many rows it has the highest score.
        values: Value → how often it occurs.
        counted: How many values there are, named or not.
        null: Nulls among them.
    """

    elements: int
    rows: int = 0
    looked: int = 0
    nan: int = 0
    low: float | None = None
    high: float | None = None
    highest: list[int] = field(default_factory=list)
    values: dict[str, int] = field(default_factory=dict)
    counted: int = 0
    null: int = 0
    _parts: list[tuple[NDArray[np.uint32], NDArray[np.int64]]] = field(default_factory=list)

    def add(self, sketch: ColumnSketch, every: int) -> None:
        """Adds a shard's.

        Args:
            sketch: Of the same column, and of its form.
            every: How many rows each that was looked at stands for.
        """
        self.rows += (sketch.stands_for or sketch.rows) * every
        self.looked += sketch.rows
        self.nan += sketch.nan * every
        self.low = _of(min, self.low, sketch.low)
        self.high = _of(max, self.high, sketch.high)
        self.highest = [a + b * every for a, b in zip(self.highest, sketch.highest, strict=True)]
        self.counted += sketch.counted * every
        self.null += sketch.null * every
        if sketch.values:
            theirs = {value: count * every for value, count in sketch.values.items()}
            self.values = lowest([self.values, theirs])
        if len(sketch.keys):
            self._parts.append((sketch.keys, sketch.counts * every))
            if len(self._parts) >= _TOGETHER:
                self._parts = [summed(self._parts)]

    @property
    def share(self) -> float:
        """The share of the rows that was looked at."""
        return self.looked / self.rows if self.rows else 1.0

    @property
    def unnamed(self) -> int:
        """Values that are not named, since there are too many."""
        return self.counted - sum(self.values.values())

    def as_sketch(self) -> ColumnSketch:
        """The same counts as those of a single shard, of which each row was looked at."""
        keys, counts = self._settled()
        return ColumnSketch(
            elements=self.elements,
            rows=self.looked,
            stands_for=self.rows,
            nan=self.nan,
            low=self.low,
            high=self.high,
            highest=list(self.highest),
            keys=keys,
            counts=counts,
            values=dict(self.values),
            counted=self.counted,
            null=self.null,
        )

    def _settled(self) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        if len(self._parts) != 1:
            self._parts = [summed(self._parts or [(np.empty(0, np.uint32), np.empty(0, np.int64))])]
        return self._parts[0]

    def numbers(self) -> list[Numbers]:
        """The numbers, for each element that is counted apart."""
        keys, counts = self._settled()
        edges = np.searchsorted(keys >> _ELEMENT, np.arange(self.elements + 1))
        return [Numbers(keys[a:b] & np.uint32(_BUCKET), counts[a:b]) for a, b in pairwise(edges)]


class Distributions:
    """The prediction columns of an output, while its shards are added.

    Attributes:
        columns: Column → its distribution.
        shards: Shards that were added.
        without: Shards that have no sketch that can be added: an earlier version's.
    """

    def __init__(self) -> None:
        self.columns: dict[str, Distribution] = {}
        self.shards = 0
        self.without = 0

    def add(self, text: str | None) -> None:
        """Adds a shard.

        Args:
            text: Its sketch, as it is in the file's metadata; None if there is none.
        """
        try:
            every, sketches = sketches_of(text or "")
        except ValueError:
            self.without += 1
            return
        columns = self.columns or {
            name: Distribution(sketch.elements, highest=[0] * len(sketch.highest))
            for name, sketch in sketches.items()
        }
        if columns.keys() != sketches.keys() or not all(
            comparable(columns[name], sketch) for name, sketch in sketches.items()
        ):
            self.without += 1
            return
        self.columns = columns
        for name, sketch in sketches.items():
            columns[name].add(sketch, every)
        self.shards += 1

    def sketches(self) -> dict[str, ColumnSketch]:
        """Column → its counts, as those of a single shard."""
        return {name: column.as_sketch() for name, column in self.columns.items()}


def comparable(baseline: Distribution, found: Distribution | ColumnSketch) -> bool:
    """Whether the two are of columns of one form."""
    return baseline.elements == found.elements and len(baseline.highest) == len(found.highest)


def _of(choose: Callable[[float, float], float], a: float | None, b: float | None) -> float | None:
    return b if a is None else a if b is None else choose(a, b)
