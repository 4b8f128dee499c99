"""PURE: the distribution of a prediction as what can be drawn: bins, quantiles, bars.

Documents of plain values, which `pipeline.page` draws and `report --json` prints. Where there is a
baseline, both are counted in the same bins.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.distributions import Distribution, Numbers, comparable
from pipeline.number_buckets import bounds_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BINS = 24
"""Bins of a histogram, about: enough for its form, few enough to be told apart on a phone."""

MOST_BARS = 20
QUANTILES = (0.01, 0.05, 0.25, 0.50, 0.75, 0.95, 0.99)
_TAIL = 0.001
"""What is left out of a histogram at either end, about: a single value far off would flatten it."""

_BODY = 0.01
_DECADES = 3
"""Positive numbers of which all but the least and the last hundredth span more powers of ten than
this are drawn on a logarithmic scale. (What is evenly spread from 0 to 1 has a thousandth of its
numbers below 0.001, and is better seen on a linear one.)"""

_RESOLUTION = 2.0**-7
"""How wide a bucket of a sketch is, by its numbers: bins are no narrower (`pipeline.sketch`)."""

_MOST = float(np.finfo(np.float32).max)
_LEAST = float(np.finfo(np.float32).smallest_normal)


def column(
    name: str,
    kind: str,
    found: Distribution,
    baseline: Distribution | None = None,
    labels: Sequence[str] = (),
) -> dict[str, Any]:
    """One prediction column.

    Args:
        name: Its name.
        kind: Its Arrow type, as text; empty if it is not known.
        found: Its distribution.
        baseline: That of the same column in the baseline; one of another form is left out.
        labels: Names of the classes; taken if there are as many as classes.

    Returns:
        Its name, type and rows; how many of its numbers are NaN or infinite; and its `parts`, each
        a histogram (`edges`, `counts`, …) or bars (`bars`), with an empty `of` if it is the whole.
    """
    before = baseline if baseline is not None and comparable(baseline, found) else None
    numbers = found.numbers() if found.elements else []
    theirs: Sequence[Numbers | None] = [None] * len(numbers)
    if before is not None and found.elements:
        theirs = before.numbers()
    parts: list[dict[str, Any]] = []
    if found.highest:
        names = labels if len(labels) == len(found.highest) else range(len(found.highest))
        parts.append(_classes(list(map(str, names)), found, before))
    named = bool(found.values) and not (found.unnamed and found.elements)
    if named:
        parts.append(_values(found, before))
    else:
        for number, (mine, other) in enumerate(zip(numbers, theirs, strict=True)):
            of = f"[{number}]" if len(numbers) > 1 else ""
            label = labels[number] if of and len(labels) == len(numbers) else ""
            part = _numbers(mine, _bounds(found), other, _bounds(before or found))
            parts.append({"of": of, "label": label, **part})
    finite = sum(_finite(mine).total for mine in numbers)
    every = sum(mine.total for mine in numbers)
    return {
        "name": name,
        "type": kind,
        "rows": found.rows,
        "looked": found.looked,
        "values": every + found.nan,
        "nan": found.nan,
        "infinite": every - finite,
        "low": _plain(found.low),
        "high": _plain(found.high),
        "parts": parts,
    }


def edges_for(low: float, high: float, *, logarithmic: bool) -> list[float]:
    """Where bins end, for numbers between two.

    Args:
        low: The lowest number that is to be in one; with `logarithmic` above 0.
        high: The highest.
        logarithmic: Whether the scale is.

    Returns:
        The edges, rising, at round numbers.
    """
    if logarithmic:
        each = max(1, round(BINS / math.log10(high / low)))
        first, last = math.floor(math.log10(low) * each), math.ceil(math.log10(high) * each)
        return [10 ** (k / each) for k in range(first, last + 1)]
    largest = max(abs(low), abs(high))
    step = _round_step(max((high - low) / BINS, largest * _RESOLUTION) or 1.0)
    first = math.floor(low / step)
    last = max(math.ceil(high / step), first + 1)
    return [float(f"{k * step:.12g}") for k in range(first, last + 1)]


def _round_step(least: float) -> float:
    """The next number that is 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(s * power for s in (1, 2, 2.5, 5, 10, 20) if s * power >= least)


def _bounds(found: Distribution) -> tuple[float, float]:
    """Between which all finite numbers are: a bucket may be wider."""
    low = -_MOST if found.low is None else max(found.low, -_MOST)
    return low, _MOST if found.high is None else min(found.high, _MOST)


def _numbers(
    numbers: Numbers,
    bounds: tuple[float, float],
    baseline: Numbers | None,
    their_bounds: tuple[float, float],
) -> dict[str, Any]:
    mine = _finite(numbers)
    both = [mine] if baseline is None else [mine, _finite(baseline)]
    some = [known for known in both if known.total]
    part: dict[str, Any] = {"total": mine.total, "quantiles": _quantiles(mine, bounds)}
    if not some:
        return part | {"edges": [], "counts": [], "log": False}
    if baseline is None:
        their_bounds = bounds
    both_bounds = min(bounds[0], their_bounds[0]), max(bounds[1], their_bounds[1])
    body, tails = (_between(some, part, both_bounds) for part in (_BODY, _TAIL))
    logarithmic = tails[0] > 0 and math.log10(body[1] / body[0]) > _DECADES
    edges = edges_for(*tails, logarithmic=logarithmic)
    part |= {"edges": edges, "log": logarithmic, **_counted(mine, edges, bounds)}
    if baseline is not None:
        part["baseline"] = {"total": both[1].total, **_counted(both[1], edges, their_bounds)}
    return part


def _counted(
    numbers: Numbers, edges: Sequence[float], bounds: tuple[float, float]
) -> dict[str, Any]:
    below, *counts, above = numbers.histogram([-_MOST, *edges, _MOST])
    # A bucket may reach beyond an edge where no number does.
    if bounds[0] >= edges[0]:
        counts[0], below = counts[0] + below, 0.0
    if bounds[1] <= edges[-1]:
        counts[-1], above = counts[-1] + above, 0.0
    return {
        "below": round(below, 3),
        "counts": [round(count, 3) for count in counts],
        "above": round(above, 3),
    }


def _quantiles(numbers: Numbers, bounds: tuple[float, float]) -> dict[str, float]:
    if not numbers.total:
        return {}
    shares = {"min": 0.0, **{f"{share:.0%}": share for share in QUANTILES}, "max": 1.0}
    return {
        name: float(f"{_quantile(numbers, share, bounds):.6g}") for name, share in shares.items()
    }


def _between(
    some: Sequence[Numbers], tail: float, bounds: tuple[float, float]
) -> tuple[float, float]:
    """Between which all numbers are, but for a tail at either end."""
    return (
        min(_quantile(numbers, tail, bounds) for numbers in some),
        max(_quantile(numbers, 1 - tail, bounds) for numbers in some),
    )


def _quantile(numbers: Numbers, share: float, bounds: tuple[float, float]) -> float:
    """A quantile; at the ends the number itself, which is known where a bucket is a range."""
    lows, highs = bounds_of(numbers.buckets[[0, -1]])
    for end, at_end in enumerate((0.0, 1.0)):
        if share == at_end and lows[end] <= bounds[end] <= highs[end]:
            return bounds[end]
    found = min(max(numbers.quantile(share), bounds[0]), bounds[1])
    return 0.0 if abs(found) < _LEAST else found


def _finite(numbers: Numbers) -> Numbers:
    low, high = bounds_of(numbers.buckets)
    finite = np.isfinite(low) & np.isfinite(high)
    return Numbers(numbers.buckets[finite], numbers.counts[finite])


def _classes(names: list[str], found: Distribution, before: Distribution | None) -> dict[str, Any]:
    order = list(range(len(names)))
    if len(order) > MOST_BARS:
        order.sort(key=lambda number: -found.highest[number])
    counted = {names[n]: found.highest[n] for n in order[:MOST_BARS]}
    theirs = None if before is None else dict(zip(names, before.highest, strict=True))
    total = sum(found.highest)
    return _bars("likeliest class", counted, total, theirs) | {"classes": len(names)}


def _values(found: Distribution, before: Distribution | None) -> dict[str, Any]:
    first = sorted(found.values, key=lambda value: (-found.values[value], value))[:MOST_BARS]
    theirs = None if before is None else before.values
    bars = _bars("", {value: found.values[value] for value in first}, found.counted, theirs)
    if before is not None:
        bars["baseline"]["total"] = before.counted
    return bars | {"named": len(found.values), "sampled": found.unnamed > 0}


def _bars(
    of: str, counted: Mapping[str, int], total: int, theirs: Mapping[str, int] | None
) -> dict[str, Any]:
    part: dict[str, Any] = {"of": of, "total": total, "bars": [list(b) for b in counted.items()]}
    part["others"] = total - sum(counted.values())
    if theirs is not None:
        shown = [theirs.get(name, 0) for name in counted]
        part["baseline"] = {"total": sum(theirs.values()), "counts": shown}
    return part


def _plain(number: float | None) -> float | str | None:
    """JSON has no infinity."""
    return number if number is None or math.isfinite(number) else str(number)
