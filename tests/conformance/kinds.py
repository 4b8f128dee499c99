"""Kinds of columns, models and outputs, each with what a direct call would be given or would say.

A column kind is an Arrow column (or several) beside the numpy array that a careful user would
build of it by hand. A model kind is a way to make and save a model whose output is a function of
its input. An output kind is what that model makes of a vector. `test_any_model_any_column.py`
crosses them.
"""

from __future__ import annotations

import datetime as dt
import decimal
import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pyarrow as pa
import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROWS = 37
rng = np.random.default_rng(20_26)
EPOCH = dt.date(1970, 1, 1)


# Columns


@dataclass(frozen=True)
class Column:
    """Columns, and the array that they mean.

    Attributes:
        table: Name → Arrow array.
        array: (ROWS, …), as it is handed to `model.predict()`.
        options: The job's table for the input.
        job: Other fields of the job.
    """

    table: dict[str, Any]
    array: np.ndarray[Any, Any]
    options: dict[str, Any] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> tuple[tuple[int, ...], str]:
        dtype = "string" if self.array.dtype == object else str(self.array.dtype)
        return self.array.shape[1:], dtype


FLOATS = rng.standard_normal((ROWS, 6)).astype("float32")
INTS = rng.integers(-(2**20), 2**20, ROWS)
WORDS = np.array([f"word{i % 5}é" for i in range(ROWS)], object)
DAYS = [EPOCH + dt.timedelta(days=int(d)) for d in rng.integers(0, 20_000, ROWS)]
TIMES = np.array([d.isoformat() for d in DAYS], "datetime64[us]") + INTS.astype("timedelta64[us]")
CENTS = rng.integers(-(10**6), 10**6, ROWS)


def days(values: list[dt.date]) -> np.ndarray[Any, Any]:
    return np.array([(v - EPOCH).days for v in values])


def sequences() -> tuple[list[list[int]], np.ndarray[Any, Any]]:
    """Token ids of one to nine, and the same made five long: padded behind, cut at the end."""
    lists = [list(map(int, rng.integers(1, 99, 1 + i % 9))) for i in range(ROWS)]
    fixed = np.array([(ids + [0] * 5)[:5] for ids in lists])
    return lists, fixed


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    """An image, (h, w, 3) uint8, as a PNG: the format's own words, and no library's."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    height, width, _ = pixels.shape
    lines = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


LISTS, FIXED = sequences()
IMAGES = rng.integers(0, 256, (ROWS, 5, 4, 3)).astype("uint8")


def one(column: Any, array: Any, dtype: str | None = None, **more: Any) -> Column:
    values = np.asarray(array)
    return Column({"x": column}, values.astype(dtype) if dtype else values, **more)


COLUMNS: dict[str, Column] = {
    "floats": one(pa.array(FLOATS[:, 0]), FLOATS[:, 0]),
    "doubles": one(
        pa.array(FLOATS[:, 0].astype("float64") / 3),
        FLOATS[:, 0].astype("float64") / 3,
        "float32",
        job={"allow_lossy": ("x",)},
    ),
    "half floats": one(pa.array(FLOATS[:, 0].astype("float16")), FLOATS[:, 0].astype("float16")),
    "int64 as float32": one(pa.array(INTS), INTS, "float32"),
    "int32": one(pa.array(INTS.astype("int32")), INTS, "int32"),
    "uint8": one(pa.array((INTS % 256).astype("uint8")), INTS % 256, "int32"),
    "booleans": one(pa.array(INTS > 0), INTS > 0),
    "booleans as floats": one(pa.array(INTS > 0), INTS > 0, "float32"),
    "strings": one(pa.array(WORDS), WORDS),
    "large strings": one(pa.array(WORDS, pa.large_string()), WORDS),
    "bytes": one(
        pa.array([b"\xff%d" % i for i in range(ROWS)]),
        np.array([b"\xff%d" % i for i in range(ROWS)], object),
    ),
    "dictionary of strings": one(pa.array(WORDS).dictionary_encode(), WORDS),
    "dictionary of ints": one(pa.array(INTS % 7).dictionary_encode(), INTS % 7, "int64"),
    "dates in days": one(pa.array(DAYS), days(DAYS), "int32", options={"unit": "days"}),
    "timestamps in microseconds": one(
        pa.array(TIMES), TIMES.astype("int64"), options={"unit": "us"}
    ),
    "timestamps with a zone": one(
        pa.array(TIMES).cast(pa.timestamp("us", "Europe/Paris")),
        TIMES.astype("int64"),
        options={"unit": "us"},
    ),
    "timestamps in whole seconds": one(
        pa.array(TIMES.astype("datetime64[s]")),
        TIMES.astype("datetime64[s]").astype("int64"),
        job={"time_unit": "s"},
    ),
    "durations": one(
        pa.array(INTS.astype("timedelta64[ms]")), INTS, "int64", options={"unit": "ms"}
    ),
    "decimals": one(
        pa.array([decimal.Decimal(int(c)).scaleb(-2) for c in CENTS], pa.decimal128(12, 2)),
        CENTS / 100,
        "float64",
        job={"allow_lossy": ("x",)},
    ),
    "whole decimals": one(
        pa.array([decimal.Decimal(int(c)) for c in CENTS], pa.decimal128(12, 0)), CENTS, "int64"
    ),
    "columns side by side": Column(
        {f"x{i}": pa.array(FLOATS[:, i]) for i in range(6)}, FLOATS, {"columns": ["x*"]}
    ),
    "lists of one width": one(pa.array(list(FLOATS)), FLOATS),
    "fixed-size lists": one(
        pa.FixedSizeListArray.from_arrays(pa.array(FLOATS.reshape(-1)), 6), FLOATS
    ),
    "nested lists": one(
        pa.array(FLOATS.reshape(ROWS, 3, 2).tolist(), pa.list_(pa.list_(pa.float32()))),
        FLOATS.reshape(ROWS, 3, 2),
    ),
    "fixed-shape tensors": one(
        pa.FixedShapeTensorArray.from_numpy_ndarray(FLOATS.reshape(ROWS, 1, 3, 2)),
        FLOATS.reshape(ROWS, 1, 3, 2),
    ),
    "lists of strings": one(
        pa.array([[w, "x"] for w in WORDS]), np.array([[w, "x"] for w in WORDS], object)
    ),
    "sequences": one(
        pa.array(LISTS), FIXED, "int64", options={"length": 5, "truncate": "end", "pad_value": 0}
    ),
    "a struct's field": Column(
        {
            "customer": pa.array(
                [{"age": float(f), "name": "n"} for f in FLOATS[:, 0]],
                pa.struct([("age", pa.float32()), ("name", pa.string())]),
            )
        },
        FLOATS[:, 0],
        {"columns": ["customer.age"]},
    ),
    "images": one(
        pa.array([png(image) for image in IMAGES]), IMAGES, "float32", options={"image": True}
    ),
    "images as bytes": one(
        pa.array([png(image) for image in IMAGES]), IMAGES, "uint8", options={"image": True}
    ),
}


# Outputs


@keras.saving.register_keras_serializable(package="kinds")
class Vector(keras.layers.Layer):
    """Whatever comes in, as three floats a row that tell rows and values apart."""

    def call(self, x: Any) -> Any:
        if x.dtype == tf.string:
            x = tf.strings.to_hash_bucket_fast(x, 1_000)
        x = tf.cast(x, tf.float32)
        x = tf.reshape(x, (tf.shape(x)[0], -1))
        mean = tf.reduce_mean(x, axis=1)
        return tf.stack([tf.tanh(mean / 1e3), tf.sin(x[:, 0]), x[:, -1] / 7], axis=1)

    def compute_output_shape(self, shape: Any) -> Any:
        return (shape[0], 3)

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor((x.shape[0], 3), "float32")


@keras.saving.register_keras_serializable(package="kinds")
class As(keras.layers.Layer):
    """A vector as an output of another kind."""

    def __init__(self, kind: str, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.kind = kind

    def call(self, v: Any) -> Any:
        return OUTPUTS[self.kind](v)

    def compute_output_spec(self, _v: Any) -> Any:
        made = self.call(tf.zeros((2, 3)))
        return tf.nest.map_structure(
            lambda t: keras.KerasTensor((None, *t.shape[1:]), t.dtype.name), made
        )

    def get_config(self) -> Any:
        return {**super().get_config(), "kind": self.kind}


def words(v: Any) -> Any:
    return tf.where(v > 0, tf.constant("höher"), tf.constant("niedriger"))


OUTPUTS: dict[str, Callable[[Any], Any]] = {
    "vector": lambda v: v,
    "scalar": lambda v: v[:, 0],
    "column of one": lambda v: v[:, :1],
    "matrix": lambda v: v[:, :, None] * v[:, None, :],
    "rank four": lambda v: tf.reshape(tf.concat([v, -v], 1), (-1, 1, 3, 2)),
    "float16": lambda v: tf.cast(v, tf.float16),
    "bfloat16": lambda v: tf.cast(v, tf.bfloat16),
    "float64": lambda v: tf.cast(v, tf.float64) / 3,
    "int8": lambda v: tf.cast(v * 10, tf.int8),
    "int64": lambda v: tf.cast(v * 1e6, tf.int64),
    "uint16": lambda v: tf.cast(tf.abs(v), tf.uint16),
    "booleans": lambda v: v > 0,
    "strings": lambda v: words(v)[:, 0],
    "lists of strings": lambda v: words(v),
    "matrices of strings": lambda v: words(v[:, :, None] * v[:, None, :]),
    "dict": lambda v: {"b": v, "a": tf.argmax(v, axis=1)},
    "nested dict": lambda v: {"z": {"one": v, "two": v[:, 0]}, "a": v[:, 1:]},
    "tuple": lambda v: (v, tf.cast(v[:, 0], tf.int32)),
    "list": lambda v: [v, words(v)[:, 0]],
    "dict of tuples": lambda v: {"pair": (v, v[:, 0]), "one": v},
    "nothing finite": lambda v: v / 0.0,
}


# Models


@keras.saving.register_keras_serializable(package="kinds")
class Subclassed(keras.Model):
    def __init__(self, kind: str = "vector", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vector, self.out, self.kind = Vector(), As(kind), kind

    def call(self, x: Any) -> Any:
        return self.out(self.vector(x))

    def get_config(self) -> Any:
        return {"kind": self.kind}


@keras.saving.register_keras_serializable(package="kinds")
class WholeStep(Subclassed):
    """Takes its argument for the features, as only `predict()` hands them."""

    def predict_step(self, data: Any) -> Any:
        return {"out": self(data, training=False), "norm": tf.norm(self.vector(data), axis=1)}


@keras.saving.register_keras_serializable(package="kinds")
class UnpackingStep(Subclassed):
    def predict_step(self, data: Any) -> Any:
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self(x, training=False), self.vector(x)


def functional(spec: tuple[tuple[int, ...], str], kind: str) -> Any:
    shape, dtype = spec
    x = keras.Input(shape, dtype=dtype, name="x")
    return keras.Model(x, As(kind)(Vector()(x)))


def sequential(spec: tuple[tuple[int, ...], str], kind: str) -> Any:
    shape, dtype = spec
    return keras.Sequential([keras.Input(shape, dtype=dtype, name="x"), Vector(), As(kind)])


def of_class(made: type[Subclassed]) -> Callable[..., Any]:
    def make(spec: tuple[tuple[int, ...], str], kind: str) -> Any:
        shape, dtype = spec
        model = made(kind)
        zeros = tf.fill((2, *shape), "") if dtype == "string" else tf.zeros((2, *shape), dtype)
        model(zeros)
        return model

    return make


def dict_input(spec: tuple[tuple[int, ...], str], kind: str) -> Any:
    shape, dtype = spec
    x, y = keras.Input(shape, dtype=dtype, name="x"), keras.Input((1,), name="y")
    both = Vector()(x) + keras.ops.sin(y)
    return keras.Model({"y": y, "x": x}, As(kind)(both))


def list_input(spec: tuple[tuple[int, ...], str], kind: str) -> Any:
    shape, dtype = spec
    x, y = keras.Input(shape, dtype=dtype, name="x"), keras.Input((1,), name="y")
    return keras.Model([x, y], As(kind)(Vector()(x) + keras.ops.sin(y)))


SECOND = rng.standard_normal(ROWS).astype("float32")


@dataclass(frozen=True)
class Model:
    """A way to make and to save a model.

    Attributes:
        make: (spec of the input, output kind) → model.
        save: (model, folder, spec) → path.
        second: Whether it has a second input `y`, and how both are handed to `predict()`.
        call: Says what the model says of an array, where that is not `predict()`.
        declares: Whether the saved model knows its input's type.
    """

    make: Callable[..., Any]
    save: Callable[..., str]
    second: str = ""
    call: Callable[[Any, Any], Any] | None = None
    declares: bool = True


def as_keras(model: Any, folder: Path, _spec: Any) -> str:
    model.save(folder / "model.keras")
    return str(folder / "model.keras")


def as_h5(model: Any, folder: Path, _spec: Any) -> str:
    model.save(folder / "model.h5")
    return str(folder / "model.h5")


def as_export(model: Any, folder: Path, _spec: Any) -> str:
    model.export(str(folder / "export"), verbose=False)
    return str(folder / "export")


class Plain(tf.Module):
    """A module that was never Keras': one function, saved with its signature."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner
        self.weight = tf.Variable(1.5)


def as_saved_model(model: Any, folder: Path, spec: Any) -> str:
    shape, dtype = spec
    module = Plain(None)

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, *shape), dtype, name="x"),
            tf.TensorSpec((None,), tf.float32, name="y"),
        ]
    )
    def serve(x: Any, y: Any) -> Any:
        v = Vector()(x) * module.weight + tf.sin(y)[:, None]
        return {"v": v, "least": tf.reduce_min(v, axis=1)}

    module.serve = serve
    tf.saved_model.save(module, str(folder / "saved"), signatures=serve)
    return str(folder / "saved")


def call_signature(path: str, arrays: Any) -> Any:
    loaded = tf.saved_model.load(path)
    return loaded.signatures["serving_default"](
        **{name: tf.constant(array) for name, array in arrays.items()}
    )


MODELS: dict[str, Model] = {
    "functional": Model(functional, as_keras),
    "sequential": Model(sequential, as_keras),
    "subclassed": Model(of_class(Subclassed), as_keras, declares=False),
    "step that takes x": Model(of_class(WholeStep), as_keras, declares=False),
    "step that unpacks": Model(of_class(UnpackingStep), as_keras, declares=False),
    "dict of inputs": Model(dict_input, as_keras, second="dict"),
    "list of inputs": Model(list_input, as_keras, second="list"),
    "legacy h5": Model(functional, as_h5),
    "keras export": Model(functional, as_export),
    "saved signature": Model(
        lambda *_: None, as_saved_model, second="signature", call=call_signature
    ),
}
