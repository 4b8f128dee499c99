"""What a job demands of a model's inputs, held against what the model declares.

A job may say a type or a shape where the model says none, and the length of a sequence where the
model takes any. What the model does declare is not up for choice. PURE.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError
from pipeline.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.input_options import InputOptions
    from pipeline.signature import InputSpec, Signature

_TYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "string"),
)


def refuse_unknown(signature: Signature, names: Iterable[str]) -> None:
    """Raises ConfigError if a job says anything of an input that the model does not have."""
    known = [spec.name for spec in signature.inputs]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"the model has no input {name!r}",
                expected=", ".join(known),
                hint=did_you_mean(name, known, "correct the [inputs] table of the TOML"),
            )


def refined(spec: InputSpec, said: InputOptions) -> InputSpec:
    """An input with what the job says of its type, its shape and its length.

    Raises:
        ConfigError: The model declares something else.
    """
    return _with_length(_with_shape(_with_type(spec, said), said), said)


def _with_type(spec: InputSpec, said: InputOptions) -> InputSpec:
    if said.dtype is None or said.dtype == spec.dtype:
        return spec
    if said.dtype not in _TYPES:
        raise ConfigError(
            f"[inputs.{spec.name}] says a type that there is not",
            expected=", ".join(_TYPES),
            received=f'dtype = "{said.dtype}"',
        )
    if spec.declared:
        raise ConfigError(
            f"[inputs.{spec.name}] says another type than the model declares",
            expected=str(spec),
            received=f'dtype = "{said.dtype}"',
            hint="leave dtype out: it is for models that do not declare their types",
        )
    return replace(spec, dtype=said.dtype)


def _with_shape(spec: InputSpec, said: InputOptions) -> InputSpec:
    if said.shape is None:
        return spec
    fits = len(said.shape) == len(spec.shape) and all(
        declared in {None, size} for declared, size in zip(spec.shape, said.shape, strict=True)
    )
    if spec.declared and not fits:
        raise ConfigError(
            f"[inputs.{spec.name}] says another shape than the model declares",
            expected=f"{spec}, where ? may be any size and n is no part of shape",
            received=f"shape = {list(said.shape)}",
            hint="leave shape out, or say a size for each ? alone",
        )
    return replace(spec, shape=said.shape)


def _with_length(spec: InputSpec, said: InputOptions) -> InputSpec:
    if said.length is None:
        return spec
    if not spec.shape:
        raise ConfigError(
            f"[inputs.{spec.name}] says a length, but the input is no sequence",
            expected="an input of shape (n, length) or (n, length, …)",
            received=str(spec),
            hint="leave length out",
        )
    first, *rest = spec.shape
    if first not in {None, said.length}:
        raise ConfigError(
            f"[inputs.{spec.name}] says another length than the model declares",
            expected=str(spec),
            received=f"length = {said.length}",
            hint=f"say length = {first}, or leave length out",
        )
    return replace(spec, shape=(said.length, *rest))
