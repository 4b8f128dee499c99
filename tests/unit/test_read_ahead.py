"""Reading ahead: the same bytes in any order, fetched before they are asked for, within bounds."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage import read_ahead
from pipeline.storage.read_ahead import ReadAhead

KIB = 1 << 10
DATA = np.random.default_rng(0).bytes(3 << 20)


class Source:
    """Something long, that counts what is fetched of it."""

    def __init__(self, size: int = len(DATA)) -> None:
        self.size = size
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

    @property
    def bytes(self) -> int:
        return sum(end - start for start, end in self.fetched)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def reader(source: Source) -> Iterator[ReadAhead]:
    reader = ReadAhead(source, source.size)
    yield reader
    reader.close()


@given(
    st.lists(
        st.tuples(st.integers(0, len(DATA) - 1), st.integers(1, 400 * KIB), st.integers(1, 6)),
        max_size=12,
    )
)
def test_reads_in_any_order_give_what_is_there(starts: list[tuple[int, int, int]]) -> None:
    reader = ReadAhead(Source(), len(DATA))
    for start, length, times in starts:  # sequences, and jumps between them
        for at in range(start, min(start + times * length, len(DATA)), length):
            wanted = DATA[at : at + length]
            assert reader.read(at, len(wanted)) == wanted
    reader.close()


def test_interleaved_sequences_of_changing_lengths_give_what_is_there(
    reader: ReadAhead, source: Source
) -> None:
    lengths = np.random.default_rng(1)
    at = [start * len(DATA) // 16 for start in range(16)]
    for _ in range(30):
        for column, start in enumerate(at):
            wanted = DATA[start : start + int(lengths.choice([100, 8 * KIB, 60 * KIB, 130 * KIB]))]
            if wanted:
                assert reader.read(start, len(wanted)) == wanted
                at[column] = start + len(wanted)


def test_what_follows_in_a_sequence_is_fetched_in_the_background(source: Source) -> None:
    fetching: list[str] = []

    def fetch(start: int, end: int) -> bytes:
        fetching.append(threading.current_thread().name)
        return source(start, end)

    reader = ReadAhead(fetch, source.size)
    for at in range(0, 20 * 64 * KIB, 64 * KIB):
        reader.read(at, 64 * KIB)
    reader.close()
    # The first read begins a sequence, the second tells that it is one.
    assert fetching.count(threading.current_thread().name) == 2


def test_no_byte_of_one_long_sequence_is_fetched_twice(reader: ReadAhead, source: Source) -> None:
    for at in range(0, len(DATA), 100_000):
        reader.read(at, min(100_000, len(DATA) - at))
    assert source.bytes == len(DATA)


def test_small_reads_here_and_there_fetch_no_more_than_they_ask_for(
    reader: ReadAhead, source: Source
) -> None:
    for at in (5, 2_000_000, 1_000_000, 70_000):
        reader.read(at, 1000)
    assert source.bytes == 4000


def test_what_waits_to_be_read_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "AHEAD", 1 << 20)
    source = Source(1 << 40)
    reader = ReadAhead(source, source.size)
    most = 0
    for step in range(40):
        for column in range(20):
            reader.read(column * (1 << 30) + step * 300 * KIB, 300 * KIB)
            most = max(most, sum(s.end - s.start for s in reader._segments))
    reader.close()
    assert most <= 2 << 20


def test_a_failure_ahead_is_told_when_its_bytes_are_read_and_can_be_tried_again(
    reader: ReadAhead, source: Source
) -> None:
    reader.read(0, 64 * KIB)
    source.fails = 1
    failed = 0
    for at in range(64 * KIB, len(DATA), 64 * KIB):
        try:
            reader.read(at, 64 * KIB)
        except ConnectionError:
            failed += 1
    assert failed == 1
    for at in range(0, len(DATA), 64 * KIB):
        assert reader.read(at, 64 * KIB) == DATA[at : at + 64 * KIB]


def test_a_closed_reader_leaves_no_thread(source: Source) -> None:
    reader = ReadAhead(source, source.size)
    for at in range(0, 10 * 64 * KIB, 64 * KIB):
        reader.read(at, 64 * KIB)
    threads = [t for t in threading.enumerate() if t.name.startswith("shardscore-read-ahead")]
    assert threads
    reader.close()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
