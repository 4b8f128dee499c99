"""PURE: histograms, bars and courses over time as SVG.

Shapes and text, no scripts. Colours are the page's, by class, so that both of its themes fit. Each
figure has a title for who hears it, and each bar one with its numbers for who points at it. All are
as wide as a phone's page: drawn larger on a screen, never smaller than they can be read.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from markupsafe import Markup

from pipeline.wording import duration, number, share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

WIDTH = 340
"""Units; about a pixel each on a phone."""

_TOP, _HEIGHT, _FOOT = 16, 120, 20
_MOST_TICKS = 6
_ROW, _NAME, _VALUE = 20, 108, 54
_LETTERS = 16
"""Characters of a name that have room beside its bar."""


def histogram(
    edges: Sequence[float],
    counts: Sequence[float],
    total: float,
    *,
    logarithmic: bool = False,
    baseline: tuple[Sequence[float], float] | None = None,
    title: str,
) -> Markup:
    """A histogram of shares.

    Args:
        edges: Of the bins, evenly spaced; with `logarithmic` so are their logarithms.
        counts: In each bin, one fewer than edges.
        total: Of which they are shares, with what is in no bin.
        logarithmic: Whether the scale is.
        baseline: The counts and the total of what is compared with, drawn as an outline.
        title: What it shows.
    """
    mine = [count / total if total else 0.0 for count in counts]
    theirs = _shares(*baseline) if baseline is not None else []
    most = max([*mine, *theirs, 0.0]) or 1.0
    step = WIDTH / len(mine)
    shapes = [_rule(most)]
    for place, held in enumerate(mine):
        said = f"{number(edges[place])} to {number(edges[place + 1])}: {share(held, 1)}"
        if theirs:
            said += f", baseline {share(theirs[place], 1)}"
        height = _HEIGHT * held / most
        shapes.append(
            Markup(
                '<rect class="bar" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>'
            ).format(
                _at(place * step + 0.5),
                _at(_TOP + _HEIGHT - height),
                _at(step - 1),
                _at(height),
                said,
            )
        )
    if theirs:
        shapes.append(_outline([_HEIGHT * held / most for held in theirs], step))
    shapes += _ticks(_chosen(edges, logarithmic=logarithmic), step)
    return _figure(title, _TOP + _HEIGHT + _FOOT, shapes)


def bars(
    named: Sequence[tuple[str, float]],
    total: float,
    *,
    baseline: tuple[Sequence[float], float] | None = None,
    title: str,
) -> Markup:
    """A bar for each name, as long as its share.

    Args:
        named: Name and count.
        total: Of which they are shares, with what is not named.
        baseline: The counts and the total of what is compared with, drawn as a mark.
        title: What it shows.
    """
    mine = [count / total if total else 0.0 for _, count in named]
    theirs = _shares(*baseline) if baseline is not None else []
    most = max([*mine, *theirs, 0.0]) or 1.0
    room = WIDTH - _NAME - _VALUE
    shapes: list[Markup] = []
    for place, ((name, _), held) in enumerate(zip(named, mine, strict=True)):
        y = place * _ROW
        said = f"{name}: {share(held, 1)}"
        if theirs:
            said += f", baseline {share(theirs[place], 1)}"
        shapes.append(
            Markup(
                '<g><title>{}</title><text class="name" x="{}" y="{}">{}</text>'
                '<rect class="bar" x="{}" y="{}" width="{}" height="{}"/>'
                '<text class="value" x="{}" y="{}">{}</text>{}</g>'
            ).format(
                *(said, _NAME - 8, y + 14, _cut(name)),
                *(_NAME, y + 3, _at(room * held / most), _ROW - 6),
                *(WIDTH, y + 14, share(held, 1)),
                _mark(_NAME + room * theirs[place] / most, y) if theirs else "",
            )
        )
    return _figure(title, len(named) * _ROW, shapes)


def course(
    points: Sequence[tuple[float, float]],
    *,
    stepped: bool,
    worded: Callable[[float], str],
    title: str,
) -> Markup:
    """Something over time.

    Args:
        points: Seconds, rising, and the value then; with `stepped` that of the time before.
        stepped: Whether the value holds over the time before, and jumps.
        worded: A value in words.
        title: What it shows.
    """
    begin, end = points[0][0], points[-1][0]
    most = max(value for _, value in points) or 1.0
    span = (end - begin) or 1.0
    places = [
        (WIDTH * (seconds - begin) / span, _TOP + _HEIGHT * (1 - value / most))
        for seconds, value in points
    ]
    line = f"M{_at(places[0][0])} {_at(places[0][1])}"
    for x, y in places[1:]:
        line += f"V{_at(y)}H{_at(x)}" if stepped else f"L{_at(x)} {_at(y)}"
    floor = _TOP + _HEIGHT
    area = f"{line}V{floor}H{_at(places[0][0])}Z"
    shapes = [
        _rule(most, worded),
        Markup('<path class="area" d="{}"/><path class="line" d="{}"/>').format(area, line),
        *_ticks([(part / 2, duration(begin + span * part / 2)) for part in range(3)], WIDTH),
    ]
    return _figure(title, floor + _FOOT, shapes)


def rates(timeline: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Rows a second between the looks at a run; what was dropped again counts for nothing.

    Args:
        timeline: Seconds and rows of each look, rising.

    Returns:
        The seconds of each look, and the rate since the one before.
    """
    found = [(float(timeline[0][0]), 0.0)]
    for before, now in pairwise(timeline):
        if now[0] > before[0]:
            found.append((float(now[0]), max(0.0, (now[1] - before[1]) / (now[0] - before[0]))))
    return found


def _shares(counts: Sequence[float], total: float) -> list[float]:
    return [count / total if total else 0.0 for count in counts]


def _figure(title: str, height: float, shapes: Iterable[Markup]) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img"><title>{}</title>{}</svg>').format(
        WIDTH, _at(height), title, Markup("").join(shapes)
    )


def _rule(most: float, worded: Callable[[float], str] = lambda held: share(held, 1)) -> Markup:
    """Where the highest value is, and the floor."""
    return Markup(
        '<path class="rule" d="M0 {}H{}M0 {}H{}"/><text class="most" x="0" y="{}">{}</text>'
    ).format(_TOP, WIDTH, _TOP + _HEIGHT, WIDTH, _TOP - 4, worded(most))


def _outline(heights: Sequence[float], step: float) -> Markup:
    floor = _TOP + _HEIGHT
    path = f"M0 {floor}"
    for place, height in enumerate(heights):
        path += f"V{_at(floor - height)}H{_at((place + 1) * step)}"
    return Markup('<path class="base" d="{}V{}"/>').format(path, floor)


def _mark(x: float, y: float) -> Markup:
    return Markup('<path class="base" d="M{} {}V{}"/>').format(_at(x), y + 1, y + _ROW - 1)


def _chosen(edges: Sequence[float], *, logarithmic: bool) -> list[tuple[int, str]]:
    """Which edges are named: place and text."""
    if logarithmic:
        units = [round(math.log10(edge), 6) for edge in edges]
        whole = [place for place, power in enumerate(units) if power == int(power)]
        every = math.ceil(len(whole) / _MOST_TICKS)
        return [(place, number(float(f"{edges[place]:.12g}"), 1)) for place in whole[::every]]
    step = edges[1] - edges[0]
    for multiple in (1, 2, 4, 5, 8, 10, 20, 50):
        places = [i for i, edge in enumerate(edges) if round(edge / step) % multiple == 0]
        if len(places) <= _MOST_TICKS:
            break
    return [(place, number(edges[place], 6)) for place in places]


def _ticks(chosen: Iterable[tuple[float, str]], step: float) -> list[Markup]:
    shapes = []
    for place, text in chosen:
        x = place * step
        anchor = "start" if x < 12 else "end" if x > WIDTH - 12 else "middle"
        shapes.append(
            Markup(
                '<path class="rule" d="M{} {}v4"/>'
                '<text class="tick" x="{}" y="{}" text-anchor="{}">{}</text>'
            ).format(*(_at(x), _TOP + _HEIGHT, _at(x), _TOP + _HEIGHT + 16, anchor, text))
        )
    return shapes


def _cut(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"


def _at(place: float) -> str:
    """A coordinate, to a tenth: more is bytes for nothing."""
    return f"{place:.1f}".removesuffix(".0")
