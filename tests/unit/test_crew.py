"""The crew: who is given what, and what comes of a worker that fails, dies, or is lost.

The workers follow a script; the survey, the account of the run and the crew are the real ones.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.crew import Crew, WorkerBugError
from pipeline.errors import (
    CorruptShardError,
    ModelError,
    StoppedError,
    StorageError,
    WorkerDiedError,
)
from pipeline.progress import Silent
from pipeline.records import FailedShard, Outcome, RowCounts
from pipeline.run_state import Run
from pipeline.stop import Stop
from pipeline.survey import Survey
from pipeline.worker import Order, Ready
from pipeline.workers import Answer, Died
from tests.unit.outputs import IDENTITY, begin, rows

SIZES = {"a.parquet": 5, "b.parquet": 9, "c.parquet": 7, "d.parquet": 3}
UNITS = tuple(Order((name,), small=False, rows=count) for name, count in SIZES.items())
READY = Ready(IDENTITY, "they agree", (), UNITS, columns=(), notes=())
OTHER = replace(READY, identity=IDENTITY.model_copy(update={"method": "predict_step"}))
KILLED = Died(signal.SIGKILL, None, "the last it said")
LOST = Died(None, None, "the node is gone", "node b")

React = Callable[[int, tuple[Any, ...]], Iterable[Answer]]


def done(name: str) -> tuple[str, tuple[Any, ...]]:
    counts = RowCounts(SIZES[name], SIZES[name])
    return "shard_done", (Outcome(name, "published", counts, "predict"),)


def well(_number: int, order: tuple[Any, ...]) -> Iterator[Answer]:
    """What a worker answers that does as it is told."""
    match order:
        case ("prepare", *_):
            yield "prepared", READY, (100, 200)
        case ("score", unit):
            yield "told", [done(name) for name in unit.shards], 150
            yield "done", (100, 300)
        case ("stop", signum):
            yield "failed", StoppedError("stopped", signum=signum)


class Script:
    """`Workers` that answer by a script. Whoever waits for more than it holds is told so."""

    def __init__(self, count: int, react: React, tries: int = 1) -> None:
        self.tries = tries
        self.alive = tuple(range(1, count + 1))
        self.orders: list[tuple[int, tuple[Any, ...]]] = []
        self.dismissed: list[int] = []
        self.killed: list[int] = []
        self._react = react
        self._waiting: deque[tuple[int, Answer]] = deque()

    def tell(self, number: int, *order: Any) -> None:
        self.orders.append((number, order))
        self._waiting += [(number, answer) for answer in self._react(number, order)]

    def dismiss(self, number: int) -> None:
        self.dismissed.append(number)
        self._gone(number)

    def kill(self, number: int) -> None:
        self.killed.append(number)
        self._gone(number)

    def answers(self, _seconds: float) -> Iterator[tuple[int, Answer]]:
        assert self._waiting, "waits for ever"
        for _ in range(len(self._waiting)):
            number, answer = self._waiting.popleft()
            if number in self.alive:
                if answer[0] == "died":
                    self._gone(number)
                yield number, answer

    def _gone(self, number: int) -> None:
        self.alive = tuple(n for n in self.alive if n != number)

    def given(self, word: str) -> list[tuple[int, tuple[Any, ...]]]:
        return [(number, rest) for number, (first, *rest) in self.orders if first == word]  # type: ignore[misc]

    @property
    def units(self) -> list[tuple[int, tuple[str, ...]]]:
        return [(number, order.shards) for number, (order,) in self.given("score")]


class Told(Silent):
    """Keeps the events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def event(self, name: str, text: str, **_facts: Any) -> None:
        self.events.append((name, text))


class Played:
    """A run by a script."""

    def __init__(self, survey: Survey, script: Script) -> None:
        self.told, self.stop, self.script = Told(), Stop(), script
        self.run = Run(survey, self.told)
        self._survey = survey

    def play(self, *, fail_fast: bool = False) -> None:
        assert self._survey.record is not None
        with Crew(self.script, self._survey, self.run, self.stop) as crew:
            ready = crew.prepare()
            crew.score(ready.units, self._survey.record, fail_fast=fail_fast)

    @property
    def scored(self) -> list[str]:
        outcomes = self.run.close().outcomes
        return sorted(outcome.shard for outcome in outcomes if outcome.status == "published")


@pytest.fixture
def played(tmp_path: Path, surveyed: Callable[..., Survey]) -> Callable[..., Played]:
    made = begin(tmp_path, {name: rows(count) for name, count in SIZES.items()})

    def make(count: int, react: React = well, tries: int = 1) -> Played:
        return Played(surveyed(made), Script(count, react, tries))

    return make


def once(first: React) -> React:
    """What the first unit that anyone is given comes to; all else goes well."""
    left = [first]

    def react(number: int, order: tuple[Any, ...]) -> Iterable[Answer]:
        return left.pop()(number, order) if order[0] == "score" and left else well(number, order)

    return react


def test_the_biggest_go_first_to_whoever_is_free(played: Callable[..., Played]) -> None:
    run = played(2)
    run.play()
    assert [shards for _, shards in run.script.units] == [
        ("b.parquet",), ("c.parquet",), ("a.parquet",), ("d.parquet",)
    ]  # fmt: skip
    assert {number for number, _ in run.script.units} == {1, 2}
    assert run.scored == sorted(SIZES)
    assert sorted(run.script.dismissed) == [1, 2]


def test_those_that_find_no_work_are_ended_at_once(played: Callable[..., Played]) -> None:
    run = played(6)
    run.play()
    assert run.script.killed == [5, 6]
    assert {number for number, _ in run.script.given("prepare")} == {1, 2, 3, 4}


def test_on_one_machine_what_a_dead_worker_had_is_given_to_no_other(
    played: Callable[..., Played],
) -> None:
    run = played(2, once(lambda *_: [("died", KILLED)]))
    with pytest.raises(WorkerDiedError, match="killed by signal 9 while scoring b") as died:
        run.play()
    assert died.value.received == "the last it said"
    assert run.scored == ["a.parquet", "c.parquet", "d.parquet"]
    assert [shards for _, shards in run.script.units].count(("b.parquet",)) == 1
    assert "the other workers go on" in dict(run.told.events)["worker_died"]


def test_a_dead_worker_whose_shards_were_all_told_of_loses_nothing(
    played: Callable[..., Played],
) -> None:
    run = played(2, once(lambda *_: [("told", [done("b.parquet")], 1), ("died", KILLED)]))
    with pytest.raises(WorkerDiedError):
        run.play()
    assert run.scored == sorted(SIZES)


def test_when_all_have_died_the_run_ends(played: Callable[..., Played]) -> None:
    def react(number: int, order: tuple[Any, ...]) -> Iterable[Answer]:
        return [("died", KILLED)] if order[0] == "score" else well(number, order)

    run = played(2, react)
    with pytest.raises(WorkerDiedError):
        run.play()
    assert run.scored == []


def test_when_all_die_before_they_are_ready_the_run_ends(played: Callable[..., Played]) -> None:
    run = played(2, lambda *_: [("said", "no space left"), ("died", KILLED)])
    with pytest.raises(WorkerDiedError, match="while it loaded the model"):
        run.play()
    # While they prepare they all say the same.
    assert [text for name, text in run.told.events if name == "worker_said"] == ["no space left"]


# Workers of several machines


def lost(number: int, order: tuple[Any, ...]) -> Iterable[Answer]:
    """It goes with its unit, and is begun again."""
    return [("lost", LOST), ("back",)]


def test_what_was_lost_is_given_to_the_next_that_is_free(played: Callable[..., Played]) -> None:
    run = played(2, once(lost), tries=3)
    run.play()
    assert run.scored == sorted(SIZES)
    again = [order for _, (order,) in run.script.given("score") if order.shards == ("b.parquet",)]
    assert [order.again for order in again] == [False, True]
    back = [packed_and_record[1] for _, packed_and_record in run.script.given("prepare")]
    assert [record is not None for record in back] == [False, False, True]
    assert "given to the next one that is free" in dict(run.told.events)["worker_died"]


def test_what_takes_several_workers_with_it_is_left(played: Callable[..., Played]) -> None:
    def react(number: int, order: tuple[Any, ...]) -> Iterable[Answer]:
        fatal = order[0] == "score" and order[1].shards == ("b.parquet",)
        return lost(number, order) if fatal else well(number, order)

    run = played(2, react, tries=3)
    with pytest.raises(WorkerDiedError, match=r"was lost on node b while scoring b\.parquet"):
        run.play()
    assert run.scored == ["a.parquet", "c.parquet", "d.parquet"]
    assert [shards for _, shards in run.script.units].count(("b.parquet",)) == 3
    assert "that was lost 3 times, and is left" in dict(run.told.events)["worker_died"]


def test_a_worker_lost_with_nothing_in_hand_is_begun_again_and_no_more(
    played: Callable[..., Played],
) -> None:
    idle = deque([2])

    def react(number: int, order: tuple[Any, ...]) -> Iterable[Answer]:
        yield from well(number, order)
        if order[0] == "prepare" and number in idle:
            idle.remove(number)
            yield from lost(number, order)

    run = played(2, react, tries=3)
    run.play()
    assert run.scored == sorted(SIZES)


# What workers find


def test_one_that_finds_something_else_prepares_again_by_the_record(
    played: Callable[..., Played],
) -> None:
    def react(number: int, order: tuple[Any, ...]) -> Iterable[Answer]:
        if order[0] == "prepare" and number == 2 and order[2] is None:
            return [("prepared", OTHER, (100, 200))]
        return well(number, order)

    run = played(2, react)
    run.play()
    assert [number for number, (_, record) in run.script.given("prepare") if record] == [2]
    assert run.scored == sorted(SIZES)


def test_two_that_never_find_the_same_end_the_run(played: Callable[..., Played]) -> None:
    def react(number: int, order: tuple[Any, ...]) -> Iterable[Answer]:
        if order[0] == "prepare" and number == 2:
            return [("prepared", OTHER, (100, 200))]
        return well(number, order)

    with pytest.raises(ModelError, match="do not find the same of one model"):
        played(2, react).play()


# What ends a run


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (("failed", StorageError("the disk is full")), StorageError),
        (("left", "3"), SystemExit),
        (("bug", "ZeroDivisionError: by nought", "Traceback …"), WorkerBugError),
    ],
    ids=["an error of ours", "an end by the user's code", "a bug"],
)
def test_what_ends_a_worker_stops_the_others_and_ends_the_run(
    answer: Answer, raised: type[BaseException], played: Callable[..., Played]
) -> None:
    def react(number: int, order: tuple[Any, ...]) -> Iterable[Answer]:
        if order[0] == "score":  # the other one is still at it when it is told to stop
            return [answer] if number == 1 else []
        return well(number, order)

    run = played(2, react)
    with pytest.raises(raised):
        run.play()
    assert run.script.given("stop") == [(2, [int(signal.SIGTERM)])]
    assert len(run.script.units) == 2


def test_what_ends_a_worker_while_it_prepares_ends_the_run(played: Callable[..., Played]) -> None:
    run = played(2, lambda *_: [("failed", ModelError("it cannot be loaded"))])
    with pytest.raises(ModelError):
        run.play()
    assert run.script.units == []


def test_a_wish_to_stop_reaches_those_that_score(played: Callable[..., Played]) -> None:
    run = played(2)

    def react(number: int, order: tuple[Any, ...]) -> Iterable[Answer]:
        if order[0] == "score":
            run.stop.request(signal.SIGINT)
            return [("told", [("batch_done", (2,))], 1)]
        return well(number, order)

    run.script._react = react
    with pytest.raises(StoppedError) as stopped:
        run.play()
    assert stopped.value.signum == signal.SIGINT
    assert {number for number, _ in run.script.given("stop")} == {1, 2}
    assert run.scored == []


def test_with_fail_fast_the_first_shard_that_fails_stops_the_others(
    played: Callable[..., Played],
) -> None:
    failed = FailedShard("b.parquet", "/lake/b.parquet", CorruptShardError("not a Parquet file"))

    def react(number: int, order: tuple[Any, ...]) -> Iterable[Answer]:
        if order[0] != "score":
            return well(number, order)
        if number == 1:
            return [("told", [("shard_failed", (failed, 9))], 1), ("done", (100, 300))]
        return []

    run = played(2, react)
    run.play(fail_fast=True)
    assert run.run.failures == 1
    assert len(run.script.units) == 2
    assert [number for number, _ in run.script.given("stop")] == [2]


def test_an_account_that_cannot_be_kept_ends_the_run(
    played: Callable[..., Played], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_self: Run, _rows: int) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(Run, "advance", full)
    run = played(1, once(lambda *_: [("told", [("batch_done", (2,))], 1), ("done", (1, 1))]))
    with pytest.raises(StorageError):
        run.play()
    assert len(run.script.units) == 1
