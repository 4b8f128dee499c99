"""What `init` proposes: the likeliest columns first, and the shortest way to allow rounding."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipeline.binding import ColumnUse
from pipeline.init_candidates import likeness, ranked
from pipeline.init_rounding import rounding
from pipeline.signature import InputSpec


@pytest.mark.parametrize(
    ("wanted", "name"),
    [("age_hours", "hours_open"), ("distance", "distance_km"), ("DepDelay", "dep_delay_min")],
)
def test_names_that_share_most_of_their_letters_in_a_row_are_alike(wanted: str, name: str) -> None:
    assert likeness(wanted, name) >= 0.5


@pytest.mark.parametrize(
    ("wanted", "name"),
    [("body", "customer"), ("age_hours", "ticket"), ("body", "text"), ("a", "id"), ("_", "x")],
)
def test_names_that_share_a_letter_by_chance_are_not(wanted: str, name: str) -> None:
    assert likeness(wanted, name) == 0


def test_the_alike_come_first_then_the_tables_order_then_the_taken_then_the_unlikely() -> None:
    names = ["opened", "hours", "b", "a", "hours_open"]
    assert ranked("age_hours", names, taken={"b"}, unlikely={"opened"}) == [
        "hours",
        "hours_open",
        "a",
        "b",
        "opened",
    ]
    assert ranked("x", ["c", "a", "b"], (), ()) == ["c", "a", "b"]


DOUBLE = pa.float64()


def use(name: str, kind: pa.DataType = DOUBLE) -> tuple[InputSpec, ColumnUse]:
    spec = InputSpec("x", (3,), "float32")
    return spec, ColumnUse(name, (name,), kind, "rounded", None)


def test_few_columns_are_allowed_by_their_names() -> None:
    found = rounding([use("a"), use("b"), use("c", pa.float32())], ())
    assert found is not None
    assert found.allowing == found.columns == ("a", "b")
    assert found.kinds == ("double to float32: a, b",)


def test_many_are_allowed_by_a_glob() -> None:
    found = rounding([use(f"f{i}") for i in range(30)], ())
    assert found is not None
    assert found.allowing == ("*",)


def test_a_glob_allows_no_column_whose_values_are_checked() -> None:
    many = [use(f"mean [{i}]") for i in range(30)]
    found = rounding([*many, use("id", pa.int64())], ())
    assert found is not None
    assert found.allowing == ("mean [[]*",)
    found = rounding([*many, use("mean [id]", pa.int64())], ())
    assert found is not None
    assert found.allowing == found.columns
    assert len(found.columns) == 30


def test_what_is_allowed_already_is_kept_and_not_asked_for_again() -> None:
    assert rounding([use("a")], ("a*",)) is None
    assert rounding([use("i", pa.int16())], ()) is None
    found = rounding([use("a"), use("b")], ("a*",))
    assert found is not None
    assert found.allowing == ("a*", "b")
