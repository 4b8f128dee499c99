"""What a SavedModel reads is its own: the graph that was looked at, and its assets."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from pipeline.errors import ModelError
from pipeline.graph_files import refuse_other_files
from pipeline.model import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FLOATS = tf.TensorSpec((None, 2), tf.float32, name="x")
WORDS = tf.TensorSpec((None,), tf.string, name="words")


def stored_in(path: Path) -> Any:
    return saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())


def save(path: Path, call: Callable[..., Any], spec: Any = FLOATS, **objects: Any) -> Path:
    module = tf.Module()
    for name, value in objects.items():
        setattr(module, name, value)
    module.call = tf.function(call, input_signature=[spec])
    tf.saved_model.save(module, str(path), signatures=module.call)
    return path


def vocabulary(folder: Path) -> Any:
    words = folder / "words.txt"
    words.write_text("a\nb\nc\n")
    index = tf.lookup.TextFileIndex
    return tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            str(words), tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER
        ),
        -1,
    )


def test_a_graph_with_the_same_tags_is_not_loaded_in_the_place_of_the_one_looked_at(
    tmp_path: Path,
) -> None:
    harm = tmp_path / "harm"

    def writes(x: Any) -> Any:
        tf.io.write_file(str(harm), "x")
        return {"y": x}

    model = save(tmp_path / "model", lambda x: {"y": x + 1})
    both = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    both.meta_graphs.append(stored_in(save(tmp_path / "other", writes)).meta_graphs[0])
    # To TensorFlow tags are a set, and of two graphs with one set it takes the first.
    both.meta_graphs[0].meta_info_def.tags[:] = ["serve", "serve"]
    both.meta_graphs.append(stored_in(model).meta_graphs[0])
    (model / "saved_model.pb").write_bytes(both.SerializeToString())
    assert load(str(model)).keras.predict_on_batch(tf.zeros((1, 2))).tolist() == [[1.0, 1.0]]
    assert not harm.exists()


def test_a_graph_that_is_exchanged_after_the_look_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save(tmp_path / "model", lambda x: {"y": x + 1})
    other = save(tmp_path / "other", lambda x: {"y": x + 2})
    sound = (model / "saved_model.pb").read_bytes()
    loaded = tf.saved_model.load

    def exchanged(path: str) -> Any:
        shutil.copy(other / "saved_model.pb", model / "saved_model.pb")
        try:
            return loaded(path)
        finally:
            (model / "saved_model.pb").write_bytes(sound)

    monkeypatch.setattr(tf.saved_model, "load", exchanged)
    assert load(str(model)).keras.predict_on_batch(tf.zeros((1, 2))).tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("damage", ["slots of an optimizer", "an object of no known kind"])
def test_words_are_looked_up_though_objects_cannot_be_rebuilt(damage: str, tmp_path: Path) -> None:
    table, optimizer = vocabulary(tmp_path), tf.Module()
    optimizer.rate = tf.Variable(0.1)
    model = save(
        tmp_path / "model",
        lambda words: {"ids": table.lookup(words)},
        WORDS,
        table=table,
        weight=tf.Variable(2.0),
        momentum=tf.Variable(3.0),
        optimizer=optimizer,
    )
    stored = stored_in(model)
    nodes = stored.meta_graphs[0].object_graph_def.nodes
    named = {child.local_name: child.node_id for child in nodes[0].children}
    if damage.startswith("slots"):
        nodes[named["optimizer"]].slot_variables.add(
            original_variable_node_id=named["weight"],
            slot_name="m",
            slot_variable_node_id=named["momentum"],
        )
    else:
        nodes[named["momentum"]].Clear()
    (model / "saved_model.pb").write_bytes(stored.SerializeToString())
    with pytest.raises((AttributeError, ValueError)):
        tf.saved_model.load(str(model))
    (tmp_path / "words.txt").unlink()
    outputs = load(str(model)).keras.predict_on_batch(tf.constant(["c", "?", "a"]))
    assert outputs.tolist() == [2, -1, 0]


def test_assets_of_tensorflow_1_are_read(tmp_path: Path) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        words = v1.placeholder(tf.string, (None,))
        ids = vocabulary(tmp_path).lookup(words)
        session.run(v1.tables_initializer())
        v1.saved_model.simple_save(
            session,
            str(tmp_path / "model"),
            {"the words": words},
            {"ids": ids},
            legacy_init_op=v1.tables_initializer(),
        )
    (tmp_path / "words.txt").unlink()
    outputs = load(str(tmp_path / "model")).keras.predict_on_batch(tf.constant(["b", "?"]))
    assert outputs.tolist() == [1, -1]


# Where a file's name comes from


def graph() -> Any:
    """A graph with one asset, whose path is in the node `path`."""
    made = meta_graph_pb2.MetaGraphDef()
    made.asset_file_def.add(filename="words.txt").tensor_info.name = "path:0"
    for name in ("path", "table", "other"):
        made.graph_def.node.add(name=name, op="Placeholder")
    return made


def node(made: Any, name: str, op: str, *inputs: str, function: str = "") -> Any:
    """A node of the main graph, or of a function."""
    for each in made.graph_def.library.function:
        if each.signature.name == function:
            return each.node_def.add(name=name, op=op, input=inputs)
    return made.graph_def.node.add(name=name, op=op, input=inputs)


def function(made: Any, name: str, *arguments: str) -> None:
    added = made.graph_def.library.function.add()
    added.signature.name = name
    for argument in arguments:
        added.signature.input_arg.add(name=argument)


READ = "InitializeTableFromTextFileV2"


def directly(made: Any, path: str) -> None:
    node(made, "read", READ, "table", path)


def through_others(made: Any, path: str) -> None:
    node(made, "same", "Identity", path, "^other")
    node(made, "read", READ, "table", "same:0")


def through_a_variable(made: Any, path: str) -> None:
    node(made, "kept", "VarHandleOp")
    node(made, "set", "AssignVariableOp", "kept", path)
    node(made, "get", "ReadVariableOp", "kept", "^set")
    node(made, "read", READ, "table", "get")


def through_functions(made: Any, path: str) -> None:
    function(made, "inner", "file", "table")
    node(made, "read", READ, "table", "file", function="inner")
    function(made, "outer", "table", "file")
    node(made, "call", "inner", "file", "table", function="outer")
    call = node(made, "call", "StatefulPartitionedCall", "table", path)
    call.attr["f"].func.name = "outer"


WAYS = [directly, through_others, through_a_variable, through_functions]


def is_refused(made: Any) -> bool:
    try:
        refuse_other_files(made, "model")
    except ModelError:
        return True
    return False


@pytest.mark.parametrize("way", WAYS)
def test_the_name_of_a_file_is_followed_to_where_it_comes_from(way: Any) -> None:
    sound, other = graph(), graph()
    way(sound, "path")
    way(other, "other")
    assert not is_refused(sound)
    assert is_refused(other)


def test_one_caller_of_several_that_names_another_file_is_enough() -> None:
    made = graph()
    through_functions(made, "path")
    call = node(made, "again", "StatefulPartitionedCall", "table", "other")
    call.attr["f"].func.name = "outer"
    assert is_refused(made)


def test_a_variable_that_something_else_may_set_is_no_asset() -> None:
    made = graph()
    through_a_variable(made, "path")
    node(made, "handed on", "StatefulPartitionedCall", "kept")
    assert is_refused(made)


@pytest.mark.parametrize("op", ["While", "If"])
def test_a_name_that_comes_through_a_loop_or_a_branch_is_no_asset(op: str) -> None:
    made = graph()
    function(made, "body", "table", "file")
    node(made, "read", READ, "table", "file", function="body")
    node(made, "flow", op, "table", "path").attr["body"].func.name = "body"
    assert is_refused(made)


@pytest.mark.parametrize(("kind", "refused"), [("asset", False), ("constant", True)])
def test_what_a_function_of_an_object_holds_on_to_must_be_an_asset(
    kind: str, refused: bool
) -> None:
    made = graph()
    function(made, "fill", "table", "file")
    node(made, "read", READ, "table", "file", function="fill")
    objects = made.object_graph_def
    objects.nodes.add().resource.device = ""
    getattr(objects.nodes.add(), kind).SetInParent()
    objects.concrete_functions["fill"].bound_inputs.extend([0, 1])
    assert is_refused(made) is refused


def test_an_argument_that_a_caller_may_give_is_no_asset() -> None:
    made = graph()
    function(made, "fill", "file", "table")
    node(made, "read", READ, "table", "file", function="fill")
    made.object_graph_def.nodes.add().resource.device = ""
    made.object_graph_def.concrete_functions["fill"].bound_inputs.append(0)
    assert is_refused(made)


def test_a_graph_that_goes_round_in_circles_is_refused_and_ends() -> None:
    made = graph()
    node(made, "one", "Identity", "two")
    node(made, "two", "Identity", "one")
    node(made, "read", READ, "table", "one")
    assert is_refused(made)
