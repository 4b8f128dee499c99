"""SavedModels: which signature is called, what it takes, and a Keras model around it.

The model that comes out has `predict()`, `predict_on_batch()` and `predict_step()` like any other,
so all that scores needs no word about SavedModels. A signature is called with its inputs by name;
with one input it may be given the bare tensor, with one output it returns the bare tensor.

What may be in the graph is `graph_ops`' matter, and is looked at before TensorFlow loads anything.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError, shortened
from pipeline.graph_files import refuse_other_files
from pipeline.graph_ops import changing_op, refuse_unsafe
from pipeline.model_folder import SAVED_MODEL
from pipeline.runtime import tensorflow
from pipeline.signature import InputSpec, Signature
from pipeline.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Callable

_SERVE = "serve"
_DEFAULT = "serving_default"
_INTERNAL = {"__saved_model_init_op", "__saved_model_train_op"}


@dataclass(frozen=True, slots=True)
class _Kept:
    """A signature, and what it is of: the signature alone does not keep its variables."""

    loaded: Any
    function: Callable[..., Any]


def load_saved_model(folder: Path, path: str, signature: str | None) -> tuple[Any, Signature]:
    """Loads a SavedModel, and wraps one of its signatures.

    Args:
        folder: Its folder on the local disk.
        path: How the job names it, for errors.
        signature: The signature's name; None: `serving_default`, or the only one.

    Returns:
        A Keras model, and what it takes.

    Raises:
        ModelError: It is damaged, refused, or has no such signature; or columns cannot feed it.
    """
    tensorflow()
    meta_graph = _serving_graph(folder, path)
    refuse_unsafe(meta_graph, path)
    refuse_other_files(meta_graph, path)
    name = _chosen(meta_graph, path, signature)
    stored = meta_graph.signature_def[name]
    specs = _specs(stored, name, path)
    _refuse_changing(meta_graph, stored, name, path)
    loaded = _loaded(meta_graph, folder, path)
    model = _as_keras(loaded, loaded.signatures[name], [spec.name for spec in specs])
    return model, Signature(specs, "tensor" if len(specs) == 1 else "dict", (), custom_step=False)


def _serving_graph(folder: Path, path: str) -> Any:
    """The graph that is meant for serving, as a `MetaGraphDef`."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    data = (folder / SAVED_MODEL).read_bytes()
    stored = saved_model_pb2.SavedModel()
    try:
        stored.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(
            "the SavedModel is damaged",
            path=path,
            expected=f"a protocol buffer in {SAVED_MODEL}",
            received=f"{len(data):,} bytes that are none",
            hint="save or copy the model again",
        ) from error
    tags = [list(graph.meta_info_def.tags) for graph in stored.meta_graphs]
    if len(tags) == 1:
        return stored.meta_graphs[0]
    if tags.count([_SERVE]) == 1:
        return stored.meta_graphs[tags.index([_SERVE])]
    raise ModelError(
        "the SavedModel holds no graph for serving",
        path=path,
        expected=f"one graph, or one that is tagged {_SERVE!r}",
        received="; ".join(", ".join(each) or "no tag" for each in tags) or "no graph",
        hint="save the model again with tf.saved_model.save()",
    )


def _chosen(meta_graph: Any, path: str, wanted: str | None) -> str:
    names = sorted(
        str(name)
        for name, stored in meta_graph.signature_def.items()
        if name not in _INTERNAL and stored.outputs
    )
    if wanted is None:
        if _DEFAULT in names:
            return _DEFAULT
        if len(names) == 1:
            return names[0]
    elif wanted in names:
        return wanted
    if not names:
        hint = "save it with tf.saved_model.save(model, folder, signatures=model.function)"
    elif wanted is None:
        hint = f"save the one that is to be called under the name {_DEFAULT}"
    else:
        hint = "name one of these"
    raise ModelError(
        "the SavedModel does not say which signature is to be called"
        if wanted is None
        else f"the SavedModel has no signature {wanted!r}",
        path=path,
        expected=f"a signature {_DEFAULT!r}, or only one" if wanted is None else None,
        received=f"signatures {shortened(names)}" if names else "no signature",
        hint=hint,
    )


def _specs(stored: Any, signature: str, path: str) -> tuple[InputSpec, ...]:
    tf = tensorflow()
    specs = []
    for name, info in sorted(stored.inputs.items()):
        shape = info.tensor_shape
        sizes = [None if dim.size < 0 else dim.size for dim in shape.dim]
        if info.WhichOneof("encoding") in {"coo_sparse", "composite_tensor"}:
            fault = "a sparse or ragged tensor"
        elif shape.unknown_rank:
            fault = "a tensor of no known shape"
        elif not sizes:
            fault = "a single value, the same for all rows"
        elif sizes[0] is not None:
            fault = f"shape {tuple(sizes)}, for batches of exactly {sizes[0]}"
        else:
            dtype = tf.dtypes.as_dtype(info.dtype).base_dtype.name
            specs.append(InputSpec(name, tuple(sizes[1:]), dtype))
            continue
        raise ModelError(
            f"the input {name!r} of the SavedModel cannot be fed in batches",
            path=path,
            expected="a dense tensor whose first dimension is open: shape (None, …)",
            received=f"{fault}, in signature {signature!r}",
            hint=f"save it with tf.TensorSpec([None, …], name={name!r}) in the signature",
        )
    if not specs:
        raise ModelError(
            "the SavedModel takes no input",
            path=path,
            received=f"signature {signature!r} without inputs",
            hint="save it with a signature that takes the features",
        )
    return tuple(specs)


def _refuse_changing(meta_graph: Any, stored: Any, signature: str, path: str) -> None:
    found = changing_op(meta_graph, [info.name for info in stored.outputs.values()])
    if found is not None:
        raise ModelError(
            "the model keeps state between batches, so its predictions depend on their order",
            path=path,
            expected=f"a signature {signature!r} that changes no variable and no table",
            received=found,
            hint="score the .keras file: model.export() saves some models as they are in training "
            "(BatchNormalization after Resizing)\nor save tf.function(lambda x: "
            "model(x, training=False), input_signature=…) as the signature",
        )


def _loaded(meta_graph: Any, folder: Path, path: str) -> Any:
    """The SavedModel as TensorFlow 2 loads it, or else as TensorFlow 1 did.

    The first rebuilds the objects that were saved, and some it no longer can. The second needs the
    graph alone. TensorFlow is given a private folder with the graph that was looked at and no
    other, beside links to the variables and the assets: of the model's own folder it might take a
    graph that has the same tags, or one that was put there meanwhile.
    """
    # What an optimizer kept for each weight: not needed, and old ones cannot be made again.
    for node in meta_graph.object_graph_def.nodes:
        node.ClearField("slot_variables")
    with tempfile.TemporaryDirectory(prefix="shardscore-", dir=temporary_folder()) as private:
        for name in ("variables", "assets"):
            if (folder / name).exists():
                (Path(private) / name).symlink_to((folder / name).resolve())
        try:
            return _load_written(meta_graph, private)
        # It raises whatever the objects raise that it rebuilds.
        except Exception as error:
            if meta_graph.HasField("object_graph_def"):
                meta_graph.ClearField("object_graph_def")
                # It is no signature that can be called, and one with assets stands in the way.
                meta_graph.signature_def.pop("__saved_model_init_op", None)
                # What the first attempt said is nearer to the cause.
                with suppress(Exception):
                    return _load_written(meta_graph, private)
            raise _load_error(error, private, path) from error


def _load_written(meta_graph: Any, private: str) -> Any:
    from tensorflow.core.protobuf import saved_model_pb2

    program = saved_model_pb2.SavedModel(saved_model_schema_version=1, meta_graphs=[meta_graph])
    (Path(private) / SAVED_MODEL).write_bytes(program.SerializeToString())
    return tensorflow().saved_model.load(private)


def _load_error(error: Exception, private: str, path: str) -> ModelError:
    text = str(error).replace(private, path).strip()
    first = (text.splitlines() or [""])[0]
    return ModelError(
        "the SavedModel cannot be loaded",
        path=path,
        expected="a SavedModel that TensorFlow "
        f"{tensorflow().__version__} loads, with its variables and assets beside it",
        received=f"{type(error).__name__}: {first}",
        hint="copy the whole folder again, or save the model with this version of TensorFlow",
    )


def _as_keras(loaded: Any, function: Callable[..., Any], names: list[str]) -> Any:
    import keras

    class SavedModel(keras.Model):  # type: ignore[misc] # keras has no types
        """Calls a signature: a dict of tensors, or a bare one, to a dict, or a bare one."""

        def __init__(self) -> None:
            super().__init__(autocast=False, name="saved_model")
            self._kept = _Kept(loaded, function)
            self.supports_jit = False  # its graph is compiled as it was saved
            self.built = True

        def call(self, inputs: Any) -> Any:
            given = inputs if isinstance(inputs, dict) else {names[0]: inputs}
            outputs = self._kept.function(**{name: given[name] for name in names})
            if len(outputs) == 1:
                return next(iter(outputs.values()))
            return {name: outputs[name] for name in sorted(outputs)}

    return SavedModel()
