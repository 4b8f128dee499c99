"""Files of Keras 2 load, where Keras 3 has other words for the same, and predict the same.

The files are those of Keras 3, with the configuration as Keras 2 wrote it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h5py
import keras
import numpy as np
import pytest

from pipeline.keras_2 import translation
from pipeline.model import digest_model, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

layers = keras.layers
rng = np.random.default_rng(2)

NEWER = {"module", "registered_name", "build_config"}
RECURRENT = {"LSTM", "GRU", "SimpleRNN"}
CONVOLUTIONS = {"DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose"}


def as_keras_2_wrote(config: Any) -> Any:
    if isinstance(config, list):
        return [as_keras_2_wrote(inner) for inner in config]
    if not isinstance(config, dict) or config.get("class_name") == "__keras_tensor__":
        return config
    if config.get("class_name") == "DTypePolicy":
        name = config["config"]["name"]
        return name if name == "float32" else {"class_name": "Policy", "config": {"name": name}}
    old = {k: as_keras_2_wrote(v) for k, v in config.items() if k not in NEWER}
    kind, own = old.get("class_name"), old.get("config")
    if not isinstance(own, dict):
        return old
    own.pop("quantization_config", None)
    if kind == "InputLayer":
        own.pop("optional", None)
        own |= {"batch_input_shape": own.pop("batch_shape"), "ragged": False}
    if kind in RECURRENT:
        own |= {"time_major": False, "implementation": 2}
        own.pop("seed", None)
    if kind in CONVOLUTIONS:
        own["groups"] = 1
    if kind == "BatchNormalization":
        own["axis"] = [3]
    return old


def half(policy: str) -> Any:
    return keras.Sequential(
        [
            keras.Input((3,), name="x"),
            layers.Dense(4, dtype=policy),
            layers.Dense(2, dtype="float32"),
        ]
    )


def stack(shape: tuple[int, ...], *inner: Any) -> Any:
    return keras.Sequential([keras.Input(shape, name="x"), *inner])


MODELS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "recurrent": (
        lambda: stack((5, 3), layers.LSTM(2, return_sequences=True), layers.GRU(2)),
        (5, 3),
    ),
    "both directions": (lambda: stack((5, 3), layers.Bidirectional(layers.LSTM(2))), (5, 3)),
    "each step": (lambda: stack((5, 3), layers.TimeDistributed(layers.Dense(2))), (5, 3)),
    "convolutions": (
        lambda: stack(
            (8, 8, 3),
            layers.DepthwiseConv2D(3),
            layers.BatchNormalization(),
            layers.SeparableConv2D(2, 3),
            layers.Conv2DTranspose(2, 3),
        ),
        (8, 8, 3),
    ),
    "mixed precision": (lambda: half("mixed_float16"), (3,)),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_file_of_keras_2_predicts_what_its_model_does(kind: str, tmp_path: Path) -> None:
    make, shape = MODELS[kind]
    model, path = make(), tmp_path / "old.h5"
    model.save(path)
    with h5py.File(path, "r+") as file:
        old = as_keras_2_wrote(json.loads(file.attrs["model_config"]))
        file.attrs["model_config"], file.attrs["keras_version"] = json.dumps(old), "2.9.0"
    with pytest.raises(Exception, match=r"(?s)."):  # Keras alone does not take it
        keras.saving.load_model(path, compile=False)
    digest = digest_model(str(path))
    loaded = load(str(path))
    assert digest_model(str(path)) == loaded.sha256 == digest
    rows = rng.standard_normal((7, *shape)).astype("float32")
    np.testing.assert_array_equal(
        loaded.keras.predict(rows, verbose=0), model.predict(rows, verbose=0)
    )


def layer(kind: str, **config: Any) -> Any:
    return {"class_name": kind, "config": config}


@pytest.mark.parametrize(
    "config",
    [
        layer("LSTM", units=2, time_major=True),
        layer("DepthwiseConv2D", groups=2),
        layer("Conv2D", groups=1),  # which Keras 3 knows
        layer("BatchNormalization", axis=[1, 3]),
        layer("Attend", axis=[3], time_major=False),
        layer("Bidirectional", layer=layer("Attend", units=2)),
    ],
)
def test_what_would_change_something_stays_as_it_is(config: Any) -> None:
    assert translation([config], lambda name: name != "Attend") == [config]


def test_a_layer_inside_of_another_is_told_where_it_is() -> None:
    inner = layer("GRU", units=2, time_major=False)
    got = translation(layer("Bidirectional", layer=inner), lambda _: True)
    assert got["config"]["layer"] == {
        "class_name": "GRU",
        "config": {"units": 2},
        "module": "keras.layers",
        "registered_name": None,
    }
    assert inner["config"] == {"units": 2, "time_major": False}  # what is given is left alone
