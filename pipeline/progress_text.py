"""PURE: how far a run is, as the two lines of a live display, and in words.

    ████████████░░░░░░░░░░  52%  175,000 of 336,776 rows  14,489 rows/s  0:11 left
    20 of 42 shards, 8,108 bad rows, 1 failed; at work: 2013-04.parquet, 2013-05.parquet

Nothing is said by colour, and nothing is wider than the screen.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.errors import printable
from pipeline.screen import cells, clipped, cut
from pipeline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SPEED_SECONDS = 60.0
"""Speed is that of so much time."""

_BAR_LEAST, _BAR_MOST = 8, 40
_NAME_LEAST = 16


@dataclass
class Pace:
    """Rows done over time, and what follows from it: the speed, and the time left."""

    _looks: deque[tuple[float, int]] = field(default_factory=deque)

    def look(self, clock: float, rows: int) -> None:
        """At this time, in seconds, so many rows were done."""
        looks = self._looks
        if len(looks) > 1 and clock - looks[-2][0] < 0.5:  # a look more would tell no more
            looks.pop()
        looks.append((clock, rows))
        while len(looks) > 2 and clock - looks[1][0] >= SPEED_SECONDS:
            looks.popleft()

    def speed(self, clock: float) -> float | None:
        """Rows a second; None as long as nothing tells."""
        if not self._looks:
            return None
        (since, before), (_, now) = self._looks[0], self._looks[-1]
        return (now - before) / (clock - since) if now > before and clock > since else None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands.

    Attributes:
        rows: How many there are to do.
        rows_done: How many are done.
        shards: How many there are to do.
        shards_done: How many are done, those that failed too.
        bad_rows: Bad rows in the shards that are done.
        failed: Shards that failed.
        speed: Rows a second; None: not known yet.
        at_work: By the number of a worker, the names of the shards that it has in hand.
    """

    rows: int
    rows_done: int
    shards: int
    shards_done: int
    bad_rows: int = 0
    failed: int = 0
    speed: float | None = None
    at_work: Mapping[int, Sequence[str]] = field(default_factory=dict)

    @property
    def seconds_left(self) -> float | None:
        """Until all rows are done, at this speed; None if that is not known, or without end."""
        if self.rows_done >= self.rows:
            return 0.0
        seconds = (self.rows - self.rows_done) / self.speed if self.speed else math.inf
        return seconds if seconds < math.inf else None


def live_lines(at: Standing, width: int, *, ascii_only: bool = False) -> list[str]:
    """The lines of a live display.

    Args:
        at: Where the run stands.
        width: Columns of the screen.
        ascii_only: Whether the screen has no other characters.
    """
    fraction = min(1.0, at.rows_done / at.rows) if at.rows else 1.0
    speed = "" if at.speed is None else f"  {at.speed:,.0f} rows/s"
    left = "" if at.seconds_left is None else f"  {clock(at.seconds_left)} left"
    told = f"{int(100 * fraction):>3}%  {at.rows_done:,} of {at.rows:,} rows{speed}{left}"
    room = width - cells(told) - 1
    bar = ""
    if room >= _BAR_LEAST:
        full, empty = "#." if ascii_only else "█░"
        length = min(room, _BAR_MOST)
        filled = int(length * fraction)
        bar = full * filled + empty * (length - filled) + " "
    lines = [cut(bar + told, width), _shards_line(at, width)]
    return [line.replace("…", "~") for line in lines] if ascii_only else lines


def shards_told(at: Standing) -> str:
    """How many shards are done, and what is wrong."""
    parts = [f"{at.shards_done:,} of {counted(at.shards, 'shard')}"]
    parts += [counted(at.bad_rows, "bad row")] if at.bad_rows else []
    parts += [f"{at.failed:,} failed"] if at.failed else []
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """A time span as "1:02:03", or "0:07"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _shards_line(at: Standing, width: int) -> str:
    """How many shards are done, and the first that each worker has in hand, as far as they fit."""
    told = shards_told(at)
    in_hand = [shards for _, shards in sorted(at.at_work.items()) if shards]
    total = sum(map(len, in_hand))
    if not total:
        return cut(told, width)
    told += "; at work: "
    room = width - cells(told)
    for count in range(min(len(in_hand), 1 + room // _NAME_LEAST), 0, -1):
        names = [printable(shards[0]) for shards in in_hand[:count]]
        more = f" and {total - count:,} more" if total > count else ""
        for_names = room - cells(more) - 2 * (count - 1)
        if sum(map(cells, names)) > for_names:
            part = for_names // count
            if part < _NAME_LEAST:
                continue
            names = [clipped(name, part) for name in names]
        return told + ", ".join(names) + more
    return cut(f"{told}{total:,}", width)
