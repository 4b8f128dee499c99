"""Freed memory goes back to the kernel when it has piled up, and not else."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from pipeline.memory import LOOK_EVERY, MOST_HOLES, FreedMemory
from tests.conftest import environment

HOLES = """
import numpy as np
from pipeline.memory import LOOK_EVERY, MOST_HOLES, FreedMemory, resident_bytes, share_one_heap
share_one_heap()
freed = FreedMemory()
for _ in range(LOOK_EVERY):
    freed.batch_done()
blocks = [np.ones(60 << 10, np.uint8) for _ in range(2000)]
del blocks[1::2], blocks[0:-1:2]
kept = resident_bytes()
for _ in range(LOOK_EVERY):
    freed.batch_done()
assert kept - resident_bytes() > MOST_HOLES, (kept, resident_bytes())
"""


class Heap:
    """Memory as a test wants it; counts how often it is given back."""

    def __init__(self) -> None:
        self.resident = 100 << 20
        self.looks = 0
        self.times = 0
        self.freed = FreedMemory(self._look, self._give_back)

    def _look(self) -> int:
        self.looks += 1
        return self.resident

    def _give_back(self) -> None:
        self.times += 1

    def look(self, resident: int) -> None:
        self.resident = resident
        for _ in range(LOOK_EVERY):
            self.freed.batch_done()


def test_memory_is_looked_at_now_and_then() -> None:
    heap = Heap()
    for _ in range(LOOK_EVERY * 3 - 1):
        heap.freed.batch_done()
    assert heap.looks == 2


def test_what_stays_as_it_is_is_left_alone_however_much_it_is() -> None:
    heap = Heap()
    for _ in range(100):
        heap.look(10 << 30)
    assert heap.times == 0


def test_what_has_grown_is_given_back() -> None:
    heap = Heap()
    heap.look(1 << 30)
    heap.look((1 << 30) + MOST_HOLES)
    assert heap.times == 0
    heap.look((1 << 30) + MOST_HOLES + 1)
    assert heap.times == 1


def test_what_is_needed_again_at_once_is_not_given_back_at_each_look() -> None:
    heap = Heap()
    heap.look(1 << 30)
    for _ in range(100):
        heap.look(2 << 30)
    assert heap.times == 1


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the call")
def test_pages_between_blocks_in_use_go_back_to_the_kernel() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOLES], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
