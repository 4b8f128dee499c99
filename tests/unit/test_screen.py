"""Text that fits a screen: whatever names and numbers it holds, no line is wider."""

from __future__ import annotations

import io
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.compare_text import compare_text
from pipeline.errors import BadRowError
from pipeline.records import Outcome, RowCounts
from pipeline.screen import (
    aligned,
    cells,
    clipped,
    cut,
    error_text,
    item,
    on_screen,
    table,
    width_of,
    wrapped,
)
from pipeline.summary import summary_text
from pipeline.tables import plan_text, status_text, verify_text
from tests.unit.test_errors import report

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = "x" * 192 + ".parquet"
WIDE = "航班數據" * 50
"""200 characters that take two columns each."""

NAMES = [LONG, WIDE, "e\u0301" * 100, "two words " * 20, "year=2013/month=01/" * 10, "short"]
WIDTHS = [40, 60, 80, 132]


def columns(line: str) -> int:
    """What a terminal makes of a line, counted here in another way than there."""
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in {"W", "F"})
        for c in line
    )


text_of_any_kind = st.text(
    st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), max_size=300
)


@given(text_of_any_kind, st.integers(2, 100))
def test_a_wrapped_text_fits_and_loses_nothing_but_the_blanks_at_which_it_is_broken(
    text: str, width: int
) -> None:
    lines = wrapped(text, width, paths_whole=False)
    assert all(cells(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@given(text_of_any_kind, st.integers(2, 100))
def test_a_clipped_text_fits_and_keeps_both_ends(text: str, width: int) -> None:
    short = clipped(text, width)
    assert cells(short) <= width
    if short != text:
        head, _, tail = short.partition("…")
        assert text.startswith(head)
        assert text.endswith(tail)


@given(text_of_any_kind, st.integers(2, 100))
def test_a_cut_text_fits(text: str, width: int) -> None:
    assert cells(cut(text, width)) <= width


@pytest.mark.parametrize(
    ("text", "taken"), [("abc", 3), ("航班", 4), ("e\u0301", 1), ("é", 1), ("", 0), ("…", 1)]
)
def test_how_many_columns_a_text_takes(text: str, taken: int) -> None:
    assert cells(text) == taken


def test_a_path_stays_in_one_piece_outside_of_a_table() -> None:
    path = "/lake/" + "a" * 100
    assert wrapped(f"see {path} for more", 40) == ["see", path, "for more"]
    assert path not in table(("file",), [(path,)], 40)


def test_facts_go_on_below_where_they_begin() -> None:
    assert aligned({"name": "one two three", "b": "4"}, 14) == (
        "name: one two\n      three\nb:    4"
    )


def test_the_widest_columns_of_a_table_give_way_and_numbers_stay_whole() -> None:
    text = table(("file", "rows"), [("a" * 30, "1,234,567"), ("b", "8")], 24, right=("rows",))
    assert text == (
        "file                rows\n"
        "-------------  ---------\n"
        "aaaaaaaaaaaaa  1,234,567\n"
        "aaaaaaaaaaaaa\n"
        "aaaa\n"
        "b                      8"
    )


def test_wide_characters_are_counted_as_two() -> None:
    lines = table(("name", "n"), [("航班", "1"), ("ab", "2")], 40).splitlines()
    assert [columns(line) for line in lines] == [7, 7, 7, 7]


def test_an_error_keeps_its_labels_apart_from_its_facts() -> None:
    error = BadRowError(
        "a value that the input cannot hold, since it is no number at all",
        path="/lake/a file with blanks in its name that is long.parquet",
        expected="a number that a float32 holds without losing a digit of it",
    )
    assert error_text(error, 50, "error: ") == (
        "error: a value that the input cannot hold, since\n"
        "  it is no number at all\n"
        "  file:     /lake/a file with blanks in its name that is long.parquet\n"
        "  expected: a number that a float32 holds without\n"
        "            losing a digit of it"
    )


def test_notes_are_indented_below_their_first_line_and_paragraphs_are_not() -> None:
    assert item("note: one two three", 12) == "note: one\n  two three"
    assert on_screen("one two three", 8) == "one two\nthree"


@pytest.mark.parametrize(
    ("asked", "width"), [("60", 60), ("200", 200), ("7", 40), ("0", 80), ("many", 80), ("", 80)]
)
def test_a_pipe_has_80_columns_or_what_the_variable_says(
    asked: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", asked)
    assert width_of(io.StringIO()) == width


def plan_of(names: list[str]) -> dict[str, Any]:
    use = {"input_type": "float32 (n, 64)", "column_type": "fixed_size_list<element: float>[64]"}
    return {
        "output": "/data/out",
        "begun": False,
        "model": "/models/m.keras",
        "model_sha256": "0" * 64,
        "shards": {"total": 10_000, "done": 0, "pending": 10_000, "replaced": 0, "failed": 0},
        "rows": {"total": 10**12, "pending": 10**12},
        "bytes": {"total": 10**13, "pending": 10**13},
        "batch_size": 8192,
        "small_shards": 1,
        "small_shard_rows": 8192,
        "small_method": "predict",
        "big_shards": 9_999,
        "method": "predict_on_batch(), if the probe proves it",
        "workers": 2,
        "threads": 1,
        "on_bad_row": "quarantine",
        "keep": names,
        "predictions": dict.fromkeys(names, "fixed_size_list<item: float>[10]"),
        "other_files": 3,
        "binding": [{"input": n, "column": n, "conversion": "exact", **use} for n in names],
        "notes": [f"2 columns are taken in the table's order: {names[0]}, {names[-1]}"],
    }


def status_of(names: list[str]) -> dict[str, Any]:
    error = {"kind": "ContractError", "message": "a column is missing " * 9, "column": names[0]}
    return {
        "output": "/data/out",
        "fingerprint": "0" * 64,
        "batch_size": 8192,
        "method": "predict_on_batch",
        "small_method": "predict",
        "big_shards": 9_000,
        "shards": {"total": 10_000, "published": 2},
        "rows": {"total": 10**12, "published": 10**11},
        "other_files": 1,
        "in_progress": dict.fromkeys(names, 10**9),
        "success": False,
        "complete": False,
        "last_run": {
            "state": "stopped",
            "started": "2026-01-01T00:00:00+00:00",
            "updated": "2026-01-01T00:00:00+00:00",
            "seconds": 36_000.0,
            "rows": {"scored": 10**11, "quarantined": 10**9, "null_scored": 7, "nonfinite": 10**8},
            "outcomes": [{"shard": name, "error": error} for name in names],
            "error": {"message": "stopped by a signal; " + "there is work left " * 8},
        },
    }


def proof_of(names: list[str]) -> dict[str, Any]:
    found = [
        {
            "file": name,
            "what": "data is damaged",
            "expected": "xxh3 " + "0" * 32,
            "found": "f" * 32,
            "to_do": "score it again, when you have looked for what has damaged it and mended that",
        }
        for name in names
    ]
    return {
        "output": "/data/out",
        "fingerprint": "0" * 64,
        "quick": False,
        "shards": {"planned": 10_000, "published": 10_000, "others": 1, "compared": 10_000},
        "rows": {"in": 10**12, "scored": 10**12, "null_scored": 10**9, "quarantined": 10**9},
        "bytes": 10**13,
        "input_note": "",
        "success": False,
        "wrong": found,
        "unfinished": found[:1],
        "notes": ["a file was written anew, and its footer is as it was: " + names[0]],
        "repaired": [],
    }


def comparison_of(names: list[str]) -> dict[str, Any]:
    measured = [
        {
            "method": "predict_on_batch",
            "batch_size": 32_768,
            "rate": 12_345_678.0,
            "batch_ms": 1234.5,
            "first_ms": 12_345.6,
            "memory": 123_456_789_012,
            "difference": 0.0,
            "unequal": 0,
            "problem": problem,
            "complaint": None,
        }
        for problem in (None, "killed (out of memory?)")
    ]
    return {
        "model": {
            "path": "/models/m.keras",
            "sha256": "0" * 64,
            "inputs": names,
            "custom_step": True,
            "parameters": 10**9,
        },
        "sample": {"rows": 32_768, "shards": 10_000, "shards_read": 1, "bad_rows": 12},
        "machine": {
            "cpu": "A Processor With A Long Name @ 2.45GHz " * 3,
            "cores": 2,
            "memory": 10**11,
            "system": "Linux",
            "python": "3.11.7",
        },
        "versions": {"tensorflow": "2.21.0", "keras": "3.15.1"},
        "measured": measured,
        "seconds": 1.0,
        "notes": ["a note " * 30],
        "recommendation": {
            "method": "predict_on_batch",
            "batch_size": 32_768,
            "text": "use predict_on_batch " * 8,
            "reason": "it is the fastest " * 8,
        },
        "refused": None,
    }


TEXTS: dict[str, Callable[[list[str], int], str]] = {
    "plan": lambda names, width: plan_text(plan_of(names), width),
    "status": lambda names, width: status_text(status_of(names), width),
    "verify": lambda names, width: verify_text(proof_of(names), width),
    "compare": lambda names, width: compare_text(comparison_of(names), width),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES, ids=["long", "wide", "combined", "words", "path", "short"])
@pytest.mark.parametrize("command", TEXTS)
def test_no_line_is_wider_than_the_screen_whatever_names_there_are(
    command: str, name: str, width: int
) -> None:
    if command == "compare" and width < 80:
        width = 80  # eight columns of figures are not made narrower
    names = [f"{name}{i}" for i in range(64)]
    text = TEXTS[command](names, width)
    lines = [line for line in text.splitlines() if "/" not in line]
    assert [line for line in lines if columns(line) > width] == []
    assert len(lines) > 5


@pytest.mark.parametrize("command", ["plan", "status", "verify"])
def test_of_ten_thousand_the_first_are_shown_and_the_others_are_counted(command: str) -> None:
    names = [f"{i:05}.parquet" for i in range(10_000)]
    text = TEXTS[command](names, 80)
    shown = {"plan": 40, "status": 10, "verify": 20}[command]
    assert f"and {10_000 - shown:,} more; --json shows all" in text
    assert len(text.splitlines()) < 200


def test_a_name_that_is_folded_is_whole() -> None:
    name = f"part-{'0123456789abcdef' * 10}.snappy.parquet"
    text = verify_text(proof_of([name]), 80)
    first = text[text.index("wrong:\n") :].splitlines()[3:-1]
    assert "".join(line[:40].split("  ")[0].strip() for line in first).startswith(name)


def test_a_summary_fits() -> None:
    ended = replace(
        report("finished"),
        output="/data/out",
        counts=RowCounts(10**12, 10**12 - 10**9, 0, 10**9, nonfinite=10**8),
        outcomes=(Outcome("a", "published", method="predict_on_batch"),),
        seconds=400_000.0,
        scoring_seconds=400_000.0,
        memory_after_load=10**9,
        memory_peak=10**10,
        workers=64,
        batch_size=8192,
        fitting_batch_rows=1,
    )
    lines = summary_text(ended, 60).splitlines()
    assert [line for line in lines if columns(line) > 60] == []
    told = " ".join(" ".join(lines).split())
    assert "time: 111 h 6 min: 0.0 s to start, then 111 h 6 min at 2,500,000 rows/s" in told


def test_a_summary_says_where_failed_shards_are_listed() -> None:
    failed = Outcome("a", "failed", error=BadRowError("a bad row"))
    ended = replace(report("incomplete"), output="/data/out", plan_id="p", outcomes=(failed,))
    assert "failed:  `shardscore status /data/out` lists them, and why" in summary_text(ended)
    assert "failed:" not in summary_text(report("finished"))


def test_one_is_no_plural() -> None:
    text = summary_text(replace(report("finished"), shards_done_before=1), 80)
    assert text.startswith("nothing to do: the only shard is published in ")
