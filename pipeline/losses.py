"""PURE: what is lost with a worker, whether it is given to another one or set aside, and the words
for it."""

from __future__ import annotations

import signal
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.errors import WorkerDiedError, printable

if TYPE_CHECKING:
    from collections.abc import Container

    from pipeline.worker import Order
    from pipeline.workers import Died

AGAIN = "run the same command again: it continues with what is left"


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


def died_error(
    number: int, died: Died, order: Order | None, *, prepared: bool = True
) -> WorkerDiedError:
    """The error for a worker that died.

    Args:
        number: The worker's.
        died: How it ended.
        order: What it had in hand; None: it was not scoring.
        prepared: Whether its model was loaded.
    """
    if died.signum is not None:
        how = f"was killed by signal {died.signum}"
    elif died.code is not None:
        how = f"ended by itself, with code {died.code},"
    else:
        how = "was lost"
    if died.place:
        how += f" on {died.place}"
    doing = "between two shards" if prepared else "while it loaded the model"
    if order is not None:
        more = f" and {len(order.shards) - 1:,} other small shards" if order.shards[1:] else ""
        doing = f"while scoring {printable(order.shards[0])}{more}"
    memory = died.signum == signal.SIGKILL
    if died.place:
        advice = f"look at the logs of {died.place}: it may have run out of memory"
    elif memory:
        advice = "use fewer --workers"
    else:
        advice = "use --workers 1 to see the whole error"
    return WorkerDiedError(
        f"worker {number} {how} {doing}" + ("; probably out of memory" if memory else ""),
        received=died.said or None,
        hint=f"{AGAIN}; if it happens again, {advice}",
    )
