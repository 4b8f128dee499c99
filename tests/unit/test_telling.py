"""What a worker tells of its work: in order, some of it at a time, and how it ends."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from pipeline.errors import CorruptShardError
from pipeline.records import BadRow, FailedShard, Outcome, RowCounts
from pipeline.telling import Telling, ending
from tests.unit.conftest import shard

SHARD = shard("a.parquet", rows=10)


@pytest.fixture
def said() -> list[Any]:
    return []


def news(said: list[Any]) -> list[Any]:
    """What was told in all, however it was parcelled."""
    assert all(word == "told" and resident > 0 for word, _, resident in said)
    return [one for _, told, _ in said for one in told]


def test_nothing_is_said_before_its_time_and_rows_are_added_up(said: list[Any]) -> None:
    telling = Telling(said.append, seconds=3600)
    for rows in (4, 4, 2):
        telling.batch_done(rows)
    telling.checkpoint_saved(SHARD, 10)
    telling.batch_done(1)
    assert said == []
    telling.flush()
    telling.flush()
    assert len(said) == 1, "nothing new is nothing said"
    assert news(said) == [
        ("batch_done", (10,)),
        ("checkpoint_saved", (SHARD, 10)),
        ("batch_done", (1,)),
    ]


def test_each_thing_is_said_as_it_was_told(said: list[Any]) -> None:
    telling = Telling(said.append, seconds=0)
    counts, bad = RowCounts(10, 9, 0, 1), BadRow(3, "x", "null")
    outcome = Outcome(shard="a.parquet", status="published", counts=counts, seconds=0.5)
    telling.resumed(SHARD, 4, 10)
    telling.memory_short(1024, 128)
    telling.bad_rows(SHARD, counts, bad)
    telling.bad_rows(SHARD, RowCounts(10, 10), None)  # of which nothing is to be said
    telling.shard_dropped()
    telling.shard_done(outcome)
    assert news(said) == [
        ("resumed", (SHARD, 4, 10)),
        ("memory_short", (1024, 128)),
        ("bad_rows", (SHARD, counts, bad)),
        ("shard_dropped", ()),
        ("shard_done", (outcome,)),
    ]


def test_a_failure_travels_without_what_was_in_use_when_it_was_raised(said: list[Any]) -> None:
    telling = Telling(said.append, seconds=0)
    try:
        raise CorruptShardError("not a Parquet file") from ValueError("no magic")
    except CorruptShardError as error:
        failed = FailedShard("a.parquet", "/lake/a.parquet", error)
    telling.shard_failed(failed, rows=4)
    ((name, (told, rows)),) = news(said)
    assert (name, rows) == ("shard_failed", 4)
    assert told.error.__traceback__ is told.error.__cause__ is None
    assert pickle.loads(pickle.dumps(told)).error.message == "not a Parquet file"  # noqa: S301


def test_an_end_says_whose_fault_it_is() -> None:
    ours = CorruptShardError("not a Parquet file")
    assert ending(ours) == ("failed", ours)
    assert ending(SystemExit(3)) == ("left", "3")
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError as error:
        word, text, trace = ending(error)
    assert (word, text) == ("bug", "ZeroDivisionError: division by zero")
    assert "test_telling.py" in trace
