"""One suite for all scorers: whatever the model and the method, what predict() says is published.

Each kind of model is scored by each method that the probe lets through, streamed and grouped, with
a ragged tail and a batch of bad rows in it, and compared with model.predict() called by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.job import Job
from pipeline.progress import observer_for
from pipeline.run import score
from pipeline.stop import Stop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROWS = 1_003
rng = np.random.default_rng(7)
X = rng.standard_normal((ROWS, 6)).astype("float32")
BAD = [0, 1, 2, 3, 4, 5, 6, 7, 500]  # with batches of 8, the first has no good row at all


def dense(units: int = 3) -> Any:
    return keras.layers.Dense(units, activation="tanh")


@keras.saving.register_keras_serializable(package="scorers")
class Subclassed(keras.Model):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inner = dense()

    def call(self, x: Any) -> Any:
        return self.inner(x)


@keras.saving.register_keras_serializable(package="scorers")
class WholeDataStep(Subclassed):
    """Takes its argument for the features: predict_on_batch() would hand it a tuple."""

    def predict_step(self, data: Any) -> Any:
        y = self(data, training=False)
        return {"y": y, "best": keras.ops.argmax(y, axis=1)}


@keras.saving.register_keras_serializable(package="scorers")
class UnpackingStep(Subclassed):
    def predict_step(self, data: Any) -> Any:
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        y = self(x, training=False)
        return y, {"sum": keras.ops.sum(y, axis=1), "inner": {"max": keras.ops.max(y, axis=1)}}


@keras.saving.register_keras_serializable(package="scorers")
class TupleStep(Subclassed):
    """Wants a tuple of one: predict() hands it the bare features, so predict() itself fails."""

    def predict_step(self, data: Any) -> Any:
        (x,) = data
        return self(x, training=False)


def built(model: Any) -> Any:
    model(X[:4])
    return model


def functional() -> Any:
    x = keras.Input((6,), name="x")
    return keras.Model(x, dense()(x))


def sequential() -> Any:
    return keras.Sequential([keras.Input((6,)), dense(), dense(1)])


def two_outputs() -> Any:
    x = keras.Input((6,), name="x")
    one, two = keras.layers.Dense(1, name="one"), keras.layers.Dense(4, name="two")
    return keras.Model(x, [one(x), two(x)])


def dict_outputs() -> Any:
    x = keras.Input((6,), name="x")
    return keras.Model(x, {"image": keras.layers.Reshape((3, 2))(x), "last": dense(1)(x)})


def list_inputs() -> Any:
    a, b = keras.Input((4,), name="left"), keras.Input((2,), name="right")
    return keras.Model([a, b], dense()(keras.layers.Concatenate()([a, b])))


def dict_inputs() -> Any:
    # The dict's order is not its sorted order, which is what Keras flattens it to.
    z, a = keras.Input((4,), name="z"), keras.Input((2,), name="a")
    scaled = keras.layers.Rescaling(3.0)(a)
    return keras.Model({"z": z, "a": a}, dense()(keras.layers.Concatenate()([z, scaled])))


def half_precision() -> Any:
    x = keras.Input((6,), name="x")
    return keras.Model(x, keras.layers.Dense(3, dtype="mixed_float16")(x))


def normalised() -> Any:
    x = keras.Input((6,), name="x")
    return keras.Model(x, dense()(keras.layers.BatchNormalization()(x)))


MODELS: dict[str, Callable[[], Any]] = {
    "functional": functional,
    "sequential": sequential,
    "subclassed": lambda: built(Subclassed()),
    "step that takes x": lambda: built(WholeDataStep()),
    "step that unpacks": lambda: built(UnpackingStep()),
    "two outputs": two_outputs,
    "dict of outputs": dict_outputs,
    "list of inputs": list_inputs,
    "dict of inputs": dict_inputs,
    "half precision": half_precision,
    "batch normalisation": normalised,
}
ONE_INPUT = dict.fromkeys(MODELS, ("f*",))
MAPPED: dict[str, dict[str, tuple[str, ...]]] = {
    "list of inputs": {"left": ("f0", "f1", "f2", "f3"), "right": ("f4", "f5")},
    "dict of inputs": {"z": ("f0", "f1", "f2", "f3"), "a": ("f4", "f5")},
}


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scorers") / "rows.parquet"
    columns = {f"f{i}": pa.array(X[:, i]) for i in range(6)}
    holes = np.zeros(ROWS, bool)
    holes[BAD] = True
    columns["f3"] = pa.array(X[:, 3], mask=holes)
    pq.write_table(pa.table({"id": np.arange(ROWS), **columns}), path, row_group_size=100)
    return path


@dataclass(frozen=True)
class Made:
    """A saved model, and what its predict() says of the good rows."""

    path: Path
    says: dict[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """Makes each kind of model once, for all methods that it is scored by."""

    @cache
    def make(kind: str) -> Made:
        keras.utils.set_random_seed(3)
        model = MODELS[kind]()
        path = tmp_path_factory.mktemp("made") / "model.keras"
        model.save(path)
        return Made(path, expected(kind, model))

    return make


def expected(kind: str, model: Any) -> dict[str, np.ndarray[Any, Any]]:
    from pipeline.predictions import flatten

    good = np.delete(X, BAD, axis=0)
    fed: Any = good
    if kind == "list of inputs":
        fed = [good[:, :4], good[:, 4:]]
    if kind == "dict of inputs":
        fed = {"z": good[:, :4], "a": good[:, 4:]}
    return flatten(model.predict(fed, verbose=0), getattr(model, "output_names", ()))


def read(path: Path, name: str, like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    column = pq.read_table(path)[name].combine_chunks()
    if isinstance(column.type, pa.FixedShapeTensorType):
        return np.asarray(column.to_numpy_ndarray())
    return np.asarray(column.to_pylist(), like.dtype).reshape(like.shape)


@pytest.mark.parametrize("small", [0, ROWS], ids=["streamed", "grouped"])
@pytest.mark.parametrize("method", ["auto", "predict", "predict_step"])
@pytest.mark.parametrize("kind", MODELS)
def test_what_is_published_is_what_predict_says(
    kind: str, method: Any, small: int, made: Callable[[str], Made], shard: Path, tmp_path: Path
) -> None:
    model = made(kind)
    job = Job(
        model=str(model.path),
        input=(str(shard),),
        output=str(tmp_path / "out"),
        features=() if kind in MAPPED else ONE_INPUT[kind],
        inputs=MAPPED.get(kind, {}),
        batch_size=8,
        small_shard_rows=small,
        method=method,
        on_bad_row="quarantine",
    )
    report = score(job, observer_for("text", quiet=True), Stop())
    assert report.state == "finished", report.failed
    assert (report.counts.scored, report.counts.quarantined) == (ROWS - len(BAD), len(BAD))
    published = tmp_path / "out" / "rows.parquet"
    truth = model.says
    names = pq.read_schema(published).names
    assert [n for n in names if n != "id" and not n.startswith("f")] == list(truth)
    ids = pq.read_table(published)["id"].to_pylist()
    assert ids == [i for i in range(ROWS) if i not in BAD]
    tolerance = 1e-2 if kind == "half precision" else 1e-6
    for name, array in truth.items():
        np.testing.assert_allclose(
            read(published, name, array).astype("float64"),
            array.astype("float64"),
            rtol=0,
            atol=tolerance,
            err_msg=name,
        )


def test_bytes_do_not_depend_on_how_small_shards_are_grouped(tmp_path: Path) -> None:
    """Batches hold rows of one shard, so neighbours cannot change a prediction's last bit."""
    model = functional()
    model.save(tmp_path / "model.keras")
    lake = tmp_path / "lake"
    lake.mkdir()
    for i in range(9):
        rows = X[i * 100 : i * 100 + 17 + i]
        table = pa.table({f"f{j}": rows[:, j] for j in range(6)})
        pq.write_table(table, lake / f"{i}.parquet")
    jobs = {}
    for chosen in (("*.parquet",), tuple(f"{i}.parquet" for i in range(8, -1, -1))):
        output = tmp_path / f"out{len(chosen)}"
        for pattern in chosen:  # all at once, or one run a shard in the other order
            job = Job(
                model=str(tmp_path / "model.keras"),
                input=(str(lake / pattern),),
                output=str(output),
                features=("f*",),
                batch_size=32,
            )
            assert score(job, observer_for("text", quiet=True), Stop()).state == "finished"
        jobs[len(chosen)] = {p.name: p.read_bytes() for p in output.glob("*.parquet")}
    together, alone = jobs.values()
    assert len(together) == 9
    assert together == alone


def test_a_step_that_predict_itself_cannot_run_is_refused(shard: Path, tmp_path: Path) -> None:
    from pipeline.errors import ModelError

    built(TupleStep()).save(tmp_path / "model.keras")
    job = Job(
        model=str(tmp_path / "model.keras"),
        input=(str(shard),),
        output=str(tmp_path / "out"),
        features=("f*",),
        on_bad_row="quarantine",
    )
    with pytest.raises(ModelError):
        score(job, observer_for("text", quiet=True), Stop())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("small", [0, ROWS], ids=["streamed", "grouped"])
def test_no_code_of_ours_is_translated_by_autograph(
    small: int, shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take longer than all else that is made ready for a stream."""
    from tensorflow.python.autograph.impl import api

    translated: list[str] = []
    convert = api._convert_actual

    def noted(entity: Any, *arguments: Any) -> Any:
        translated.append(f"{entity.__module__}.{entity.__qualname__}")
        return convert(entity, *arguments)

    monkeypatch.setattr(api, "_convert_actual", noted)
    functional().save(tmp_path / "model.keras")
    job = Job(
        model=str(tmp_path / "model.keras"),
        input=(str(shard),),
        output=str(tmp_path / "out"),
        features=("f*",),
        small_shard_rows=small,
        on_bad_row="quarantine",
    )
    assert score(job, observer_for("text", quiet=True), Stop()).state == "finished"
    assert [name for name in translated if name.startswith("pipeline.")] == []
