"""What is wrong with a column that is to feed an input, and what to do about it, in words."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.types as pt

from pipeline.columns import Column, nesting
from pipeline.conversions import MANTISSA, is_bytes, is_text, is_time
from pipeline.errors import ContractError, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.input_options import InputOptions, Unit
    from pipeline.signature import InputSpec

MANY = 8
"""More columns than this are not listed one by one in a flag that is to be pasted."""


def wrong_type(
    column: Column, spec: InputSpec, options: InputOptions, time_unit: Unit | None = None
) -> ContractError:
    """A column of a type that its input cannot take."""
    _, values = nesting(column.type)
    if pt.is_dictionary(values):
        values = values.value_type
    table = f"[inputs.{spec.name}]"
    hint = "convert the column when the shard is written, or bind another one"
    if is_time(values) and (options.unit or time_unit) is None:
        hint = f'say what it is counted in: --time-unit s, or unit = "s" in {table}'
    elif pt.is_struct(values) and not nesting(column.type)[0]:
        names = [f"{column.name}.{values.field(i).name}" for i in range(values.num_fields)]
        hint = f"name a field of it: {shortened(names)}"
    elif is_bytes(values) and spec.dtype != "string":
        hint = f"if the column holds encoded images, say so: image = true in {table}"
    elif pt.is_floating(values) and spec.dtype not in {*MANTISSA, "string", "bool"}:
        hint = "floats are not cut to integers: convert the column when the shard is written"
    elif is_text(values) and spec.dtype != "string":
        hint = "texts are not read as numbers: convert the column when the shard is written"
    return ContractError(
        "a column has a type that its input cannot take",
        column=column.name,
        expected=f"values for {spec}",
        received=f"column {column.name}: {column.type}",
        hint=hint,
    )


def needless(option: str, column: Column, spec: InputSpec, expected: str) -> ContractError:
    """An option that says nothing of the column that it is given for."""
    return ContractError(
        f"{option} is said of an input whose column does not need it",
        column=column.name,
        expected=expected,
        received=f"column {column.name}: {column.type}",
        hint=f"remove {option} from [inputs.{spec.name}], or bind another column",
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
    if len(names) > MANY:
        flags, listed = "--allow-lossy '*'", '"*"'
    else:
        flags = " ".join(f"--allow-lossy {shlex.quote(name)}" for name in names)
        listed = ", ".join(f'"{name}"' for name in names)
    return ContractError(
        "values would lose precision on their way into the model",
        column=shortened(names),
        expected="types whose values the model's inputs hold",
        received="\n".join(f"{kind}: {shortened(columns)}" for kind, columns in kinds.items()),
        hint=f"if they may be rounded, allow it: {flags}\n"
        f"(in the job file: allow_lossy = [{listed}]); or write the columns in the input's type",
    )
