"""Planned reading: the same bytes in any order, by few requests, within a bound of memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage.planned import WINDOW, PlannedReads
from pipeline.storage.requests import LONGEST, MIXED, pieces

KIB, MIB = 1 << 10, 1 << 20
DATA = np.random.default_rng(0).bytes(6 * MIB)


class Source:
    """Something long, that counts what is fetched of it."""

    def __init__(self) -> None:
        self.fetched: list[tuple[int, int]] = []
        self.fails = 0
        self._lock = threading.Lock()

    def __call__(self, start: int, end: int) -> bytes:
        with self._lock:
            self.fetched.append((start, end))
            if self.fails:
                self.fails -= 1
                raise ConnectionError
        return DATA[start:end] if end <= len(DATA) else bytes(end - start)

    def read(self, start: int, length: int) -> bytes:
        return self(start, start + length)

    @property
    def bytes(self) -> int:
        return sum(end - start for start, end in self.fetched)


@pytest.fixture
def source() -> Source:
    return Source()


def columns(start: int, sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Chunks that follow each other."""
    ends = start + np.cumsum(sizes)
    return [(int(end) - size, int(end)) for end, size in zip(ends, sizes, strict=True)]


def side_by_side(chunks: Sequence[tuple[int, int]], length: int) -> Iterator[tuple[int, int]]:
    """The reads of a reader that goes through all columns at one pace: starts and lengths."""
    longest = max(end - start for start, end in chunks)
    for step in range(-(-longest // length)):
        for start, end in chunks:
            at = start + step * length
            if at < end:
                yield at, min(length, end - at)


@given(st.data())
def test_any_plan_and_any_reads_give_what_is_there(data: st.DataObject) -> None:
    window = data.draw(st.sampled_from([64 * KIB, MIB, WINDOW]))
    source = Source()
    reads = PlannedReads(source, source.read, window)
    at = 4
    for _ in range(data.draw(st.integers(0, 4))):
        sizes = data.draw(st.lists(st.integers(1, 600 * KIB), min_size=1, max_size=5))
        if at + sum(sizes) > len(DATA):
            break
        reads.expect(columns(at, sizes))
        at += sum(sizes) + data.draw(st.integers(0, 100 * KIB))
    for _ in range(data.draw(st.integers(0, 12))):
        start = data.draw(st.integers(0, len(DATA) - 1))
        length = min(data.draw(st.integers(1, MIB)), len(DATA) - start)
        assert reads.read(start, length) == DATA[start : start + length]
    reads.close()


def test_each_piece_of_a_row_group_is_its_columns_in_order_without_a_gap() -> None:
    chunks = columns(4, [40 * MIB, 3 * MIB, 10 * KIB, 25 * MIB])
    found = pieces(chunks, 48 * MIB, first=True, fits=16 * MIB)
    for column, (start, end) in enumerate(chunks):
        own = [(piece.start, piece.end) for piece in found if piece.column == column]
        assert own == sorted(own)
        assert [own[0][0], *(stop for _, stop in own)] == [*(begin for begin, _ in own), end]
        assert start == own[0][0]
    assert max(piece.end - piece.start for piece in found) <= LONGEST * 5 // 4


def test_row_groups_that_fit_are_fetched_together_and_from_end_to_end(source: Source) -> None:
    reads = PlannedReads(source, source.read)
    groups = [columns(4 + group * 600 * KIB, [60 * KIB] * 10) for group in range(10)]
    for chunks in groups:
        reads.expect(chunks)
    for chunks in groups:
        for start, length in side_by_side(chunks, 16 * KIB):
            assert reads.read(start, length) == DATA[start : start + length]
    reads.close()
    assert len(source.fetched) == 1  # 6,000 KiB
    assert reads.held == 0


def test_a_column_between_two_wanted_ones_is_not_fetched_if_it_is_long(source: Source) -> None:
    reads = PlannedReads(source, source.read)
    reads.expect([(4, 100_000), (120_000, 200_000), (2_000_000, 2_100_000)])
    for start, end in [(4, 100_000), (120_000, 200_000), (2_000_000, 2_100_000)]:
        reads.read(start, end - start)
    reads.close()
    assert sorted(source.fetched) == [(4, 200_000), (2_000_000, 2_100_000)]


def test_thirty_three_columns_of_4_mib_take_five_requests_each_at_most(source: Source) -> None:
    chunks = columns(4, [4 * MIB] * 33)
    reads = PlannedReads(source, source.read)
    reads.expect(chunks)
    for start, length in side_by_side(chunks, 80 * KIB):
        reads.read(start, length)
    reads.close()
    assert len(source.fetched) <= 5 * 33
    assert source.bytes == 33 * 4 * MIB


def test_what_is_held_is_bounded_by_the_window_whatever_the_columns(source: Source) -> None:
    for sizes in ([4 * MIB] * 33, [100 * MIB, *[MIB] * 20], [40 * KIB] * 900, [90 * MIB] * 2):
        reads = PlannedReads(source, source.read)
        most = 0
        at = 4
        for _ in range(2):
            chunks = columns(at, sizes)
            at = chunks[-1][1]
            reads.expect(chunks)
            rows = 60
            for row in range(rows):  # at one pace in rows, not in bytes
                for start, end in chunks:
                    begin = start + (end - start) * row // rows
                    reads.read(begin, start + (end - start) * (row + 1) // rows - begin)
                    most = max(most, reads.held)
        assert most <= 1.25 * WINDOW, sizes[:2]
        assert reads.held == 0
        reads.close()


def test_who_reads_little_gets_little_more(source: Source) -> None:
    reads = PlannedReads(source, source.read)
    reads.expect(columns(4, [50 * MIB] * 4))
    reads.read(4, 100 * KIB)
    reads.close()
    assert source.bytes <= 9 * MIB


def test_planned_pieces_are_fetched_in_the_background_before_they_are_read(
    source: Source,
) -> None:
    fetching: list[str] = []

    def fetch(start: int, end: int) -> bytes:
        fetching.append(threading.current_thread().name)
        return source(start, end)

    reads = PlannedReads(fetch, source.read)
    chunks = columns(4, [4 * MIB] * 8)
    reads.expect(chunks)
    for start, length in side_by_side(chunks, 80 * KIB):
        reads.read(start, length)
    reads.close()
    assert fetching
    assert all(name.startswith("shardscore-read-ahead") for name in fetching)


def test_a_failed_piece_is_told_to_who_reads_it_and_asked_for_again(source: Source) -> None:
    reads = PlannedReads(source, source.read)
    chunks = columns(4, [600 * KIB] * 8)
    reads.expect(chunks)
    source.fails = 1
    failed = 0
    for start, length in side_by_side(chunks, 64 * KIB):
        try:
            read = reads.read(start, length)
        except ConnectionError:
            failed += 1
            read = reads.read(start, length)
        assert read == DATA[start : start + length]
    reads.close()
    assert failed == 1


def test_a_column_that_is_not_read_to_its_end_takes_no_room_for_ever(source: Source) -> None:
    reads = PlannedReads(source, source.read)
    at = 4
    for _ in range(3):
        chunks = columns(at, [20 * MIB] * 3)
        at = chunks[-1][1]
        reads.expect(chunks)
        for start, end in chunks:
            reads.read(start, end - start - 10)
    assert reads.held <= 3 * LONGEST * 5 // 4
    reads.close()


def test_bytes_of_no_plan_are_read_otherwise(source: Source) -> None:
    otherwise: list[tuple[int, int]] = []

    def read(start: int, length: int) -> bytes:
        otherwise.append((start, length))
        return DATA[start : start + length]

    reads = PlannedReads(source, read)
    reads.expect([(1000, 2000)])
    assert reads.read(500, 2000) == DATA[500:2500]
    reads.close()
    assert otherwise == [(500, 500), (2000, 500)]
    assert source.fetched == [(1000, 2000)]


def test_pieces_of_small_row_groups_are_mixed_and_those_of_big_ones_a_column_each() -> None:
    small = pieces(columns(4, [MIB] * 8), 48 * MIB, first=True, fits=16 * MIB)
    big = pieces(columns(4, [4 * MIB] * 8), 48 * MIB, first=True, fits=16 * MIB)
    assert {piece.column for piece in small} == {MIXED}
    assert {piece.column for piece in big} == set(range(8))


def test_closed_it_leaves_no_thread(source: Source) -> None:
    reads = PlannedReads(source, source.read)
    reads.expect(columns(4, [4 * MIB] * 8))
    reads.read(4, 1000)
    threads = [t for t in threading.enumerate() if t.name.startswith("shardscore-read-ahead")]
    assert threads
    reads.close()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
