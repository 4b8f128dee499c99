"""Columns as a job names them: names that hold dots, paths into structs, and globs of both."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipeline.binding import Reading, check
from pipeline.choosing import natural_spec, resolve
from pipeline.columns import astray, expand, find, nesting, value_type
from pipeline.contract import kept_schema
from pipeline.errors import ContractError
from pipeline.extract import extract
from pipeline.input_options import InputOptions
from pipeline.signature import InputSpec, Signature

ADDRESS = pa.struct([("city", pa.string()), ("zip", pa.int32())])
LAKE = pa.schema(
    [
        ("customer", pa.struct([("age", pa.int8()), ("address", ADDRESS), ("tags", pa.int8())])),
        ("customer.tags", pa.float32()),
        ("a.b", pa.float32()),
        ("items", pa.list_(ADDRESS)),
        ("plain", pa.float64()),
    ]
)


def single(shape: tuple[int, ...] = (), dtype: str = "float32") -> Signature:
    return Signature((InputSpec("x", shape, dtype),), "tensor", (), custom_step=False)


# Names and paths


@pytest.mark.parametrize(
    ("name", "path", "kind"),
    [
        ("plain", ("plain",), pa.float64()),
        ("customer.age", ("customer", "age"), pa.int8()),
        ("customer.address.zip", ("customer", "address", "zip"), pa.int32()),
        ("customer.address", ("customer", "address"), ADDRESS),
        ("a.b", ("a.b",), pa.float32()),
    ],
)
def test_a_name_is_a_column_or_a_path(name: str, path: tuple[str, ...], kind: pa.DataType) -> None:
    (found,) = find(LAKE, name)
    assert (found.name, found.path, found.type, found.top) == (name, path, kind, path[0])


def test_a_column_whose_name_holds_a_dot_comes_before_a_path() -> None:
    (found,) = find(LAKE, "customer.tags")
    assert (found.path, found.type) == (("customer.tags",), pa.float32())


def test_two_ways_to_read_a_path_are_told_apart_by_nobody() -> None:
    lake = pa.schema([("a", pa.struct([("b.c", pa.int8()), ("b", pa.struct([("c", pa.int8())]))]))])
    assert len(find(lake, "a.b.c")) == 2
    with pytest.raises(ContractError, match="there twice"):
        check(single(), {"x": ("a.b.c",)}, lake)


@pytest.mark.parametrize("name", ["gone", "customer.gone", "items.zip", "plain.x", "customer.", ""])
def test_what_leads_nowhere_is_nothing(name: str) -> None:
    assert find(LAKE, name) == []


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("plain", None),
        ("gone", None),
        ("gone.too", None),
        ("customer.gone", "column customer with the fields age, address, tags"),
        ("customer.gone.zip", "column customer with the fields age, address, tags"),
        ("customer.address.gone", "column customer.address with the fields city, zip"),
        ("plain.x", "column plain: double; a path leads through structs alone"),
        ("a.b.c", "column a.b: float; a path leads through structs alone"),
    ],
)
def test_a_path_that_leads_nowhere_is_told_where_it_ends(name: str, end: str | None) -> None:
    assert astray(LAKE, name) == end


# Globs


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", ("customer", "customer.tags", "a.b", "items", "plain")),
        ("p*", ("plain",)),
        ("a.*", ("a.b",)),
        ("customer.a*", ("customer.age", "customer.address.city", "customer.address.zip")),
        ("customer.address.*", ("customer.address.city", "customer.address.zip")),
        ("*.zip", ("customer.address.zip",)),
    ],
)
def test_a_glob_means_columns_and_with_a_dot_the_fields_of_structs(
    pattern: str, names: tuple[str, ...]
) -> None:
    assert expand([pattern], LAKE, "input 'x'") == names


def test_the_fields_that_a_glob_means_feed_an_input_side_by_side() -> None:
    person = pa.struct([("age", pa.int8()), ("height", pa.float32())])
    rows = [{"age": 1, "height": 2.5}, None, {"age": 3, "height": None}, {"age": 4, "height": 0}]
    batch = pa.record_batch({"p": pa.array(rows, person)})
    chosen = resolve(single((2,)), batch.schema, ["p.*"])
    assert chosen == {"x": ("p.age", "p.height")}
    binding = check(single((2,)), chosen, batch.schema)
    assert (binding.columns, binding.consumed) == (("p",), frozenset())
    (array,), _, bad = extract(binding, batch, 0)
    assert array.tolist() == [[1, 2.5], [4, 0]]
    assert [(row.row, row.column) for row in bad] == [(1, "p.age"), (2, "p.height")]


def test_a_struct_of_which_a_field_is_read_counts_as_unused_and_is_kept() -> None:
    binding = check(single(), {"x": ("customer.age",)}, LAKE)
    assert kept_schema(("unused",), LAKE, binding.consumed).names == LAKE.names
    whole = check(single(), {"x": ("a.b",)}, LAKE)
    assert "a.b" not in kept_schema(("unused",), LAKE, whole.consumed).names


def test_a_field_is_kept_with_the_column_that_it_is_of() -> None:
    assert kept_schema(("customer.age", "plain"), LAKE, ()).names == ["customer", "plain"]


# What lists hold


@pytest.mark.parametrize(
    ("kind", "levels", "values"),
    [
        (pa.int8(), (), pa.int8()),
        (pa.list_(pa.int8()), (None,), pa.int8()),
        (pa.list_(pa.large_list(pa.list_(pa.int8(), 3))), (None, None, 3), pa.int8()),
        (pa.fixed_shape_tensor(pa.int8(), [2, 3]), (2, 3), pa.int8()),
        (pa.list_(pa.dictionary(pa.int8(), pa.string())), (None,), pa.string()),
        (pa.dictionary(pa.int8(), pa.string()), (), pa.string()),
        (pa.list_view(pa.int8()), (), pa.list_view(pa.int8())),
        (pa.map_(pa.string(), pa.int8()), (), pa.map_(pa.string(), pa.int8())),
    ],
)
def test_lists_are_known_by_their_levels_and_their_values(
    kind: pa.DataType, levels: tuple[int | None, ...], values: pa.DataType
) -> None:
    assert nesting(kind)[0] == levels
    assert value_type(kind) == values


# How a use is described


@pytest.mark.parametrize(
    ("kind", "dtype", "shape", "options", "words"),
    [
        (pa.float32(), "float32", (), {}, "exact"),
        (pa.int64(), "float32", (), {}, "checked"),
        (pa.timestamp("us"), "int64", (), {"unit": "s"}, "checked, seconds since 1970"),
        (pa.date32(), "int32", (), {"unit": "days"}, "exact, days since 1970"),
        (pa.duration("ms"), "int64", (), {"unit": "ms"}, "exact, milliseconds"),
        (pa.list_(pa.int32()), "int32", (4,), {}, "exact"),
        (pa.list_(pa.int32()), "int32", (4,), {"length": 4}, "exact, padded after to 4"),
        (pa.list_(pa.int32(), 4), "int32", (4,), {"length": 4}, "exact"),
        (
            pa.list_(pa.date32()),
            "int32",
            (4,),
            {"length": 4, "pad": "before", "truncate": "start", "unit": "days"},
            "exact, days since 1970, padded before to 4, cut at the start",
        ),
    ],
)
def test_a_use_is_described_in_words(
    kind: pa.DataType, dtype: str, shape: tuple[int, ...], options: dict[str, object], words: str
) -> None:
    reading = Reading({"x": InputOptions.model_validate(options)})
    lake = pa.schema([("x", kind)])
    assert check(single(shape, dtype), {"x": ("x",)}, lake, reading).inputs[0].uses[
        0
    ].described == (words)


def test_a_unit_is_said_of_the_times_among_the_columns_of_an_input() -> None:
    lake = pa.schema([("a", pa.float32()), ("born", pa.date32())])
    reading = Reading({"x": InputOptions(unit="days")})
    uses = check(single((2,)), {"x": ("a", "born")}, lake, reading).inputs[0].uses
    assert [use.unit for use in uses] == [None, "days"]


# What columns feed into a hook


@pytest.mark.parametrize(
    ("kinds", "options", "shape", "dtype"),
    [
        ([pa.int16()], {}, (), "int16"),
        ([pa.bool_()], {}, (), "bool"),
        ([pa.float64()], {}, (), "float64"),
        ([pa.large_string()], {}, (), "string"),
        ([pa.binary()], {}, (), "string"),
        ([pa.dictionary(pa.int8(), pa.int32())], {}, (), "int32"),
        ([pa.date32()], {"unit": "days"}, (), "int64"),
        ([pa.decimal128(9, 2)], {}, (), "float64"),
        ([pa.decimal128(9, 0)], {}, (), "int64"),
        ([pa.int8(), pa.float32()], {}, (2,), "float32"),
        ([pa.int64(), pa.uint64(), pa.int8()], {}, (3,), "float64"),
        ([pa.bool_(), pa.bool_()], {}, (2,), "bool"),
        ([pa.string(), pa.string()], {}, (2,), "string"),
        ([pa.list_(pa.float32(), 3)], {}, (3,), "float32"),
        ([pa.list_(pa.list_(pa.int8(), 2))], {"length": 5}, (5, 2), "int8"),
        ([pa.list_(pa.string())], {"length": 5}, (5,), "string"),
        ([pa.fixed_shape_tensor(pa.uint8(), [2, 3])], {}, (2, 3), "uint8"),
    ],
)
def test_columns_feed_a_hook_in_their_own_type_and_shape(
    kinds: list[pa.DataType], options: dict[str, object], shape: tuple[int, ...], dtype: str
) -> None:
    lake = pa.schema([(f"c{i}", kind) for i, kind in enumerate(kinds)])
    said = InputOptions.model_validate(options)
    spec = natural_spec("n", ["c*"], [lake], said)
    assert spec == InputSpec("n", shape, dtype)
    signature = Signature((spec,), "tensor", (), custom_step=False)
    allowed = Reading({"n": said}, None, ("*",))
    assert check(signature, {"n": tuple(lake.names)}, lake, allowed).inputs[0].spec == spec


def test_the_first_schema_that_has_the_columns_decides_what_a_hook_is_fed() -> None:
    schemas = [
        pa.schema([("b", pa.int8())]),
        pa.schema([("a", pa.int32())]),
        pa.schema([("a", pa.float32())]),
    ]
    assert natural_spec("n", ["a"], schemas, None).dtype == "int32"
