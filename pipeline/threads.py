"""Work in threads, of which only so much is under way that memory does not grow with the work.

For what waits for a disk or a network: Python's threads do not compute at once. What need not wait
is better done by the thread that asks.
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
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    threads: int,
    *,
    at_once: Callable[[_Item], bool] = lambda _: False,
) -> Iterator[_Result]:
    """Results in the order of the items, of which only a few are under way at a time.

    Args:
        function: Makes a result of an item; in a thread, or in the caller's.
        items: The items.
        threads: Threads at most; they are begun when they are wanted.
        at_once: Whether an item is one that no thread is wanted for.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[_Result]] = deque()
        for item in items:
            waiting.append(_done(function, item) if at_once(item) else pool.submit(function, item))
            while waiting and (len(waiting) >= 4 * threads or waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def in_chunks(
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    threads: int,
    chunk: int,
    *,
    at_once: Callable[[_Item], bool] = lambda _: False,
) -> Iterator[_Result]:
    """As `in_threads`, for items that take so little time that handing each to a thread takes
    longer. A thread takes `chunk` of them at a time; what is `at_once` of the first of them is
    taken to be so of all."""

    def several(part: list[_Item]) -> list[_Result]:
        return [function(item) for item in part]

    def first_at_once(part: list[_Item]) -> bool:
        return at_once(part[0])

    for results in in_threads(several, chunks(items, chunk), threads, at_once=first_at_once):
        yield from results


def _done(function: Callable[[_Item], _Result], item: _Item) -> Future[_Result]:
    """What was made of an item, or raised on it, to be told when its turn comes."""
    future: Future[_Result] = Future()
    try:
        future.set_result(function(item))
    except Exception as error:
        future.set_exception(error)
    return future


def chunks(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """The items in lists of `size`, of which the last may be shorter."""
    left = iter(items)
    while part := list(islice(left, size)):
        yield part
