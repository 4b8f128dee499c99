"""Each kind of model loads, and says through its prediction methods what a direct call says."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from pipeline.errors import ModelError, UnknownInputsError
from pipeline.input_options import InputOptions
from pipeline.model import digest_model, load
from pipeline.predictions import flatten
from pipeline.program import Program
from pipeline.scorers import call_predict, call_step
from pipeline.signature import InputSpec
from pipeline.storage import storage_at

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

layers = keras.layers
rng = np.random.default_rng(4)
ROWS = 7


@dataclass(frozen=True)
class Case:
    """A way to make a model.

    Attributes:
        save: Saves it in a folder; returns its path, and a function that calls it directly.
        arrays: Input → array, in the order of the signature.
        specs: Input → one row's shape and type.
    """

    save: Callable[[Path], tuple[Path, Callable[..., Any]]]
    arrays: dict[str, Any]
    specs: dict[str, tuple[tuple[int | None, ...], str]]


def exported(model: Any, folder: Path) -> tuple[Path, Callable[..., Any]]:
    """What Keras exports, and the model itself as the direct call."""
    path = folder / "exported"
    model.export(str(path), verbose=False)
    return path, lambda **given: model(
        given if isinstance(model.input, dict) else next(iter(given.values())), training=False
    )


def saved(module: Any, function: Any, folder: Path) -> tuple[Path, Callable[..., Any]]:
    path = folder / "saved"
    tf.saved_model.save(module, str(path), signatures=function)
    return path, lambda **given: (module, function(**given))[1]  # the module's variables live on


def dense(folder: Path) -> Any:
    x = keras.Input((3,), name="x")
    return exported(keras.Model(x, layers.Dense(2)(x)), folder)


def convolution(folder: Path) -> Any:
    image = keras.Input((8, 8, 3), name="image")
    x = layers.BatchNormalization()(layers.Rescaling(1 / 255)(image))
    x = layers.Dropout(0.5)(layers.Conv2D(2, 3, activation="relu")(x))
    x = layers.Flatten()(layers.MaxPool2D()(layers.Resizing(7, 7)(x)))
    return exported(keras.Model(image, layers.Dense(2)(x)), folder)


def recurrent(folder: Path) -> Any:
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = layers.Embedding(10, 4, mask_zero=True)(ids)
    x = layers.Bidirectional(layers.LSTM(3))(x)
    return exported(keras.Model(ids, layers.Dense(1)(x)), folder)


def attention(folder: Path) -> Any:
    steps = keras.Input((4, 3), name="steps")
    x = layers.MultiHeadAttention(2, 2)(steps, steps)
    x = layers.GRU(2)(layers.LayerNormalization()(x))
    return exported(keras.Model(steps, x), folder)


def texts(folder: Path) -> Any:
    text = keras.Input((1,), dtype="string", name="text")
    word = keras.Input((1,), dtype="string", name="word")
    code = keras.Input((1,), dtype="int64", name="code")
    ids = layers.TextVectorization(vocabulary=["a", "b"], output_sequence_length=4)(text)
    parts = [
        layers.Flatten()(layers.Embedding(8, 2)(ids)),
        layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")(word),
        layers.IntegerLookup(vocabulary=[3, 4], output_mode="one_hot")(code),
        layers.Hashing(5, output_mode="one_hot")(word),
    ]
    both = layers.Concatenate()([keras.ops.cast(part, "float32") for part in parts])
    inputs = {"text": text, "word": word, "code": code}
    return exported(keras.Model(inputs, {"z": both, "a": layers.Dense(1)(both)}), folder)


class Tables(tf.Module):
    """Tables from an asset and in memory, control flow, assertions, ragged tensors, a print."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        words = folder / "words.txt"
        words.write_text("a\nb\n")
        lines = tf.lookup.TextFileInitializer(
            str(words),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        self.fixed = tf.lookup.StaticHashTable(lines, -1)
        self.changing = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
        self.changing.insert(tf.constant(["c"]), tf.constant([7], tf.int64))
        self.weight = tf.Variable([[1.0], [2.0]])

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, 2), name="x"),
            tf.TensorSpec((None,), tf.string, name="word"),
        ]
    )
    def serve(self, x: Any, word: Any) -> Any:
        tf.debugging.assert_greater(x, -1e9)
        tf.print("scored", tf.shape(x)[0])
        y = tf.matmul(x, self.weight)
        for _ in tf.range(3):
            y = tf.where(tf.reduce_sum(y) > 1e9, y / 2, y)
        return {
            "y": y,
            "letters": tf.strings.bytes_split(word).row_lengths(),
            "fixed": self.fixed.lookup(word),
            "changing": self.changing.lookup(word),
            "upper": tf.strings.upper(word),
        }


def plain(folder: Path) -> Any:
    module = Tables(folder)
    return saved(module, module.serve, folder)


def first_version(folder: Path) -> Any:
    """As TensorFlow 1 saved: a graph with a saver, an optimizer and a table's initializer."""
    v1 = tf.compat.v1
    path = folder / "first"
    weights = np.array([[1.5], [-2.0]], "float32")
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, (None, 2), name="x")
        weight = v1.get_variable("w", initializer=weights, use_resource=False)
        y = tf.matmul(x, weight)
        v1.train.AdamOptimizer().minimize(tf.reduce_sum(y))
        session.run(v1.global_variables_initializer())
        session.run(weight.assign(weights))
        v1.train.Saver()  # one more than the builder makes: old models have several
        v1.saved_model.simple_save(session, str(path), {"x": x}, {"y": y})
    return path, lambda x: tf.matmul(x, weights)


def floats(*shape: int) -> Any:
    return rng.standard_normal((ROWS, *shape)).astype("float32")


WORDS = np.array(["a", "b", "c", "", "ab", "é", "a"], object)

CASES = {
    "dense": Case(dense, {"x": floats(3)}, {"x": ((3,), "float32")}),
    "convolution": Case(convolution, {"image": floats(8, 8, 3)}, {"image": ((8, 8, 3), "float32")}),
    "recurrent": Case(
        recurrent,
        {"ids": rng.integers(0, 10, (ROWS, 5)).astype("int32")},
        {"ids": ((None,), "int32")},
    ),
    "attention": Case(attention, {"steps": floats(4, 3)}, {"steps": ((4, 3), "float32")}),
    "texts": Case(
        texts,
        {
            "code": rng.integers(0, 6, (ROWS, 1)),
            "text": np.array([[f"{w} b"] for w in WORDS], object),
            "word": WORDS[:, None],
        },
        {"code": ((1,), "int64"), "text": ((1,), "string"), "word": ((1,), "string")},
    ),
    "plain": Case(
        plain,
        {"word": WORDS, "x": floats(2)},
        {"word": ((), "string"), "x": ((2,), "float32")},
    ),
    "first version": Case(first_version, {"x": floats(2)}, {"x": ((2,), "float32")}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_saved_model_says_by_each_method_what_a_direct_call_says(
    name: str, tmp_path: Path
) -> None:
    case = CASES[name]
    path, call = case.save(tmp_path)
    direct = call(**{key: tf.constant(array) for key, array in case.arrays.items()})
    model = load(str(path))

    assert model.signature.inputs == tuple(InputSpec(key, *case.specs[key]) for key in case.specs)
    program = Program.plain(model)
    element = program.element(list(case.arrays.values()))
    wanted = _named(direct)
    for outputs in (
        call_predict(program, tf.data.Dataset.from_tensors(element)),
        call_step(program, "predict_on_batch", element),
        call_step(program, "predict_step", element),
    ):
        assert list(outputs) == sorted(wanted)
        for key, array in outputs.items():
            if array.dtype.kind == "f":
                np.testing.assert_allclose(array, wanted[key], rtol=1e-5, atol=1e-6)
            else:
                np.testing.assert_array_equal(array, wanted[key])


def _named(direct: Any) -> dict[str, Any]:
    flat = tf.nest.map_structure(lambda tensor: tensor.numpy(), direct)
    if isinstance(flat, dict) and len(flat) == 1:
        (flat,) = flat.values()
    return flatten(flat, ())


def test_a_folder_has_one_digest_wherever_it_is_and_loads_from_there(tmp_path: Path) -> None:
    path, call = plain(tmp_path)
    digest = digest_model(str(path))
    away = "memory://models-conformance/plain"
    for file in path.rglob("*"):
        if file.is_file():
            storage_at(away).create(file.relative_to(path).as_posix(), file.read_bytes())
    assert digest_model(away, digest) == digest
    model = load(f"{away}/", expected=digest)
    arrays = {key: tf.constant(array) for key, array in CASES["plain"].arrays.items()}
    outputs = model.keras.predict_on_batch(arrays)
    # Its words are an asset, and the private copy is gone by now.
    np.testing.assert_array_equal(outputs["fixed"], call(**arrays)["fixed"])


def test_a_model_whose_objects_tensorflow_cannot_rebuild_loads_by_its_graph(tmp_path: Path) -> None:
    path, call = texts(tmp_path)
    _add_slot_of_an_optimizer(path)
    # Keras 2 wrote such; this is what they end with today.
    with pytest.raises(AttributeError, match="add_slot"):
        tf.saved_model.load(str(path))
    arrays = {key: tf.constant(array) for key, array in CASES["texts"].arrays.items()}
    outputs = load(str(path)).keras.predict_on_batch(arrays)
    for key, array in call(**arrays).items():
        np.testing.assert_allclose(outputs[key], array, rtol=1e-5, atol=1e-6)


def _add_slot_of_an_optimizer(path: Path) -> None:
    stored = saved_model_pb2.SavedModel()
    stored.ParseFromString((path / "saved_model.pb").read_bytes())
    nodes = stored.meta_graphs[0].object_graph_def.nodes
    variables = [i for i, node in enumerate(nodes) if node.WhichOneof("kind") == "variable"]
    optimizer = next(i for i, node in enumerate(nodes) if node.WhichOneof("kind") == "user_object")
    slot = nodes[optimizer].slot_variables.add()
    slot.original_variable_node_id, slot.slot_variable_node_id = variables[:2]
    slot.slot_name = "m"
    (path / "saved_model.pb").write_bytes(stored.SerializeToString())


def test_a_signature_is_chosen_by_its_name(tmp_path: Path) -> None:
    module = tf.Module()
    spec = tf.TensorSpec((None, 2), name="x")
    twice = tf.function(lambda x: {"twice": x * 2}, input_signature=[spec])
    half = tf.function(lambda x: {"half": x / 2}, input_signature=[spec])
    path = str(tmp_path / "two")
    tf.saved_model.save(module, path, signatures={"twice": twice, "half": half})
    x = floats(2)
    np.testing.assert_array_equal(load(path, signature="half").keras.predict_on_batch(x), x / 2)
    np.testing.assert_array_equal(load(path, signature="twice").keras.predict_on_batch(x), x * 2)


def test_the_only_signature_needs_no_name(tmp_path: Path) -> None:
    module = tf.Module()
    spec = tf.TensorSpec((None,), tf.int64, name="n")
    square = tf.function(lambda n: {"square": n * n}, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "one"), signatures={"odd name": square})
    model = load(str(tmp_path / "one"))
    assert model.signature.inputs == (InputSpec("n", (), "int64"),)
    # More than float32 holds: nothing is cast on the way.
    big = tf.constant([2**40 + 1], tf.int64)
    assert model.keras.predict_on_batch(big // 2**20).tolist() == [2**40]


def test_a_model_that_is_changed_while_it_is_loaded_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = dense(tmp_path)
    loader = tf.saved_model.load

    def change(*args: Any, **kwargs: Any) -> Any:
        (path / "assets").mkdir(exist_ok=True)
        (path / "assets" / "late.txt").write_text("late")
        return loader(*args, **kwargs)

    monkeypatch.setattr(tf.saved_model, "load", change)
    with pytest.raises(ModelError, match="changed while it was loaded"):
        load(str(path))


def test_an_export_that_runs_as_in_training_is_refused(tmp_path: Path) -> None:
    """Keras 3.15 exports a model with `Resizing` so that what follows it is as in training."""
    image = keras.Input((8, 8, 3), name="image")
    model = keras.Model(image, layers.BatchNormalization()(layers.Resizing(6, 6)(image)))
    path, call = exported(model, tmp_path)
    x = tf.constant(floats(8, 8, 3) + 5)
    (says,) = tf.saved_model.load(str(path)).signatures["serving_default"](x).values()
    assert np.max(np.abs(says - call(image=x))) > 1
    with pytest.raises(ModelError, match="keeps state between batches"):
        load(str(path))


# Keras' own files


@keras.saving.register_keras_serializable(package="models")
class Total(keras.Model):
    """Adds all it is given: (rows, …) each."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = layers.Dense(1, kernel_initializer="ones")

    def call(self, inputs: Any) -> Any:
        parts = [tf.cast(part, tf.float32) for part in tf.nest.flatten(inputs)]
        return self.scale(tf.concat([tf.reshape(p, (tf.shape(p)[0], -1)) for p in parts], 1))


NESTS = {
    "tensor": (floats(2), ["features"]),
    "dict": ({"b": floats(2), "a": floats(3)}, ["b", "a"]),
    "list": ([floats(2), floats(1)], ["features_0", "features_1"]),
    "dict of dicts": ({"b": {"x": floats(2), "y": floats(1)}, "a": floats()}, ["b.x", "b.y", "a"]),
    "dict with a list": ({"b": [floats(2), floats(1)]}, ["b.0", "b.1"]),
    "list of lists": (
        [[floats(2), floats(1)], floats(1)],
        ["features_0.0", "features_0.1", "features_1"],
    ),
}


@pytest.mark.parametrize("kind", NESTS)
def test_a_subclassed_model_is_fed_as_it_was_built(kind: str, tmp_path: Path) -> None:
    nest, names = NESTS[kind]
    made = Total()
    made(tf.nest.map_structure(tf.constant, nest))
    made.save(tmp_path / "total.keras")
    model = load(str(tmp_path / "total.keras"))
    inputs = model.signature.inputs
    assert sorted(spec.name for spec in inputs) == sorted(names)
    assert not any(spec.declared for spec in inputs)
    _fed_as(model, dict(zip(names, tf.nest.flatten(_in_order(nest)), strict=True)), nest, made)


@pytest.mark.parametrize("kind", [kind for kind in NESTS if kind != "tensor"])
def test_a_functional_model_is_fed_by_the_nest_of_its_inputs(kind: str, tmp_path: Path) -> None:
    nest, _ = NESTS[kind]
    leaves = tf.nest.map_structure(lambda array: keras.Input(array.shape[1:] or (1,)), nest)
    flat = [layers.Flatten()(leaf) for leaf in tf.nest.flatten(leaves)]
    made = keras.Model(leaves, layers.Dense(1)(layers.Concatenate()(flat)))
    made.save(tmp_path / "nest.keras")
    model = load(str(tmp_path / "nest.keras"))
    arrays = [array.reshape(ROWS, -1) for array in tf.nest.flatten(_in_order(nest))]
    names = [spec.name for spec in model.signature.inputs]
    shaped = tf.nest.map_structure(lambda array: array.reshape(ROWS, -1), nest)
    _fed_as(model, dict(zip(names, arrays, strict=True)), shaped, made)


def _in_order(nest: Any) -> list[Any]:
    """The leaves in the order in which they are written, not sorted by key."""
    if isinstance(nest, dict):
        return [leaf for inner in nest.values() for leaf in _in_order(inner)]
    if isinstance(nest, list):
        return [leaf for inner in nest for leaf in _in_order(inner)]
    return [nest]


def _fed_as(model: Any, arrays: dict[str, Any], nest: Any, made: Any) -> None:
    program = Program.plain(model)
    tensors = [tf.constant(arrays[spec.name]) for spec in model.signature.inputs]
    element = program.element(tensors)
    wanted = made(tf.nest.map_structure(tf.constant, nest)).numpy()
    for outputs in (
        call_predict(program, tf.data.Dataset.from_tensors(element)),
        call_step(program, "predict_on_batch", element),
        call_step(program, "predict_step", element),
    ):
        np.testing.assert_allclose(outputs["prediction"], wanted, rtol=1e-5, atol=1e-6)


@keras.saving.register_keras_serializable(package="models")
class Silent(Total):
    """Builds its layers itself, so Keras never sees a shape."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale.build((None, 3))
        self.built = True


def test_what_a_model_does_not_say_the_job_can(tmp_path: Path) -> None:
    made = Silent()
    path = str(tmp_path / "silent.keras")
    made.save(path)
    model = load(path, said={"x": InputOptions(dtype="int64", shape=(3,))})
    assert model.signature.inputs == (InputSpec("x", (3,), "int64", declared=False),)
    _fed_as(model, {"x": np.arange(21).reshape(7, 3)}, np.arange(21).reshape(7, 3), made)
    for said in (None, {}, {"x": InputOptions(dtype="int64")}, {"x": InputOptions(shape=(3,))}):
        with pytest.raises(UnknownInputsError):
            load(path, said=said)


@keras.saving.register_keras_serializable("tests")
class Repeated(layers.Layer):  # type: ignore[misc]
    """A layer that calls a number `layers`, as Keras calls what a layer holds."""

    def __init__(self, count: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layers = count

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "count": self.layers}

    def call(self, x: Any) -> Any:
        return x * self.layers


def test_a_layer_may_call_whatever_it_likes_layers(tmp_path: Path) -> None:
    made = keras.Sequential([keras.Input((2,)), Repeated(), layers.Dense(100_000)])
    path = str(tmp_path / "model.keras")
    made.save(path)
    assert load(path).signature.widest == 400_000


def test_a_file_of_keras_2_loads(tmp_path: Path) -> None:
    """Its configuration is what Keras 2.15 wrote: no modules, dtypes as names, inbound nodes as
    lists of lists."""

    def layer(kind: str, name: str, inbound: list[str], **config: Any) -> Any:
        nodes = [[[source, 0, 0, {}] for source in inbound]] if inbound else []
        config = {"name": name, "trainable": True, "dtype": "float32", **config}
        return {"class_name": kind, "config": config, "name": name, "inbound_nodes": nodes}

    shape = {"batch_input_shape": [None, 2], "sparse": False, "ragged": False}
    config = {
        "class_name": "Functional",
        "config": {
            "name": "model",
            "trainable": True,
            "layers": [
                layer("InputLayer", "a", [], **shape),
                layer("InputLayer", "b", [], **shape),
                layer("Concatenate", "both", ["a", "b"], axis=-1),
                layer("Dense", "out", ["both"], units=1, activation="linear", use_bias=True),
            ],
            "input_layers": [["a", 0, 0], ["b", 0, 0]],
            "output_layers": [["out", 0, 0]],
        },
    }
    kernel, bias = np.arange(4, dtype="float32")[:, None], np.array([0.5], "float32")
    path = tmp_path / "old.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"], file.attrs["backend"] = "2.15.0", "tensorflow"
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = [b"a", b"b", b"both", b"out"]
        weights.attrs["keras_version"], weights.attrs["backend"] = b"2.15.0", b"tensorflow"
        for name in ("a", "b", "both", "out"):
            weights.create_group(name).attrs["weight_names"] = (
                [b"out/kernel:0", b"out/bias:0"] if name == "out" else []
            )
        weights["out"]["out/kernel:0"], weights["out"]["out/bias:0"] = kernel, bias
    shutil.copy(path, tmp_path / "old.hdf5")
    for name in ("old.h5", "old.hdf5"):
        model = load(str(tmp_path / name))
        assert [spec.name for spec in model.signature.inputs] == ["a", "b"]
        a, b = floats(2), floats(2)
        outputs = call_step(
            Program.plain(model),
            "predict_on_batch",
            model.signature.pack([tf.constant(a), tf.constant(b)]),
        )
        (array,) = outputs.values()
        np.testing.assert_allclose(array, np.hstack([a, b]) @ kernel + bias, rtol=1e-5)
