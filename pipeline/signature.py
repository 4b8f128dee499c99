"""What a model takes and what it calls its outputs: `Signature`, and reading one off a model.

The automatic batch size lives here too, since it is a pure function of the signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

Structure = Literal["tensor", "dict", "list"]

_BATCH_BYTES = 1 << 20
_LARGEST_BATCH = 8192
_SMALLEST_BATCH = 32
_STRING_BYTES = 16
"""What a string is taken to weigh when the batch size is chosen: it has no fixed width."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a model.

    Attributes:
        name: Key of a dict input, or the input's own name.
        shape: Shape of one row: () or (1,) for a scalar, (k,), (k, m) …
        dtype: numpy's name of its type, or `string`.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, as fed to the model."""
        import numpy as np

        width = _STRING_BYTES if self.dtype == "string" else np.dtype(self.dtype).itemsize
        for dimension in self.shape:
            width *= dimension or 1
        return width

    def __str__(self) -> str:
        shape = ", ".join(["n", *("?" if d is None else str(d) for d in self.shape)])
        return f"{self.name}: {self.dtype} ({shape})"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes, and what it calls its outputs.

    Attributes:
        inputs: Its inputs, in the order in which they are fed.
        structure: `tensor` if it takes one tensor, `dict` for named ones, `list` for a sequence.
        output_names: Names of its outputs in order, where it has them.
        custom_step: Whether its class overrides `predict_step`.
    """

    inputs: tuple[InputSpec, ...]
    structure: Structure
    output_names: tuple[str, ...]
    custom_step: bool

    def pack(self, arrays: Sequence[Any]) -> Any:
        """Arranges one array or tensor per input as `predict(dataset)` wants an element.

        A list becomes a tuple inside a tuple, since Keras takes a bare tuple for (x, y).
        """
        if self.structure == "dict":
            return {spec.name: array for spec, array in zip(self.inputs, arrays, strict=True)}
        if self.structure == "list":
            return (tuple(arrays),)
        return arrays[0]

    def batch_size(self) -> int:
        """The batch size for `auto`: a power of two whose features weigh about a mebibyte.

        A pure function of the signature, so that it is the same on every machine.
        """
        rows = max(1, _BATCH_BYTES // max(1, sum(spec.row_bytes for spec in self.inputs)))
        return max(_SMALLEST_BATCH, min(_LARGEST_BATCH, 1 << (rows.bit_length() - 1)))


def signature_of(model: Any, path: str) -> Signature:
    """Reads the signature of a loaded Keras model.

    Raises:
        ModelError: What it takes as input is unknown, or of a structure that columns cannot feed.
    """
    import keras

    custom_step = type(model).predict_step not in {
        getattr(base, "predict_step", None) for base in (keras.Model, keras.Sequential)
    }
    try:
        struct = model.input
    except (AttributeError, ValueError):
        struct = getattr(model, "inputs", None)  # a Sequential model has these alone
    if struct is None or (
        isinstance(struct, list) and not struct
    ):  # a subclassed model: it has no symbolic inputs
        inputs, structure = _built_inputs(model, path)
        names: tuple[str, ...] = ()
    else:
        inputs, structure = _symbolic_inputs(struct, path)
        names = tuple(getattr(model, "output_names", ()))
    return Signature(inputs, structure, names, custom_step)


def _symbolic_inputs(struct: Any, path: str) -> tuple[tuple[InputSpec, ...], Structure]:
    if isinstance(struct, dict):
        named = list(struct.items())
    elif isinstance(struct, (list, tuple)):
        named = [(getattr(tensor, "name", ""), tensor) for tensor in struct]
    else:
        return (_spec(struct.name, struct),), "tensor"
    if not all(hasattr(tensor, "dtype") for _, tensor in named):
        raise ModelError(
            "the model's inputs are nested",
            path=path,
            expected="a tensor, or a flat dict or list of tensors",
            hint="wrap the model in one whose inputs are a flat dict",
        )
    specs = tuple(_spec(name, tensor) for name, tensor in named)
    if isinstance(struct, dict):
        return specs, "dict"
    # A list of one is fed, and unpacked by Keras, like a single tensor.
    return (specs, "list") if len(specs) > 1 else (specs, "tensor")


def _spec(name: str, tensor: Any) -> InputSpec:
    return InputSpec(name, tuple(tensor.shape[1:]), str(tensor.dtype))


def _built_inputs(model: Any, path: str) -> tuple[tuple[InputSpec, ...], Structure]:
    """Inputs of a subclassed model, from the shapes that it was built with."""
    built = (model.get_build_config() or {}).get("input_shape")
    # Not input_dtype: under a mixed policy that is the type of the arithmetic, too narrow for ids.
    dtype = str(model.variable_dtype)
    if isinstance(built, dict):
        specs = [InputSpec(name, tuple(shape[1:]), dtype) for name, shape in built.items()]
        return tuple(specs), "dict"
    if isinstance(built, (list, tuple)) and all(isinstance(d, int | None) for d in built):
        return (InputSpec("features", tuple(built[1:]), dtype),), "tensor"
    raise ModelError(
        "the model does not say what it takes as input",
        path=path,
        expected="a subclassed model that was built on one tensor or a dict of tensors",
        received=f"input shape {built!r}",
        hint="call the model once on a batch before model.save()",
    )
