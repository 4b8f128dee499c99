"""The probe: what cannot be proved to give predict()'s values is refused, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ModelError
from pipeline.job import Job
from pipeline.model import load
from pipeline.predictions import schema_of
from pipeline.probe import probe, without_rows
from pipeline.program import Program
from pipeline.progress import observer_for
from pipeline.run import score
from pipeline.stop import Stop

if TYPE_CHECKING:
    from pathlib import Path

ROWS = np.random.default_rng(1).standard_normal((64, 4)).astype("float32")


@keras.saving.register_keras_serializable(package="probe")
class Noise(keras.layers.Layer):
    """Gives other values at each call."""

    def call(self, x: Any) -> Any:
        return x + keras.random.normal(keras.ops.shape(x))


@keras.saving.register_keras_serializable(package="probe")
class LessTheBatchMean(keras.layers.Layer):
    """Makes a row's value depend on its neighbours."""

    def call(self, x: Any) -> Any:
        return x - keras.ops.mean(x, axis=0, keepdims=True)


@keras.saving.register_keras_serializable(package="probe")
class OneForAll(keras.layers.Layer):
    """Returns one row however many it is given."""

    def call(self, x: Any) -> Any:
        return keras.ops.sum(x, axis=0, keepdims=True)


@keras.saving.register_keras_serializable(package="probe")
class Raising(keras.Model):
    def call(self, x: Any) -> Any:
        return x

    def predict_step(self, _data: Any) -> Any:
        raise RuntimeError("out of order")


def saved(tmp_path: Path, *layers: Any) -> Any:
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.save(tmp_path / "model.keras")
    return load(str(tmp_path / "model.keras"))


def test_a_plain_model_streams_by_predict_on_batch(tmp_path: Path) -> None:
    proof = probe(Program.plain(saved(tmp_path, keras.layers.Dense(2))), [ROWS], "auto")
    assert proof.method == "predict_on_batch"
    assert proof.schema.described() == {"prediction": "fixed_size_list<item: float>[2]"}


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (Noise(), "other values when it is called again"),
        (LessTheBatchMean(), "depends on the rows that share its batch"),
        (OneForAll(), "does not return one prediction a row"),
        (keras.layers.Reshape((2, 2)), None),
    ],
    ids=["random", "batch-dependent", "one row for all", "sound"],
)
def test_a_model_without_a_prediction_of_its_own_for_each_row_is_refused(
    layer: Any, said: str | None, tmp_path: Path
) -> None:
    model = saved(tmp_path, layer)
    if said is None:
        assert probe(Program.plain(model), [ROWS], "auto").method == "predict_on_batch"
        return
    with pytest.raises(ModelError, match=said):
        probe(Program.plain(model), [ROWS], "auto")


def test_a_layer_that_keeps_state_between_batches_is_refused(tmp_path: Path) -> None:
    model = keras.Sequential(
        [keras.Input(batch_shape=(8, 5, 2)), keras.layers.LSTM(3, stateful=True)]
    )
    model.save(tmp_path / "model.keras")
    with pytest.raises(ModelError, match="keeps state between batches"):
        load(str(tmp_path / "model.keras"))


def test_dropout_is_inactive_and_does_no_harm(tmp_path: Path) -> None:
    model = saved(tmp_path, keras.layers.Dropout(0.5), keras.layers.Dense(2))
    assert probe(Program.plain(model), [ROWS], "auto").method == "predict_on_batch"


def test_a_model_that_raises_is_refused_with_what_it_was_fed(tmp_path: Path) -> None:
    model = Raising()
    model(ROWS)
    model.save(tmp_path / "model.keras")
    with pytest.raises(ModelError) as raised:
        probe(Program.plain(load(str(tmp_path / "model.keras"))), [ROWS], "auto")
    assert "out of order" in str(raised.value)
    assert "float32 (n, 4)" in str(raised.value)


def test_rows_that_depend_on_each_other_are_found_behind_shards_of_one_row(tmp_path: Path) -> None:
    saved(tmp_path, LessTheBatchMean())
    (tmp_path / "in").mkdir()
    for name, rows in (("a", 1), ("b", 60), ("c", 1)):
        columns = {f"f{i}": ROWS[:rows, i] for i in range(4)}
        pq.write_table(pa.table(columns), tmp_path / "in" / f"{name}.parquet")
    job = Job(
        model=str(tmp_path / "model.keras"),
        input=(str(tmp_path / "in"),),
        output=str(tmp_path / "out"),
        features=("f*",),
    )
    with pytest.raises(ModelError, match="depends on the rows that share its batch"):
        score(job, observer_for("text", quiet=True), Stop())
    assert not (tmp_path / "out").exists()


def test_whether_strings_are_text_is_decided_once(tmp_path: Path) -> None:
    outputs = {"word": np.array([b"a", b"b"], object)}
    assert schema_of(outputs).described() == {"word": "string"}
    assert schema_of(outputs, {"word": "binary"}).described() == {"word": "binary"}
    odd = {"word": np.array([b"\xff", b"b"], object)}
    assert schema_of(odd).described() == {"word": "binary"}
    assert schema_of(odd, {"word": "string"}).described() == {"word": "string"}


def test_one_row_is_enough_to_prove_the_methods(tmp_path: Path) -> None:
    assert probe(Program.plain(saved(tmp_path, keras.layers.Dense(2))), [ROWS[:1]], "auto").method


def test_without_any_row_the_types_are_learnt_all_the_same(tmp_path: Path) -> None:
    x = keras.Input((4,))
    callable_on_none = keras.Model(x, keras.layers.Dense(1)(x))
    needs_a_row = keras.Model(x, keras.layers.Add()([x, x]))  # see test_keras_traps
    for model, kind in (
        (callable_on_none, "float"),
        (needs_a_row, "fixed_size_list<item: float>[4]"),
    ):
        model.save(tmp_path / "model.keras")
        proof = without_rows(Program.plain(load(str(tmp_path / "model.keras"))), "auto")
        assert proof.schema.described() == {"prediction": kind}
        assert proof.method == "predict_step"


@keras.saving.register_keras_serializable(package="probe")
class Embedded(keras.Model):
    """Looks ids up, in arithmetic of 16 bits."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table = keras.layers.Embedding(5000, 2)

    def call(self, ids: Any) -> Any:
        return keras.ops.sum(self.table(ids), axis=1)


def test_ids_are_not_fed_in_the_narrow_type_of_a_mixed_policy(tmp_path: Path) -> None:
    model = Embedded(dtype="mixed_float16")
    model(np.zeros((2, 1), "int32"))
    model.save(tmp_path / "model.keras")
    (spec,) = load(str(tmp_path / "model.keras")).signature.inputs
    assert model.input_dtype == "float16"
    assert spec.dtype == "float32"
