"""The search for rows at fault, and for the parts that fit, over batches that are none."""

from __future__ import annotations

from math import ceil, log2
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.halving import EXAMINED, Search, TogetherOnlyError, by_parts

if TYPE_CHECKING:
    from collections.abc import Collection


class Batch:
    """Rows of which some make the whole raise, and a count of the calls."""

    def __init__(self, bad: Collection[int]) -> None:
        self.bad = bad
        self.calls = 0

    def __call__(self, start: int, stop: int) -> Exception | None:
        assert start < stop
        self.calls += 1
        wrong = [row for row in self.bad if start <= row < stop]
        return ValueError(f"row {min(wrong)}") if wrong else None


batches = st.integers(1, 3_000).flatmap(
    lambda rows: st.tuples(
        st.just(rows), st.sets(st.integers(0, rows - 1), min_size=1, max_size=40)
    )
)


@given(batches)
@example((8_192, {0, 4_095, 8_191}))
@example((1, {0}))
@example((64, set(range(64))))
def test_exactly_the_bad_rows_are_found_in_order_in_few_calls(drawn: tuple[int, set[int]]) -> None:
    rows, bad = drawn
    batch = Batch(bad)
    found = list(Search(rows, batch).culprits())
    assert [row for row, _ in found] == sorted(bad)
    assert [str(error) for _, error in found] == [f"row {row}" for row in sorted(bad)]
    assert batch.calls <= 2 * len(bad) * ceil(log2(rows)) + 1


@given(batches)
def test_the_first_bad_row_costs_a_call_for_each_halving(drawn: tuple[int, set[int]]) -> None:
    rows, bad = drawn
    batch = Batch(bad)
    assert next(Search(rows, batch).culprits())[0] == min(bad)
    assert batch.calls <= ceil(log2(rows)) + 1


def test_however_many_rows_are_bad_no_row_costs_more_than_two_calls() -> None:
    batch = Batch(range(0, 4_096, 2))
    assert len(list(Search(4_096, batch).culprits())) == 2_048
    assert batch.calls <= 2 * 4_096


def test_a_batch_on_which_every_row_raises_is_given_up_after_sixty_four() -> None:
    batch = Batch(range(8_192))
    assert str(Search(8_192, batch).hopeless()) == "row 0"
    assert batch.calls == EXAMINED


@pytest.mark.parametrize("bad", [range(4_000), range(100, 8_192), {0}], ids=len)
def test_a_single_row_that_can_be_scored_is_enough_to_go_on(bad: Collection[int]) -> None:
    batch = Batch(bad)
    assert Search(8_192, batch).hopeless() is None
    assert batch.calls <= EXAMINED


def test_a_batch_of_fewer_rows_is_looked_at_row_by_row() -> None:
    batch = Batch(range(EXAMINED - 1))
    search = Search(EXAMINED - 1, batch)
    assert search.hopeless() is None
    assert len(list(search.culprits())) == EXAMINED - 1


def test_a_row_that_was_tried_alone_is_not_tried_again() -> None:
    batch = Batch({0})
    search = Search(64, batch)
    search.hopeless()
    calls = batch.calls
    assert [row for row, _ in search.culprits()] == [0]
    assert batch.calls - calls == 2 * 6 - 2  # six halvings, of which rows 0 and 1 were known


@pytest.mark.parametrize(("one", "other"), [(3, 4), (0, 1), (2, 900), (511, 512)])
def test_rows_that_raise_only_together_are_nobodys_fault_and_cost_few_calls(
    one: int, other: int
) -> None:
    calls: list[tuple[int, int]] = []

    def attempt(start: int, stop: int) -> Exception | None:
        calls.append((start, stop))
        return ValueError("both") if start <= one and other < stop else None

    with pytest.raises(TogetherOnlyError) as raised:
        list(Search(1_024, attempt).culprits())
    assert len(calls) <= 30
    seen = raised.value
    if seen.raised is not None:
        assert seen.start <= one
        assert other < seen.stop


def test_a_size_of_batch_that_always_raises_is_found_out_at_the_first_pair() -> None:
    calls: list[int] = []

    def attempt(start: int, stop: int) -> Exception | None:
        calls.append(stop - start)
        return ValueError("too many") if stop - start > 1 else None

    with pytest.raises(TogetherOnlyError) as raised:
        list(Search(8_192, attempt).culprits())
    assert (raised.value.start, raised.value.stop) == (0, 2)
    assert len(calls) <= 15


# Parts


@given(st.integers(0, 500), st.integers(1, 500), st.integers(1, 500))
def test_parts_are_all_rows_in_order_and_none_is_bigger_than_what_fits(
    rows: int, size: int, fits: int
) -> None:
    failed: list[int] = []

    def call(start: int, stop: int) -> range:
        if stop - start > fits:
            failed.append(stop - start)
            raise MemoryError
        return range(start, stop)

    parts, settled = by_parts(rows, size, call, lambda error: isinstance(error, MemoryError))
    assert [row for part in parts for row in part] == list(range(rows))
    assert settled <= size
    assert len(failed) <= ceil(log2(size)) + 1
    if min(rows, size) > fits:
        assert fits / 2 <= settled <= fits


def test_what_is_no_lack_of_memory_is_raised_at_once() -> None:
    def call(start: int, stop: int) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        by_parts(10, 10, call, lambda error: isinstance(error, MemoryError))


def test_a_single_row_that_does_not_fit_is_the_end() -> None:
    sizes: list[int] = []

    def call(start: int, stop: int) -> None:
        sizes.append(stop - start)
        raise MemoryError

    with pytest.raises(MemoryError):
        by_parts(10, 10, call, lambda error: isinstance(error, MemoryError))
    assert sizes == [10, 5, 3, 2, 1]
