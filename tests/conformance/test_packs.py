"""Small shards that share a call: each is predicted as by a `predict()` on it alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from pipeline import packs, scorers
from pipeline.job import Job
from pipeline.model import LoadedModel
from pipeline.program import Program
from pipeline.progress import observer_for
from pipeline.run import score
from pipeline.signature import signature_of
from pipeline.stop import Stop

if TYPE_CHECKING:
    from pathlib import Path

WIDTH = 6
SIZES = (1, 2, 7, 16, 33, 50, 3, 33)
rng = np.random.default_rng(11)
SHARDS = [rng.standard_normal((rows, WIDTH)).astype("float32") for rows in SIZES]


def dense() -> Any:
    x = keras.Input((WIDTH,), name="x")
    hidden = keras.layers.Dense(64, "relu")(x)
    return keras.Model(x, keras.layers.Dense(10, "softmax", name="y")(hidden))


@keras.saving.register_keras_serializable(package="packs")
class OverBatch(keras.Model):
    """What it says of a row depends on the other rows of its batch."""

    def call(self, x: Any) -> Any:
        return x - keras.ops.mean(x, axis=0, keepdims=True)


@keras.saving.register_keras_serializable(package="packs")
class OwnLoop(OverBatch):
    """Has a `predict()` of its own, which sees what it is given."""

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        return super().predict(*args, **kwargs) + 1.0


@keras.saving.register_keras_serializable(package="packs")
class AnotherCount(keras.Model):
    """Takes a row from each batch but those of one row, to which it adds seven."""

    def call(self, x: Any) -> Any:
        alone = keras.ops.shape(x)[0] == 1
        extra = sum(size > 1 for size in SIZES) // sum(size == 1 for size in SIZES)
        return keras.ops.cond(alone, lambda: keras.ops.repeat(x, 1 + extra, axis=0), lambda: x[1:])


def called(model: Any) -> Any:
    model(SHARDS[-1])
    return model


def program_of(model: Any) -> Program:
    return Program.plain(LoadedModel(model, signature_of(model, "model"), "", "model"))


def packed(model: Any) -> Any:
    """The shards' predictions, end to end, by one call that is given a pack."""
    program = program_of(model)
    loop = packs.loop_of(program)
    assert loop is not None
    (found,) = packs.call_packed(program, loop, [[rows] for rows in SHARDS]).values()
    return found


def run(folder: Path, model: Any, batch_size: int = 64, **more: Any) -> Any:
    model.save(folder / "model.keras")
    (folder / "lake").mkdir()
    for i, rows in enumerate(SHARDS):
        table = pa.table({f"f{j}": rows[:, j] for j in range(WIDTH)})
        pq.write_table(table, folder / "lake" / f"{i}.parquet")
    job = Job(
        model=str(folder / "model.keras"),
        input=(str(folder / "lake"),),
        output=str(folder / "out"),
        features=("f*",),
        batch_size=batch_size,
        **more,
    )
    return score(job, observer_for("text", quiet=True), Stop())


def predictions(path: Path) -> np.ndarray[Any, Any]:
    table = pq.read_table(path)
    columns = [name for name in table.column_names if not name.startswith("f")]
    (column,) = columns
    return np.asarray(table[column].to_pylist(), "float32")


def packed_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batches of each call that is given a pack."""
    calls: list[int] = []
    real = scorers.call_packed

    def counted(program: Any, loop: Any, batches: Any) -> Any:
        calls.append(len(batches))
        return real(program, loop, batches)

    monkeypatch.setattr(scorers, "call_packed", counted)
    return calls


def test_each_shard_of_a_pack_is_predicted_as_predict_does_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = packed_calls(monkeypatch)
    model = dense()
    report = run(tmp_path, model)
    assert report.state == "finished", report.error or report.failed
    assert calls == [len(SIZES)]
    for i, rows in enumerate(SHARDS):
        alone = model.predict(rows, batch_size=64, verbose=0)
        published = predictions(tmp_path / "out" / f"{i}.parquet")
        np.testing.assert_array_equal(published, alone, err_msg=f"{i}.parquet")


def test_rows_of_a_pack_see_their_own_batch_alone() -> None:
    model = called(OverBatch())
    alone = [model.predict(rows, batch_size=64, verbose=0) for rows in SHARDS]
    np.testing.assert_array_equal(packed(model), np.concatenate(alone))


def test_a_shard_of_several_batches_is_cut_where_it_would_be_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = packed_calls(monkeypatch)
    model = dense()
    report = run(tmp_path, model, batch_size=16, small_shard_rows=64)
    assert report.state == "finished", report.error or report.failed
    assert sum(calls) == sum(-(-size // 16) for size in SIZES)
    for i, rows in enumerate(SHARDS):
        alone = model.predict(rows, batch_size=16, verbose=0)
        published = predictions(tmp_path / "out" / f"{i}.parquet")
        np.testing.assert_array_equal(published, alone)


def test_a_model_with_a_predict_of_its_own_is_given_no_pack() -> None:
    assert packs.loop_of(program_of(called(OwnLoop()))) is None


def test_the_model_is_what_it_was_after_a_call_that_raised() -> None:
    model = dense()
    program = program_of(model)
    assert packs.loop_of(program) is not None
    own = model.predict_function

    def raises(*_: Any) -> Any:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        packs.call_packed(program, raises, [[SHARDS[2]]])
    assert model.predict_function is own


def test_rows_that_would_become_another_shards_are_not_believed() -> None:
    """All in all the model gives as many rows as it takes."""
    model = called(AnotherCount())
    assert sum(len(model(rows)) for rows in SHARDS) == sum(SIZES)
    with pytest.raises(tf.errors.InvalidArgumentError):
        packed(model)
