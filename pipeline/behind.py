"""Work that goes on behind its caller's back, one item at a time, in order.

The model scores one batch while the one before it is written: writing compresses and waits for the
disk, and holds the interpreter for little of it. What comes of an item is known when the next one
is given: an error is raised there, to the same caller.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

_Item = TypeVar("_Item")


class Behind(Generic[_Item]):
    """Does something with each item, while its caller makes the next. A context manager.

    No more than one item is under way, and none once an error was raised or the block is left.

    Args:
        work: What is done with an item.
        own_thread: Whether a thread of its own does it; if not, `take` does.
    """

    def __init__(self, work: Callable[[_Item], None], *, own_thread: bool) -> None:
        self._work = work
        self._pool = ThreadPoolExecutor(1) if own_thread else None
        self._under_way: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        # The item under way is finished, whatever comes of it: its caller is given up already.
        if self._pool is not None:
            self._pool.shutdown()

    def take(self, item: _Item) -> None:
        """Begins with an item when the one before it is done.

        Raises:
            Exception: What was raised on the one before it, or without a thread on this one.
        """
        self.finish()
        if self._pool is None:
            self._work(item)
        else:
            self._under_way = self._pool.submit(self._work, item)

    def finish(self) -> None:
        """Waits for the item under way.

        Raises:
            Exception: What was raised on it.
        """
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()
