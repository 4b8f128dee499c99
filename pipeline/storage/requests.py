"""PURE: the column chunks of a Parquet file → the requests that fetch them.

A request costs the server more than its bytes do, and over a network it costs a wait. So requests
are as long as memory allows. A row group that fits is fetched from end to end, and small ones
together. Of a bigger one all columns are read side by side, so each holds a piece in memory: how
long that is follows from the budget.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LONGEST = 8 << 20
"""Bytes of one request at most: what is asked for again if it fails."""

_SHORTEST = 128 << 10
_FIRST = 256 << 10
"""Of the first piece of each column of a file, so that its first batch does not wait for more."""
_HOLE = 64 << 10
"""Bytes that are fetched though nobody wants them, in the place of another request."""

MIXED = -1


@dataclass(slots=True)
class Piece:
    """Bytes of one request.

    Attributes:
        start: The first.
        end: The one behind the last.
        wanted: How many of them will be read.
        column: The place of the chunk in its row group; `MIXED` for several of them.
    """

    start: int
    end: int
    wanted: int
    column: int


def pieces(
    chunks: Sequence[tuple[int, int]], budget: int, *, first: bool, fits: int
) -> list[Piece]:
    """The requests for one row group, in the order in which they will be needed.

    Args:
        chunks: Starts and ends of its chunks.
        budget: Bytes that pieces of all columns may take together.
        first: Whether no row group was read before it.
        fits: Bytes up to which a row group is fetched from end to end.
    """
    if sum(end - start for start, end in chunks) <= fits:
        return joined(sorted(chunks))
    # These lengths need the fewest requests of all whose sum is the budget.
    roots = [math.sqrt(end - start) for start, end in chunks]
    share = budget / (sum(roots) or 1)
    cut: list[tuple[float, Piece]] = []
    for column, ((start, end), root) in enumerate(zip(chunks, roots, strict=True)):
        length = min(LONGEST, max(_SHORTEST, int(share * root)))
        # Columns begin their next piece in turn: so half of the pieces' lengths is waiting.
        offset = max(_SHORTEST, length * (column + 1) // len(chunks))
        at = start
        for stop in _cuts(start, end, length, offset, first=first):
            place = (at - start) / (end - start)
            cut.append((place, Piece(at, stop, stop - at, column)))
            at = stop
    return [piece for _, piece in sorted(cut, key=lambda one: (one[0], one[1].column))]


def joined(chunks: Sequence[tuple[int, int]]) -> list[Piece]:
    """Requests for chunks that lie in this order, through the holes between them."""
    found: list[Piece] = []
    for start, end in chunks:
        at = start
        while at < end:
            stop = min(end, at + LONGEST)
            part = Piece(at, stop, stop - at, MIXED)
            if not (found and extended(found[-1], part)):
                found.append(part)
            at = stop
    return found


def extended(piece: Piece, by: Piece) -> bool:
    """Whether a piece was made longer by another one that follows it."""
    if not piece.column == by.column == MIXED:
        return False
    if not piece.end <= by.start <= piece.end + _HOLE or by.end - piece.start > LONGEST:
        return False
    piece.end = by.end
    piece.wanted += by.wanted
    return True


def _cuts(start: int, end: int, length: int, offset: int, *, first: bool) -> Iterator[int]:
    """The ends of a chunk's pieces; none of them is so short that it could be another's part."""
    at = start
    for step in (_FIRST, offset) if first else (offset,):
        if end - at > step + length // 4:
            at += step
            yield at
    while end - at > length + length // 4:
        at += length
        yield at
    if at < end:
        yield end
