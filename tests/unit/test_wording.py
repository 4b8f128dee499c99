"""Numbers, times and sizes as the report has them."""

from __future__ import annotations

import pytest

from pipeline.wording import count, duration, moment, number, share


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.30000001, "0.3"),
        (1234.5678, "1,235"),
        (123456.0, "123,456"),
        (-0.5, "\N{MINUS SIGN}0.5"),
        (1e-5, "10⁻⁵"),
        (-2.5e-7, "\N{MINUS SIGN}2.5\N{MULTIPLICATION SIGN}10⁻⁷"),
        (3.4e38, "3.4\N{MULTIPLICATION SIGN}10³⁸"),
        (float("inf"), "∞"),
        ("-inf", "\N{MINUS SIGN}∞"),
        (float("nan"), "NaN"),
        (None, "\N{EN DASH}"),
    ],
)
def test_a_number(value: float | str | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 10, "0%"),
        (10, 10, "100%"),
        (1, 3, "33.33%"),
        (1, 10_000_000, "< 0.01%"),
        (9_999_999, 10_000_000, "> 99.99%"),
        (0, 0, "\N{EN DASH}"),
    ],
)
def test_a_share_is_never_nought_of_something_nor_all_of_less(
    part: float, whole: float, text: str
) -> None:
    assert share(part, whole) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.31, "0.3 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3_600, "1 h"),
        (7_384, "2 h 3 min"),
        (None, "\N{EN DASH}"),
    ],
)
def test_a_time_span(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_a_moment_is_told_in_utc_and_what_is_none_as_it_is() -> None:
    assert moment("2026-01-31T02:17:00+02:00") == "2026-01-31 00:17:00 UTC"
    assert moment("yesterday") == "yesterday"


def test_how_many() -> None:
    assert [count(n) for n in (0, 1234, None)] == ["0", "1,234", "\N{EN DASH}"]
