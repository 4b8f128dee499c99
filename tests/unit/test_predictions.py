"""Predictions: what a model returns, as Arrow columns that are checked."""

from __future__ import annotations

import io
import math
from collections import namedtuple
from typing import Any

import ml_dtypes
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.errors import ContractError, ModelError, ScoringError
from pipeline.null_rows import with_nulls
from pipeline.outputs import Array, as_float64, flatten, is_float
from pipeline.predictions import DTYPE_KEY, PredictionSchema, schema_of
from pipeline.segments import GroupedFile, Saved
from pipeline.storage.memory import MemoryStorage

ONE, TWO = np.zeros((4, 1), np.float32), np.ones((4, 2), np.float32)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
Boxes = namedtuple("Boxes", ["corners", "score"])


def texts(*values: Any) -> Array:
    return np.array(values, object)


def names_of(outputs: Any, output_names: tuple[str, ...] = ()) -> list[str]:
    return list(flatten(outputs, output_names))


# Flattening


@pytest.mark.parametrize(
    ("outputs", "output_names", "expected"),
    [
        (ONE, (), ["prediction"]),
        (ONE, ("dense",), ["prediction"]),
        ({"b": ONE, "a": TWO}, (), ["b", "a"]),
        ({"b": ONE, "a": TWO}, ("x", "y"), ["b", "a"]),
        ({"box": {"x": ONE, "y": TWO}, "score": ONE}, (), ["box.x", "box.y", "score"]),
        ({"a": {"b": {"c": ONE}}}, (), ["a.b.c"]),
        ([ONE, TWO], ("dense", "dense_1"), ["dense", "dense_1"]),
        ((ONE, TWO), ("dense", "dense_1"), ["dense", "dense_1"]),
        ([ONE, TWO], (), ["prediction_0", "prediction_1"]),
        ([ONE, TWO], ("dense",), ["prediction_0", "prediction_1"]),
        ([ONE], ("dense",), ["dense"]),
        ({"a": [ONE, TWO]}, ("x", "y"), ["a.0", "a.1"]),
        ([{"x": ONE}, (ONE, TWO)], ("a", "b"), ["a.x", "b.0", "b.1"]),
        (Boxes(ONE, TWO), ("dense", "dense_1"), ["corners", "score"]),
        ({"a": Boxes(ONE, [TWO, ONE])}, (), ["a.corners", "a.score.0", "a.score.1"]),
        ({0: ONE, 1: TWO}, (), ["0", "1"]),
        ({"a": {np.int64(7): ONE}}, (), ["a.7"]),
        ({"a.b": ONE, "a": TWO}, (), ["a.b", "a"]),
        ({"bad_row_reason": ONE}, (), ["bad_row_reason"]),
    ],
)
def test_outputs_are_flattened_to_dotted_names(
    outputs: Any, output_names: tuple[str, ...], expected: list[str]
) -> None:
    assert names_of(outputs, output_names) == expected


def test_each_array_keeps_its_name() -> None:
    flat = flatten({"a": {"one": ONE}, "two": [TWO]}, ())
    assert flat["a.one"] is ONE
    assert flat["two.0"] is TWO


@pytest.mark.parametrize(
    ("outputs", "output_names", "column", "places"),
    [
        ({"a.b": ONE, "a": {"b": TWO}}, (), "a.b", ["outputs['a.b']", "outputs['a']['b']"]),
        ([ONE, TWO], ("dense", "dense"), "dense", ["outputs[0]", "outputs[1]"]),
        ({0: ONE, "0": TWO}, (), "0", ["outputs[0]", "outputs['0']"]),
        (
            {"x": Boxes(ONE, ONE), "x.score": ONE},
            (),
            "x.score",
            ["outputs['x'].score", "outputs['x.score']"],
        ),
    ],
)
def test_two_outputs_of_one_name_are_refused_and_both_are_shown(
    outputs: Any, output_names: tuple[str, ...], column: str, places: list[str]
) -> None:
    with pytest.raises(ModelError, match="one name") as caught:
        flatten(outputs, output_names)
    assert caught.value.column == column
    assert (caught.value.received or "").split("\n") == places


@pytest.mark.parametrize("key", ["", None, 1.5, True, (1, 2), b"a"])
def test_a_key_that_is_no_name_is_refused_with_its_place(key: Any) -> None:
    with pytest.raises(ModelError, match="no name") as caught:
        flatten({"a": {key: ONE}}, ())
    assert caught.value.received == f"the key {key!r} in outputs['a']"


class Ragged:
    """Shaped like TensorFlow's ragged tensors, whose rows differ in length."""

    shape = (4, None)
    dtype = "float32"
    row_splits = ONE


class Sparse:
    """Shaped like TensorFlow's sparse tensors."""

    shape = dense_shape = (4, 3)
    dtype = "float32"


@pytest.mark.parametrize("value", [Ragged(), Sparse(), 1.5, None, "text", object()])
def test_what_is_no_dense_array_is_refused_by_its_name(value: Any) -> None:
    with pytest.raises(ModelError, match="no dense array") as caught:
        flatten({"good": ONE, "bad": value}, ())
    assert caught.value.column == "bad"
    assert caught.value.received == type(value).__name__


@pytest.mark.parametrize(("value", "call"), [(Ragged(), "to_tensor()"), (Sparse(), "to_dense()")])
def test_a_ragged_or_sparse_output_is_refused_with_what_makes_it_dense(
    value: Any, call: str
) -> None:
    with pytest.raises(ModelError) as caught:
        flatten(value, ())
    assert call in (caught.value.hint or "")


@pytest.mark.parametrize(
    "array", [np.array(["a", "bcd"]), np.array([b"a", b"bcd"]), np.array(["é", ""], "<U9")]
)
def test_strings_of_numpy_become_objects_so_that_their_width_may_change(array: Array) -> None:
    flat = flatten({"y": array}, ())["y"]
    assert flat.dtype == object
    assert flat.tolist() == array.tolist()


@pytest.mark.parametrize("nothing", [{}, [], ()])
def test_a_model_that_returns_nothing_is_refused(nothing: Any) -> None:
    with pytest.raises(ModelError, match="no output"):
        flatten(nothing, ())


# The schema


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        (np.float16, pa.float16()),
        (np.float32, pa.float32()),
        (np.float64, pa.float64()),
        (np.int8, pa.int8()),
        (np.int16, pa.int16()),
        (np.int32, pa.int32()),
        (np.int64, pa.int64()),
        (np.uint8, pa.uint8()),
        (np.uint16, pa.uint16()),
        (np.uint32, pa.uint32()),
        (np.uint64, pa.uint64()),
        (np.bool_, pa.bool_()),
    ],
)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (1, 1), (2, 1, 3)])
def test_a_dtype_is_kept_and_the_shape_of_a_row_decides_the_kind_of_column(
    dtype: Any, kind: pa.DataType, shape: tuple[int, ...]
) -> None:
    (output,) = schema_of({"y": np.zeros((4, *shape), dtype)}).outputs
    if shape in {(), (1,)}:
        assert output.type == kind
    elif len(shape) == 1:
        assert output.type == pa.list_(kind, 3)
    else:
        assert output.type == pa.fixed_shape_tensor(kind, shape)


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (texts(b"yes", "é".encode()), pa.string()),
        (texts("yes", "é"), pa.string()),
        (texts(b"\x89PNG", b"yes"), pa.binary()),
        (texts([b"a", b"b"], [b"c", b"d"]), pa.list_(pa.string(), 2)),
        (texts([b"a", b"\xff"]), pa.list_(pa.binary(), 2)),
        (texts([[b"a", b"b"]]), pa.list_(pa.list_(pa.string(), 2), 1)),
        (texts([[[b"a", b"\xff"]]]), pa.list_(pa.list_(pa.list_(pa.binary(), 2), 1), 1)),
        (texts("yes", None), pa.string()),
    ],
)
def test_strings_are_text_where_they_decode_and_bytes_where_not(
    array: Array, kind: pa.DataType
) -> None:
    assert schema_of({"y": array}).outputs[0].type == kind


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3)])
def test_bfloat16_is_stored_as_float32_exactly_and_says_so(shape: tuple[int, ...]) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(BFLOAT16)  # each value that the type has
    values = every[np.isfinite(every.astype(np.float32))]
    width = math.prod(shape)
    array = values[: len(values) // width * width].reshape(-1, *shape)
    schema = schema_of({"y": array})
    (field,) = schema.fields
    assert field.metadata == {DTYPE_KEY: b"bfloat16"}
    (column,) = schema.to_arrow([array], len(array))
    assert column.type == schema_of({"y": array.astype(np.float32)}).outputs[0].type
    (back,) = read_back(schema, (column,))
    assert back.dtype == np.float32
    assert np.array_equal(back.astype(BFLOAT16).view(np.uint16), array.view(np.uint16))
    assert len(schema.empty()[0]) == 0


def test_float32_that_was_bfloat16_is_described_as_another_type() -> None:
    described = [
        schema_of({"y": np.zeros((4, 2), dtype)}).described()["y"]
        for dtype in (np.float32, BFLOAT16)
    ]
    assert described == ["fixed_size_list<item: float>[2]", described[0] + " of bfloat16"]


@pytest.mark.parametrize(
    ("dtype", "hint"),
    [
        (ml_dtypes.float8_e4m3fn, "cast"),
        (ml_dtypes.int4, "cast"),
        (np.longdouble, "cast"),
        (np.complex64, "real and imaginary"),
        (np.complex128, "real and imaginary"),
        ("datetime64[s]", "cast"),
        ([("a", np.float32)], "cast"),
    ],
)
def test_a_dtype_that_parquet_lacks_is_refused_with_what_to_do(dtype: Any, hint: str) -> None:
    with pytest.raises(ModelError, match="cannot be written") as caught:
        schema_of({"y": np.zeros((4, 2), dtype)})
    assert caught.value.column == "y"
    assert caught.value.received == str(np.dtype(dtype))
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("value", [1, 1.5, [1], ONE])
def test_objects_that_are_no_strings_are_refused(value: Any) -> None:
    array = np.empty(2, object)
    array[:] = ["text", value]
    with pytest.raises(ModelError, match="holds objects") as caught:
        schema_of({"y": array})
    assert caught.value.received == type(value).__name__
    with pytest.raises(ScoringError, match="'y'"):
        schema_of({"y": texts("a", "b")}).to_arrow([array], 2)


@pytest.mark.parametrize(
    ("dtype", "is_one"),
    [
        *((kind, True) for kind in (np.float16, np.float32, np.float64, BFLOAT16)),
        *((kind, False) for kind in (np.int8, np.uint64, np.bool_, object)),
    ],
)
def test_a_float_is_known_as_one_also_where_numpy_lacks_it(dtype: Any, is_one: bool) -> None:
    assert is_float(np.dtype(dtype)) is is_one
    if is_one:
        array = np.array([1.5, np.nan, np.inf], dtype)
        assert as_float64(array).dtype == np.float64
        assert np.isfinite(as_float64(array)).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.float32(1.5), "no dimension for the rows"),
        (np.zeros((4, 0), np.float32), "is empty"),
        (np.zeros((4, 3, 0), np.float32), "is empty"),
    ],
)
def test_a_shape_that_no_column_has_is_refused(array: Array, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        schema_of({"y": array})
    assert caught.value.column == "y"


def test_a_schema_describes_its_columns_in_order() -> None:
    schema = schema_of({"b": TWO, "a": np.zeros(4, np.int8)})
    assert list(schema.described().items()) == [
        ("b", "fixed_size_list<item: float>[2]"),
        ("a", "int8"),
    ]
    assert [field.name for field in schema.fields] == ["b", "a"]
    assert schema.row_bytes == 2 * 4 + 1


@pytest.mark.parametrize("carried", [["a"], ["x", "b"]])
def test_a_carried_column_with_the_name_of_a_prediction_is_refused(carried: list[str]) -> None:
    schema = schema_of({"a": ONE, "b": TWO})
    schema.refuse_collision(["x", "A"], "/lake/a.parquet")
    with pytest.raises(ContractError) as caught:
        schema.refuse_collision(carried, "/lake/a.parquet")
    assert caught.value.path == "/lake/a.parquet"
    assert caught.value.column == carried[-1]


# To Arrow


@pytest.mark.parametrize(
    ("array", "received"),
    [
        (np.zeros((3, 2), np.float32), "float32 (3, 2)"),
        (np.zeros((5, 2), np.float32), "float32 (5, 2)"),
        (np.zeros((1, 4, 2), np.float32), "float32 (1, 4, 2)"),
        (np.zeros((4,), np.float32), "float32 (4,)"),
        (np.zeros((4, 3), np.float32), "float32 (4, 3)"),
        (np.zeros((4, 2), np.float64), "float64 (4, 2)"),
        (np.zeros((4, 2), np.int32), "int32 (4, 2)"),
        (np.float32(1), "float32 ()"),
    ],
)
def test_a_batch_that_does_not_fit_its_rows_or_the_schema_is_refused(
    array: Array, received: str
) -> None:
    schema = schema_of({"y": TWO})
    with pytest.raises(ScoringError, match="'y'") as caught:
        schema.to_arrow([array], 4)
    assert caught.value.expected == "float32 (4, 2)"
    assert caught.value.received == received


@pytest.mark.parametrize("arrays", [[], [ONE, TWO]])
def test_another_number_of_outputs_is_refused(arrays: list[Array]) -> None:
    with pytest.raises(ScoringError, match="structure"):
        schema_of({"y": ONE}).to_arrow(arrays, 4)


def test_bytes_that_do_not_decode_in_a_column_of_text_are_refused() -> None:
    schema = schema_of({"y": texts(b"yes", b"no")})
    with pytest.raises(ScoringError, match="'y'"):
        schema.to_arrow([texts(b"yes", b"\xff")], 2)


GRID = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.mark.parametrize(
    "array",
    [GRID, np.asfortranarray(GRID), np.repeat(GRID, 2, axis=1)[:, ::2], GRID[::-1, ::-1]],
    ids=["by rows", "by columns", "strided", "reversed"],
)
def test_the_order_of_an_array_in_memory_does_not_matter(array: Array) -> None:
    (column,) = schema_of({"y": array}).to_arrow([array], 4)
    assert column.to_pylist() == array.tolist()


def test_the_columns_of_no_rows_have_the_types_of_the_others() -> None:
    arrays = {
        "scalar": ONE,
        "vector": TWO,
        "matrix": np.zeros((4, 2, 2), np.float16),
        "text": texts(b"a", b"b"),
        "words": texts([[b"a", b"b"]], [[b"c", b"d"]]),
        "short": np.zeros((4, 2), BFLOAT16),
    }
    schema = schema_of(arrays)
    empty = schema.empty()
    assert [column.type for column in empty] == [field.type for field in schema.fields]
    assert [len(column) for column in empty] == [0] * len(arrays)


# The law: arrays → Parquet → arrays is the identity

DTYPES = st.sampled_from(
    [*"bBhHiIlLefd", "?"]  # each integer, float and bool of numpy, by its character
).map(np.dtype)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="."), min_size=1, max_size=3)
WORDS = st.one_of(st.text(max_size=4).map(str.encode), st.binary(max_size=4))


@st.composite
def outputs(draw: st.DrawFn) -> dict[str, Array]:
    """What a model may return for one batch: a few arrays of as many rows."""
    rows = draw(st.integers(0, 5))
    inner = st.lists(st.integers(1, 3), max_size=3).map(tuple)
    drawn: dict[str, Array] = {}
    for i in range(draw(st.integers(1, 3))):
        if draw(st.integers(0, 3)):
            array = draw(hnp.arrays(draw(DTYPES), (rows, *draw(inner))))
        else:
            shape = (rows, *draw(inner))
            size = math.prod(shape)
            words = draw(st.lists(WORDS, min_size=size, max_size=size))
            array = np.array(words, object).reshape(shape)
        drawn[f"y{i}"] = array
    return drawn


def read_back(schema: PredictionSchema, columns: tuple[pa.Array, ...]) -> list[Array]:
    """The columns as arrays, after a journey through a Parquet file."""
    file = io.BytesIO()
    pq.write_table(pa.table(list(columns), schema=pa.schema(schema.fields)), file)
    table = pq.read_table(pa.BufferReader(file.getvalue()))
    assert table.schema.equals(pa.schema(schema.fields))
    arrays = []
    for output, column in zip(schema.outputs, table.columns, strict=True):
        values = column.combine_chunks()
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
        while pa.types.is_fixed_size_list(values.type):
            values = values.flatten()
        flat = values.to_numpy(zero_copy_only=False)
        arrays.append(flat.reshape(len(column), *output.shape))
    return arrays


@given(outputs())
def test_what_is_written_reads_back_bit_by_bit(arrays: dict[str, Array]) -> None:
    schema = schema_of(arrays)
    rows = len(next(iter(arrays.values())))
    columns = schema.to_arrow(list(arrays.values()), rows)
    assert [column.null_count for column in columns] == [0] * len(arrays)
    for array, back in zip(arrays.values(), read_back(schema, columns), strict=True):
        if array.dtype == object:
            encoded = [word.encode() if isinstance(word, str) else word for word in back.flat]
            assert encoded == list(array.flat)
            assert back.shape == array.shape
        else:
            assert back.dtype == array.dtype
            assert back.shape == array.shape
            assert back.tobytes() == array.tobytes()


@st.composite
def nests(draw: st.DrawFn) -> tuple[Any, list[Array]]:
    """Outputs nested in any way, and the arrays in them, in order."""
    leaves: list[Array] = []
    rows = draw(st.integers(1, 3))

    def nest(depth: int) -> Any:
        if depth == 0 or draw(st.booleans()):
            leaves.append(draw(hnp.arrays(draw(DTYPES), (rows, 2))))
            return leaves[-1]
        many = draw(st.integers(1, 3))
        if draw(st.booleans()):
            keys = draw(st.lists(NAMES, min_size=many, max_size=many, unique=True))
            return {key: nest(depth - 1) for key in keys}
        return draw(st.sampled_from([list, tuple]))(nest(depth - 1) for _ in range(many))

    return nest(3), leaves


@given(nests())
def test_flattening_loses_no_array_and_keeps_their_order(drawn: tuple[Any, list[Array]]) -> None:
    nested, leaves = drawn
    flat = flatten(nested, ())
    assert [array is leaf for array, leaf in zip(flat.values(), leaves, strict=True)] == [
        True
    ] * len(leaves)
    schema = schema_of(flat)
    columns = schema.to_arrow(list(flat.values()), len(leaves[0]))
    for leaf, back in zip(leaves, read_back(schema, columns), strict=True):
        assert back.tobytes() == leaf.tobytes()


# Through the writer, with nulls in between

EVERY_KIND = {
    "bool": np.array([True, False, True]),
    "bools": np.array([[True, False]] * 3),
    "bool_grid": np.ones((3, 2, 2), np.bool_),
    "half_grid": np.ones((3, 2, 2), np.float16),
    "short": np.array([1.5, -2, 0], BFLOAT16),
    "short_grid": np.ones((3, 2, 2), BFLOAT16),
    "text": texts("a", "é", ""),
    "words": texts([["a", "b"], ["c", "d"]], *[[["e", "f"], ["g", "h"]]] * 2),
    "bytes": texts([b"\xff", b""], *[[b"a", b"b"]] * 2),
    "big": np.array([2**64 - 1, 0, 1], np.uint64),
}


@pytest.mark.parametrize("saved", [False, True], ids=["at once", "saved on its way"])
def test_columns_of_every_kind_come_back_with_nulls_where_rows_were_bad(saved: bool) -> None:
    schema = schema_of(EVERY_KIND)
    good = np.array([True, False, True, False, True])
    columns = with_nulls(list(schema.to_arrow(list(EVERY_KIND.values()), 3)), good)
    output = MemoryStorage()
    with GroupedFile(output, "a.parquet", pa.schema(schema.fields)) as file:
        for _ in range(2):
            file.append(pa.RecordBatch.from_arrays(columns, schema=pa.schema(schema.fields)))
            if saved:
                file.save(lambda digest: f"{digest}.parquet", _no_note)
        file.finished(lambda _: {}).publish()
    data = output.read("a.parquet")
    table = pq.read_table(pa.BufferReader(data))
    assert table.schema.equals(pa.schema(schema.fields), check_metadata=False)
    assert table.schema.field("short").metadata[DTYPE_KEY] == b"bfloat16"
    frame = pd.read_parquet(io.BytesIO(data))
    assert list(frame) == list(EVERY_KIND)
    assert frame["bool"].tolist() == [True, None, False, None, True] * 2
    for output_, (name, array) in zip(schema.outputs, EVERY_KIND.items(), strict=True):
        column = table[name].combine_chunks()
        assert column.is_valid().to_pylist() == good.tolist() * 2
        (back,) = read_back(PredictionSchema((output_,)), (column.filter(column.is_valid()),))
        assert back.tolist() == [*array.tolist(), *array.tolist()]


def _no_note(_: Saved) -> dict[bytes, bytes]:
    return {}
