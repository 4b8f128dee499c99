"""Distributions of many shards, and how far two outputs differ."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest

from pipeline.differences import differences
from pipeline.distributions import Distributions, comparable
from pipeline.drift import Difference
from pipeline.sketch import PredictionSketch, text_of

NUMBER = pa.schema([("prediction", pa.float32())])


def sketch_of(schema: pa.Schema, *columns: pa.Array) -> str:
    sketch = PredictionSketch(schema, len(columns[0]))
    sketch.add(0, columns)
    return sketch.encoded()


def of_numbers(*shards: np.ndarray) -> Distributions:
    found = Distributions()
    for shard in shards:
        found.add(sketch_of(NUMBER, pa.array(shard.astype(np.float32))))
    return found


def of_texts(*values: str) -> Distributions:
    found = Distributions()
    found.add(sketch_of(pa.schema([("label", pa.string())]), pa.array(values)))
    return found


def of_scores(scores: np.ndarray) -> Distributions:
    kind = pa.list_(pa.float32(), scores.shape[1])
    flat = pa.array(scores.astype(np.float32).ravel())
    found = Distributions()
    column = pa.FixedSizeListArray.from_arrays(flat, scores.shape[1])
    found.add(sketch_of(pa.schema([("prediction", kind)]), column))
    return found


def only(before: Distributions, now: Distributions) -> Difference:
    (difference,) = differences(before.columns, now.columns)
    return difference


RANDOM = np.random.default_rng(7)


def test_the_order_of_shards_says_nothing() -> None:
    shards = [RANDOM.standard_normal(rows) for rows in (10, 400, 3, 70_000)]
    told = set()
    for order in itertools.permutations(shards):
        found = of_numbers(*order)
        column = found.columns["prediction"]
        (numbers,) = column.numbers()
        told.add((column.rows, column.low, column.high, numbers.counts.tobytes()))
        assert numbers.total == 10 + 400 + 3 + 70_000 // 8 * 8
    assert len(told) == 1


def test_quantiles_are_within_a_bucket() -> None:
    values = np.exp(RANDOM.standard_normal(16_000)) - 1
    (numbers,) = of_numbers(values).columns["prediction"].numbers()
    for share in (0.01, 0.25, 0.5, 0.75, 0.99):
        exact = np.quantile(values, share, method="inverted_cdf")
        assert numbers.quantile(share) == pytest.approx(exact, rel=0.008)
    with pytest.raises(ValueError, match="no number"):
        of_numbers(np.array([np.nan])).columns["prediction"].numbers()[0].quantile(0.5)


def test_a_histogram_has_each_number_once() -> None:
    values = RANDOM.uniform(-3, 3, 16_000)
    (numbers,) = of_numbers(values).columns["prediction"].numbers()
    edges = np.linspace(-4, 4, 33)
    found = numbers.histogram(list(edges))
    assert sum(found) == pytest.approx(16_000)
    exact = np.histogram(values, edges)[0]
    assert np.abs(np.array(found) - exact).max() < 40  # a bucket across an edge is divided


def test_two_samples_of_one_population_are_alike() -> None:
    a, b = (of_numbers(RANDOM.standard_normal(10_000)) for _ in range(2))
    found = only(a, b)
    assert found.psi < 0.01
    assert found.ks < 0.03


def test_a_shift_is_told() -> None:
    a = of_numbers(RANDOM.standard_normal(10_000))
    b = of_numbers(RANDOM.standard_normal(10_000) + 1)
    found = only(a, b)
    assert found.psi > 0.5
    assert found.ks == pytest.approx(0.383, abs=0.02)  # 2 Phi(1/2) - 1


def test_psi_is_that_of_the_definition() -> None:
    """Ten numbers, each a bin of the baseline; the shares are then known."""
    values = np.arange(1, 11)
    before = of_numbers(np.repeat(values, 100))
    now = of_numbers(np.repeat(values, [150, 50, *[100] * 8]))
    p = np.full(10, 100.5 / 1005)
    q = (np.array([150, 50, *[100] * 8]) + 0.5) / 1005
    assert only(before, now).psi == pytest.approx(((q - p) * np.log(q / p)).sum())


def test_numbers_outside_of_the_baseline_are_a_bin() -> None:
    before = of_numbers(np.full(1_000, 0.5))
    assert only(before, of_numbers(np.full(1_000, 0.5))).psi == 0
    assert only(before, of_numbers(np.full(1_000, 0.6))).psi > 5
    assert only(before, of_numbers(np.full(1_000, 0.4))).ks == 1


def test_nans_are_a_bin() -> None:
    values = RANDOM.standard_normal(1_000)
    half = np.where(np.arange(1_000) % 2, np.nan, values)
    assert only(of_numbers(values), of_numbers(half)).psi > 1
    assert only(of_numbers(half), of_numbers(half)).psi == 0
    assert only(of_numbers(values), of_numbers(values * np.nan)).psi > 5


def test_named_values_are_bins() -> None:
    alike = only(of_texts(*"aab" * 100), of_texts(*"aba" * 100))
    assert (alike.what, alike.psi, alike.ks) == ("values", 0, 0)
    assert only(of_texts(*"aab"), of_texts(*"aac")).ks == pytest.approx(1 / 3)


def test_a_classifier_is_compared_by_class_and_by_score() -> None:
    scores = RANDOM.random((5_000, 3))
    moved = scores + np.array([0.2, 0, 0])
    told = differences(of_scores(scores).columns, of_scores(moved).columns)
    by_what = {difference.what: difference.psi for difference in told}
    assert list(by_what) == ["highest", "[0]", "[1]", "[2]"]
    assert by_what["highest"] > 0.1
    assert by_what["[0]"] > 0.1
    assert by_what["[1]"] == by_what["[2]"] == 0


def test_few_integers_are_values_and_many_are_numbers() -> None:
    schema = pa.schema([("n", pa.int64())])
    few, many = Distributions(), Distributions()
    few.add(sketch_of(schema, pa.array([1, 2, 2])))
    many.add(sketch_of(schema, pa.array(range(5_000))))
    assert [d.what for d in differences(few.columns, few.columns)] == ["values"]
    assert [d.what for d in differences(many.columns, many.columns)] == [""]


def test_other_forms_are_not_compared() -> None:
    a, b = of_numbers(np.ones(3)), of_scores(np.ones((3, 2)))
    assert not comparable(a.columns["prediction"], b.columns["prediction"])
    assert differences(a.columns, b.columns) == []


def test_shards_without_a_sketch_are_counted() -> None:
    found = of_numbers(np.ones(3))
    for text in (None, "", "{}", sketch_of(pa.schema([("a", pa.float32())]), pa.array([1.0]))):
        found.add(text)
    assert (found.shards, found.without) == (1, 4)


@pytest.mark.parametrize(("rows", "other"), [(300, 300), (200, 5_000), (40_000, 40_000)])
def test_what_chance_makes_of_the_index_is_told(rows: int, other: int) -> None:
    """Forty pairs of samples of one population: their mean is what is told."""
    found = [
        only(of_numbers(RANDOM.standard_normal(rows)), of_numbers(RANDOM.standard_normal(other)))
        for _ in range(40)
    ]
    mean = sum(difference.psi for difference in found) / len(found)
    assert mean == pytest.approx(found[0].chance, rel=0.4)
    assert not any(difference.exceeds(0.001) for difference in found)


def test_the_sum_is_told_like_a_single_shard() -> None:
    shards = [RANDOM.standard_normal(rows) for rows in (10, 70_000, 300)]
    whole = of_numbers(*shards)
    again = Distributions()
    again.add(text_of(whole.sketches()))
    assert text_of(again.sketches()) == text_of(whole.sketches())
    before, now = whole.columns["prediction"], again.columns["prediction"]
    assert (now.rows, now.looked) == (before.rows, before.looked)
    assert now.looked < now.rows


def of_labels(names: np.ndarray) -> Distributions:
    return of_texts(*map(str, names.tolist()))


def test_more_labels_than_are_named_are_compared_by_those_that_both_can_name() -> None:
    """A name that one has no room for is not known to be missing there."""
    tail = 1 / np.arange(1, 1_001)
    tail /= tail.sum()
    large = of_labels(RANDOM.choice(1_000, 16_000, p=tail))
    small = of_labels(RANDOM.choice(1_000, 1_000, p=tail))
    assert not only(large, small).exceeds(0.1)
    assert not only(small, large).exceeds(0.1)


def test_a_common_label_that_is_not_named_is_seen_by_the_others() -> None:
    names = RANDOM.integers(0, 1_000, 16_000)
    usual = of_labels(names)
    (unnamed, *_) = sorted({str(n) for n in range(1_000)} - usual.columns["label"].values.keys())
    common = np.where(RANDOM.random(16_000) < 0.9, int(unnamed), names)
    assert only(of_labels(common), usual).exceeds(0.25)


def test_integers_of_many_values_are_compared_as_numbers() -> None:
    schema = pa.schema([("n", pa.int64())])
    told = []
    for rows in (16_000, 5_000):
        found = Distributions()
        found.add(sketch_of(schema, pa.array(RANDOM.poisson(4_000, rows))))
        told.append(found)
    assert not only(*told).exceeds(0.05)


@pytest.mark.parametrize("swapped", [False, True])
def test_who_predicts_nothing_is_as_far_as_can_be(swapped: bool) -> None:
    empty = Distributions()
    empty.add(sketch_of(NUMBER, pa.array([], pa.float32())))
    pair = [of_numbers(RANDOM.standard_normal(2_000)), empty]
    difference = only(*(pair[::-1] if swapped else pair))
    assert (difference.psi, difference.ks) == (100, 1)
    assert difference.exceeds(50)
    assert differences(empty.columns, empty.columns) == []


def test_labels_that_become_null_are_told() -> None:
    label = pa.schema([("label", pa.string())])
    gone = Distributions()
    gone.add(sketch_of(label, pa.array([None] * 300, pa.string())))
    assert only(of_texts(*"abc" * 100), gone).exceeds(1)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ([0] * 500 + [1] * 500, [0] * 500 + [0.5] * 500),
        ([0] * 100 + [1] * 900, [0] * 100 + [0.01] * 900),
    ],
)
def test_what_moves_to_where_the_baseline_has_nothing_is_told(
    before: list[float], now: list[float]
) -> None:
    assert only(of_numbers(np.array(before)), of_numbers(np.array(now))).exceeds(1)


def test_a_shard_of_another_form_is_not_added_in_part() -> None:
    schema = pa.schema([("a", pa.float32()), ("b", pa.float32())])
    other = pa.schema([("a", pa.float32()), ("b", pa.list_(pa.float32(), 2))])
    numbers = pa.array([1.0, 2.0], pa.float32())
    found = Distributions()
    found.add(sketch_of(schema, numbers, numbers))
    pairs = pa.FixedSizeListArray.from_arrays(pa.array([1.0] * 4, pa.float32()), 2)
    found.add(sketch_of(other, numbers, pairs))
    assert (found.shards, found.without, found.columns["a"].rows) == (1, 1, 2)
