"""What the predictions of many shards look like together, and how far two outputs differ.

`Distributions` adds up what `pipeline.sketch` counted in each shard. All of it is whole numbers, so
the sum is the same in whatever order the shards are added.

Differences are told in two ways:

* PSI, the population stability index: over bins that hold a tenth of the baseline each, the sum of
  (q - p) ln(q / p), where p and q are the bins' shares in the two. By custom what is below 0.1 is
  alike, and what is above 0.25 another population.
* KS, the Kolmogorov-Smirnov distance: the most by which the shares below any number differ.

NaNs are a bin of their own. Of values that are counted by name each name is a bin.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from pipeline.sketch import ColumnSketch, bounds_of, lowest, sketches_of, summed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

_BINS = 10
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
        nan: NaNs.
        low: The lowest number that was looked at; None if there is none.
        high: The highest.
        highest: For each class, in how many rows it has the highest score.
        values: Value → how often it occurs.
        others: Whether there are values that are not named.
    """

    elements: int
    rows: int = 0
    nan: int = 0
    low: float | None = None
    high: float | None = None
    highest: list[int] = field(default_factory=list)
    values: dict[str, int] = field(default_factory=dict)
    others: bool = False
    _parts: list[tuple[NDArray[np.uint32], NDArray[np.int64]]] = field(default_factory=list)

    def add(self, sketch: ColumnSketch, every: int) -> None:
        """Adds a shard's.

        Args:
            sketch: Of the same column.
            every: How many rows each that was looked at stands for.

        Raises:
            ValueError: The column has another form there.
        """
        if sketch.elements != self.elements or len(sketch.highest) != len(self.highest):
            raise ValueError("the column has another form")
        self.rows += sketch.rows * every
        self.nan += sketch.nan * every
        self.low = _of(min, self.low, sketch.low)
        self.high = _of(max, self.high, sketch.high)
        self.highest = [a + b * every for a, b in zip(self.highest, sketch.highest, strict=True)]
        if sketch.values:
            theirs = {value: count * every for value, count in sketch.values.items()}
            self.values, more = lowest([self.values, theirs])
            self.others = self.others or more or sketch.others
        if len(sketch.keys):
            self._parts.append((sketch.keys, sketch.counts * every))
            if len(self._parts) >= _TOGETHER:
                self._parts = [summed(self._parts)]

    def numbers(self) -> list[Numbers]:
        """The numbers, for each element that is counted apart."""
        if not self._parts:
            empty = Numbers(np.empty(0, np.uint32), np.empty(0, np.int64))
            return [empty] * self.elements
        self._parts = [summed(self._parts)]
        keys, counts = self._parts[0]
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
        if self.columns and sketches.keys() != self.columns.keys():
            self.without += 1
            return
        for name, sketch in sketches.items():
            known = self.columns.setdefault(
                name, Distribution(sketch.elements, highest=[0] * len(sketch.highest))
            )
            known.add(sketch, every)
        self.shards += 1


@dataclass(frozen=True, slots=True)
class Difference:
    """How far one thing that is counted differs from the baseline's.

    Attributes:
        column: The prediction column.
        what: What of it: empty for its numbers, `[3]` for those of an element, `highest` for which
            class has the highest score, `values` for its values.
        psi: The population stability index.
        ks: The Kolmogorov-Smirnov distance; of named bins half the sum of what shares differ by.
    """

    column: str
    what: str
    psi: float
    ks: float


def differences(
    baseline: Mapping[str, Distribution], found: Mapping[str, Distribution]
) -> list[Difference]:
    """How far each column that both have differs from the baseline's, each way that it is counted.

    Those that are not of one form in both are left out: see `comparable`.
    """
    return [
        difference
        for name, before in baseline.items()
        if name in found and comparable(before, found[name])
        for difference in _differences(name, before, found[name])
    ]


def comparable(baseline: Distribution, found: Distribution) -> bool:
    """Whether two distributions are of columns of one form."""
    return baseline.elements == found.elements and len(baseline.highest) == len(found.highest)


def _differences(name: str, before: Distribution, now: Distribution) -> Iterator[Difference]:
    if before.values or now.values:
        yield Difference(name, "values", *_named(before.values, now.values))
        if before.elements:  # integers of many values are compared as numbers, too
            few = not (before.others or now.others)
            if few:
                return
    if before.highest:
        yield Difference(name, "highest", *_named(_numbered(before), _numbered(now)))
    pairs = list(zip(before.numbers(), now.numbers(), strict=True))
    for element, (mine, theirs) in enumerate(pairs):
        # NaNs are not counted an element at a time: each has its share.
        nan = before.nan / before.elements, now.nan / now.elements
        what = f"[{element}]" if len(pairs) > 1 else ""
        yield Difference(name, what, *_numeric(mine, theirs, nan))


def _numbered(column: Distribution) -> dict[str, int]:
    return {str(number): count for number, count in enumerate(column.highest)}


def _named(before: Mapping[str, int], now: Mapping[str, int]) -> tuple[float, float]:
    names = sorted(before.keys() | now.keys())
    p = np.array([before.get(name, 0) for name in names], np.float64)
    q = np.array([now.get(name, 0) for name in names], np.float64)
    if not p.sum() or not q.sum():
        return _psi(p, q), float(p.sum() != q.sum())
    return _psi(p, q), float(np.abs(p / p.sum() - q / q.sum()).sum() / 2)


def _numeric(before: Numbers, now: Numbers, nan: tuple[float, float]) -> tuple[float, float]:
    buckets = np.union1d(before.buckets, now.buckets)
    p, q = _counts(before, buckets), _counts(now, buckets)
    if not p.sum() or not q.sum():
        both = np.array([p.sum(), nan[0]]), np.array([q.sum(), nan[1]])
        return _psi(*both), float(p.sum() != q.sum())
    distance = np.abs(np.cumsum(p) / p.sum() - np.cumsum(q) / q.sum()).max()
    # A bucket is in the tenth that its first number is in: one that holds more is a bin by itself.
    tenth = ((np.cumsum(p) - p) * _BINS / p.sum()).astype(np.int64)
    outside = (buckets < before.buckets[0]) | (buckets > before.buckets[-1])
    tenth[outside] = _BINS
    binned = [np.bincount(tenth, weights=w, minlength=_BINS + 1) for w in (p, q)]
    return _psi(np.append(binned[0], nan[0]), np.append(binned[1], nan[1])), float(distance)


def _counts(numbers: Numbers, buckets: NDArray[np.uint32]) -> NDArray[np.float64]:
    counts = np.zeros(len(buckets))
    counts[np.searchsorted(buckets, numbers.buckets)] = numbers.counts
    return counts


def _psi(before: NDArray[np.float64], now: NDArray[np.float64]) -> float:
    """The index over bins. Half a row is added to each that either has something in, so that one
    that is empty in the other is not infinitely far."""
    used = (before > 0) | (now > 0)
    if not used.any():
        return 0.0
    p, q = before[used] + 0.5, now[used] + 0.5
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())


def _of(choose: Callable[[float, float], float], a: float | None, b: float | None) -> float | None:
    return b if a is None else a if b is None else choose(a, b)
