"""What Keras and pyarrow do that the design leans on. If one of these fails after an upgrade, read
the module named in its docstring again."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import ModelError
from pipeline.outputs import flatten

X = np.zeros((5, 2), "float32")


class Recorder(keras.Model):
    """Remembers what its step was handed."""

    def predict_step(self, data: Any) -> Any:
        self.handed = data
        return super().predict_step(data)


def recorder(listed: bool = False) -> Recorder:
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    return Recorder([a, b] if listed else a, keras.layers.Add()([a, b if listed else a]))


def test_predict_on_batch_hands_the_step_a_tuple_where_predict_hands_it_x() -> None:
    """pipeline.scorers: why the probe is there."""
    model = recorder()
    model.predict(X, verbose=0)
    assert not isinstance(model.handed, tuple)
    model = recorder()
    model.predict_on_batch(X)
    assert isinstance(model.handed, tuple)


def test_the_compiled_step_is_handed_what_it_is_given() -> None:
    """pipeline.scorers.call_step"""
    model = recorder()
    model.make_predict_function()
    model.predict_function([keras.ops.convert_to_tensor(X)])
    assert not isinstance(model.handed, tuple)


def test_predict_hands_the_step_a_list_of_inputs_as_a_tuple_in_a_tuple() -> None:
    """pipeline.signature.Signature.pack"""
    model = recorder(listed=True)
    model.predict([X, X], verbose=0)
    assert isinstance(model.handed, tuple)
    assert len(model.handed) == 1
    assert isinstance(model.handed[0], tuple)


def test_predict_on_no_batch_raises() -> None:
    """pipeline.scorers.Predict: why it looks for a good row first."""
    import tensorflow as tf

    nothing = tf.data.Dataset.from_tensors(X).take(0)
    with pytest.raises((UnboundLocalError, ValueError)):
        recorder().predict(nothing, verbose=0)


def test_not_every_model_can_score_no_rows() -> None:
    """pipeline.probe.without_rows: why it tries a row of zeros next."""
    dense = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    assert dense.predict_on_batch(X[:0]).shape == (0, 3)
    with pytest.raises(ValueError, match="Shape must be rank 1"):
        recorder().predict_on_batch(X[:0])


def test_an_unknown_dict_key_moves_the_inputs_in_silence() -> None:
    """pipeline.signature: why exactly the model's own keys are fed."""
    b, c = keras.Input((1,), name="b"), keras.Input((1,), name="c")
    model = keras.Model({"b": b, "c": c}, keras.layers.Subtract()([b, c]))
    one, two, nine = (np.full((1, 1), v, "float32") for v in (1, 2, 9))
    right = model.predict({"b": one, "c": two}, verbose=0)
    moved = model.predict({"a": nine, "b": one, "c": two}, verbose=0)
    assert right == -1
    assert moved != -1


@pytest.mark.parametrize(
    ("make", "received", "call"),
    [
        (lambda x: tf.RaggedTensor.from_tensor(x, padding=0.0), "RaggedTensor", "to_tensor()"),
        (tf.sparse.from_dense, "SparseTensor", "to_dense()"),
    ],
)
def test_predict_returns_ragged_and_sparse_tensors_as_they_are_and_they_are_refused(
    make: Any, received: str, call: str
) -> None:
    """pipeline.outputs"""

    class Model(keras.Model):
        def call(self, x: Any) -> Any:
            return make(x)

    rows = np.array([[1, 2, 0], [0, 0, 5]], np.float32)
    for outputs in (Model().predict(rows, verbose=0), Model().predict_on_batch(rows)):
        with pytest.raises(ModelError, match="no dense array") as caught:
            flatten(outputs, ())
        assert caught.value.received == received
        assert call in (caught.value.hint or "")
