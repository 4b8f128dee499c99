"""Which rows of a batch raise: found by halving, in few calls."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.rescue import GIVE_UP, Search, at_fault

if TYPE_CHECKING:
    from collections.abc import Collection


class Batch:
    """A batch of which some rows raise, and how often it was tried."""

    def __init__(self, rows: int, bad: Collection[int]) -> None:
        self.rows, self.bad, self.calls = rows, sorted(bad), 0

    def attempt(self, first: int, end: int) -> Exception | None:
        assert 0 <= first < end <= self.rows
        self.calls += 1
        found = [row for row in self.bad if first <= row < end]
        return ValueError(f"row {found[0]}") if found else None

    def search(self, most: float = math.inf) -> Search:
        return at_fault(self.rows, self.attempt, ValueError("the whole"), most=most)


@given(st.data())
def test_exactly_the_rows_that_raise_are_found_in_few_calls(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 3_000))
    most = min(rows, GIVE_UP - 1)
    bad = data.draw(st.sets(st.integers(0, rows - 1), min_size=1, max_size=most))
    batch = Batch(rows, bad)
    found = batch.search()
    assert list(found.faults) == batch.bad
    assert not found.hopeless
    assert found.calls == batch.calls <= 2 * len(bad) * max(1, math.ceil(math.log2(rows)))


def test_three_rows_of_a_batch_of_8192_take_fewer_than_a_hundred_calls() -> None:
    for bad in ([0, 4_000, 8_191], [1, 2, 3], [5, 2_730, 5_461], [4_095, 4_096, 8_000]):
        assert Batch(8_192, bad).search().calls < 97  # the first, and the last, come on top


def test_each_row_has_the_error_that_it_raises_alone() -> None:
    found = Batch(100, [7, 64]).search()
    assert {row: str(error) for row, error in found.faults.items()} == {7: "row 7", 64: "row 64"}


def test_the_first_row_at_fault_can_be_asked_for_alone() -> None:
    batch = Batch(8_192, range(100, 8_000, 7))
    assert list(batch.search(most=1).faults) == [100]
    assert batch.calls <= 27


def test_a_batch_that_raises_whatever_its_rows_is_given_up() -> None:
    batch = Batch(8_192, range(8_192))
    assert batch.search().hopeless
    assert batch.calls < 3 * GIVE_UP


def test_a_batch_of_which_half_the_rows_raise_is_not_given_up() -> None:
    found = Batch(1_000, range(500)).search()
    assert len(found.faults) == 500


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_a_batch_that_raises_only_as_a_whole_has_no_row_at_fault(rows: int) -> None:
    found = at_fault(rows, lambda _first, _end: None, ValueError())
    assert found.faults == {} or rows == 1
