"""The table that `make mutants` prints, and when it is no success."""

from __future__ import annotations

import tomllib

from tests.conftest import ROOT
from tests.mutation.argued import ARGUED
from tests.mutation.score import Change, Module, complaints, table

ARGUED_ONE = Change("plan.py", "share", "zip(a, strict=True)", "zip(a)")
OPEN = Change("plan.py", "share", "return 1", "return 2")
PLAN = Module("plan.py", refused=5, killed=18, survivors=(ARGUED_ONE, OPEN), unfinished=0)


def test_a_score_is_of_those_that_mypy_lets_pass_and_an_argument_does_not_raise_it() -> None:
    assert PLAN.score() == 18 / 20
    assert PLAN.score([ARGUED_ONE]) == 18 / 19
    assert Module("a.py", 3, 0, (), 0).score() == 1


def test_the_table_has_a_line_a_module_and_their_sum() -> None:
    other = Module("ledger.py", refused=1, killed=2, survivors=(), unfinished=0)
    header, plan, ledger, total = (
        line.split() for line in table([PLAN, other], [OPEN]).split("\n")
    )
    assert header[:5] == ["module", "mutants", "mypy", "killed", "survived"]
    assert plan == ["plan.py", "25", "5", "18", "2", "1", "90.0%", "94.7%"]
    assert ledger == ["ledger.py", "3", "1", "2", "0", "0", "100.0%", "100.0%"]
    assert total == ["all", "28", "6", "20", "2", "1", "90.9%", "95.2%"]


def test_a_low_score_an_argument_too_many_and_a_run_that_was_not_finished_are_no_success() -> None:
    assert complaints([PLAN], [ARGUED_ONE]) == []
    low = Module("plan.py", 5, 8, (ARGUED_ONE, OPEN), 3)
    assert complaints([low], [ARGUED_ONE]) == [
        "plan.py: 3 mutants were not tried",
        "plan.py: the score is 80.0%, and must be 85%",
    ]
    gone = Change("plan.py", "share", "return 3", "return 4")
    (stale,) = complaints([PLAN], [gone])
    assert stale == f"argued, and no survivor any more: {gone}"
    assert "- return 3\n  + return 4" in stale


def test_what_is_mutated_and_by_which_tests_is_there() -> None:
    said = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mutmut"]
    files = [name for name in said["pytest_add_cli_args_test_selection"] if name.endswith(".py")]
    assert all((ROOT / name).is_file() for name in said["only_mutate"] + files)
    modules = {name.removeprefix("pipeline/") for name in said["only_mutate"]}
    assert {change.module for change in ARGUED} <= modules
    assert all(reason.strip() for reason in ARGUED.values())
