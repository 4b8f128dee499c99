"""The list of operations that a SavedModel's graph may hold, against all that TensorFlow has; and
what counts as being run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import tensorflow as tf
from tensorflow.core.framework import variable_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from pipeline.errors import ModelError
from pipeline.graph_ops import refuse_unsafe

if TYPE_CHECKING:
    from collections.abc import Callable

OPS = [name for name in dir(tf.raw_ops) if not name.startswith("_")]

# Words in the names of what reaches files, Python, other processes or machines, or waits for them.
OUTSIDE = re.compile(
    "File|Dataset|PyFunc|Debug|Socket|Rpc|Send|Recv|Summary|Iterator|Reader|Snapshot|Queue|Barrier"
    "|Collective|TPU|Remote|Session|Infeed|Outfeed|Xla|Nccl|Timestamp|Protobuf|Proto|Service"
    "|Immutable|Vocab|Save|Checkpoint|Dump|Event|Heartbeat|Abort|Mutex|Stage|Record|Sql|LMDB"
)

HARMLESS = {
    "InitializeTableFromTextFile",  # a vocabulary, an asset of the model
    "InitializeTableFromTextFileV2",
    "ShardedFilename",  # makes a name, and no file
    "ShardedFilespec",
    "BoostedTreesMakeStatsSummary",  # arithmetic
    "BoostedTreesExampleDebugOutputs",
    "XlaConcatND",
    "XlaSplitND",
}


def graph(**nodes: Any) -> Any:
    """A graph; node's name → its operation and inputs."""
    made = meta_graph_pb2.MetaGraphDef()
    for name, (op, *inputs) in nodes.items():
        made.graph_def.node.add(name=name, op=op, input=inputs)
    return made


def is_refused(meta_graph: Any) -> bool:
    try:
        refuse_unsafe(meta_graph, "model")
    except ModelError:
        return True
    return False


def test_what_reaches_outside_is_refused() -> None:
    named = [op for op in OPS if OUTSIDE.search(op)]
    assert len(named) > 300
    allowed = {op for op in named if not is_refused(graph(node=(op,)))}
    # These save a model, and nothing runs the node.
    saving = {"Save", "SaveV2", "SaveSlices", "MergeV2Checkpoints"}
    assert allowed == HARMLESS | saving


@pytest.mark.parametrize(
    "op",
    [
        *("MatMul", "Conv2D", "Einsum", "FusedBatchNormV3", "LSTMBlockCell", "ResizeBicubic"),
        *("DecodePng", "DecodeWebP", "StringSplitV2", "StringNGrams", "RaggedGather", "TopKV2"),
        *("VarHandleOp", "ReadVariableOp", "AssignVariableOp", "VariableV2", "Assign", "RestoreV2"),
        *("HashTableV2", "LookupTableFindV2", "LookupTableImportV2", "MutableHashTableV2"),
        *("If", "While", "Case", "StatefulPartitionedCall", "TensorArrayV3", "TensorListSetItem"),
        *("Enter", "Switch", "Merge", "Assert", "CheckNumerics", "CudnnRNNV3", "DeviceIndex"),
        *("RandomUniform", "StatelessRandomUniformV2", "ResourceApplyAdam", "ResourceGather"),
        *("ParseExampleV2", "SparseTensorDenseMatMul", "FFT", "CombinedNonMaxSuppression", "Print"),
    ],
)
def test_what_models_are_made_of_is_allowed(op: str) -> None:
    assert not is_refused(graph(node=(op,)))


@pytest.mark.parametrize(
    "op", ["WriteFile", "ReadFile", "PyFuncStateless", "EagerPyFunc", "DebugIdentity", "NoSuchOp"]
)
def test_an_operation_is_refused_in_any_function(op: str) -> None:
    made = graph(node=("NoOp",))
    function = made.graph_def.library.function.add()
    function.signature.name = "hidden"
    function.node_def.add(name="node", op=op)
    assert is_refused(made)


def test_a_call_of_a_function_by_its_own_name_is_no_unknown_operation() -> None:
    made = graph(node=("double",))
    made.graph_def.library.function.add().signature.name = "double"
    assert not is_refused(made)


@pytest.mark.parametrize(
    ("stream", "refused"),
    [
        ("stderr", False),
        ("log(info)", False),
        ("stdout", True),  # that is for results
        ("file:///tmp/x", True),
    ],
)
def test_printing_is_allowed_where_it_disturbs_nothing(stream: str, refused: bool) -> None:
    made = graph(node=("PrintV2",))
    made.graph_def.node[0].attr["output_stream"].s = stream.encode()
    assert is_refused(made) is refused


def by_signature(made: Any) -> None:
    made.signature_def["serve"].outputs["y"].name = "end:0"


def by_sparse_output(made: Any) -> None:
    made.signature_def["serve"].outputs["y"].coo_sparse.indices_tensor_name = "end:1"


def by_restore(made: Any) -> None:
    made.saver_def.restore_op_name = "end"


def by_main_op(made: Any) -> None:
    made.collection_def["saved_model_main_op"].node_list.value.append("end")


def by_initializer(made: Any) -> None:
    variable = variable_pb2.VariableDef(variable_name="v", initializer_name="end")
    made.collection_def["local_variables"].bytes_list.value.append(variable.SerializeToString())


def by_first_value(made: Any) -> None:
    variable = variable_pb2.VariableDef(variable_name="v", initial_value_name="end:0")
    made.collection_def["variables"].bytes_list.value.append(variable.SerializeToString())


def by_nothing(made: Any) -> None:
    made.saver_def.save_tensor_name = "end:0"
    made.collection_def["other"].bytes_list.value.append(b"\xff no variable")


RUNS = [by_signature, by_sparse_output, by_restore, by_main_op, by_initializer, by_first_value]


@pytest.mark.parametrize("begin", [*RUNS, by_nothing], ids=lambda f: f.__name__)
@pytest.mark.parametrize("way", ["input", "control", "function", "branch"])
def test_what_saves_is_refused_where_it_can_be_run(begin: Callable[[Any], None], way: str) -> None:
    if way in {"input", "control"}:
        link = "save:0" if way == "input" else "^save"
        made = graph(save=("SaveV2",), middle=("Identity", link), end=("Identity", "middle"))
    else:
        made = graph(end=("If",))
        library = made.graph_def.library
        for name, op in (("outer", "StatefulPartitionedCall"), ("inner", "SaveV2")):
            function = library.function.add()
            function.signature.name = name
            function.node_def.add(name="node", op=op)
        library.function[0].node_def[0].attr["f"].func.name = "inner"
        attributes = made.graph_def.node[0].attr
        if way == "function":
            attributes["then_branch"].func.name = "outer"
        else:
            attributes["branches"].list.func.add(name="outer")
    begin(made)
    assert is_refused(made) is (begin is not by_nothing)


def test_what_saves_is_refused_in_a_function_of_an_object() -> None:
    made = graph(node=("NoOp",))
    function = made.graph_def.library.function.add()
    function.signature.name = "initialize"
    function.node_def.add(name="node", op="SaveV2")
    assert not is_refused(made)
    node = made.object_graph_def.nodes.add()
    node.bare_concrete_function.concrete_function_name = "initialize"
    assert is_refused(made)
