"""What is refused as a model, and in which words.

The whole text of each error is kept in `tests/golden/models/`, one file a case, with what differs
from run to run replaced by a placeholder. To renew them after a change of words, run this file with
SHARDSCORE_RENEW_GOLDEN=1, and read what changed.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from pipeline.errors import ModelError
from pipeline.model import load

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDEN = Path(__file__).parent.parent / "golden" / "models"
layers = keras.layers

Make = "Callable[[Path], str]"


def given(path: str) -> Any:
    return lambda _: path


# Files


def pickled(name: str) -> Any:
    def make(folder: Path) -> str:
        (folder / name).write_bytes(pickle.dumps({"weights": [1.0]}))
        return str(folder / name)

    return make


def bytes_named(name: str, content: bytes) -> Any:
    def make(folder: Path) -> str:
        (folder / name).write_bytes(content)
        return str(folder / name)

    return make


def archive(**members: str) -> Any:
    def make(folder: Path) -> str:
        with zipfile.ZipFile(folder / "model.keras", "w") as file:
            for name, content in members.items():
                file.writestr(f"{name}.json", content)
        return str(folder / "model.keras")

    return make


def weights_only(folder: Path) -> str:
    x = keras.Input((2,))
    keras.Model(x, layers.Dense(1)(x)).save_weights(folder / "model.weights.h5")
    return str(folder / "model.weights.h5")


# Folders


def small(folder: Path, name: str = "model") -> Path:
    x = keras.Input((2,), name="x")
    keras.Model(x, layers.Dense(1)(x)).export(str(folder / name), verbose=False)
    return folder / name


def other_folder(folder: Path) -> str:
    (folder / "data").mkdir()
    (folder / "data" / "1.parquet").write_bytes(b"PAR1")
    return str(folder / "data")


def versions(folder: Path) -> str:
    small(folder, "served/1")
    small(folder, "served/2")
    return str(folder / "served")


def unzipped(folder: Path) -> str:
    x = keras.Input((2,))
    keras.saving.save_model(keras.Model(x, x), folder / "model", zipped=False)
    return str(folder / "model")


def link_out(folder: Path) -> str:
    model = small(folder)
    (folder / "elsewhere").write_text("secret")
    (model / "assets" / "words.txt").symlink_to("../../elsewhere")
    return str(model)


def link_to_a_folder(folder: Path) -> str:
    model = small(folder)
    (model / "more").symlink_to("variables")
    return str(model)


def a_pipe(folder: Path) -> str:
    model = small(folder)
    os.mkfifo(model / "assets" / "pipe")
    return str(model)


def hostile_key(folder: Path) -> str:
    from pipeline.storage import memory, storage_at

    storage_at("memory://hostile/model").create("saved_model.pb", b"x")
    bucket = storage_at("memory://hostile/model")._bucket  # type: ignore[attr-defined]
    bucket.objects["model/../x"] = bucket.objects["model/saved_model.pb"]
    assert isinstance(bucket, memory.MemoryBucket)
    return "memory://hostile/model"


# Keras' files


@keras.saving.register_keras_serializable(package="refused")
class Own(keras.Model):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.dense(x)


@keras.saving.register_keras_serializable(package="refused")
class Silent(Own):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense.build((None, 2))
        self.built = True


class Unregistered(layers.Layer):
    def call(self, x: Any) -> Any:
        return x * 2


def kept(make: Callable[[], Any]) -> Any:
    def save(folder: Path) -> str:
        make().save(folder / "model.keras")
        return str(folder / "model.keras")

    return save


def around(layer: Any) -> Any:
    x = keras.Input((2,), name="x")
    return keras.Model(x, layer(x))


def lambda_of_keras_2(folder: Path) -> str:
    """As Keras 2 wrote it: the bytecode of the function, its defaults and closure."""
    code = {"function": ["4wEAAA==\n", None, None], "function_type": "lambda", "name": "double"}
    config = {"class_name": "Sequential", "config": {"layers": [{"class_name": "Lambda"}]}}
    config["config"]["layers"][0]["config"] = code  # type: ignore[index]
    with h5py.File(folder / "model.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(config)
    return str(folder / "model.h5")


def module_that_runs(folder: Path) -> str:
    """An archive whose layer names a module of Python's own that runs commands."""
    made = kept(lambda: around(layers.Activation("relu", name="harmless")))(folder)
    with zipfile.ZipFile(made) as file:
        members = {name: file.read(name) for name in file.namelist()}
    config = json.loads(members["config.json"])
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "Activation":
            layer |= {"module": "subprocess", "class_name": "Popen", "registered_name": "Popen"}
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(made, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return made


def around_a_saved_model(folder: Path) -> str:
    served = layers.TFSMLayer(str(small(folder)), call_endpoint="serve", name="served")
    x = keras.Input((2,), name="x")
    keras.Model(x, served(x)).save(folder / "model.keras")
    return str(folder / "model.keras")


# SavedModels


def signed(function: Any, *specs: Any, name: str = "serving_default") -> Any:
    """A SavedModel of one function, which is given a place to do harm."""

    def make(folder: Path) -> str:
        module = tf.Module()
        made = tf.function(lambda x: function(x, folder), input_signature=specs or [FLOATS])
        tf.saved_model.save(module, str(folder / "model"), signatures={name: made})
        return str(folder / "model")

    return make


FLOATS = tf.TensorSpec((None, 2), name="x")


def writes(x: Any, folder: Path) -> Any:
    tf.io.write_file(str(folder / "harm"), "x")
    return {"y": x}


def runs_python(x: Any, folder: Path) -> Any:
    return {"y": tf.numpy_function(lambda a: a, [x], tf.float32)}


def reads(x: Any, folder: Path) -> Any:
    return {"y": x, "z": tf.fill(tf.shape(x)[:1], tf.io.read_file("/etc/hostname"))}


def prints_to_a_file(x: Any, folder: Path) -> Any:
    tf.print("x", output_stream="file:///tmp/harm")
    return {"y": x}


def saves(x: Any, folder: Path) -> Any:
    tf.raw_ops.SaveV2(
        prefix=str(folder / "harm"), tensor_names=["y"], shape_and_slices=[""], tensors=[x]
    )
    return {"y": x}


def reads_a_data_set(x: Any, folder: Path) -> Any:
    lines = tf.data.TextLineDataset("/etc/hostname")
    return {"y": x + tf.cast(lines.reduce(tf.constant(0, tf.int64), lambda n, _: n + 1), x.dtype)}


def in_a_function_that_nobody_calls(folder: Path) -> str:
    module = tf.Module()
    module.harmless = tf.function(lambda x: {"y": x}, input_signature=[FLOATS])
    module.harm = tf.function(lambda x: writes(x, folder), input_signature=[FLOATS])
    tf.saved_model.save(module, str(folder / "model"), signatures=module.harmless)
    return str(folder / "model")


def in_a_loop(x: Any, folder: Path) -> Any:
    for _ in tf.range(2):
        tf.io.write_file(str(folder / "harm"), "x")
    return {"y": x}


def changed(change: Callable[[Any], None], make: Any = None) -> Any:
    """A SavedModel whose protocol buffer was changed by hand."""

    def made(folder: Path) -> str:
        path = Path(make(folder)) if make else small(folder)
        stored = saved_model_pb2.SavedModel()
        stored.ParseFromString((path / "saved_model.pb").read_bytes())
        change(stored)
        (path / "saved_model.pb").write_bytes(stored.SerializeToString())
        return str(path)

    return made


def harm_in_what_saves_a_table(folder: Path) -> str:
    """Loading calls the function that saves a table, to learn what there is to restore."""
    module = tf.Module()
    module.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    made = tf.function(
        lambda x: {"y": x, "n": module.table.lookup(tf.strings.as_string(x))},
        input_signature=[FLOATS],
    )
    path = str(folder / "model")
    tf.saved_model.save(module, path, signatures=made)

    def change(stored: Any) -> None:
        for function in stored.meta_graphs[0].graph_def.library.function:
            if "save_fn" in function.signature.name:
                function.node_def.add(name="harm", op="SaveV2")

    return str(changed(change, lambda _: path)(folder))


def lines_of_another_file(x: Any, folder: Path) -> Any:
    return {"y": x, "lines": lines_of("/etc/hostname", x)}


def lines_of_a_file_named_by_a_row(x: Any, folder: Path) -> Any:
    return {"y": x, "lines": lines_of("lines/" + tf.strings.as_string(x[0, 0]), x)}


def lines_of(path: Any, x: Any) -> Any:
    table = tf.raw_ops.AnonymousHashTable(key_dtype=tf.int64, value_dtype=tf.string)
    filled = tf.raw_ops.InitializeTableFromTextFileV2(
        table_handle=table, filename=path, key_index=-1, value_index=-2
    )
    with tf.control_dependencies([filled]):
        keys = tf.range(tf.shape(x, tf.int64)[0])
        return tf.raw_ops.LookupTableFindV2(table_handle=table, keys=keys, default_value="")


def reads_variables_of_another(x: Any, folder: Path) -> Any:
    (read,) = tf.raw_ops.RestoreV2(
        prefix="gs://elsewhere/variables",
        tensor_names=["w"],
        shape_and_slices=[""],
        dtypes=[tf.float32],
    )
    return {"y": x + read}


def old_asset_outside(stored: Any) -> None:
    """TensorFlow 1 kept in a collection which assets there are."""
    asset = meta_graph_pb2.AssetFileDef(filename="/etc/hostname")
    asset.tensor_info.name = "x:0"
    assets = stored.meta_graphs[0].collection_def["saved_model_assets"].any_list
    assets.value.add().Pack(asset)


def harm_under_a_functions_name(stored: Any) -> None:
    """A function may not lend its name to an operation of TensorFlow's."""
    graph = stored.meta_graphs[0].graph_def
    graph.library.function.add().signature.name = "WriteFile"
    graph.node.add(name="harm", op="WriteFile")


def keras_2(*stack: Any) -> Any:
    """A file of Keras 2 with these layers: (class, configuration)."""

    def make(folder: Path) -> str:
        stored = [
            {"class_name": kind, "config": {"name": kind.lower(), "dtype": "float32", **config}}
            for kind, config in (("InputLayer", {"batch_input_shape": [None, 2]}), *stack)
        ]
        with h5py.File(folder / "old.h5", "w") as file:
            config = {"class_name": "Sequential", "config": {"name": "old", "layers": stored}}
            file.attrs["model_config"] = json.dumps(config)
            file.attrs["keras_version"], file.attrs["backend"] = "2.9.0", "tensorflow"
            file.create_group("model_weights").attrs["layer_names"] = []
        return str(folder / "old.h5")

    return make


def custom_op(stored: Any) -> None:
    stored.meta_graphs[0].graph_def.node.add(name="trees", op="SimpleMLInferenceOpWithHandle")


def save_when_restored(stored: Any) -> None:
    """The operation that restores the variables waits for one that writes."""
    graph = stored.meta_graphs[0].graph_def
    graph.node.add(name="harm", op="SaveV2")
    restore = stored.meta_graphs[0].saver_def.restore_op_name
    (node,) = [node for node in graph.node if node.name == restore]
    node.input.append("^harm")


def asset_outside(stored: Any) -> None:
    asset = stored.meta_graphs[0].asset_file_def.add(filename="../../../etc/passwd")
    asset.tensor_info.name = "x:0"


def two_graphs(stored: Any) -> None:
    stored.meta_graphs.add().meta_info_def.tags.append("train")
    stored.meta_graphs[0].meta_info_def.tags.append("gpu")


def sparse_input(stored: Any) -> None:
    info = stored.meta_graphs[0].signature_def["serving_default"].inputs["x"]
    info.coo_sparse.values_tensor_name = "values:0"


def no_signature(folder: Path) -> str:
    module = tf.Module()
    module.weight = tf.Variable(1.0)
    tf.saved_model.save(module, str(folder / "model"))
    return str(folder / "model")


def two_signatures(folder: Path) -> str:
    one = tf.function(lambda x: {"y": x}, input_signature=[FLOATS])
    two = tf.function(lambda x: {"y": x * 2}, input_signature=[FLOATS])
    path = str(folder / "model")
    tf.saved_model.save(tf.Module(), path, signatures={"embed": one, "classify": two})
    return path


def no_input(folder: Path) -> str:
    made = tf.function(lambda: {"y": tf.constant([1.0])}, input_signature=[])
    tf.saved_model.save(tf.Module(), str(folder / "model"), signatures=made)
    return str(folder / "model")


def without_variables(folder: Path) -> str:
    model = small(folder)
    shutil.rmtree(model / "variables")
    return str(model)


def damaged(folder: Path) -> str:
    model = small(folder)
    (model / "saved_model.pb").write_bytes(b"\xff" * 100)
    return str(model)


def counts(folder: Path) -> str:
    module = tf.Module()
    module.total = tf.Variable([0.0, 0.0])

    def add(x: Any) -> Any:
        return {"y": x + module.total.assign_add(tf.reduce_sum(x, axis=0))}

    made = tf.function(add, input_signature=[FLOATS])
    tf.saved_model.save(module, str(folder / "model"), signatures=made)
    return str(folder / "model")


def two_inputs_of_one_name() -> Any:
    one, two = keras.Input((1,)), keras.Input((1,))
    return keras.Model({"a": {"b": one}, "a.b": two}, one + two)


def beside_its_class(folder: Path) -> str:
    """In the folder of the file that defines its class, which is not to be run."""
    (folder / "my layers.py").write_text("raise SystemExit\nclass Unregistered:\n    pass\n")
    return kept(lambda: around(Unregistered(name="double")))(folder)


CASES: dict[str, Any] = {
    "missing": lambda folder: str(folder / "model.keras"),
    "missing_object": given("memory://nothing/model.keras"),
    "missing_remote_folder": given("memory://nothing/model/"),
    "hugging_face": given("hf://someone/model"),
    "web_address": given("https://example.com/model.keras"),
    "pickle": pickled("model.pkl"),
    "joblib": pickled("model.joblib"),
    "torch": pickled("model.pt"),
    "onnx": bytes_named("model.onnx", b"\x08\x07"),
    "onnx_object": given("s3://bucket/model.onnx"),
    "graph_without_its_folder": bytes_named("saved_model.pb", b""),
    "no_ending": bytes_named("model", b""),
    "not_an_archive": bytes_named("model.keras", b"not a zip file"),
    "archive_without_config": archive(metadata="{}"),
    "empty_archive": archive(),
    "config_is_no_json": archive(config="{"),
    "not_hdf5": bytes_named("model.h5", b"not hdf5"),
    "damaged_hdf5": bytes_named("model.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 100),
    "weights_only": weights_only,
    "other_folder": other_folder,
    "folder_of_versions": versions,
    "unzipped_keras": unzipped,
    "link_out_of_the_folder": link_out,
    "link_to_a_folder": link_to_a_folder,
    "pipe_in_the_folder": a_pipe,
    "hostile_key": hostile_key,
    "lambda": kept(lambda: around(layers.Lambda(lambda t: t + 1, name="add_one"))),
    "lambda_of_keras_2": lambda_of_keras_2,
    "module_that_runs": module_that_runs,
    "layer_around_a_saved_model": around_a_saved_model,
    "unregistered_class": kept(lambda: around(Unregistered(name="double"))),
    "unregistered_class_beside": beside_its_class,
    "never_built": kept(Own),
    "unknown_inputs": kept(Silent),
    "two_inputs_of_one_name": kept(two_inputs_of_one_name),
    "stateful_layer": kept(
        lambda: keras.Sequential(
            [keras.Input((4, 1), batch_size=3), layers.LSTM(1, stateful=True, name="memory")]
        )
    ),
    "op_that_writes": signed(writes),
    "op_that_runs_python": signed(runs_python),
    "op_that_reads_files": signed(reads),
    "op_that_prints_to_a_file": signed(prints_to_a_file),
    "op_that_saves": signed(saves),
    "op_that_saves_when_restored": changed(save_when_restored),
    "op_that_saves_with_a_table": harm_in_what_saves_a_table,
    "op_that_reads_a_data_set": signed(reads_a_data_set),
    "op_in_a_function_that_nobody_calls": in_a_function_that_nobody_calls,
    "op_in_a_loop": signed(in_a_loop),
    "op_of_another_library": changed(custom_op),
    "asset_outside": changed(asset_outside),
    "asset_of_tensorflow_1_outside": changed(old_asset_outside),
    "op_that_reads_the_lines_of_a_file": signed(lines_of_another_file, FLOATS),
    "op_that_reads_a_file_named_by_a_row": signed(lines_of_a_file_named_by_a_row, FLOATS),
    "op_that_reads_other_variables": signed(reads_variables_of_another, FLOATS),
    "op_under_the_name_of_a_function": changed(harm_under_a_functions_name),
    "keras_2_with_an_option_that_is_gone": keras_2(("LSTM", {"units": 2, "time_major": True})),
    "keras_2_with_an_unknown_layer": keras_2(("Attend", {})),
    "two_graphs": changed(two_graphs),
    "no_graph": changed(lambda stored: stored.Clear()),
    "sparse_input": changed(sparse_input),
    "no_signature": no_signature,
    "two_signatures": two_signatures,
    "no_input": no_input,
    "fixed_batch": signed(lambda x, _: {"y": x}, tf.TensorSpec((1, 3), name="x")),
    "unknown_shape": signed(lambda x, _: {"y": x}, tf.TensorSpec(None, name="x")),
    "one_value_for_all_rows": signed(lambda x, _: {"y": x}, tf.TensorSpec((), name="x")),
    "without_variables": without_variables,
    "damaged_saved_model": damaged,
    "counts_what_it_saw": counts,
}


@pytest.mark.parametrize("case", CASES)
def test_a_refusal_says_what_was_found_and_what_to_do(case: str, tmp_path: Path) -> None:
    path = CASES[case](tmp_path)
    keras_objects = keras.saving.get_custom_objects()
    keras_objects.pop("Unregistered", None)
    with pytest.raises(ModelError) as caught:
        load(path)
    assert caught.value.hint
    _is_golden(case, _stable(str(caught.value), tmp_path))
    assert not (tmp_path / "harm").exists()


def test_a_signature_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load(two_signatures(tmp_path), signature="regress")
    _is_golden("wrong_signature", _stable(str(caught.value), tmp_path))


def test_another_model_than_the_job_names_is_refused_before_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small(tmp_path)

    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr("pipeline.model.load_saved_model", opened)
    with pytest.raises(ModelError) as caught:
        load(str(path), expected="0" * 64)
    text = re.sub("sha256 (?!0{64})[0-9a-f]{64}", "sha256 DIGEST", str(caught.value))
    _is_golden("other_digest", _stable(text, tmp_path))


def test_each_golden_text_has_its_case() -> None:
    names = {path.stem for path in GOLDEN.glob("*.txt")}
    assert names == {*CASES, "wrong_signature", "other_digest"}


def _stable(text: str, tmp_path: Path) -> str:
    """A text without what differs from run to run."""
    text = text.replace(str(tmp_path), "/models").replace(tf.__version__, "VERSION")
    text = text.replace(keras.__version__, "VERSION")
    text = re.sub(r"(__inference_[\w<>]*?|while_body)_\d+\b", r"\1_N", text)
    return re.sub(r"0x[0-9a-f]+", "ADDRESS", text)


def _is_golden(case: str, text: str) -> None:
    golden = GOLDEN / f"{case}.txt"
    if os.environ.get("SHARDSCORE_RENEW_GOLDEN") == "1":
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text + "\n")
    assert text + "\n" == golden.read_text()


def test_a_named_function_is_no_code(tmp_path: Path) -> None:
    """`safe_mode` refuses bytecode; a function that is registered by name is loaded."""
    path = kept(lambda: around(layers.Activation("relu")))(tmp_path)
    outputs = load(path).keras.predict_on_batch(np.array([[-1.0, 2.0]], "float32"))
    assert outputs.tolist() == [[0.0, 2.0]]
