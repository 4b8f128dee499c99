"""What is refused as a column of an input, before a row is read, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from pipeline.binding import Reading, check
from pipeline.choosing import natural_spec, resolve
from pipeline.contract import choose_columns
from pipeline.errors import ShardscoreError
from pipeline.input_options import InputOptions
from pipeline.job import Job
from pipeline.signature import InputSpec, Signature
from tests.golden_texts import GOLDEN, assert_golden
from tests.unit.conftest import shard

PERSON = pa.struct([("age", pa.int64()), ("name", pa.string())])
Raised = Callable[[], object]


def fed(
    kind: pa.DataType,
    dtype: str = "float32",
    shape: tuple[int | None, ...] = (),
    name: str = "x",
    time_unit: Any = None,
    **options: Any,
) -> Raised:
    """An input that one column feeds, whose name is that of the input."""
    spec = InputSpec(name, shape, dtype)
    reading = Reading({name: InputOptions(**options)}, time_unit, ())
    schema = pa.schema([(name, kind), ("other", pa.int8())])
    return lambda: check(signature(spec), {name: (name,)}, schema, reading)


def signature(*specs: InputSpec) -> Signature:
    return Signature(specs, "tensor" if len(specs) == 1 else "dict", (), custom_step=False)


def side_by_side(columns: dict[str, pa.DataType], width: int = 2, **options: Any) -> Raised:
    spec = InputSpec("x", (width,), "float32")
    reading = Reading({"x": InputOptions(**options)})
    schema = pa.schema(list(columns.items()))
    return lambda: check(signature(spec), {"x": tuple(columns)}, schema, reading)


def two_inputs(columns: dict[str, pa.DataType]) -> Raised:
    specs = [InputSpec("a", (), "float32"), InputSpec("b c", (2,), "float16")]
    schema = pa.schema(list(columns.items()))
    chosen = {"a": ("income",), "b c": ("lat", "lon")}
    return lambda: check(signature(*specs), chosen, schema)


def checked(name: str, schema: pa.Schema) -> Raised:
    return lambda: check(signature(InputSpec("x", (), "float32")), {"x": (name,)}, schema)


def chosen(*shapes: tuple[int | None, ...], **job: Any) -> Raised:
    """The columns of inputs x, y … in a lake of a customer, a list of items, and two numbers."""
    specs = [InputSpec("xyz"[i], shape, "float32") for i, shape in enumerate(shapes)]
    asked = Job(model="m", input=("i",), output="o", **job)
    return lambda: choose_columns(signature(*specs), asked, [shard(schema=LAKE)])


def hook(*columns: str, **options: Any) -> Raised:
    return lambda: natural_spec("n", columns, [LAKE], InputOptions(**options))


LAKE = pa.schema(
    [
        ("customer", PERSON),
        ("items", pa.list_(PERSON)),
        ("a", pa.float32()),
        ("b", pa.int64()),
        ("when", pa.timestamp("us")),
        ("words", pa.list_(pa.string())),
        ("facts", pa.map_(pa.string(), pa.int8())),
    ]
)

TYPES: dict[str, Raised] = {
    "text_for_a_number": fed(pa.string()),
    "number_for_a_text": fed(pa.int64(), "string"),
    "number_for_a_boolean": fed(pa.int8(), "bool"),
    "bytes_for_numbers": fed(pa.binary(), shape=(28, 28, 3), name="photo"),
    "float_for_an_integer": fed(pa.float32(), "int64"),
    "decimal_for_an_integer": fed(pa.decimal128(12, 2), "int64"),
    "number_for_an_image": fed(pa.int64(), "string", name="photo", image=True),
    "number_for_a_complex_input": fed(pa.float32(), "complex64"),
    "date_without_a_unit": fed(pa.date32(), "int32", name="born"),
    "timestamps_in_a_list_without_a_unit": fed(pa.list_(pa.timestamp("us")), "int64", (3,)),
    "date_for_a_text": fed(pa.date32(), "string", time_unit="s"),
    "date_for_a_boolean": fed(pa.date32(), "bool", unit="s"),
    "unit_of_a_number": fed(pa.int64(), "int64", unit="s"),
    "unit_of_numbers_side_by_side": side_by_side({"a": pa.int8(), "b": pa.int8()}, unit="s"),
    "dictionary_of_texts_for_a_number": fed(pa.dictionary(pa.int32(), pa.string())),
    "struct_without_a_path": fed(PERSON, name="customer"),
    "struct_in_a_list": fed(pa.list_(PERSON), shape=(3,), name="items"),
    "map": fed(pa.map_(pa.string(), pa.float32())),
    "interval": fed(pa.month_day_nano_interval(), "int64", unit="s"),
    "null_type": fed(pa.null()),
    "list_view": fed(pa.list_view(pa.float32()), shape=(3,)),
    "uuid": fed(pa.uuid(), "string"),
    "input_whose_name_is_quoted": fed(pa.date32(), "int32", name="a b"),
}

SHAPES: dict[str, Raised] = {
    "list_for_a_scalar": fed(pa.list_(pa.float32())),
    "list_of_another_width": fed(pa.list_(pa.float32(), 3), shape=(4,)),
    "lists_not_nested_enough": fed(pa.list_(pa.float32()), shape=(2, 2)),
    "lists_nested_too_deep": fed(pa.list_(pa.list_(pa.float32())), shape=(4,)),
    "inner_lists_of_another_width": fed(pa.list_(pa.list_(pa.float32(), 3)), shape=(4, 2)),
    "tensor_of_another_shape": fed(
        pa.fixed_shape_tensor(pa.float32(), [2, 3]), shape=(4, 3), length=4
    ),
    "tensor_permuted": fed(
        pa.fixed_shape_tensor(pa.float32(), [2, 3], permutation=[1, 0]), shape=(3, 2)
    ),
    "lists_of_any_length": fed(pa.list_(pa.int64()), "int64", (None,), name="tokens"),
    "nested_lists_of_any_length": fed(pa.list_(pa.list_(pa.int64())), "int64", (None, None)),
    "length_of_a_scalar_column": fed(pa.float32(), shape=(1,), length=1),
    "fixed_lists_that_would_be_cut": fed(pa.list_(pa.float32(), 9), shape=(4,), length=4),
    "padding_that_is_no_number": fed(
        pa.list_(pa.int64()), "int64", (4,), length=4, pad_value="<pad>"
    ),
    "padding_that_is_no_text": fed(pa.list_(pa.string()), "string", (4,), length=4, pad_value=1),
    "padding_out_of_range": fed(pa.list_(pa.int64()), "uint8", (4,), length=4, pad_value=-1),
    "padding_of_half_a_number": fed(pa.list_(pa.int64()), "int32", (4,), length=4, pad_value=0.5),
    "too_few_columns": side_by_side({"a": pa.float32(), "b": pa.float32()}, 3),
    "columns_side_by_side_for_any_width": lambda: check(
        signature(InputSpec("x", (None,), "float32")),
        {"x": ("a", "b")},
        pa.schema([("a", pa.float32()), ("b", pa.float32())]),
    ),
    "lists_side_by_side": side_by_side({"a": pa.list_(pa.float32()), "b": pa.list_(pa.float32())}),
}

LOSSES: dict[str, Raised] = {
    "lossy_column": fed(pa.float64(), name="income"),
    "lossy_decimal": fed(pa.decimal128(12, 2), "float64", name="income"),
    "lossy_columns_of_two_inputs": two_inputs(
        {"income": pa.float64(), "lat": pa.float64(), "lon": pa.float32()}
    ),
    "lossy_columns_by_the_dozen": side_by_side({f"f{i}": pa.float64() for i in range(12)}, 12),
    "lossy_column_with_spaces": fed(pa.float64(), name='the "income"'),
}

NAMES: dict[str, Raised] = {
    "column_missing_in_a_shard": checked("gone", LAKE),
    "column_there_twice": checked("a", pa.schema([("a", pa.int8()), ("a", pa.float32())])),
    "field_missing_in_a_shard": checked("customer.height", LAKE),
    "field_of_a_list": checked("items.age", LAKE),
    "field_of_a_number": checked("a.b", LAKE),
    "unknown_feature": chosen((2,), features=("a", "gone")),
    "unknown_field": chosen((2,), features=("a", "customer.heigt")),
    "unknown_field_of_a_list": chosen((2,), features=("a", "items.age")),
    "unknown_column_of_an_input": chosen((), (), inputs={"x": "gone"}),
    "unknown_kept_column": chosen((1,), features=("a",), keep=("a", "gone")),
    "features_in_one_word": chosen((2,), features=("a,b",)),
    "nothing_said_of_a_single_input": chosen((2,)),
    "no_column_for_an_input": chosen((), ()),
    "features_of_several_inputs": chosen((), (), features=("a", "b")),
    "input_that_the_model_has_not": chosen((), inputs={"q": "a"}),
    "column_missing_by_glob": lambda: resolve(
        signature(InputSpec("x", (2,), "float32")), LAKE, ["customer.z*"]
    ),
}

HOOKS: dict[str, Raised] = {
    "hook_of_a_time": hook("when"),
    "hook_of_lists_of_any_length": hook("words"),
    "hook_of_texts_and_numbers": hook("customer.name", "a"),
    "hook_of_lists_and_numbers": hook("a", "words"),
    "hook_of_a_struct": hook("customer"),
    "hook_of_a_map": hook("facts"),
    "hook_of_a_missing_column": hook("gone"),
}

CASES = {**TYPES, **SHAPES, **LOSSES, **NAMES, **HOOKS}


@pytest.mark.parametrize("case", CASES)
def test_a_refusal_says_which_column_and_what_to_do(case: str) -> None:
    with pytest.raises(ShardscoreError) as caught:
        CASES[case]()
    assert caught.value.hint
    assert_golden(f"binding/{case}", str(caught.value))


def test_each_golden_text_has_its_case() -> None:
    assert {path.stem for path in (GOLDEN / "binding").glob("*.txt")} == set(CASES)
