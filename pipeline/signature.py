"""What a model takes and what it calls its outputs: `Signature`, and reading one off a model.

The automatic batch size lives here too, since it is a pure function of the signature.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import ModelError, UnknownInputsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pipeline.input_options import InputOptions

Structure = Literal["tensor", "dict", "list"]

_BATCH_BYTES = 2 << 20
"""Of features. What a call costs, whatever its rows, is a twentieth of such a batch's time."""
_LAYER_BYTES = 16 << 20
"""Of a layer's output. Bigger batches gain nothing and take memory several times over; from 32 MiB
on each call gets its memory from the kernel anew, page by page, for a seventh of its time."""
_LARGEST_BATCH = 16_384
_SMALLEST_BATCH = 32
_STRING_BYTES = 16
"""What a string is taken to weigh when the batch size is chosen: it has no fixed width."""

_WIDTHS = {"string": _STRING_BYTES, "bfloat16": 2}
"""Bytes of the types that numpy has no name for. What is in neither is taken for 8."""

_NARROW = ("float8", "float6", "float4", "int4", "uint4", "int2", "uint2")
"""Types of a byte at most, to which numpy's names depend on what else has been imported."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a model.

    Attributes:
        name: Key of a dict input, or the input's own name.
        shape: Shape of one row: () or (1,) for a scalar, (k,), (k, m) …
        dtype: numpy's name of its type, `bfloat16`, or `string`.
        declared: Whether the model says so itself. A subclassed model knows the shapes it was
            built on, but no types: then `dtype` is a guess, and the job may say otherwise.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    declared: bool = True

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, as fed to the model."""
        width = _width(self.dtype)
        for dimension in self.shape:
            width *= dimension or 1
        return width

    def __str__(self) -> str:
        shape = ", ".join(["n", *("?" if d is None else str(d) for d in self.shape)])
        return f"{self.name}: {self.dtype} ({shape})"


def _width(dtype: str) -> int:
    import numpy as np

    if dtype.startswith(_NARROW):
        return 1
    try:
        return _WIDTHS.get(dtype) or np.dtype(dtype).itemsize
    except TypeError:
        return 8


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes, and what it calls its outputs.

    Attributes:
        inputs: Its inputs, in the order in which they are fed.
        structure: `tensor` if it takes one tensor, `dict` for named ones, `list` for a sequence.
        output_names: Names of its outputs in order, where it has them.
        custom_step: Whether its class overrides `predict_step`.
        nest: If the dict or list holds others, how: dicts and tuples with the places of `inputs`
            as their leaves; None: it is flat.
        widest: Bytes of a row of the widest output of a layer; 0 if the layers do not tell.
    """

    inputs: tuple[InputSpec, ...]
    structure: Structure
    output_names: tuple[str, ...]
    custom_step: bool
    nest: Any = None
    widest: int = 0

    def pack(self, arrays: Sequence[Any]) -> Any:
        """Arranges one array or tensor per input as `predict(dataset)` wants an element.

        A list becomes a tuple inside a tuple, since Keras takes a bare tuple for (x, y).
        """
        if self.nest is not None:
            packed = _filled(self.nest, arrays)
            return (packed,) if self.structure == "list" else packed
        if self.structure == "dict":
            return {spec.name: array for spec, array in zip(self.inputs, arrays, strict=True)}
        if self.structure == "list":
            return (tuple(arrays),)
        return arrays[0]

    def batch_size(self) -> int:
        """The batch size for `auto`: a power of two whose features weigh about 2 MiB, or less if
        a layer's output would weigh more than 16 MiB.

        A pure function of the signature, so that it is the same on every machine.
        """
        rows = _BATCH_BYTES // max(1, sum(spec.row_bytes for spec in self.inputs))
        rows = max(1, min(rows, _LAYER_BYTES // max(1, self.widest)))
        return max(_SMALLEST_BATCH, min(_LARGEST_BATCH, 1 << (rows.bit_length() - 1)))


def _filled(nest: Any, arrays: Sequence[Any]) -> Any:
    if isinstance(nest, dict):
        return {key: _filled(inner, arrays) for key, inner in nest.items()}
    if isinstance(nest, tuple):
        return tuple(_filled(inner, arrays) for inner in nest)
    return arrays[nest]


def signature_of(
    model: Any, path: str, said: Mapping[str, InputOptions] | None = None
) -> Signature:
    """Reads the signature of a loaded Keras model.

    Args:
        model: The model.
        path: How the job names it, for errors.
        said: What the job says of its inputs, for a model that says nothing.

    Raises:
        UnknownInputsError: Neither the model nor the job says what it takes.
        ModelError: It was never built, so it has no weights.
    """
    import keras

    custom_step = type(model).predict_step not in {
        getattr(base, "predict_step", None) for base in (keras.Model, keras.Sequential)
    }
    try:
        struct = model.input
    except (AttributeError, ValueError):
        struct = getattr(model, "inputs", None)  # a Sequential model has these alone
    if struct is None or (isinstance(struct, list) and not struct):
        # A subclassed model has no symbolic inputs.
        taken, outputs = _built(model, path, said or {}), ()
    else:
        taken, outputs = _symbolic(struct), tuple(getattr(model, "output_names", ()))
    names = [spec.name for spec in taken.inputs]
    if len(set(names)) < len(names):
        raise ModelError(
            "two inputs of the model have one name",
            path=path,
            received=", ".join(names),
            hint="rename one: the inputs of a dict in a dict are named with dots between the keys",
        )
    return replace(
        taken, output_names=outputs, custom_step=custom_step, widest=_widest_output(model)
    )


def _widest_output(model: Any) -> int:
    """Bytes of a row of the widest output of a layer, as far as layers tell what they give."""
    import keras

    widest = 0
    layers = getattr(model, "layers", ())
    for layer in layers if isinstance(layers, list) else ():  # a user's layer may count them in it
        widest = max(widest, _widest_output(layer))
        try:
            outputs = keras.tree.flatten(layer.output)
        except (AttributeError, ValueError):  # called never, or more than once
            continue
        for tensor in outputs:
            spec = InputSpec("", tuple(getattr(tensor, "shape", ())[1:]), str(tensor.dtype))
            widest = max(widest, spec.row_bytes)
    return widest


def _symbolic(struct: Any) -> Signature:
    """What a model takes whose inputs are symbolic tensors, in dicts and lists."""
    # A list of one is fed, and unpacked by Keras, like a single tensor.
    if isinstance(struct, (list, tuple)) and len(struct) == 1 and hasattr(struct[0], "dtype"):
        (struct,) = struct
    return _signature(
        struct,
        is_leaf=lambda node: not isinstance(node, (dict, list, tuple)),
        spec=lambda name, tensor: InputSpec(
            name or tensor.name, tuple(tensor.shape[1:]), str(tensor.dtype)
        ),
        own_name=lambda tensor, place: getattr(tensor, "name", str(place)),
    )


def _built(model: Any, path: str, said: Mapping[str, InputOptions]) -> Signature:
    """What a subclassed model takes: the shapes that it was built with, or what the job says."""
    if not model.built:
        raise ModelError(
            "the model was saved before it was built: it has no weights",
            path=path,
            expected="a model that was trained, or called once",
            hint="call the model on a batch, train it, then model.save()",
        )
    shapes = (model.get_build_config() or {}).get("input_shape")
    # Not input_dtype: under a mixed policy that is the type of the arithmetic, too narrow for ids.
    dtype = str(model.variable_dtype)
    if _is_nest_of_shapes(shapes):
        return _signature(
            shapes,
            is_leaf=_is_shape,
            spec=lambda name, shape: InputSpec(
                name or "features", tuple(shape[1:]), dtype, declared=False
            ),
            own_name=lambda _, place: f"features_{place}",
        )
    if said and all(options.dtype and options.shape is not None for options in said.values()):
        return said_signature(said)
    raise UnknownInputsError(
        "the model does not say what it takes as input",
        path=path,
        expected="a model that was built on a tensor, or on dicts and lists of tensors",
        received="no input shape" if shapes is None else f"input shape {shapes!r}",
        hint="say it in the TOML, with a table for each input: [inputs.NAME] with "
        'columns = ["…"], dtype = "float32" and shape = [3], the shape of one row '
        "([] for a scalar); or call the model once on a batch before model.save()",
    )


def said_signature(said: Mapping[str, InputOptions]) -> Signature:
    """The signature of a model that says nothing, as the job's tables say it: a tensor if there is
    one table, a dict of tensors if there are several."""
    specs = tuple(
        InputSpec(name, options.shape or (), options.dtype or "float32", declared=False)
        for name, options in said.items()
    )
    return Signature(specs, "tensor" if len(specs) == 1 else "dict", (), custom_step=False)


def _is_shape(node: Any) -> bool:
    return (
        isinstance(node, (list, tuple))
        and len(node) > 0
        and all(isinstance(size, int | None) for size in node)
    )


def _is_nest_of_shapes(node: Any) -> bool:
    if isinstance(node, dict):
        return bool(node) and all(map(_is_nest_of_shapes, node.values()))
    if _is_shape(node):
        return True
    return isinstance(node, (list, tuple)) and bool(node) and all(map(_is_nest_of_shapes, node))


def _signature(
    struct: Any,
    is_leaf: Callable[[Any], bool],
    spec: Callable[[str, Any], InputSpec],
    own_name: Callable[[Any, int], str],
) -> Signature:
    """Flattens what a model takes: nested ones get dotted names.

    Args:
        struct: Dicts and lists with leaves.
        is_leaf: Whether a node is a leaf.
        spec: (name, or "" if it stands alone; leaf) → its spec.
        own_name: (leaf or list in a list; its place there) → what it is called.
    """
    if is_leaf(struct):
        return Signature((spec("", struct),), "tensor", (), custom_step=False)
    specs: list[InputSpec] = []

    def number(node: Any, name: str) -> Any:
        if is_leaf(node):
            specs.append(spec(name, node))
            return len(specs) - 1
        if isinstance(node, dict):
            return {key: number(inner, _dotted(name, str(key))) for key, inner in node.items()}
        return tuple(
            number(inner, _dotted(name, str(place) if name else own_name(inner, place)))
            for place, inner in enumerate(node)
        )

    nest = number(struct, "")
    inner = nest.values() if isinstance(nest, dict) else nest
    flat = all(isinstance(place, int) for place in inner)
    structure: Structure = "dict" if isinstance(nest, dict) else "list"
    return Signature(tuple(specs), structure, (), custom_step=False, nest=None if flat else nest)


def _dotted(name: str, inner: str) -> str:
    return f"{name}.{inner}" if name else inner
