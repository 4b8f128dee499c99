"""Models and hooks that raise on certain rows, and shards that hold such rows.

A row is one of four floats. What is negative makes `Picky` raise.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from pipeline.job import Job
from pipeline.progress import Silent
from pipeline.run import score
from pipeline.stop import Stop

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.progress import Observer
    from pipeline.records import RunReport

COLUMNS = [f"f{i}" for i in range(4)]


@keras.saving.register_keras_serializable(package="raising")
class Picky(keras.layers.Layer):
    """Raises on a batch with a negative value."""

    def call(self, x: Any) -> Any:
        sound = tf.debugging.assert_non_negative(x, message="lengths are positive")
        with tf.control_dependencies([sound] if sound is not None else []):
            return tf.identity(x)


@keras.saving.register_keras_serializable(package="raising")
class InPython(keras.layers.Layer):
    """The same by Python code that the graph calls."""

    def call(self, x: Any) -> Any:
        y = tf.numpy_function(_refuse_negative, [x], tf.float32)
        y.set_shape(x.shape)
        return y


@keras.saving.register_keras_serializable(package="raising")
class Greedy(keras.layers.Layer):
    """Runs out of memory on more rows than it is told; counts the rows of each call."""

    calls: list[int] = []  # noqa: RUF012 - of all layers: loading makes another one

    def __init__(self, most: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.most = most

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "most": self.most}

    def call(self, x: Any) -> Any:
        def taken(values: Any) -> Any:
            Greedy.calls.append(len(values))
            if len(values) > self.most:
                raise MemoryError(f"no room for {len(values)} rows")
            return values

        y = tf.numpy_function(taken, [x], tf.float32)
        y.set_shape(x.shape)
        return y


@keras.saving.register_keras_serializable(package="raising")
class Crowded(keras.layers.Layer):
    """Raises where a batch holds two rows that begin with 77: no row's fault."""

    def call(self, x: Any) -> Any:
        found = tf.reduce_sum(tf.cast(tf.equal(x[:, 0], 77.0), tf.int32))
        sound = tf.debugging.assert_less(found, 2, message="one seventy-seven is enough")
        with tf.control_dependencies([sound] if sound is not None else []):
            return tf.identity(x)


@keras.saving.register_keras_serializable(package="raising")
class Root(keras.layers.Layer):
    """NaN for negative values, infinite for zero."""

    def call(self, x: Any) -> Any:
        return tf.math.rsqrt(x)


def _refuse_negative(values: Any) -> Any:
    if (values < 0).any():
        raise ValueError(f"{values.min():g} is no length\nsecond line")
    return values


def saved(folder: Path, *layers: Any) -> Path:
    """A model of these layers and a dense one behind them."""
    path = folder / "model.keras"
    keras.utils.set_random_seed(5)
    dense = keras.layers.Dense(3, activation="tanh")
    keras.Sequential([keras.Input((4,)), *layers, dense]).save(path)
    return path


def features(rows: int, bad: Iterable[int] = ()) -> np.ndarray[Any, Any]:
    """Rows, of which some hold a negative value; (rows, 4)."""
    values = np.random.default_rng(11).random((rows, 4), "float32")
    for row in bad:
        values[row, row % 4] = -float(row + 1)
    return values


def write(path: Path, values: np.ndarray[Any, Any], **more: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: pa.array(values[:, i]) for i, name in enumerate(COLUMNS)}
    table = {"id": np.arange(len(values)), **columns, **more}
    pq.write_table(pa.table(table), path, row_group_size=1_000)


def run(
    model: Path,
    folder: Path,
    observer: Observer | None = None,
    stop: Stop | None = None,
    **more: Any,
) -> RunReport:
    chosen: dict[str, Any] = {
        "input": (str(folder / "in"),),
        "output": str(folder / "out"),
        "features": ("f*",),
        "on_bad_row": "quarantine",
        **more,
    }
    return score(Job(model=str(model), **chosen), observer or Silent(), stop or Stop())


def published(folder: Path, name: str = "a.parquet") -> pa.Table:
    return pq.read_table(folder / "out" / name)


def letters(folder: Path, name: str = "a.parquet") -> pa.Table:
    return pq.read_table(folder / "out" / "_shardscore" / "quarantine" / name)


def predictions(table: pa.Table) -> np.ndarray[Any, Any]:
    return np.array(table["prediction"].to_pylist(), "float32")
