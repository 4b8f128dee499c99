"""Binding: which columns may feed which inputs, how they are chosen, and how they are checked."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from pipeline.binding import Binding, Reading, check
from pipeline.choosing import resolve
from pipeline.errors import ConfigError, ContractError
from pipeline.input_options import InputOptions
from pipeline.signature import InputSpec, Signature

INTEGERS = {str(kind): kind for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())} | {
    str(kind): kind for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
}
FLOATS = {"float16": pa.float16(), "float32": pa.float32(), "float64": pa.float64()}
TEXTS = {
    "string": pa.string(),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "binary": pa.binary(),
    "large_binary": pa.large_binary(),
    "fixed_size_binary": pa.binary(4),
    "dictionary<string>": pa.dictionary(pa.int32(), pa.string()),
    "dictionary<large_string>": pa.dictionary(pa.int8(), pa.large_string()),
}
NEVER = {
    "null": pa.null(),
    "date32": pa.date32(),
    "date64": pa.date64(),
    "timestamp": pa.timestamp("us"),
    "timestamp with zone": pa.timestamp("ns", "UTC"),
    "time32": pa.time32("s"),
    "time64": pa.time64("ns"),
    "duration": pa.duration("s"),
    "struct": pa.struct([("x", pa.float32())]),
    "map": pa.map_(pa.string(), pa.float32()),
    "dictionary<timestamp>": pa.dictionary(pa.int32(), pa.timestamp("us")),
}
TYPES = {
    **INTEGERS,
    **FLOATS,
    **TEXTS,
    **NEVER,
    "bool": pa.bool_(),
    "decimal": pa.decimal128(10, 2),
    "whole-decimal": pa.decimal128(7, 0),
    "dictionary<int64>": pa.dictionary(pa.int32(), pa.int64()),
}

# What is in neither column of an input's row is refused.
WIDE = "int32 int64 uint32 uint64 dictionary<int64>"
TENS = "whole-decimal"  # of seven digits
RULES = {
    #          exact                                rounded, if allowed        checked
    "float16": (
        "bool int8 uint8 float16",
        "float32 float64 decimal",
        f"int16 uint16 {WIDE} {TENS}",
    ),
    "float32": (
        f"bool int8 uint8 int16 uint16 float16 float32 {TENS}",
        "float64 decimal",
        WIDE,
    ),
    "float64": (
        f"bool int8 uint8 int16 uint16 int32 uint32 float16 float32 float64 {TENS}",
        "decimal",
        "int64 uint64 dictionary<int64>",
    ),
    "int8": ("bool int8", "", f"uint8 int16 uint16 {WIDE} {TENS}"),
    "int16": ("bool int8 uint8 int16", "", f"uint16 {WIDE} {TENS}"),
    "int32": (
        f"bool int8 uint8 int16 uint16 int32 {TENS}",
        "",
        "uint32 int64 uint64 dictionary<int64>",
    ),
    "int64": (
        f"bool int8 uint8 int16 uint16 int32 uint32 int64 dictionary<int64> {TENS}",
        "",
        "uint64",
    ),
    "uint8": ("bool uint8", "", f"int8 int16 uint16 {WIDE} {TENS}"),
    "uint16": ("bool uint8 uint16", "", f"int8 int16 {WIDE} {TENS}"),
    "uint32": (
        "bool uint8 uint16 uint32",
        "",
        f"int8 int16 int32 int64 uint64 dictionary<int64> {TENS}",
    ),
    "uint64": (
        "bool uint8 uint16 uint32 uint64",
        "",
        f"int8 int16 int32 int64 dictionary<int64> {TENS}",
    ),
    "bool": ("bool", "", ""),
    "string": (" ".join(TEXTS), "", ""),
}


def conversion_by_rule(kind: str, dtype: str) -> str | None:
    for name, kinds in zip(("exact", "rounded", "checked"), RULES[dtype], strict=True):
        if kind in kinds.split():
            return name
    return None


def single(
    shape: tuple[int | None, ...] = (), dtype: str = "float32", name: str = "x"
) -> Signature:
    return Signature((InputSpec(name, shape, dtype),), "tensor", (), custom_step=False)


def several(**shapes: tuple[int | None, ...]) -> Signature:
    specs = tuple(InputSpec(name, shape, "float32") for name, shape in shapes.items())
    return Signature(specs, "dict", (), custom_step=False)


def schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema(list(columns.items()))


def scalars(*names: str) -> pa.Schema:
    return pa.schema([(name, pa.float32()) for name in names])


def bound(kind: pa.DataType, signature: Signature) -> Binding:
    return check(signature, {"x": ("x",)}, schema(x=kind))


def conversion_of(kind: pa.DataType, signature: Signature) -> str | None:
    try:
        binding = bound(kind, signature)
    except ContractError as error:
        return "rounded" if "lose precision" in error.message else None
    return binding.inputs[0].uses[0].conversion


# Types


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("dtype", RULES)
def test_a_column_feeds_an_input_by_the_rule_of_their_types(kind: str, dtype: str) -> None:
    assert conversion_of(TYPES[kind], single((), dtype)) == conversion_by_rule(kind, dtype)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("dtype", ["float32", "int32", "bool", "string"])
def test_a_list_feeds_an_input_of_its_width_by_the_rule_of_its_values(
    kind: str, dtype: str
) -> None:
    signature, rule = single((3,), dtype), conversion_by_rule(kind, dtype)
    value = TYPES[kind]
    for lists in (pa.list_(value), pa.large_list(value), pa.list_(value, 3)):
        assert conversion_of(lists, signature) == rule


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (pa.list_(pa.float32()), ()),
        (pa.list_(pa.float32(), 3), ()),
        (pa.list_(pa.float32(), 3), (4,)),
        (pa.list_(pa.float32(), 3), (1,)),
        (pa.list_(pa.float32()), (None,)),
        (pa.list_(pa.float32()), (2, 2)),
        (pa.list_(pa.list_(pa.float32())), (2,)),
    ],
)
def test_a_list_feeds_no_input_of_another_shape(
    kind: pa.DataType, shape: tuple[int | None, ...]
) -> None:
    assert conversion_of(kind, single(shape)) is None


def test_a_list_of_one_feeds_an_input_of_width_one() -> None:
    assert bound(pa.list_(pa.float32()), single((1,))).inputs[0].uses[0].dims == (1,)


def test_a_scalar_feeds_an_input_of_width_one_or_none() -> None:
    for shape in ((), (1,)):
        assert bound(pa.float32(), single(shape)).inputs[0].uses[0].dims is None


def test_a_type_that_is_refused_is_named_with_its_column_and_its_input() -> None:
    with pytest.raises(ContractError) as caught:
        bound(pa.date32(), single((), "int32"))
    error = caught.value
    assert error.column == "x"
    assert "int32 (n)" in (error.expected or "")
    assert "date32[day]" in (error.received or "")
    assert error.hint


# Choosing


def test_an_input_takes_the_column_of_its_name() -> None:
    chosen = resolve(several(b=(), a=(1,)), scalars("a", "other", "b"))
    assert list(chosen.items()) == [("b", ("b",)), ("a", ("a",))]


@pytest.mark.parametrize(
    ("features", "columns"),
    [
        (["c", "a"], ("c", "a")),
        (["x*"], ("x2", "x1")),
        (["c", "x*", "a"], ("c", "x2", "x1", "a")),
        (["x1", "x*"], ("x1", "x2")),
        (["?"], ("a", "c")),
        (["x[0-9]"], ("x2", "x1")),
        (["v[1]"], ("v[1]",)),
        (["*"], ("x2", "a", "x1", "v[1]", "c")),
    ],
)
def test_features_are_names_and_globs_in_order(
    features: list[str], columns: tuple[str, ...]
) -> None:
    lake = scalars("x2", "a", "x1", "v[1]", "c")
    assert resolve(single((2,)), lake, features) == {"x": columns}


def test_a_glob_heeds_case() -> None:
    assert resolve(single((1,)), scalars("A1", "a1"), ["a*"]) == {"x": ("a1",)}


@pytest.mark.parametrize("missing", ["none", "none*"])
def test_a_feature_that_matches_no_column_is_named(missing: str) -> None:
    with pytest.raises(ContractError) as caught:
        resolve(single((2,)), scalars("a", "b"), ["a", missing])
    assert caught.value.column == missing
    assert caught.value.received == "columns a, b"


def test_features_are_refused_for_a_model_with_several_inputs() -> None:
    with pytest.raises(ConfigError, match="single input") as caught:
        resolve(several(a=(), b=()), scalars("a", "b"), ["a"])
    assert "a, b" in (caught.value.received or "")


def test_a_mapping_names_the_columns_of_an_input_and_leaves_the_others_to_their_names() -> None:
    chosen = resolve(
        several(a=(), wide=(2,)), scalars("a", "p1", "p2"), inputs={"wide": ["p2", "p1"]}
    )
    assert chosen == {"a": ("a",), "wide": ("p2", "p1")}


def test_a_mapping_comes_before_the_column_of_the_same_name() -> None:
    assert resolve(several(a=()), scalars("a", "b"), inputs={"a": ["b"]}) == {"a": ("b",)}


def test_a_mapping_of_an_input_that_the_model_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match="no input 'c'") as caught:
        resolve(several(a=(), b=()), scalars("a", "b"), inputs={"c": ["a"]})
    assert caught.value.expected == "a, b"


def test_a_mapping_to_a_column_that_is_not_there_is_refused() -> None:
    with pytest.raises(ContractError, match="'a'") as caught:
        resolve(several(a=()), scalars("a", "b"), inputs={"a": ["gone"]})
    assert caught.value.column == "gone"


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float64()), pa.large_list(pa.int8()), pa.list_(pa.float32(), 3)]
)
def test_a_single_input_takes_the_only_list_column_of_its_width(kind: pa.DataType) -> None:
    lake = schema(
        id=pa.int64(), pixels=kind, narrow=pa.list_(pa.float32(), 2), words=pa.list_(pa.string())
    )
    assert resolve(single((3,)), lake) == {"x": ("pixels",)}


@pytest.mark.parametrize(
    ("shape", "lake"),
    [
        ((3,), schema(a=pa.list_(pa.float32()), b=pa.list_(pa.float32(), 3))),
        ((3,), schema(a=pa.list_(pa.float32(), 2))),
        ((3,), schema(a=pa.list_(pa.string()))),
        ((), schema(a=pa.list_(pa.float32()))),
        ((), schema(a=pa.float32())),
    ],
    ids=["two lists", "too narrow", "of text", "of a scalar", "another name"],
)
def test_columns_of_a_single_input_that_cannot_be_guessed_must_be_named(
    shape: tuple[int, ...], lake: pa.Schema
) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(single(shape), lake)
    assert str(single(shape).inputs[0]) in (caught.value.expected or "")
    assert caught.value.received == "columns " + ", ".join(lake.names)
    assert "--features" in (caught.value.hint or "")


def test_one_of_several_inputs_that_finds_no_column_is_named_and_nothing_is_guessed() -> None:
    signature = several(x=(3,), y=(3,))
    with pytest.raises(ContractError, match="'x'") as caught:
        resolve(signature, schema(y=pa.list_(pa.float32()), a=pa.list_(pa.float32())))
    assert caught.value.column == "x"
    assert str(signature.inputs[0]) in (caught.value.expected or "")
    assert caught.value.received == "columns y, a"
    assert "[inputs]" in (caught.value.hint or "")


# Checking


def test_a_binding_lists_each_column_once() -> None:
    signature = several(a=(), wide=(2,))
    chosen = {"a": ("p",), "wide": ("q", "p")}
    assert check(signature, chosen, scalars("p", "q")).columns == ("p", "q")


def test_a_checked_binding_says_how_each_column_is_used() -> None:
    lake = schema(p=pa.int64(), q=pa.list_(pa.float64()))
    allowed = Reading(allow_lossy=("q",))
    binding = check(several(a=(), b=(3,)), {"a": ("p",), "b": ("q",)}, lake, allowed)
    uses = [use for one in binding.inputs for use in one.uses]
    assert [(u.column, u.type, u.conversion, u.dims) for u in uses] == [
        ("p", pa.int64(), "checked", None),
        ("q", pa.list_(pa.float64()), "rounded", (3,)),
    ]


@pytest.mark.parametrize(
    ("kind", "dtype", "shape", "options", "words"),
    [
        (pa.int64(), "int64", (), {}, "exact"),
        (pa.int64(), "float32", (), {}, "checked"),
        (pa.float64(), "float32", (), {}, "rounded"),
        (pa.date32(), "int64", (), {"unit": "days"}, "exact, days since 1970"),
        (pa.timestamp("us"), "int64", (), {"unit": "us"}, "exact, microseconds since 1970"),
        (pa.duration("s"), "int64", (), {"unit": "s"}, "exact, seconds"),
        (pa.time32("s"), "int64", (), {"unit": "s"}, "exact, seconds"),
        (
            pa.list_(pa.timestamp("s")), "int64", (3,), {"unit": "s"},
            "exact, seconds since 1970",
        ),
        (pa.list_(pa.int8()), "int64", (3,), {}, "exact"),
        (pa.list_(pa.int8()), "int64", (3,), {"length": 3}, "exact, padded after to 3"),
        (
            pa.list_(pa.int8()), "int64", (3,), {"length": 3, "pad": "before", "truncate": "end"},
            "exact, padded before to 3, cut at the end",
        ),
        (pa.binary(), "string", (), {"image": True}, "decoded"),
    ],
    ids=str,
)  # fmt: skip
def test_what_becomes_of_a_columns_values_is_told_in_words(
    kind: pa.DataType, dtype: str, shape: tuple[int, ...], options: dict[str, Any], words: str
) -> None:
    allowed = ("x",) if words == "rounded" else ()
    reading = Reading({"x": InputOptions(**options)}, allow_lossy=allowed)
    binding = check(single(shape, dtype), {"x": ("x",)}, schema(x=kind), reading)
    assert binding.inputs[0].uses[0].described == words


PERSON = pa.struct([("age", pa.float32()), ("name", pa.string())])


@pytest.mark.parametrize(
    ("kind", "column", "shape", "plain"),
    [
        (pa.float32(), "x", (), True),
        (pa.float32(), "x", (1,), True),
        (pa.float64(), "x", (), False),
        (pa.int8(), "x", (), False),
        (pa.list_(pa.float32(), 3), "x", (3,), False),
        (PERSON, "x.age", (), False),
    ],
    ids=str,
)
def test_a_binding_is_plain_if_each_column_is_a_scalar_of_its_inputs_own_type(
    kind: pa.DataType, column: str, shape: tuple[int, ...], plain: bool
) -> None:
    signature = several(x=shape, y=())
    lake = schema(x=kind, y=pa.float32())
    reading = Reading(allow_lossy=("x",))
    assert check(signature, {"x": (column,), "y": ("y",)}, lake, reading).plain == plain


def test_a_field_of_a_struct_is_read_of_its_column_which_is_not_used_up() -> None:
    signature = several(x=(), y=())
    lake = schema(x=PERSON, y=pa.float32())
    binding = check(signature, {"x": ("x.age",), "y": ("y",)}, lake)
    assert [use.path for one in binding.inputs for use in one.uses] == [("x", "age"), ("y",)]
    assert binding.columns == ("x", "y")
    assert binding.consumed == {"y"}


@pytest.mark.parametrize(
    ("kind", "length", "truncate", "padded"),
    [
        (pa.list_(pa.float32(), 4), 4, "never", False),
        (pa.list_(pa.float32(), 3), 4, "never", True),
        (pa.list_(pa.float32(), 5), 4, "end", True),
        (pa.list_(pa.float32(), 5), 4, "never", None),
        (pa.list_(pa.float32()), 4, "never", True),
        (pa.list_(pa.float32()), None, "never", False),
        (pa.list_(pa.float32(), 3), None, "never", None),
        (pa.list_(pa.float32(), 4), None, "never", False),
        (pa.fixed_shape_tensor(pa.float32(), [3]), 4, "never", None),
    ],
    ids=str,
)
def test_lists_are_padded_where_the_job_says_a_length_that_theirs_is_not(
    kind: pa.DataType, length: int | None, truncate: Any, padded: bool | None
) -> None:
    options = InputOptions(length=length, truncate=truncate)
    reading = Reading({"x": options})
    if padded is None:
        with pytest.raises(ContractError, match="shape"):
            check(single((4,)), {"x": ("x",)}, schema(x=kind), reading)
        return
    (use,) = check(single((4,)), {"x": ("x",)}, schema(x=kind), reading).inputs[0].uses
    assert use.dims == (4,)
    assert use.sequence == (options if padded else None)


def test_padding_that_an_input_cannot_hold_is_refused_only_where_lists_are_padded() -> None:
    reading = Reading({"x": InputOptions(length=4, pad_value=-1)})
    with pytest.raises(ContractError, match="pad"):
        check(single((4,), "uint8"), {"x": ("x",)}, schema(x=pa.list_(pa.uint8(), 3)), reading)
    check(single((4,), "uint8"), {"x": ("x",)}, schema(x=pa.list_(pa.uint8(), 4)), reading)


def test_a_unit_of_the_job_holds_for_times_alone_and_one_of_an_input_comes_first() -> None:
    reading = Reading({"b": InputOptions(unit="s")}, time_unit="days")
    kinds = schema(a=pa.date32(), b=pa.date32(), c=pa.int8())
    specs = tuple(InputSpec(name, (), "int64") for name in "abc")
    signature = Signature(specs, "dict", (), custom_step=False)
    binding = check(signature, {name: (name,) for name in "abc"}, kinds, reading)
    assert [use.unit for one in binding.inputs for use in one.uses] == ["days", "s", None]


def test_a_unit_is_wanted_where_one_of_several_columns_is_a_time() -> None:
    reading = Reading({"x": InputOptions(unit="days")})
    lake = schema(a=pa.int8(), b=pa.date32())
    uses = check(single((2,), "int64"), {"x": ("a", "b")}, lake, reading).inputs[0].uses
    assert [use.unit for use in uses] == [None, "days"]


def test_integers_that_may_lose_precision_are_rounded_instead_of_checked() -> None:
    lake = schema(x=pa.int64(), y=pa.int64())
    reading = Reading(allow_lossy=("x",))
    binding = check(several(x=(), y=()), {"x": ("x",), "y": ("y",)}, lake, reading)
    uses = [use for one in binding.inputs for use in one.uses]
    assert [use.conversion for use in uses] == ["rounded", "checked"]


def test_columns_that_may_lose_precision_are_named_or_match_a_glob() -> None:
    reading = Reading(allow_lossy=("a", "b*", "v[1]"))
    may = [
        name for name in ("a", "aa", "b", "bb", "B", "v[1]", "v1", "c") if reading.may_lose(name)
    ]
    assert may == ["a", "b", "bb", "v[1]", "v1"]


@pytest.mark.parametrize(
    ("columns", "word"), [(["a", "b"], "missing"), (["x", "a", "x"], "there twice")]
)
def test_a_column_that_is_missing_or_there_twice_is_named(columns: list[str], word: str) -> None:
    with pytest.raises(ContractError, match=word) as caught:
        check(single(), {"x": ("x",)}, scalars(*columns))
    assert caught.value.column == "x"
    assert caught.value.received == "columns " + ", ".join(columns)


@pytest.mark.parametrize(
    ("shape", "columns"),
    [
        ((3,), ("a", "b")),
        ((3,), ("a", "b", "c", "d")),
        ((3,), ()),
        ((), ("a", "b")),
        ((1,), ("a", "b")),
        ((2, 2), ("a", "b", "c", "d")),
        ((2, 2), ("a",)),
        ((None,), ("a", "b")),
        ((3,), ("a", "b", "list")),
        ((3,), ("list", "list2")),
    ],
)
def test_columns_of_another_width_than_the_input_are_refused(
    shape: tuple[int | None, ...], columns: tuple[str, ...]
) -> None:
    vector = pa.list_(pa.float32(), 3)
    lake = pa.schema([*scalars("a", "b", "c", "d"), ("list", vector), ("list2", vector)])
    signature = single(shape)
    with pytest.raises(ContractError, match="do not fit") as caught:
        check(signature, {"x": columns}, lake)
    assert str(signature.inputs[0]) in (caught.value.expected or "")
    assert f"{len(columns)} column" in (caught.value.received or "")
    assert all(f"{name} " in (caught.value.received or "") for name in columns)


@pytest.mark.parametrize(("shape", "columns"), [((), "a"), ((1,), "a"), ((3,), "abc")])
def test_as_many_scalar_columns_as_the_input_is_wide_fit(
    shape: tuple[int, ...], columns: str
) -> None:
    binding = check(single(shape), {"x": tuple(columns)}, scalars(*"abc"))
    assert binding.columns == tuple(columns)
