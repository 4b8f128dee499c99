"""Reading ahead: what is asked for in order is fetched before it is asked for.

Over a network each request costs a wait that is longer than its bytes take. A Parquet reader goes
through a file in several sequences at once, one a column (or one through all of them, where row
groups are small). Each is told by its reads, every one of which begins where another ended; what
follows is then fetched in the background. Bytes that were fetched and not read yet are bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

AHEAD = 16 << 20
"""Bytes that wait to be read: the sequences share it evenly, so that none goes without."""

_BUFFER = 256 << 10
_SHORTEST = 128 << 10
_LONGEST = 4 << 20
_DEPTH = 16
_SEQUENCES = 512
_THREADS = 16


@dataclass(slots=True)
class _Segment:
    """Bytes from `start` to `end`, fetched or on their way."""

    start: int
    end: int
    data: Future[bytes]
    born: int


@dataclass(frozen=True, slots=True)
class _Sequence:
    """Reads that follow each other: how many, the longest, and the number of the last of all."""

    reads: int
    longest: int
    last: int


class ReadAhead:
    """Random reads of something long, by requests.

    Args:
        fetch: Gives the bytes from a start to an end.
        size: Bytes in all.
        threads: How many requests are under way at once.
    """

    def __init__(
        self, fetch: Callable[[int, int], bytes], size: int, threads: int = _THREADS
    ) -> None:
        self._fetch = fetch
        self._size = size
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._segments: list[_Segment] = []
        # The sequences, by where they have come to.
        self._ends: OrderedDict[int, _Sequence] = OrderedDict()
        self._reads = 0
        self._round = 64

    def read(self, start: int, length: int) -> bytes:
        """The bytes from `start` on; `length` of them must be there.

        Raises:
            Exception: What `fetch` raises. The next read tries it again.
        """
        self._reads += 1
        before = self._ends.pop(start, None)
        # Reads differ in length where pages end: what is fetched ahead is as long as the longest.
        step = min(max(length, before.longest if before else _SHORTEST), _LONGEST)
        parts = []
        at, end = start, start + length
        while at < end:
            part = self._waiting(at, end)
            if part is None:
                part = self._fetched(at, end, step if at > start else 0)
            parts.append(part)
            at += len(part)
        self._ends[end] = _Sequence(before.reads + 1 if before else 1, step, self._reads)
        if len(self._ends) > _SEQUENCES:
            self._ends.popitem(last=False)
        # A read that fills a whole buffer of the reader's is most likely not a sequence's last.
        if before or length >= _BUFFER:
            self._look_ahead(end, step, self._ends[end].reads)
        return b"".join(parts) if len(parts) > 1 else parts[0]

    def close(self) -> None:
        """Fetches no more."""
        self._segments.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _waiting(self, at: int, end: int) -> bytes | None:
        """What was fetched ahead from `at` on, up to `end`; None if nothing was."""
        segment = self._covering(at)
        if segment is None:
            return None
        try:
            data = segment.data.result()
        except BaseException:
            self._segments.remove(segment)  # so that it can be tried again
            raise
        if end >= segment.end:
            self._segments.remove(segment)
        return data[at - segment.start : end - segment.start]

    def _fetched(self, at: int, end: int, at_least: int) -> bytes:
        """Bytes from `at` on, up to `end`; what is fetched beyond that waits to be read."""
        until = min(max(end, at + at_least), self._next_segment(at))
        data = self._fetch(at, until)
        if until > end:
            done: Future[bytes] = Future()
            done.set_result(data)
            self._segments.append(_Segment(at, until, done, self._reads))
        return data[: end - at]

    def _next_segment(self, at: int) -> int:
        return min((s.start for s in self._segments if s.start > at), default=self._size)

    def _look_ahead(self, start: int, length: int, reads: int) -> None:
        # In a round each sequence is read once or twice. For what was fetched some rounds ago
        # nobody comes any more: its sequence has ended.
        live = self._live()
        oldest = self._reads - 6 * live - 16
        self._segments = [s for s in self._segments if s.born > oldest]
        waiting = sum(s.end - s.start for s in self._segments)
        share = AHEAD // live
        if share < length // 2:
            return
        limit = min(self._size, start + max(length, min(reads * length, _DEPTH * length, share)))
        while True:
            while (there := self._covering(start)) is not None:
                start = there.end
            end = min(start + length, limit, self._next_segment(start))
            waiting += end - start
            if start >= end or waiting > 2 * AHEAD:
                return
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, "shardscore-read-ahead")
            data = self._pool.submit(self._fetch, start, end)
            self._segments.append(_Segment(start, end, data, self._reads))

    def _live(self) -> int:
        """How many sequences are being read: those that came further in the last round or two."""
        recent = self._reads - 3 * self._round
        found = sum(s.last > recent for s in self._ends.values() if s.reads > 1)
        self._round = max(found, 8)
        return max(found, 1)

    def _covering(self, at: int) -> _Segment | None:
        return next((s for s in self._segments if s.start <= at < s.end), None)
