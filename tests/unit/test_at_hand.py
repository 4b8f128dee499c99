"""Progress stays right when what was at hand is lost, goes on from a checkpoint, or fails."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import ScoringError
from pipeline.records import FailedShard, Outcome, RowCounts
from pipeline.run_state import AtHand
from tests.faults.lake import Silent
from tests.unit.conftest import shard

ROWS = 100
FAILED = FailedShard("a.parquet", "/lake/a.parquet", ScoringError("it raised"))
DONE = Outcome("a.parquet", "published", RowCounts(ROWS, ROWS))
BEFORE = Outcome("a.parquet", "already_published", RowCounts(ROWS, ROWS))


class Account:
    """Of a run, what `AtHand` asks of it."""

    def __init__(self) -> None:
        self.rows = 0
        self.observer = Silent()

    def advance(self, rows: int) -> None:
        self.rows += rows

    def shard_done(self, outcome: Outcome) -> None: ...

    def shard_failed(self, failed: FailedShard) -> None: ...


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.fixture
def at_hand(account: Account) -> AtHand:
    run: Any = account
    return AtHand(run)


A = shard("a.parquet", ROWS)


@pytest.mark.parametrize("counted_on", [0, 20])
def test_a_unit_that_was_lost_counts_once(
    counted_on: int, account: Account, at_hand: AtHand
) -> None:
    """Rows that checkpoints hold when a run begins are no part of what it has to do."""
    to_do = ROWS - counted_on
    if counted_on:
        at_hand.resumed(A, counted_on, counted_on)
    at_hand.batch_done(50)
    at_hand.shard_dropped()
    assert account.rows == 0
    at_hand.resumed(A, 60, counted_on)
    assert account.rows == 60 - counted_on
    at_hand.shard_dropped()
    assert account.rows == 0
    at_hand.resumed(A, 60, counted_on)
    at_hand.batch_done(40)
    at_hand.shard_done(DONE)
    assert account.rows == to_do


@pytest.mark.parametrize("counted_on", [0, 20])
def test_a_unit_that_its_lost_worker_had_published_counts_once(
    counted_on: int, account: Account, at_hand: AtHand
) -> None:
    at_hand.batch_done(50)
    at_hand.shard_dropped()
    at_hand.shard_done(BEFORE)
    assert account.rows == ROWS


@pytest.mark.parametrize("found", [0, 20, 60])
def test_a_shard_that_fails_counts_as_a_whole(
    found: int, account: Account, at_hand: AtHand
) -> None:
    at_hand.resumed(A, found, 20)
    at_hand.batch_done(10)
    at_hand.shard_failed(FAILED, ROWS)
    assert account.rows == ROWS - 20


@pytest.mark.parametrize(("found", "level"), [(60, "info"), (20, "info"), (0, "warning")])
def test_less_than_was_counted_on_is_worth_a_warning(
    found: int, level: str, account: Account, at_hand: AtHand
) -> None:
    at_hand.resumed(A, found, 20)
    ((name, _, facts),) = account.observer.events
    assert (name, facts["level"], facts["row"]) == ("resumed", level, found)
