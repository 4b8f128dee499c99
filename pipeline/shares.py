"""PURE: which shards are of which share, and how even shares are.

A share is a function of the shards' names and rows and of how many shares there are, so that pods
that never speak to each other agree on it.
"""

from __future__ import annotations

import heapq
import zlib
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.records import Shard


def share(shards: Sequence[Shard], index: int, count: int) -> tuple[Shard, ...]:
    """The shards of one of `count` shares, in order.

    The shares are a partition of the shards, alike in rows: from the biggest to the smallest, each
    shard goes to the share that has the fewest rows. They depend on the shards alone, never on
    what is published by now.
    """
    by_name = sorted(range(len(shards)), key=lambda place: shards[place].name)
    shares = assigned([shards[place].rows for place in by_name], count)
    ours = sorted(by_name[i] for i, share in enumerate(shares) if share == index)
    return tuple(shards[place] for place in ours)


def assigned(rows: Sequence[int], count: int) -> Sequence[int]:
    """Which of `count` shares each shard is of, see `share`.

    No share has more rows than the mean of all and the biggest shard together, since a shard goes
    to a share that has no more than the mean by then.

    Source: R. L. Graham, "Bounds on multiprocessing timing anomalies", 1969 (longest first).

    Args:
        rows: The shards' rows, sorted by the shards' names.
        count: Of shares.
    """
    loads = [(0, share) for share in range(count)]
    shares = array("l", bytes(array("l").itemsize * len(rows)))
    # Stable: shards of one size stay sorted by name.
    for place in sorted(range(len(rows)), key=rows.__getitem__, reverse=True):
        load, least = loads[0]
        # An empty shard must not make all of them go to one share.
        heapq.heapreplace(loads, (load + max(1, rows[place]), least))
        shares[place] = least
    return shares


def share_of_unreadable(name: str, count: int) -> int:
    """Which share reports a file that cannot be read: its rows are not known."""
    return zlib.crc32(name.encode(errors="surrogateescape")) % count


@dataclass(frozen=True, slots=True)
class Balance:
    """How alike the shares of a listing are.

    Attributes:
        shares: How many there are.
        smallest: Rows of the one with the fewest.
        biggest: Rows of the one with the most: when it ends, all end.
        rows: Of all together.
        biggest_shard: Rows of the biggest shard, below which no biggest share can be.
    """

    shares: int
    smallest: int
    biggest: int
    rows: int
    biggest_shard: int

    @property
    def mean(self) -> float:
        """Rows of a share on average."""
        return self.rows / self.shares

    @property
    def imbalance(self) -> float:
        """The biggest share's rows over the mean: 1 is even. 1 where there are no rows."""
        return self.biggest / self.mean if self.rows else 1.0


def balance(rows: Sequence[int], count: int) -> Balance:
    """How alike `count` shares are of shards that have so many rows, sorted by their names."""
    loads = [0] * count
    for place, share in enumerate(assigned(rows, count)):
        loads[share] += rows[place]
    return Balance(count, min(loads), max(loads), sum(loads), max(rows, default=0))
