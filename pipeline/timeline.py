"""How a run went over time: at most `MOST_POINTS` looks, however long it takes.

When there are more, every second one is dropped and looks become half as frequent, so that those
that are kept stay evenly spread.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST_POINTS = 240
FIRST_INTERVAL = 0.25
"""Seconds between the first looks: a small job takes but seconds, and a look tens of microseconds.
Past the first minutes they are seconds apart."""


@dataclass(frozen=True, slots=True)
class Point:
    """One look.

    Attributes:
        seconds: Since the run began.
        rows: That are scored or set aside by then, in shards under way too.
        resident: Bytes that are resident then, of all processes that are told of.
    """

    seconds: float
    rows: int
    resident: int


class Timeline:
    """The looks at a run, while it goes on."""

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._interval = FIRST_INTERVAL

    def is_due(self, seconds: float) -> bool:
        """Whether the last look is long enough ago.

        Args:
            seconds: Since the run began.
        """
        return not self._points or seconds - self._points[-1].seconds >= self._interval

    def add(self, point: Point) -> None:
        """Keeps a look, which is later than those before it."""
        self._points.append(point)
        if len(self._points) > MOST_POINTS:
            del self._points[1::2]
            self._interval *= 2

    def points(self) -> tuple[Point, ...]:
        """Those that are kept, in their order."""
        return tuple(self._points)
