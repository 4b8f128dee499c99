"""Which operations the graph of a SavedModel may hold. Read from its protocol buffer, before
TensorFlow loads it.

A SavedModel is a program: calling its signature can write files, and loading it runs the
initializers of its tables. So each operation in it, in its main graph and in all of its functions,
must be on a list:

* those that TensorFlow declares to be free of side effects, but for the few that reach files,
  Python or the network all the same (`_REACHING_OUT`);
* those that hold what a model has learned, control its flow, or draw random numbers (`_NEEDED`);
* those that save a model, which appear in each SavedModel (`_SAVING`), but only where nothing runs
  them: neither a signature, nor an initializer, nor what restores the variables.

What is not on it is refused by name, custom operations of other libraries among it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_REACHING_OUT = re.compile(
    # Files.
    "ReadFile|MatchingFiles|ImmutableConst|GenerateVocabRemapping|DecodeProtoV2|EncodeProto"
    "|.*Dataset.*|Snapshot.*|Reader.*|.*Summary(V2)?"
    # Python, debuggers, other devices and machines.
    "|PyFunc.*|Debug.*|Copy|CopyHost|Abort"
    "|TPU.*|Infeed.*|Prelinearize.*|XlaSparse.*|RegisterDataset.*"
    "|XlaCustomCall.*|XlaLaunch.*|MlirPassthroughOp|CustomAggregator"
    # What is shared with others, or waited for.
    "|Queue.*|Barrier.*|.*Accumulator.*|Batch|BatchFunction|Unbatch|UnbatchGrad|_.*"
)
"""Refused though TensorFlow declares no side effects: to it, reading a file is none."""

_NEEDED = re.compile(
    # Variables.
    "VarHandleOp|VarIsInitializedOp|ReadVariableOp|Assign(Add|Sub)?VariableOp|Variable(V2)?"
    "|VariableShape|TemporaryVariable|DisableCopyOnRead|DestroyResourceOp|Empty|DeepCopy"
    "|Resource(Gather|GatherNd|Scatter.*|StridedSliceAssign|CountUpTo|Apply.*|SparseApply.*)"
    "|RestoreV2|Restore|RestoreSlice|GuaranteeConst"
    # Tables. Their files are assets of the SavedModel.
    "|HashTable(V2)?|Mutable(Dense)?HashTable(OfTensors)?(V2)?|Anonymous(Mutable)?(Dense)?HashTable"
    "(OfTensors)?|LookupTable(Export|Find|Import|Insert|Remove|Size)V2|InitializeTable(V2)?"
    "|InitializeTableFromTextFile(V2)?"
    # Flow.
    "|If|Case|While|StatefulPartitionedCall|DeviceIndex|TensorArray.*|Stack(Push|Pop|Close)?V2"
    "|Assert|CheckNumerics(V2)?|Print|PrintV2"
    # Random numbers. Whether predictions depend on them is for the probe to find.
    "|Random(Crop|Gamma|Poisson|PoissonV2|Shuffle|StandardNormal|Uniform|UniformInt)"
    "|TruncatedNormal|ParameterizedTruncatedNormal|Multinomial|NonDeterministicInts|Rng.*"
    "|Stateful(Random|Standard|Truncated|Uniform).*|StatelessRandomGetAlg"
    "|SampleDistortedBoundingBox(V2)?|(All|LogUniform|Uniform|ThreadUnsafeUnigram|LearnedUnigram)"
    "CandidateSampler"
    # Kernels with state of their own.
    "|CudnnRNN.*|(Is)?BoostedTrees.*"
)
"""Declared to have side effects, which stay within the model."""

_SAVING = {"Save", "SaveV2", "SaveSlices", "MergeV2Checkpoints"}

_RESTORING = {"Restore", "RestoreSlice", "RestoreV2"}
"""Named after the file that they read, which may be any: for what restores the variables alone."""

_CHANGING = re.compile(
    "Assign((Add|Sub)(VariableOp)?|VariableOp)?|(Resource)?Scatter(Nd)?(Add|Sub|Mul|Div|Min|Max|Update)"
    "|Resource(StridedSliceAssign|CountUpTo)|CountUpTo|(Resource)?(Sparse)?Apply.*"
    "|LookupTable(Import|Insert|Remove)V2"
)
"""What changes a variable or a table: in a signature, a prediction depends on those before it."""

_INTEGERS = {3, 9, 22, 23}
"""TensorFlow's numbers of int32, int64, uint32 and uint64, in which seeds are kept. Keras' random
layers step theirs even where nothing is drawn; if something is, the probe finds it."""

_PRINTED = {"", "stderr", "log(info)", "log(warning)", "log(error)"}
"""Where `PrintV2` may print. Standard output is for results, and `file://` writes a file."""


@dataclass(frozen=True, slots=True)
class _Found:
    """An operation, and where it is: the name of its node, and of its function."""

    node: Any
    function: str

    @property
    def place(self) -> str:
        where = f"the function {self.function}" if self.function else "the main graph"
        return f"operation {self.node.op} ({self.node.name!r} in {where})"


def refuse_unsafe(meta_graph: Any, path: str) -> None:
    """Raises ModelError unless all operations of a graph are on the list.

    Args:
        meta_graph: A `MetaGraphDef`.
        path: Of the model, for the error.
    """
    library = _library(meta_graph)
    running = _running(meta_graph, library)
    called = _called(meta_graph, library)
    for found in _all(meta_graph, library):
        op = found.node.op
        if op in library and _definition(op) is None:
            continue
        if op in _SAVING:
            if (found.function, found.node.name) not in running:
                continue
            raise _refusal(path, found, "it writes, and loading or calling the model would run it")
        if op in _RESTORING and (found.function, found.node.name) in called:
            raise _refusal(path, found, "it reads a file, and calling the model would run it")
        fault = _fault(found.node)
        if fault is not None:
            raise _refusal(path, found, fault)


def changing_op(meta_graph: Any, outputs: Iterable[str]) -> str | None:
    """The first operation found that changes a variable or a table when these outputs are computed,
    and where it is; None if there is none.

    Args:
        meta_graph: A `MetaGraphDef`.
        outputs: Names of tensors of its main graph.
    """
    library = _library(meta_graph)
    reached = _reached(meta_graph, library, outputs, ())
    for found in _all(meta_graph, library):
        node = found.node
        if (
            (found.function, node.name) in reached
            and _CHANGING.fullmatch(node.op)
            and not any(
                node.attr[key].type in _INTEGERS for key in ("dtype", "T") if key in node.attr
            )
        ):
            return found.place
    return None


def _fault(node: Any) -> str | None:
    """Why an operation is not on the list; None if it is."""
    known = _definition(node.op)
    if known is None:
        return "TensorFlow has no operation of that name: it belongs to another library"
    if node.op == "PrintV2" and node.attr["output_stream"].s.decode() not in _PRINTED:
        return f"it prints to {node.attr['output_stream'].s.decode()!r}"
    if _NEEDED.fullmatch(node.op):
        return None
    if known.is_stateful:
        return "it can act outside of the model"
    if _REACHING_OUT.fullmatch(node.op):
        return "it reaches files, Python or other machines"
    return None


def _definition(op: str) -> Any:
    """What TensorFlow declares of an operation; None if it has none of that name."""
    # The registry has no public address.
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(op)


def _refusal(path: str, found: _Found, why: str) -> ModelError:
    return ModelError(
        "the model is refused: its graph holds an operation that is not allowed",
        path=path,
        expected="operations that compute, hold variables and tables, and nothing else",
        received=f"{found.place}: {why}",
        hint="take that operation out of the model and save it again; if the model is not yours, "
        "do not run it",
    )


def _library(meta_graph: Any) -> dict[str, Any]:
    return {f.signature.name: f for f in meta_graph.graph_def.library.function}


def _all(meta_graph: Any, library: Mapping[str, Any]) -> Iterator[_Found]:
    for node in meta_graph.graph_def.node:
        yield _Found(node, "")
    # TensorFlow stores them in no order: of several faults the same one is told each time.
    for name, function in sorted(library.items()):
        for node in function.node_def:
            yield _Found(node, name)


def _called(meta_graph: Any, library: Mapping[str, Any]) -> set[tuple[str, str]]:
    """(function, node) of all that runs when a signature, or what initializes it, is called."""
    tensors = [
        name
        for signature in meta_graph.signature_def.values()
        for info in signature.outputs.values()
        for name in _tensors_of(info)
    ]
    for key in ("saved_model_main_op", "legacy_init_op"):
        if key in meta_graph.collection_def:
            tensors += meta_graph.collection_def[key].node_list.value
    objects = meta_graph.object_graph_def
    # Each of them: loading calls the initializers of tables, and what saves and restores these.
    functions = list(objects.concrete_functions)
    for node in objects.nodes:
        functions += [
            *node.function.concrete_functions,
            node.bare_concrete_function.concrete_function_name,
        ]
    return _reached(meta_graph, library, tensors, functions)


def _running(meta_graph: Any, library: Mapping[str, Any]) -> set[tuple[str, str]]:
    """(function, node) of all that loading or calling a model can run."""
    tensors = [meta_graph.saver_def.restore_op_name]
    for collection in meta_graph.collection_def.values():
        tensors += collection.node_list.value
        tensors += _initializers(collection.bytes_list.value)
    functions = [pair.gradient_func for pair in meta_graph.graph_def.library.gradient]
    return _called(meta_graph, library) | _reached(meta_graph, library, tensors, functions)


def _initializers(stored: Iterable[bytes]) -> Iterator[str]:
    """Names of what computes the first values of a collection's variables."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework import variable_pb2

    for each in stored:
        try:
            variable = variable_pb2.VariableDef.FromString(each)
        except DecodeError:
            continue  # a collection of something else
        yield from (variable.initializer_name, variable.initial_value_name, variable.snapshot_name)


def _tensors_of(info: Any) -> Iterator[str]:
    if info.WhichOneof("encoding") == "coo_sparse":
        sparse = info.coo_sparse
        yield from (
            sparse.values_tensor_name,
            sparse.indices_tensor_name,
            sparse.dense_shape_tensor_name,
        )
    elif info.WhichOneof("encoding") == "composite_tensor":
        for component in info.composite_tensor.components:
            yield from _tensors_of(component)
    else:
        yield info.name


def _reached(
    meta_graph: Any, library: Mapping[str, Any], tensors: Iterable[str], functions: Iterable[str]
) -> set[tuple[str, str]]:
    """(function, node) of all that computing tensors of the main graph, and calling functions,
    runs. In a function all nodes count: what has side effects runs though nothing asks for it.
    """
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    reached: set[tuple[str, str]] = set()
    waiting = [_node_name(tensor) for tensor in tensors]
    called = list(functions)
    while waiting:
        name = waiting.pop()
        if ("", name) in reached or name not in nodes:
            continue
        reached.add(("", name))
        waiting += map(_node_name, nodes[name].input)
        called += _calls(nodes[name])
    entered: set[str] = set()
    while called:
        name = called.pop()
        if name in entered or name not in library:
            continue
        entered.add(name)
        for node in library[name].node_def:
            reached.add((name, node.name))
            called += _calls(node)
    return reached


def _node_name(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _calls(node: Any) -> Iterator[str]:
    """Names of the functions that an operation may call; its own, if that is a function's."""
    yield node.op
    for value in node.attr.values():
        yield value.func.name
        yield from (function.name for function in value.list.func)
