"""How a run went over time, in bounded memory."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pipeline.timeline import FIRST_INTERVAL, MOST_POINTS, Point, Timeline


def looked_for(seconds: float, step: float = 0.1) -> Timeline:
    """Looks at a run, as often as they are due, of which a row a second is done."""
    found = Timeline()
    for number in range(round(seconds / step) + 1):
        now = number * step
        if found.is_due(now):
            found.add(Point(now, int(now), 1000))
    return found


def test_the_first_look_is_due_at_once_and_the_next_one_later() -> None:
    found = Timeline()
    assert found.is_due(0.0)
    found.add(Point(0.0, 0, 1))
    assert not found.is_due(FIRST_INTERVAL / 2)
    assert found.is_due(FIRST_INTERVAL)


@pytest.mark.parametrize("seconds", [1, 60, 3_600, 20_000])
def test_looks_are_bounded_evenly_spread_and_reach_from_end_to_end(seconds: int) -> None:
    points = looked_for(seconds).points()
    assert len(points) <= MOST_POINTS
    assert points[0] == Point(0.0, 0, 1000)
    gaps = [b.seconds - a.seconds for a, b in pairwise(points)]
    assert min(gaps) > 0
    assert points[-1].seconds >= seconds - 2 * max(gaps)
    # All but the last few were kept at the same distance.
    assert max(gaps) <= 2 * min(gaps) + 0.2


def test_a_long_run_is_looked_at_ever_less_often() -> None:
    assert len(looked_for(20_000).points()) >= MOST_POINTS // 2 - 1
