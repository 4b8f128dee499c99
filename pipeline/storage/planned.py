"""Reading what was planned: by long requests, in the background, within a bound of memory.

Each piece of the plan is asked for once. Its bytes are let go a block at a time, as they are read;
the next piece is asked for when it fits beside what is left. A read of what was not asked for yet
does not wait for room: all columns of a batch must come through.
"""

from __future__ import annotations

import bisect
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from pipeline.storage.requests import MIXED, Piece, extended, pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WINDOW = 32 << 20
"""Bytes that are held, or on their way, at once."""

_FITS = WINDOW // 2
_BUDGET = 3 * WINDOW // 2
"""Of pieces of a big row group: half of it is waiting to be read, on the average."""
_AT_FIRST = 8 << 20
_BLOCK = 128 << 10
_THREADS = 8


class _Blocks:
    """What came of a piece, a block at a time.

    Args:
        data: The bytes of the piece.
    """

    def __init__(self, data: bytes) -> None:
        self._blocks: list[bytes | None] = [
            data[at : at + _BLOCK] for at in range(0, len(data), _BLOCK)
        ]
        self._left = [len(block or b"") for block in self._blocks]

    def get(self, start: int, end: int) -> list[memoryview] | None:
        """The bytes from a start to an end within the piece; None if some were let go."""
        found = []
        while start < end:
            at, place = divmod(start, _BLOCK)
            block = self._blocks[at]
            if block is None:
                return None
            found.append(memoryview(block)[place : place + end - start])
            start += len(found[-1])
        return found

    def let_go(self, start: int, end: int) -> int:
        """Notes that these bytes were read; returns how many are held no longer."""
        freed = 0
        while start < end:
            at = start // _BLOCK
            stop = min(end, (at + 1) * _BLOCK)
            self._left[at] -= stop - start
            block = self._blocks[at]
            if self._left[at] <= 0 and block is not None:
                freed += len(block)
                self._blocks[at] = None
            start = stop
        return freed

    @property
    def held(self) -> int:
        """Bytes that are held."""
        return sum(len(block) for block in self._blocks if block is not None)


class PlannedReads:
    """The pieces of a plan, of which reads are served.

    Args:
        fetch: Gives the bytes from a start to an end.
        otherwise: Reads what is in no plan: start, length.
        window: Bytes that are held, or on their way, at once.
    """

    def __init__(
        self,
        fetch: Callable[[int, int], bytes],
        otherwise: Callable[[int, int], bytes],
        window: int = WINDOW,
    ) -> None:
        self._fetch = fetch
        self._otherwise = otherwise
        self._window = window
        self._pool: ThreadPoolExecutor | None = None
        # What is planned and not read yet, by where it begins.
        self._starts: list[int] = []
        self._pieces: dict[int, Piece] = {}
        self._coming: deque[Piece] = deque()
        self._coming_bytes = 0
        self._begun: dict[int, Future[_Blocks]] = {}
        self._current: dict[int, Piece] = {}
        self.held = 0
        self._read = 0
        self._told = False

    @property
    def hungry(self) -> bool:
        """Whether less is planned than could be fetched."""
        return self._coming_bytes < self._window

    def expect(self, chunks: Sequence[tuple[int, int]]) -> None:
        """Plans a row group: see `PlannedReader.expect`."""
        found = pieces(chunks, _BUDGET, first=not self._told, fits=_FITS)
        self._told = True
        for piece in found:
            size = piece.end - piece.start
            self._coming_bytes += size
            last = self._coming[-1] if self._coming else None
            before = last.end if last else 0
            if last is not None and self._waits(last) and extended(last, piece):
                self._coming_bytes += piece.start - before
                continue
            bisect.insort(self._starts, piece.start)
            self._pieces[piece.start] = piece
            self._coming.append(piece)

    def read(self, start: int, length: int) -> bytes:
        """The bytes from `start` on; `length` of them must be there.

        Raises:
            Exception: What `fetch` raises. The next read tries it again.
        """
        parts: list[bytes | memoryview] = []
        used: list[tuple[Piece, int, int]] = []
        at, end = start, start + length
        while at < end:
            piece = self._covering(at)
            stop = min(end, self._next(at, end) if piece is None else piece.end)
            data = self._data(piece, at, stop) if piece is not None else None
            if data is None:
                parts.append(self._otherwise(at, stop - at))
            else:
                parts += data
            if piece is not None:
                used.append((piece, at, stop))
            at = stop
        # Only now: a read that failed half way comes again.
        for read in used:
            self._note(*read)
        self._go_on()
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Fetches no more."""
        self._coming.clear()
        self._begun.clear()
        self._pieces.clear()
        self._starts.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _data(self, piece: Piece, start: int, end: int) -> list[memoryview] | None:
        if piece.start not in self._begun:
            self._begin(piece)
        self._go_on()  # what follows does not wait for this answer
        try:
            blocks = self._begun[piece.start].result()
        except BaseException:
            self._forget(piece)  # so that it can be tried again
            raise
        return blocks.get(start - piece.start, end - piece.start)

    def _note(self, piece: Piece, start: int, end: int) -> None:
        """Lets go what was read."""
        self._read += end - start
        piece.wanted -= end - start
        if (begun := self._begun.get(piece.start)) is not None:
            self.held -= begun.result().let_go(start - piece.start, end - piece.start)
        if piece.column != MIXED:
            # Columns are read in order. Should bytes of the piece before never be read, they are
            # not waited for.
            before = self._current.get(piece.column)
            self._current[piece.column] = piece
            if before is not None and before is not piece:
                self._drop(before)
        if piece.wanted <= 0:
            self._drop(piece)

    def _drop(self, piece: Piece) -> None:
        if self._pieces.get(piece.start) is piece:
            del self._pieces[piece.start]
            del self._starts[bisect.bisect_left(self._starts, piece.start)]
            self._forget(piece)

    def _forget(self, piece: Piece) -> None:
        begun = self._begun.pop(piece.start, None)
        if begun is not None:
            came = begun.done() and begun.exception() is None
            self.held -= begun.result().held if came else piece.end - piece.start

    def _go_on(self) -> None:
        """Asks for the next pieces, as far as there is room."""
        room = min(self._window, _AT_FIRST + 2 * self._read)  # who reads one batch gets little more
        while self._coming:
            piece = self._coming[0]
            size = piece.end - piece.start
            known = self._waits(piece)
            if known and self.held + size > room:
                return
            self._coming.popleft()
            self._coming_bytes -= size
            if known:
                self._begin(piece)

    def _waits(self, piece: Piece) -> bool:
        return self._pieces.get(piece.start) is piece and piece.start not in self._begun

    def _begin(self, piece: Piece) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, "shardscore-read-ahead")
        self._begun[piece.start] = self._pool.submit(self._came, piece.start, piece.end)
        self.held += piece.end - piece.start

    def _came(self, start: int, end: int) -> _Blocks:
        return _Blocks(self._fetch(start, end))

    def _covering(self, at: int) -> Piece | None:
        place = bisect.bisect_right(self._starts, at) - 1
        if place < 0:
            return None
        piece = self._pieces[self._starts[place]]
        return piece if at < piece.end else None

    def _next(self, at: int, end: int) -> int:
        place = bisect.bisect_right(self._starts, at)
        return self._starts[place] if place < len(self._starts) else end
