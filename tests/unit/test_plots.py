"""The figures: their numbers are right, and each is one well-formed element."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from pipeline.plots import WIDTH, bars, course, histogram, rates


def parsed(figure: Markup) -> ElementTree.Element:
    return ElementTree.fromstring(str(figure))  # noqa: S314 - we made it


def drawn(figure: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    return [part for part in figure.iter() if part.get("class") == kind]


def heights(figure: ElementTree.Element) -> list[float]:
    return [float(bar.attrib["height"]) for bar in drawn(figure, "bar")]


def test_bars_of_a_histogram_are_as_high_as_their_shares() -> None:
    figure = parsed(histogram([0, 1, 2, 3], [10, 40, 20], 100, title="of x"))
    low, high, middle = heights(figure)
    assert low / high == pytest.approx(0.25)
    assert middle / high == pytest.approx(0.5)
    told = [bar.findtext("title") for bar in drawn(figure, "bar")]
    assert told == ["0 to 1: 10%", "1 to 2: 40%", "2 to 3: 20%"]
    assert drawn(figure, "most")[0].text == "40%"


def test_a_figure_says_what_it_is_to_who_hears_it() -> None:
    figure = parsed(histogram([0, 1], [1], 1, title="Histogram of <x>"))
    assert figure.get("role") == "img"
    assert figure.findtext("title") == "Histogram of <x>"


def test_the_baseline_is_an_outline_in_the_same_scale() -> None:
    figure = parsed(histogram([0, 1, 2], [30, 70], 100, baseline=([140, 60], 200), title="of x"))
    # The highest of both is 70%: the outline's first step is as high as the second bar.
    assert heights(figure)[1] == pytest.approx(120)
    (outline,) = drawn(figure, "base")
    assert outline.attrib["d"].startswith("M0 136V16H170")
    assert drawn(figure, "bar")[0].findtext("title") == "0 to 1: 30%, baseline 70%"


def test_few_edges_are_named_and_the_first_and_last_stay_inside() -> None:
    edges = [round(0.05 * k, 2) for k in range(21)]
    figure = parsed(histogram(edges, [1] * 20, 20, title="of x"))
    ticks = drawn(figure, "tick")
    assert [tick.text for tick in ticks] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert [ticks[0].get("text-anchor"), ticks[-1].get("text-anchor")] == ["start", "end"]


def test_a_logarithmic_scale_names_powers_of_ten() -> None:
    edges = [10 ** (k / 2) for k in range(-12, 1)]
    figure = parsed(histogram(edges, [1] * 12, 12, logarithmic=True, title="of x"))
    assert [tick.text for tick in drawn(figure, "tick")] == ["10⁻⁶", "0.0001", "0.01", "1"]


def test_bars_are_as_long_as_their_shares_and_name_their_values() -> None:
    figure = parsed(bars([("yes", 3), ("no", 1)], 4, title="of y"))
    yes, no = (float(bar.attrib["width"]) for bar in drawn(figure, "bar"))
    assert no / yes == pytest.approx(1 / 3, abs=0.01)
    assert [value.text for value in drawn(figure, "value")] == ["75%", "25%"]
    assert all(float(bar.attrib["x"]) + yes < WIDTH for bar in drawn(figure, "bar"))


def test_a_long_name_is_cut_and_told_in_full_beside_the_pointer() -> None:
    name = "<b>" * 20
    figure = parsed(bars([(name, 1)], 1, baseline=([1], 2), title="of y"))
    (shown,) = drawn(figure, "name")
    assert shown.text is not None
    assert shown.text.endswith("…")
    assert len(shown.text) < 20
    (group,) = figure.findall("g")
    assert group.findtext("title") == f"{name}: 100%, baseline 50%"


def test_nothing_counted_is_drawn_as_nothing() -> None:
    assert heights(parsed(histogram([0, 1], [0], 0, title="of x"))) == [0]
    assert "nan" not in str(bars([("a", 0)], 0, title="of y"))


def test_a_course_reaches_from_its_first_moment_to_its_last() -> None:
    points = [(10.0, 0.0), (15.0, 50.0), (30.0, 100.0)]
    figure = parsed(course(points, stepped=False, worded=lambda v: f"{v:g} B", title="memory"))
    (line,) = drawn(figure, "line")
    assert line.attrib["d"] == "M0 136L85 76L340 16"
    assert drawn(figure, "most")[0].text == "100 B"
    assert [tick.text for tick in drawn(figure, "tick")] == ["10 s", "20 s", "30 s"]


def test_rates_are_rows_over_time_and_never_below_nought() -> None:
    looks = [[0, 0, 1], [2, 0, 1], [4, 100, 1], [4, 100, 1], [6, 90, 1]]
    assert rates(looks) == [(0, 0), (2, 0), (4, 50), (6, 0)]
