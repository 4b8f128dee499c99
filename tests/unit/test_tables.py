"""What people see of a proof and of a status, word for word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.tables import status_text, verify_text

RIGHT: dict[str, Any] = {
    "format": 1,
    "output": "/data/out",
    "ok": True,
    "fingerprint": "0123456789abcdef",
    "plan_id": "1234",
    "quick": False,
    "shards": {"planned": 3, "published": 3, "others": 1, "compared": 3},
    "rows": {"in": 2000, "scored": 1990, "null_scored": 0, "quarantined": 10},
    "bytes": 12_345_678,
    "inputs": ["/data/lake"],
    "input_note": "",
    "in_progress": {},
    "success": True,
    "wrong": [],
    "unfinished": [],
    "notes": [],
    "repaired": [],
}


def finding(file: str, what: str = "data is damaged", **facts: str) -> dict[str, str]:
    known = {"expected": "xxh3 1", "found": "xxh3 2", "to_do": "score it again"}
    return {"file": file, "what": what, **known, **facts}


PROVEN = """\
output:   /data/out
job:      0123456789ab…
shards:   3 of 3 published
besides:  1 file of earlier runs on other input
rows:     2,000 in, 1,990 scored, 0 null-scored, 10 quarantined
data:     12.3 MB, read and digested
input:    3 shards compared row for row
_SUCCESS: there
verdict:  proven"""


def test_a_proven_output() -> None:
    assert verify_text(RIGHT) == PROVEN


DAMAGED = """\
output:   /data/out
job:      0123456789ab…
shards:   2 of 3 published
rows:     2,000 in, 1,990 scored, 0 null-scored, 10 quarantined
data:     12.3 MB, footers alone were read (--quick)
input:    not looked at: cannot be reached: the input does not exist
          (/data/lake)
_SUCCESS: not there
verdict:  wrong in 2 places; not finished, 1 left to do

wrong:
file       what             expected  found
---------  ---------------  --------  ------
a.parquet  data is damaged  xxh3 1    xxh3 2
b\\n.pq     stray file       xxh3 1    none
to do (data is damaged): score it again
to do (stray file): move it away

not finished:
file       what           expected  found
---------  -------------  --------  ------
c.parquet  not published  10 rows   xxh3 2
to do: run it again

repaired: removed a thing
note: a line"""


def test_a_damaged_output_that_is_not_finished() -> None:
    document = {
        **RIGHT,
        "ok": False,
        "quick": True,
        "success": False,
        "shards": {"planned": 3, "published": 2, "others": 0, "compared": 0},
        "input_note": "cannot be reached: the input does not exist (/data/lake)",
        "wrong": [
            finding("a.parquet"),
            finding("b\n.pq", "stray file", found="none", to_do="move it away"),
        ],
        "unfinished": [
            finding("c.parquet", "not published", expected="10 rows", to_do="run it again")
        ],
        "notes": ["a line"],
        "repaired": ["removed a thing"],
    }
    assert verify_text(document) == DAMAGED


@pytest.mark.parametrize(("count", "more"), [(20, None), (21, "1"), (1500, "1,480")])
def test_twenty_findings_are_shown_and_the_others_counted(count: int, more: str | None) -> None:
    found = [finding(f"{i:04}.parquet") for i in range(count)]
    text = verify_text({**RIGHT, "wrong": found})
    assert text.count(".parquet") == min(count, 20)
    assert (f"and {more} more; --json shows all" in text) == (more is not None)
    assert text.count("to do:") == 1


def test_a_long_name_does_not_burst_the_table() -> None:
    text = verify_text({**RIGHT, "wrong": [finding("x" * 300 + ".parquet")]})
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("x") > 200 > max(line.count("x") for line in text.splitlines())


STATUS: dict[str, Any] = {
    "format": 1,
    "output": "/data/out",
    "begun": True,
    "fingerprint": None,
    "shards": {"total": 40, "published": 2},
    "rows": {"total": 900, "published": 20},
    "other_files": 0,
    "in_progress": {"b.parquet": 1200, "a\x1b.parquet": 34},
    "success": False,
    "complete": False,
    "last_run": None,
}


def test_a_status_shows_the_shards_in_progress_and_whether_success_is_there() -> None:
    assert status_text(STATUS) == (
        "output:      /data/out\n"
        "shards:      2 of 40 published\n"
        "rows:        20 of 900 in published shards\n"
        "in progress: 2 shards, 1,234 rows saved in checkpoints\n"
        "_SUCCESS:    not there\n"
        "complete:    no\n"
        "\n"
        "in progress    rows saved\n"
        "-------------  ----------\n"
        "a\\x1b.parquet          34\n"
        "b.parquet           1,200"
    )


def test_a_status_shows_ten_shards_in_progress_and_counts_the_others() -> None:
    many = {f"{i:02}.parquet": 1 for i in range(12)}
    text = status_text({**STATUS, "in_progress": many})
    assert text.count(".parquet") == 10
    assert "and 2 more; --json shows all" in text


def test_paths_below_the_current_folder_are_shown_relative_to_it() -> None:
    assert verify_text({**RIGHT, "output": f"{Path.cwd()}/out"}).startswith("output:   out\n")
