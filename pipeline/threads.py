"""Work in threads, of which only so much is under way that memory does not grow with the work.

For what waits for a disk or a network: Python's threads do not compute at once.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_threads(
    function: Callable[[_Item], _Result], items: Iterable[_Item], threads: int
) -> Iterator[_Result]:
    """Results in the order of the items, of which only a few are under way at a time."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[_Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 4 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def in_chunks(
    function: Callable[[_Item], _Result], items: Iterable[_Item], threads: int, chunk: int
) -> Iterator[_Result]:
    """As `in_threads`, for items that take so little time that handing each to a thread takes
    longer. A thread takes `chunk` of them at a time."""

    def several(part: list[_Item]) -> list[_Result]:
        return [function(item) for item in part]

    for results in in_threads(several, chunks(items, chunk), threads):
        yield from results


def chunks(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """The items in lists of `size`, of which the last may be shorter."""
    left = iter(items)
    while part := list(islice(left, size)):
        yield part
