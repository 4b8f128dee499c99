"""PURE: which files the graph of a SavedModel may read: its assets, and no others.

A table can be filled from a text file. TensorFlow takes the file's name from a tensor, which may
hold any path or address, and come from a row: a model could give the lines of any file for
predictions, or send a row's values to a server as the name of a file that it seeks there. So the
tensor is followed back to where it comes from, through functions and their callers, and must be
one that loading fills with the path of an asset. What cannot be followed is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

_READS = {"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"}
_FILENAME = 1
"""Which input of these is the file's name."""

_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
_PASSES = {"Identity", "ReadVariableOp"}
_ASSETS = "saved_model_assets"


def refuse_other_files(meta_graph: Any, path: str) -> None:
    """Raises ModelError unless each file that a graph reads is an asset of its model.

    Args:
        meta_graph: A `MetaGraphDef`.
        path: Of the model, for the error.
    """
    assets = list(_assets(meta_graph))
    for asset in assets:
        name = PurePosixPath(asset.filename)
        if name.is_absolute() or ".." in name.parts:
            raise _refusal(
                path, f"the asset {asset.filename!r}", "its name leads out of the folder"
            )
    origins = _Origins(meta_graph, {_node(asset.tensor_info.name) for asset in assets})
    for function, node in origins.all_nodes():
        if node.op in _READS and not origins.is_asset(function, _data(node)[_FILENAME], ()):
            where = f"the function {function}" if function else "the main graph"
            raise _refusal(
                path,
                f"operation {node.op} ({node.name!r} in {where})",
                "the name of the file that it reads is not that of an asset",
            )


def _refusal(path: str, found: str, why: str) -> ModelError:
    return ModelError(
        "the model is refused: it reads a file outside of its folder",
        path=path,
        expected="assets in the model's own folder",
        received=f"{found}: {why}",
        hint="do not run this model unless you know why it does so",
    )


def _assets(meta_graph: Any) -> Iterator[Any]:
    """Where a model says which tensor gets the path of which asset; TensorFlow 1 said it apart."""
    from tensorflow.core.protobuf import meta_graph_pb2

    yield from meta_graph.asset_file_def
    if _ASSETS in meta_graph.collection_def:
        for packed in meta_graph.collection_def[_ASSETS].any_list.value:
            asset = meta_graph_pb2.AssetFileDef()
            if packed.Unpack(asset):
                yield asset


def _node(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _data(node: Any) -> list[str]:
    """A node's inputs without those that only order it."""
    return [name for name in node.input if not name.startswith("^")]


@dataclass(slots=True)
class _Origins:
    """Where tensors come from.

    Attributes:
        meta_graph: The graph.
        assets: Nodes of the main graph that loading fills with the paths of assets.
    """

    meta_graph: Any
    assets: set[str]
    _functions: dict[str, Any] = field(init=False)
    _nodes: dict[str, dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        graph = self.meta_graph.graph_def
        self._functions = {f.signature.name: f for f in graph.library.function}
        self._nodes = {
            "": {node.name: node for node in graph.node},
            **{
                name: {node.name: node for node in function.node_def}
                for name, function in self._functions.items()
            },
        }

    def all_nodes(self) -> Iterator[tuple[str, Any]]:
        """(function, node); the function is empty for the main graph."""
        for function, nodes in self._nodes.items():
            for node in nodes.values():
                yield function, node

    def is_asset(self, function: str, tensor: str, above: tuple[tuple[str, str], ...]) -> bool:
        """Whether a tensor can be nothing but the path of an asset.

        Args:
            function: Where it is.
            tensor: Its name there.
            above: What was asked on the way here, for graphs that go round in circles.
        """
        name = _node(tensor)
        if (function, name) in above:
            return False
        above = (*above, (function, name))
        if not function and name in self.assets:
            return True
        node = self._nodes[function].get(name)
        if node is None:
            arguments = [] if not function else self._arguments(function)
            return name in arguments and self._given(function, arguments.index(name), above)
        if node.op == "VarHandleOp":
            return self._holds_asset(function, name, above)
        inputs = _data(node)
        return node.op in _PASSES and bool(inputs) and self.is_asset(function, inputs[0], above)

    def _arguments(self, function: str) -> list[str]:
        return [argument.name for argument in self._functions[function].signature.input_arg]

    def _given(self, function: str, place: int, above: tuple[tuple[str, str], ...]) -> bool:
        """Whether each caller of a function gives it an asset's path in a place."""
        objects = self.meta_graph.object_graph_def
        if function in objects.concrete_functions:
            # What a function holds on to comes behind what it is given.
            bound = objects.concrete_functions[function].bound_inputs
            held = place - (len(self._arguments(function)) - len(bound))
            if held < 0 or objects.nodes[bound[held]].WhichOneof("kind") != "asset":
                return False
        for caller, node in self.all_nodes():
            if node.op == function or (node.op in _CALLS and node.attr["f"].func.name == function):
                inputs = _data(node)
                if place >= len(inputs) or not self.is_asset(caller, inputs[place], above):
                    return False
            elif any(
                value.func.name == function or function in {f.name for f in value.list.func}
                for value in node.attr.values()
            ):
                return False  # a branch or a loop
        return True

    def _holds_asset(
        self, function: str, variable: str, above: tuple[tuple[str, str], ...]
    ) -> bool:
        """Whether a variable is set to an asset's path, and to nothing else, by anything."""
        if function:
            return False
        set_by = [n for n in self._nodes[""].values() if variable in map(_node, _data(n))]
        values = [_data(n)[1] for n in set_by if n.op == "AssignVariableOp"]
        others = {"AssignVariableOp", "ReadVariableOp", "VarIsInitializedOp"}
        return (
            bool(values)
            and {n.op for n in set_by} <= others
            and all(self.is_asset("", value, above) for value in values)
        )
