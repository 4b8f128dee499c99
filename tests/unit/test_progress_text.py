"""The live display: what it says, and that it never exceeds the screen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.progress_text import Pace, Standing, clock, live_lines, shards_told
from tests.unit.test_screen import NAMES, columns

HALF = Standing(
    rows=336_776,
    rows_done=168_388,
    shards=42,
    shards_done=20,
    bad_rows=8_108,
    failed=1,
    speed=14_489.0,
    at_work={0: ("2013-04.parquet",), 1: ("2013-05.parquet", "2013-06.parquet")},
)


def test_what_it_says_of_a_run_with_two_workers() -> None:
    assert live_lines(HALF, 100) == [
        "████████████████████░░░░░░░░░░░░░░░░░░░░  50%  168,388 of 336,776 rows  14,489 rows/s  "
        "0:12 left",
        "20 of 42 shards, 8,108 bad rows, 1 failed; at work: 2013-04.parquet, 2013-05.parquet "
        "and 1 more",
    ]


def test_without_colours_done_and_left_differ_also_where_there_is_ascii_alone() -> None:
    (bar, shards) = live_lines(HALF, 80, ascii_only=True)
    assert bar.startswith("############............  50%")
    assert (bar + shards).isascii()


def test_before_anything_is_known_nothing_is_said_of_speed_and_time() -> None:
    bar, shards = live_lines(Standing(1_000, 0, 1, 0), 80)
    assert bar == "░" * 40 + "   0%  0 of 1,000 rows"
    assert shards == "0 of 1 shard"


def test_it_is_at_100_percent_only_when_all_rows_are_done() -> None:
    assert " 99%" in live_lines(Standing(1_000_000, 999_999, 2, 1), 80)[0]
    assert "100%" in live_lines(Standing(1_000_000, 1_000_000, 2, 1), 80)[0]
    assert "100%" in live_lines(Standing(0, 0, 1, 1), 80)[0]


names = st.sampled_from(NAMES) | st.text(max_size=200)


@given(
    rows=st.integers(0, 10**13),
    part=st.floats(0, 1),
    shards=st.integers(0, 10**7),
    bad=st.integers(0, 10**12),
    speed=st.none() | st.floats(0, 1e9),
    at_work=st.dictionaries(st.integers(0, 64), st.lists(names, max_size=4), max_size=8),
    width=st.integers(39, 200),
    ascii_only=st.booleans(),
)
def test_no_line_is_wider_than_the_screen(
    rows: int,
    part: float,
    shards: int,
    bad: int,
    speed: float | None,
    at_work: dict[int, list[str]],
    width: int,
    ascii_only: bool,
) -> None:
    at = Standing(rows, int(rows * part), shards, shards // 2, bad, 3, speed, at_work)
    lines = live_lines(at, width, ascii_only=ascii_only)
    assert len(lines) == 2
    assert all(columns(line) <= width for line in lines)
    assert all(line.isprintable() for line in lines)


def test_of_many_workers_those_that_fit_are_named_and_all_others_counted() -> None:
    at = Standing(10, 5, 64, 9, at_work={i: (f"part-{i:05}.parquet",) for i in range(16)})
    line = live_lines(at, 80)[1]
    assert line == "9 of 64 shards; at work: part-00000.parquet, part-00001.parquet and 14 more"


def test_of_long_names_the_middle_is_left_out() -> None:
    names = [f"year=2013/month=0{i}/{'x' * 40}-{i}.parquet" for i in (1, 2)]
    at = Standing(10, 5, 64, 9, at_work={i: (name,) for i, name in enumerate(names)})
    assert live_lines(at, 80)[1] == (
        "9 of 64 shards; at work: year=2013/mo…xxx-1.parquet, year=2013/mo…xxx-2.parquet"
    )


def test_a_worker_that_has_nothing_in_hand_is_not_at_work() -> None:
    assert "at work" not in live_lines(Standing(10, 5, 2, 1, at_work={0: ()}), 80)[1]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (7.4, "0:07"), (61, "1:01"), (360_005, "100:00:05")]
)
def test_time_left_as_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize("speed", [None, 0.0, 5e-324])
def test_an_end_that_is_nowhere_near_is_not_told(speed: float | None) -> None:
    at = Standing(rows=10, rows_done=1, shards=1, shards_done=0, speed=speed)
    assert at.seconds_left is None
    assert "left" not in " ".join(live_lines(at, 80))


def test_speed_is_that_of_the_last_minute() -> None:
    pace = Pace()
    for second in range(200):
        pace.look(float(second), 100 * second if second < 100 else 10_000 + (second - 100))
    assert pace.speed(199.0) == pytest.approx(1.0)


def test_speed_falls_while_nothing_comes() -> None:
    pace = Pace()
    pace.look(0.0, 0)
    assert pace.speed(5.0) is None
    pace.look(10.0, 1_000)
    assert pace.speed(10.0) == 100.0
    assert pace.speed(20.0) == 50.0


def test_many_looks_are_few_ones_kept() -> None:
    pace = Pace()
    for i in range(100_000):
        pace.look(i / 1_000, i)
    assert len(pace._looks) < 200
    assert pace.speed(100.0) == pytest.approx(1_000, rel=0.02)


def test_shards_are_told_with_what_is_wrong() -> None:
    assert shards_told(Standing(1, 1, 1_000, 999, 1, 0)) == "999 of 1,000 shards, 1 bad row"
