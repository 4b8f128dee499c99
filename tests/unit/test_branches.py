"""How many branches the tests take, as `make coverage` tells it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.branches import Branches, found, share, summary


def _file(taken: int, every: int) -> dict[str, Any]:
    return {"summary": {"covered_branches": taken, "num_branches": every, "num_statements": 999}}


REPORT = {"files": {"a.py": _file(9, 10), "b.py": _file(0, 0), "c.py": _file(28, 30)}}


def test_the_share_is_of_branches_alone() -> None:
    assert found(REPORT)[0] == Branches("a.py", 9, 10)
    assert share(found(REPORT)) == 37 / 40


def test_files_are_told_by_what_was_not_taken() -> None:
    assert summary(found(REPORT)).splitlines() == [
        "branches: 37 of 40 taken, 92.50%; not taken, most first",
        "     2 c.py",
        "     1 a.py",
    ]


def test_nothing_measured_is_no_full_measure() -> None:
    with pytest.raises(ValueError, match="no branch"):
        share(found({"files": {}}))
