"""Shards that fail for one reason are told of once."""

from __future__ import annotations

import io
from typing import Any

import pytest

from jobs.complaints import show_failed
from pipeline.alike import Alike
from pipeline.errors import ContractError
from pipeline.progress import Lines
from pipeline.records import FailedShard, Outcome


def broken(name: str, column: str = "a") -> Any:
    return ContractError("a column is missing", path=f"/lake/{name}", column=column)


def test_a_reason_is_new_once_whichever_shard_it_is_of() -> None:
    alike = Alike()
    new = [
        alike.is_new(name, broken(name, column))
        for name, column in [("1", "a"), ("2", "b"), ("3", "a"), ("4", "b"), ("5", "a")]
    ]
    assert new == [True, True, False, False, False]
    assert list(alike.others()) == [
        "2 more shards failed as 1 did: 3, 5",
        "1 more shard failed as 2 did: 4",
    ]
    assert list(alike.others()) == []
    assert not alike.is_new("6", broken("6"))
    assert list(alike.others()) == ["1 more shard failed as 1 did: 6"]


def test_of_many_shards_three_are_named_and_the_others_counted() -> None:
    alike = Alike()
    for number in range(1_005):
        alike.is_new(f"{number}", broken(f"{number}"))
    assert list(alike.others()) == ["1,004 more shards failed as 0 did: 1, 2, 3, and 1,001 more"]


def test_what_is_remembered_is_bounded_and_nothing_is_lost() -> None:
    alike = Alike()
    assert all(alike.is_new("x", broken("x", f"c{number}")) for number in range(500))
    assert not alike.is_new("y", broken("y", "c0"))
    assert alike.is_new("y", broken("y", "c499"))


@pytest.mark.parametrize("as_json", [False, True])
def test_a_log_tells_people_a_reason_once_and_machines_each_shard(as_json: bool) -> None:
    out = io.StringIO()
    lines = Lines(out, as_json=as_json, quiet=False)
    for name in ("1", "2", "3"):
        lines.shard(Outcome(name, "failed", error=broken(name)))
    lines.event("probe", "what comes next")
    told = out.getvalue()
    assert told.count("a column is missing") == (3 if as_json else 1)
    assert ("2 more shards failed as 1 did: 2, 3\n" in told) is not as_json
    assert told.splitlines()[-1].count("what comes next")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_plan_tells_people_a_reason_once_and_machines_each_shard(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show_failed([FailedShard(n, f"/lake/{n}", broken(n)) for n in ("1", "2", "3")], log_format)
    told = capsys.readouterr().err
    assert told.count("a column is missing") == (3 if log_format == "json" else 1)
    assert told.endswith("2 more shards failed as 1 did: 2, 3\n") is (log_format == "text")
