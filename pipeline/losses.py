"""PURE: what is lost with a worker, and whether it is given to another one or set aside."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

    from pipeline.worker import Order


def what_is_left(order: Order, finished: Container[str]) -> Order | None:
    """What is lost of a unit: the shards of which it is not known what became of them.

    The others are no part of it any more, so that none is told of twice. None: nothing is lost.
    """
    left = tuple(shard for shard in order.shards if shard not in finished)
    return replace(order, shards=left, again=True) if left else None


class Losses:
    """How often each shard was lost with the worker that had it in hand.

    Args:
        tries: How many workers a unit may take with it before it is set aside.
    """

    def __init__(self, tries: int) -> None:
        self._tries = tries
        self._lost: Counter[str] = Counter()

    def bearable(self, lost: Order) -> bool:
        """Whether what was lost, now once more, may be given to another worker."""
        self._lost.update(lost.shards)
        return all(self._lost[shard] < self._tries for shard in lost.shards)
