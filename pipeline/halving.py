"""PURE: searching by halves: the rows at fault in a batch that raises, the parts that fit.

Owns the order of the search and nothing of what is called. It is a function of the number of rows
and of what each attempt says, so that a search that is repeated finds the same rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Attempt = Callable[[int, int], Exception | None]

EXAMINED = 64
"""Rows that are tried alone before a batch is given up on which nothing but errors was seen."""

T = TypeVar("T")


class TogetherOnlyError(Exception):
    """Rows raise together, and none of them does alone: it is no row's fault.

    Args:
        start: The first of the rows.
        stop: The row behind the last.
        raised: What they raised, if it was seen: it may only follow from what others did.
    """

    def __init__(self, start: int, stop: int, raised: Exception | None) -> None:
        super().__init__(start, stop, raised)
        self.start = start
        self.stop = stop
        self.raised = raised


class Search:
    """The search for the rows at fault in a batch that raises.

    It takes it that a row which raises alone raises among others too; whoever calls proves that by
    scoring those that are left.

    Args:
        rows: Rows of the batch.
        attempt: Scores the rows from the first number up to, and without, the second: what it
            raised, or None. What it raises itself ends the search.
    """

    def __init__(self, rows: int, attempt: Attempt) -> None:
        self._rows = rows
        self._attempt = attempt
        self._alone: dict[int, Exception | None] = {}

    def hopeless(self, examined: int = EXAMINED) -> Exception | None:
        """What a row raises alone, if so many rows, spread over the batch, raise and none does
        not. A batch of fewer rows is never hopeless: each of them can be looked at."""
        if self._rows < examined:
            return None
        first = None
        for i in range(examined):
            row = i * self._rows // examined
            error = self._raised(row, row + 1)
            if error is None:
                return None
            first = first or error
        return first

    def culprits(self) -> Iterator[tuple[int, Exception]]:
        """The rows that raise alone, in order, and what each of them raised: one at least.

        For k of them among n rows this takes at most 2 k ⌈log2 n⌉ + 1 attempts.

        Raises:
            TogetherOnlyError: Some rows raise together, and none of them alone.
        """
        yield from self._below(0, self._rows, None)

    def _below(
        self, start: int, stop: int, known: Exception | None
    ) -> Iterator[tuple[int, Exception]]:
        """The culprits among rows of which it is known, or follows, that they raise together."""
        if stop - start == 1:
            error = known or self._raised(start, stop)
            if error is None:
                raise TogetherOnlyError(start, stop, None)
            yield start, error
            return
        middle = (start + stop) // 2
        left = self._raised(start, middle)
        if left is not None:
            yield from self._below(start, middle, left)
            right = self._raised(middle, stop)
            if right is not None:
                yield from self._below(middle, stop, right)
            return
        try:
            yield from self._below(middle, stop, None)  # it must be there, then
        except TogetherOnlyError as error:
            if error.raised is not None or known is None:
                raise
            # Neither half raises: this is where they were last seen to.
            raise TogetherOnlyError(start, stop, known) from None

    def _raised(self, start: int, stop: int) -> Exception | None:
        if stop - start > 1:
            return self._attempt(start, stop)
        if start not in self._alone:
            self._alone[start] = self._attempt(start, stop)
        return self._alone[start]


def by_parts(
    rows: int, size: int, call: Callable[[int, int], T], too_big: Callable[[Exception], bool]
) -> tuple[list[T], int]:
    """Calls on consecutive rows, so many at once that it works.

    Args:
        rows: Rows in all.
        size: Most rows of a call, to begin with.
        call: Is given the number of the first row, and of the row behind the last.
        too_big: Whether an error says that fewer rows would do.

    Returns:
        What the calls returned, in order; and the most rows of a call in the end: `size`, halved
        each time that a call was too big.

    Raises:
        Exception: Whatever a call raises, if it is of another kind or on a single row.
    """
    parts: list[T] = []
    start = 0
    while start < rows:
        stop = min(rows, start + size)
        try:
            part = call(start, stop)
        except Exception as error:
            if stop - start == 1 or not too_big(error):
                raise
        else:
            parts.append(part)
            start = stop
            continue
        # Outside of the handler, which holds the error and all that was in use when it was raised.
        size = -(-(stop - start) // 2)
    return parts, size
