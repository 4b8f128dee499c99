"""PURE: which rows of a batch are at fault, found by halving it, in few calls.

Nothing is known of a model that raises but that it does so on the whole batch. So the batch is
halved, and each half that raises is halved again, down to single rows: with b rows at fault among n
that takes at most about 2·b·log2(n) calls. A row is at fault if it raises alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

GIVE_UP = 64
"""Rows that raise, without any that does not, before it is taken for no row's fault."""


@dataclass(frozen=True, slots=True)
class Search:
    """What a search found.

    Attributes:
        faults: Row → what it raised, in order.
        hopeless: Whether it was given up, since nothing was ever scored.
        calls: How often rows were tried.
    """

    faults: dict[int, Exception]
    hopeless: bool
    calls: int


def at_fault(
    rows: int,
    attempt: Callable[[int, int], Exception | None],
    error: Exception,
    *,
    most: float = math.inf,
) -> Search:
    """The rows of a batch that raise.

    Args:
        rows: Rows of the batch, of which it is known that it raises.
        attempt: Scores rows from one up to, not including, another; gives what was raised, or
            None.
        error: What the whole batch raised.
        most: How many rows to look for.
    """
    faults: dict[int, Exception] = {}
    calls = 0
    scored = False
    # Stretches that are known to raise, or must since their sibling does not; the first is last.
    waiting: list[tuple[int, int, Exception | None]] = [(0, rows, error)]
    while waiting and len(faults) < most:
        first, end, known = waiting.pop()
        if end - first == 1:
            if known is None:
                calls += 1
                known = attempt(first, end)
                scored = scored or known is None
            if known is not None:
                faults[first] = known
                if len(faults) >= GIVE_UP and not scored:
                    return Search(faults, True, calls)
            continue
        middle = (first + end) // 2
        calls += 1
        left = attempt(first, middle)
        if left is None:
            scored = True
            waiting.append((middle, end, None))
            continue
        calls += 1
        right = attempt(middle, end)
        if right is not None:
            waiting.append((middle, end, right))
        scored = scored or right is None
        waiting.append((first, middle, left))
    return Search(faults, False, calls)
