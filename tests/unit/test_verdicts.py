"""Did it go well? The sentence at the top of a report."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.verdicts import Standing, verdict


def standing(**facts: Any) -> Standing:
    known = {
        "state": "finished", "error": {}, "shards": 42, "published": 42, "failed": (),
        "success": True, "rows_in": 1000, "scored": 990, "quarantined": 10,
    }  # fmt: skip
    return Standing(**{**known, **facts})


STOPPED = {"kind": "StoppedError", "message": "stopped by SIGTERM"}
FULL = {"kind": "StorageError", "message": "the disk is full"}


@pytest.mark.parametrize(
    ("facts", "level", "text"),
    [
        (
            {},
            "good",
            "All 1,000 rows of 42 shards are accounted for: 990 scored, 10 set aside.",
        ),
        (
            {"quarantined": 0, "null_scored": 10},
            "good",
            "All 1,000 rows of 42 shards are accounted for: 990 scored, "
            "10 kept with null predictions.",
        ),
        (
            {"scored": 1000, "quarantined": 0, "shards": 1, "published": 1},
            "good",
            "All 1,000 rows of 1 shard are accounted for: 1,000 scored, none set aside.",
        ),
        (
            {"state": "stopped", "error": STOPPED, "published": 39, "success": False},
            "waiting",
            "Not finished: 3 of 42 shards are left; run the same command again.",
        ),
        (
            {"state": "killed", "published": 41, "success": False},
            "waiting",
            "Not finished: 1 of 42 shards is left; run the same command again. The last run was "
            "killed, it seems.",
        ),
        (
            {"state": "", "published": 2, "success": False},
            "waiting",
            "Not finished: 40 of 42 shards are left; run the same command again. No run has told "
            "of itself.",
        ),
        (
            {"state": "running", "published": 7, "success": False},
            "waiting",
            "Running: 7 of 42 shards are published.",
        ),
        (
            {"state": "incomplete", "published": 40, "failed": ["a", "b\n"], "success": False},
            "bad",
            "2 shards failed: a, b\\n; the other 40 are published.",
        ),
        (
            {"state": "incomplete", "shards": 1, "published": 0, "failed": ["a"]},
            "bad",
            "1 shard failed: a.",
        ),
        (
            {"state": "broken", "error": FULL, "published": 40, "success": False},
            "bad",
            "Not finished: the disk is full; 2 of 42 shards are left.",
        ),
        (
            {"state": "broken", "error": FULL, "success": False},
            "bad",
            "Not finished: the disk is full.",
        ),
        (
            {
                "state": "broken",
                "error": {"kind": "DriftError", "message": "drifted"},
                "success": False,
                "drifted": ["score by 0.4 (0.2 is allowed)"],
                "baseline": "/last",
            },
            "bad",
            "The predictions have drifted from those of /last: score by 0.4 (0.2 is allowed).",
        ),
        (
            {"success": False},
            "waiting",
            "All 42 shards are published, but the output is not marked complete: run the same "
            "command again.",
        ),
        (
            {"scored": 989},
            "bad",
            "1,000 rows went in, and 999 are accounted for: run verify on the output.",
        ),
    ],
)
def test_the_verdict(facts: dict[str, Any], level: str, text: str) -> None:
    assert verdict(standing(**facts)) == (level, text)


def test_drift_that_was_accepted_since_is_no_verdict() -> None:
    assert verdict(standing(drifted=["score by 0.4"], baseline="/last"))[0] == "good"
