"""What is wrong with a column that is to feed an input, and what to do about it, in words."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.types as pt

from pipeline.columns import Column, nesting, value_type
from pipeline.conversions import (
    MANTISSA,
    TYPES,
    UNITS,
    is_bytes,
    is_text,
    is_time,
    unit_of,
)
from pipeline.errors import ContractError, shortened
from pipeline.toml_text import toml_key, toml_value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.input_options import InputOptions, Unit
    from pipeline.signature import InputSpec

MANY = 8
"""More columns than this are not listed one by one in a flag that is to be pasted."""


def wrong_type(
    column: Column,
    spec: InputSpec,
    options: InputOptions,
    time_unit: Unit | None = None,
    expected: str | None = None,
) -> ContractError:
    """A column of a type that its input cannot take, or cannot without a word more."""
    kind = value_type(column.type)
    if is_time(kind) and (options.unit or time_unit) is None and spec.dtype in TYPES - {"bool"}:
        unit = unit_of(kind)
        return ContractError(
            "what the times of a column are counted in is not said",
            column=column.name,
            expected=f"a unit for {spec}",
            received=f"column {column.name}: {column.type}",
            hint=f'say it: --time-unit {unit}, or unit = "{unit}" in {table_of(spec)} of the job '
            f"file ({', '.join(UNITS)})",
        )
    if options.image is not None:
        expected = "encoded images: binary"
    return ContractError(
        "a column has a type that its input cannot take",
        column=column.name,
        expected=expected or f"values for {spec}",
        received=f"column {column.name}: {column.type}",
        hint=_about_type(column, spec, options),
    )


def _about_type(column: Column, spec: InputSpec, options: InputOptions) -> str:
    """What to do about a type, by what the type is."""
    levels, values = nesting(column.type)[0], value_type(column.type)
    table = table_of(spec)
    whole = spec.dtype in TYPES and spec.dtype not in {*MANTISSA, "bool"}
    if options.image is not None:
        return f"bind another column, or remove image from {table}"
    if pt.is_struct(values) and not levels:
        fields = [f"{column.name}.{values.field(i).name}" for i in range(values.num_fields)]
        return f"name a field of it: {shortened(fields)}"
    if pt.is_struct(values):
        return "structs inside lists feed no input: write their field as a column of lists"
    if spec.dtype not in {*TYPES, "string"}:
        return "no column feeds an input of this type: a preprocess hook can make it"
    if is_bytes(values) and spec.dtype != "string":
        return (
            f'if the column holds encoded images, say so: image = {{ scale = "none" }} in {table}, '
            'or "0..1" or "-1..1", as in the training'
        )
    if is_text(values) and spec.dtype != "string":
        return "texts are not read as numbers: convert the column when the shard is written"
    if whole and (pt.is_floating(values) or pt.is_decimal(values)):
        return "fractions are not cut to integers: convert the column when the shard is written"
    if spec.dtype == "bool":
        return "numbers are not read as true and false: write the column as booleans"
    if spec.dtype == "string":
        return "values are not written as texts here: write the column as strings"
    return "columns of this type feed no input: write it as numbers, texts or lists of them"


def wrong_shape(
    column: Column, levels: tuple[int | None, ...], spec: InputSpec, options: InputOptions
) -> ContractError:
    """A column of lists of another depth or length than its input."""
    hint = "bind another column"
    if len(levels) != len(spec.shape):
        depth = len(spec.shape)
        words = {0: "of single values", 1: "of lists"}.get(depth, f"of lists nested {depth} deep")
        hint = f"bind a column {words}"
    elif levels[1:] == spec.shape[1:] and not isinstance(column.type, pa.FixedShapeTensorType):
        wanted = spec.shape[0]
        if options.length is None:
            hint += f", or have each list padded or cut: length = {wanted}"
            hint += f' and truncate = "end" in {table_of(spec)}'
        else:
            hint += f', or have each list cut: truncate = "end" in {table_of(spec)}'
    return ContractError(
        "a column holds lists of a shape that its input cannot take",
        column=column.name,
        expected=f"values for {spec}",
        received=f"column {column.name}: {column.type}",
        hint=hint,
    )


def unknown_length(column: Column, name: str, expected: str, *, inner: bool) -> ContractError:
    """Lists of any length for an input of any length."""
    table = f"[inputs.{toml_key(name)}]"
    hint = (
        f"say it in the job file: shape = [N, …] in {table}, a size for each level; lists of "
        "another length are bad rows"
        if inner
        else f"say it in the job file: length = N in {table}; shorter lists are padded, longer "
        'ones are bad rows unless truncate = "end" or "start"'
    )
    return ContractError(
        "how long the lists of a column are to be made is not said",
        column=column.name,
        expected=expected,
        received=f"column {column.name}: {column.type}",
        hint=hint,
    )


def wrong_padding(column: Column, spec: InputSpec, value: object) -> ContractError:
    """Sequences that are to be padded with what the input does not hold."""
    return ContractError(
        "the input does not hold what its sequences are to be padded with",
        column=column.name,
        expected=f"a value for {spec}",
        received=f"pad_value = {toml_value(value)}",
        hint=f"correct pad_value in {table_of(spec)}",
    )


def permuted(column: Column) -> ContractError:
    """Tensors whose values are not in the order of their dimensions."""
    return ContractError(
        "a column of tensors is stored with its dimensions in another order",
        column=column.name,
        expected="a tensor without a permutation",
        received=f"column {column.name}: {column.type}",
        hint="store the values in the order of their dimensions",
    )


def needless(option: str, column: Column, spec: InputSpec, expected: str) -> ContractError:
    """An option that says nothing of the column that it is given for."""
    return ContractError(
        f"{option} is said of an input whose column does not need it",
        column=column.name,
        expected=expected,
        received=f"column {column.name}: {column.type}",
        hint=f"remove {option} from {table_of(spec)}, or bind another column",
    )


def lossy(uses: Iterable[tuple[str, str, pa.DataType]]) -> ContractError:
    """All the columns that would lose precision, as one error.

    Args:
        uses: For each: the input's type, the column's name and its type.
    """
    kinds: dict[str, list[str]] = {}
    for dtype, column, kind in uses:
        kinds.setdefault(f"{kind} to {dtype}", []).append(column)
    names = list(dict.fromkeys(name for columns in kinds.values() for name in columns))
    listed = ["*"] if len(names) > MANY else names
    flags = " ".join(f"--allow-lossy {shlex.quote(name)}" for name in listed)
    return ContractError(
        "values would lose precision on their way into the model",
        column=shortened(names),
        expected="types whose values the model's inputs hold",
        received="\n".join(f"{kind}: {shortened(columns)}" for kind, columns in kinds.items()),
        hint=f"if they may be rounded, allow it: {flags}\n"
        f"(in the job file: allow_lossy = {toml_value(listed)}); or write the columns in the "
        "input's type",
    )


def table_of(spec: InputSpec) -> str:
    """The table of the job file that says how an input is read."""
    return f"[inputs.{toml_key(spec.name)}]"
