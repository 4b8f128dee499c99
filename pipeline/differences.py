"""PURE: how far the predictions of two outputs are apart.

It is told in two ways:

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

from typing import TYPE_CHECKING

import numpy as np

from pipeline.column_sketch import rank
from pipeline.distributions import Distribution, Numbers, comparable
from pipeline.drift import Difference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    _Bin = NDArray[np.float64]

_BINS = 10
APART = 100.0
"""The index where one of the two has nothing: further than any two that have something."""


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
