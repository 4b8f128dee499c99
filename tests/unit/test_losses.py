"""What is lost with a worker: what is given again, how often, and the words for it."""

from __future__ import annotations

import signal

import pytest

from pipeline.losses import Losses, died_error, what_is_left
from pipeline.worker import Order
from pipeline.workers import Died

BIG = Order(("big",), small=False, rows=100)
SMALL = Order(("a", "b", "c"), small=True, rows=9)


def test_shards_that_were_told_of_are_not_given_again() -> None:
    left = what_is_left(SMALL, {"a", "c"})
    assert left == Order(("b",), small=True, rows=9, again=True)


def test_a_unit_that_was_told_of_is_not_lost() -> None:
    assert what_is_left(SMALL, {"a", "b", "c"}) is None


def test_what_is_given_again_goes_on_behind_what_was_saved() -> None:
    left = what_is_left(BIG, ())
    assert left is not None
    assert left.again


def test_on_one_machine_nothing_is_given_again() -> None:
    assert not Losses(1).bearable(BIG)


def test_a_unit_is_given_again_until_it_was_lost_too_often() -> None:
    losses = Losses(3)
    assert [losses.bearable(BIG) for _ in range(3)] == [True, True, False]


def test_each_shard_has_its_own_count() -> None:
    losses = Losses(2)
    assert losses.bearable(Order(("a", "b"), small=True, rows=6))
    assert losses.bearable(Order(("c",), small=True, rows=3))
    assert not losses.bearable(Order(("b", "d"), small=True, rows=6)), "b was lost before"


@pytest.mark.parametrize(
    ("died", "order", "prepared", "said"),
    [
        (Died(signal.SIGKILL, 0, ""), BIG, True, "killed by signal 9 while scoring big; probably"),
        (Died(None, 3, ""), None, True, "ended by itself, with code 3, between two shards"),
        (Died(None, 1, ""), None, False, "with code 1, while it loaded the model"),
        (Died(None, None, "", "node n"), SMALL, True, "was lost on node n while scoring a and 2"),
    ],
)
def test_an_error_says_how_a_worker_ended_and_what_it_had_in_hand(
    died: Died, order: Order | None, prepared: bool, said: str
) -> None:
    assert said in died_error(7, died, order, prepared=prepared).message


def test_of_a_worker_elsewhere_the_place_is_named_where_more_is_to_be_learnt() -> None:
    error = died_error(7, Died(None, None, "socket closed", "node n"), BIG)
    assert "the logs of node n" in (error.hint or "")
    assert error.received == "socket closed"
