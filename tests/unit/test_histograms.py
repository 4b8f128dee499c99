"""Distributions as what can be drawn: bins at round numbers, quantiles, bars."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.histograms import BINS, MOST_BARS, column, edges_for
from tests.unit.test_distributions import of_numbers, of_scores, of_texts, sketch_of

RANDOM = np.random.default_rng(11)


def drawn(found: Any, baseline: Any = None, **more: Any) -> dict[str, Any]:
    (name,) = found.columns
    before = None if baseline is None else baseline.columns[name]
    return column(name, "float", found.columns[name], before, **more)


@given(
    st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False),
    st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False),
)
def test_edges_rise_and_hold_all_between_two_numbers(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    edges = edges_for(low, high, logarithmic=False)
    assert edges == sorted(set(edges))
    slack = 1e-9 * max(abs(low), abs(high))
    assert edges[0] <= low + slack
    assert edges[-1] >= high - slack
    assert 2 <= len(edges) <= 2 * BINS
    assert all(map(math.isfinite, edges))


def test_edges_are_round() -> None:
    expected = [round(0.05 * k, 2) for k in range(21)]
    assert edges_for(0.003, 0.997, logarithmic=False) == expected


def test_logarithmic_edges_are_evenly_spaced_in_powers_of_ten() -> None:
    edges = edges_for(1e-6, 1.0, logarithmic=True)
    assert (edges[0], edges[-1]) == (pytest.approx(1e-6), pytest.approx(1.0))
    steps = np.diff(np.log10(edges))
    assert np.allclose(steps, steps[0])


@pytest.mark.parametrize(
    ("values", "logarithmic"),
    [
        (10.0 ** RANDOM.uniform(-6, 0, 5_000), True),
        (-(10.0 ** RANDOM.uniform(-6, 0, 5_000)), False),
        (10.0 ** RANDOM.uniform(-2, 0, 5_000), False),
        (RANDOM.random(50_000), False),
        (np.append(10.0 ** RANDOM.uniform(-6, 0, 5_000), np.zeros(50)), False),
    ],
    ids=["six decades", "negative", "two decades", "even from 0 to 1", "with noughts"],
)
def test_positive_numbers_over_more_than_three_decades_have_a_logarithmic_scale(
    values: Any, logarithmic: bool
) -> None:
    (part,) = drawn(of_numbers(values))["parts"]
    assert part["log"] == logarithmic


def test_a_histogram_counts_what_numpy_counts() -> None:
    values = RANDOM.random(10_000).astype(np.float32)
    (part,) = drawn(of_numbers(values))["parts"]
    expected, _ = np.histogram(values, part["edges"])
    # A bucket that lies across an edge is divided: less than 1% wide, so little moves.
    assert part["counts"] == pytest.approx(expected, abs=60)
    assert part["below"] + sum(part["counts"]) + part["above"] == pytest.approx(10_000)


def test_numbers_up_to_an_edge_are_not_beyond_it() -> None:
    (part,) = drawn(of_numbers(np.array([0.0, 0.5] * 50 + [1.0] * 900)))["parts"]
    assert part["edges"][-1] == 1.0
    assert (part["below"], part["above"]) == (0.0, 0.0)
    assert part["counts"][-1] == pytest.approx(900)


def test_quantiles_are_within_a_bucket_of_the_true_ones_and_never_beyond_the_ends() -> None:
    values = RANDOM.random(10_000).astype(np.float32)
    values[0] = 1.0
    (part,) = drawn(of_numbers(values))["parts"]
    told = part["quantiles"]
    assert list(told) == ["min", "1%", "5%", "25%", "50%", "75%", "95%", "99%", "max"]
    for name, share in (("5%", 0.05), ("50%", 0.5), ("99%", 0.99)):
        true = np.quantile(values, share, method="inverted_cdf")
        assert told[name] == pytest.approx(true, rel=0.005)
    assert told["max"] == 1.0
    assert told["min"] == pytest.approx(float(values.min()), rel=1e-5)


def test_a_far_value_is_counted_outside_of_the_plot() -> None:
    values = np.append(RANDOM.random(10_000), 1e6)
    (part,) = drawn(of_numbers(values))["parts"]
    assert part["edges"][-1] < 2
    assert part["above"] == 1


def test_nan_and_infinities_are_counted_and_not_drawn() -> None:
    found = drawn(of_numbers(np.array([1.0, 2.0, np.nan, np.inf, -np.inf, np.inf])))
    assert (found["nan"], found["infinite"], found["values"]) == (1, 3, 6)
    assert (found["low"], found["high"]) == ("-inf", "inf")
    (part,) = found["parts"]
    assert part["total"] == 2


def test_a_column_of_nothing_but_nan_has_no_bins() -> None:
    (part,) = drawn(of_numbers(np.array([np.nan, np.nan])))["parts"]
    assert (part["edges"], part["quantiles"], part["total"]) == ([], {}, 0)


@pytest.mark.parametrize("value", [0.0, 1.0, -7.5, 1e-30, 3e38, 16777216.0])
def test_one_value_alone_is_in_a_single_bin(value: float) -> None:
    (part,) = drawn(of_numbers(np.full(10, value)))["parts"]
    assert part["total"] == 10
    assert part["below"] + sum(part["counts"]) + part["above"] == pytest.approx(10)
    assert len(part["edges"]) >= 2


def test_a_baseline_is_counted_in_the_same_bins() -> None:
    now, before = of_numbers(RANDOM.random(1000)), of_numbers(RANDOM.random(4000) + 1)
    (part,) = drawn(now, before)["parts"]
    assert part["edges"][0] <= 0.01
    assert part["edges"][-1] >= 1.99
    assert len(part["baseline"]["counts"]) == len(part["counts"])
    assert sum(part["baseline"]["counts"]) + part["baseline"]["above"] == pytest.approx(4000, abs=5)
    assert sum(part["counts"][len(part["counts"]) // 2 + 1 :]) == pytest.approx(0, abs=5)


def test_a_baseline_of_another_form_is_left_out() -> None:
    now, before = of_scores(RANDOM.random((50, 3))), of_scores(RANDOM.random((50, 4)))
    assert all("baseline" not in part for part in drawn(now, before)["parts"])


def test_a_classifier_has_bars_for_the_likeliest_class_and_a_histogram_each() -> None:
    scores = np.eye(3)[[0, 1, 1, 2, 1]]
    found = drawn(of_scores(scores), labels=("no", "yes", "maybe"))
    bars, *numbers = found["parts"]
    assert bars["bars"] == [["no", 1], ["yes", 3], ["maybe", 1]]
    assert [(part["of"], part["label"]) for part in numbers] == [
        ("[0]", "no"),
        ("[1]", "yes"),
        ("[2]", "maybe"),
    ]


def test_labels_that_are_not_as_many_as_the_classes_are_not_theirs() -> None:
    found = drawn(of_scores(np.eye(3)), labels=("no", "yes"))
    assert found["parts"][0]["bars"] == [["0", 1], ["1", 1], ["2", 1]]


def test_of_many_classes_the_most_frequent_are_shown() -> None:
    scores = np.eye(40)[[39] * 5 + [3] * 4 + list(range(40))]
    bars, *_ = drawn(of_scores(scores))["parts"]
    assert len(bars["bars"]) == MOST_BARS
    assert bars["bars"][:2] == [["39", 6], ["3", 5]]
    assert bars["others"] == 49 - sum(count for _, count in bars["bars"])


def test_values_are_bars_the_most_frequent_first() -> None:
    (part,) = drawn(of_texts("a", "b", "b", "c"), of_texts("b", "d"))["parts"]
    assert part["bars"] == [["b", 2], ["a", 1], ["c", 1]]
    assert part["baseline"] == {"total": 2, "counts": [1, 0, 0]}
    assert not part["sampled"]


def test_of_too_many_values_it_is_said_that_they_are_some() -> None:
    (part,) = drawn(of_texts(*(str(n) for n in range(1000))))["parts"]
    assert part["sampled"]
    assert part["named"] == 128


def test_integers_of_few_values_are_bars_and_of_many_a_histogram() -> None:
    from pipeline.distributions import Distributions

    for values, bars in (([1, 2, 2], True), (list(range(1000)), False)):
        found = Distributions()
        schema = pa.schema([("n", pa.int32())])
        found.add(sketch_of(schema, pa.array(values, pa.int32())))
        (part,) = drawn(found)["parts"]
        assert ("bars" in part) == bars
