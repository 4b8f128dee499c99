"""What the predictions of many shards look like together, and how far two outputs differ.

`Distributions` adds up what `pipeline.sketch` counted in each shard. All of it is whole numbers, so
the sum is the same in whatever order the shards are added.

Differences are told in two ways:

* PSI, the population stability index: over bins that hold a tenth of the baseline each, the sum of
  (q - p) ln(q / p), where p and q are the bins' shares in the two. By custom what is below 0.1 is
  alike, and what is above 0.25 another population.
* KS, the Kolmogorov-Smirnov distance: the most by which the shares below any number differ.

NaNs are a bin of their own, and so are nulls. Of values that are counted by name each name is a
bin, and those that are not named are one together: a value that is common and not named is seen by
what the others lose or gain. Two samples of one population differ by chance, the more the smaller
they are: the index by its bins, less one, times 1/n + 1/m on average.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from pipeline.drift import Difference
from pipeline.sketch import ColumnSketch, bounds_of, lowest, rank, sketches_of, summed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    _Bin = NDArray[np.float64]

_BINS = 10
_ELEMENT = 16
_BUCKET = 0xFFFF
APART = 100.0
"""The index where one of the two has nothing: further than any two that have something."""

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


def comparable(baseline: Distribution, found: Distribution | ColumnSketch) -> bool:
    """Whether the two are of columns of one form."""
    return baseline.elements == found.elements and len(baseline.highest) == len(found.highest)


def _differences(name: str, before: Distribution, now: Distribution) -> Iterator[Difference]:
    for what, p, q, ks in _bins(before, now):
        if not p.any() and not q.any():
            continue  # nothing is predicted by either
        if not p.any() or not q.any():
            yield Difference(name, what, APART, 1.0, 0.0)
            continue
        psi, chance = _index(p, q, before.share, now.share)
        yield Difference(name, what, psi, ks, chance)


def _bins(before: Distribution, now: Distribution) -> Iterator[tuple[str, _Bin, _Bin, float]]:
    """Each way to compare: what it is, how much is in each bin of the two, and their distance."""
    few = before.counted + now.counted > 0 and not before.unnamed and not now.unnamed
    if few or not before.elements:
        yield "values", *_valued(before, now)
        return
    if before.highest:
        yield "highest", *_named(_numbered(before), _numbered(now))
    pairs = list(zip(before.numbers(), now.numbers(), strict=True))
    for element, (mine, theirs) in enumerate(pairs):
        # NaNs are not counted an element at a time: each has its share.
        nan = before.nan / before.elements, now.nan / now.elements
        yield f"[{element}]" if len(pairs) > 1 else "", *_numeric(mine, theirs, nan)


def _numbered(column: Distribution) -> dict[str, int]:
    return {str(number): count for number, count in enumerate(column.highest)}


def _valued(before: Distribution, now: Distribution) -> tuple[_Bin, _Bin, float]:
    """The values that are named in both, or would be if they occurred; the others together; nulls.

    What one of them names and the other has no room for is not known to be missing there.
    """
    last = min(
        (max(map(rank, side.values)) for side in (before, now) if side.unnamed and side.values),
        default=None,
    )
    p, q = (
        {f"={name}": n for name, n in side.values.items() if last is None or rank(name) <= last}
        for side in (before, now)
    )
    for bins, side in ((p, before), (q, now)):
        bins["others"] = side.counted - sum(bins.values())
        bins["null"] = side.null
    return _named(p, q)


def _named(before: Mapping[str, int], now: Mapping[str, int]) -> tuple[_Bin, _Bin, float]:
    names = sorted(before.keys() | now.keys())
    p = np.array([before.get(name, 0) for name in names], np.float64)
    q = np.array([now.get(name, 0) for name in names], np.float64)
    if not p.sum() or not q.sum():
        return p, q, float(p.sum() != q.sum())
    return p, q, float(np.abs(p / p.sum() - q / q.sum()).sum() / 2)


def _numeric(before: Numbers, now: Numbers, nan: tuple[float, float]) -> tuple[_Bin, _Bin, float]:
    buckets = np.union1d(before.buckets, now.buckets)
    p, q = _counts(before, buckets), _counts(now, buckets)
    if not p.sum() or not q.sum():
        both = np.array([p.sum(), nan[0]]), np.array([q.sum(), nan[1]])
        return *both, float(p.sum() != q.sum())
    distance = np.abs(np.cumsum(p) / p.sum() - np.cumsum(q) / q.sum()).max()
    # A bucket is in the tenth that its first number is in. One that holds a tenth or more is a bin
    # by itself: what comes to lie beside it, where the baseline has nothing, is told apart from it.
    tenth = ((np.cumsum(p) - p) * _BINS / p.sum()).astype(np.int64)
    outside = (buckets < before.buckets[0]) | (buckets > before.buckets[-1])
    tenth[outside] = _BINS
    alone = p * _BINS >= p.sum()
    tenth[alone] = _BINS + 1 + np.arange(alone.sum())
    binned = [np.bincount(tenth, weights=w) for w in (p, q)]
    return np.append(binned[0], nan[0]), np.append(binned[1], nan[1]), float(distance)


def _counts(numbers: Numbers, buckets: NDArray[np.uint32]) -> NDArray[np.float64]:
    counts = np.zeros(len(buckets))
    counts[np.searchsorted(buckets, numbers.buckets)] = numbers.counts
    return counts


def _index(before: _Bin, now: _Bin, looked: float, looked_now: float) -> tuple[float, float]:
    """The population stability index, and what chance makes it on average.

    Args:
        before: How much is in each bin of the baseline.
        now: How much is in each bin of what is compared with it.
        looked: The share of the baseline's rows that was looked at.
        looked_now: The share of the others.
    """
    used = (before > 0) | (now > 0)
    # Half a row more in each bin, so that one that is empty in the other is not infinitely far.
    p, q = before[used] + 0.5, now[used] + 0.5
    chance = (len(p) - 1) * (1 / (p.sum() * looked) + 1 / (q.sum() * looked_now))
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum()), float(chance)


def _of(choose: Callable[[float, float], float], a: float | None, b: float | None) -> float | None:
    return b if a is None else a if b is None else choose(a, b)
