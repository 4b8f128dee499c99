"""The recommendation: a rule over what was measured."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.recommend import Measured, rate_text, recommend, times_text


def one(method: Any, batch_size: int, rate: float, **facts: Any) -> Measured:
    known: dict[str, Any] = {"agrees": True, "difference": 0.0, "memory": 10_000_000}
    return Measured(method, batch_size, rate=rate, **{**known, **facts})


@pytest.mark.parametrize(
    ("measured", "chosen"),
    [
        pytest.param([one("predict", 32, 10)], ("predict", 32), id="nothing else"),
        pytest.param(
            [one("predict", 32, 10), one("predict_on_batch", 32, 100), one("predict", 128, 50)],
            ("predict_on_batch", 32),
            id="the fastest",
        ),
        pytest.param(
            [one("predict_on_batch", 2048, 95), one("predict_on_batch", 8192, 100)],
            ("predict_on_batch", 2048),
            id="the smallest batch within five percent",
        ),
        pytest.param(
            [one("predict_on_batch", 2048, 94.9), one("predict_on_batch", 8192, 100)],
            ("predict_on_batch", 8192),
            id="but not beyond them",
        ),
        pytest.param(
            [one("predict_step", 512, 100), one("predict_on_batch", 512, 96)],
            ("predict_on_batch", 512),
            id="the plainer method of two that are as fast",
        ),
        pytest.param(
            [one("compiled", 512, 100), one("predict_step", 512, 10)],
            ("predict_step", 512),
            id="never the bare call",
        ),
        pytest.param(
            [
                one("predict_on_batch", 32, 10),
                one("predict_on_batch", 512, 100, agrees=False),
                one("predict", 512, 5),
            ],
            ("predict", 512),
            id="no method that is wrong at any size",
        ),
        pytest.param(
            [one("predict_on_batch", 8192, 0, problem="killed"), one("predict", 32, 5)],
            ("predict", 32),
            id="a killed one is passed over",
        ),
        pytest.param(
            [
                one("predict_on_batch", 32, 50),
                one("predict_on_batch", 8192, 0, problem="killed", agrees=False),
            ],
            ("predict_on_batch", 32),
            id="killed at one size is right at the others",
        ),
    ],
)
def test_the_rule(measured: list[Measured], chosen: tuple[str, int]) -> None:
    found = recommend(measured)
    assert found is not None
    assert (found.chosen.method, found.chosen.batch_size) == chosen


@pytest.mark.parametrize(
    "measured",
    [
        [],
        [one("compiled", 32, 100)],
        [one("predict", 32, 0, problem="failed: it raises")],
        [one("predict_on_batch", 32, 100, agrees=False)],
    ],
    ids=["nothing", "the bare call", "a failure", "a method that is wrong"],
)
def test_nothing_is_recommended_where_nothing_will_do(measured: list[Measured]) -> None:
    assert recommend(measured) is None


def test_the_text_compares_with_predict_at_its_default() -> None:
    found = recommend(
        [
            one("predict", 32, 130_000),
            one("predict_on_batch", 32, 200_000),
            one("predict_on_batch", 8192, 1_900_000, difference=2e-7, memory=38_400_000),
            one("predict_step", 8192, 1_000, agrees=False),
        ]
    )
    assert found is not None
    assert found.text == (
        "use predict_on_batch with batch size 8,192: 1.9 M rows/s, 15 times the rate of predict() "
        "at its default batch size 32, 38 MB above the loaded model; within 2e-07 of predict()"
    )
    assert found.reason == (
        "the fastest of the methods that give what predict() gives; predict_step would give other "
        "outputs on this model"
    )


def test_the_reason_names_what_was_hardly_faster() -> None:
    found = recommend([one("predict_on_batch", 512, 97), one("predict_step", 2048, 100)])
    assert found is not None
    assert found.reason == (
        "the smallest batch size within 5% of the fastest (predict_step with 2,048: 100 rows/s)"
    )


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0.25, "0.25"), (9.96, "9.96"), (950, "950"), (31_449, "31,400"), (1_941_000, "1.94 M")],
)
def test_rates_have_three_digits(rate: float, text: str) -> None:
    assert rate_text(rate) == text


def test_factors_have_a_digit_behind_the_point_where_it_matters() -> None:
    assert (times_text(1.26), times_text(14.4)) == ("1.3 times", "14 times")
