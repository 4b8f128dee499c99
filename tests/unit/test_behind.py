"""One item is worked on behind the caller's back; errors and order are as without a thread."""

from __future__ import annotations

import threading

import pytest

from pipeline.behind import Behind

BOTH = pytest.mark.parametrize("own_thread", [True, False])


@BOTH
def test_items_are_worked_on_in_order_and_all_of_them(own_thread: bool) -> None:
    done: list[int] = []
    with Behind(done.append, own_thread=own_thread) as behind:
        for item in range(100):
            behind.take(item)
        behind.finish()
    assert done == list(range(100))


def test_an_item_is_worked_on_while_its_caller_goes_on() -> None:
    go_on = threading.Event()
    with Behind(lambda _: go_on.wait(60), own_thread=True) as behind:
        behind.take(1)  # would never come back if it were done here
        go_on.set()
        behind.finish()


def test_no_more_than_one_item_is_under_way() -> None:
    at_work: list[int] = []

    def work(item: int) -> None:
        at_work.append(item)
        assert at_work == [item]
        at_work.clear()

    with Behind(work, own_thread=True) as behind:
        for item in range(50):
            behind.take(item)
        behind.finish()


@BOTH
def test_an_error_is_raised_once_and_nothing_is_worked_on_after_it(own_thread: bool) -> None:
    done: list[int] = []

    def work(item: int) -> None:
        if item == 2:
            raise ValueError(item)
        done.append(item)

    def all_of_ten(behind: Behind[int]) -> None:
        for item in range(10):
            behind.take(item)

    with Behind(work, own_thread=own_thread) as behind:
        with pytest.raises(ValueError, match="2"):
            all_of_ten(behind)
        behind.finish()  # it was raised already
    assert done == [0, 1]


def test_the_thread_ends_with_the_block_whatever_ended_it() -> None:
    def ended_early() -> None:
        with Behind(lambda _: None, own_thread=True) as behind:
            behind.take(1)
            raise KeyError

    before = threading.active_count()
    with pytest.raises(KeyError):
        ended_early()
    assert threading.active_count() == before
