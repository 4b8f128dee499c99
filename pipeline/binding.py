"""Binding: which column feeds which input of the model, checked before any row is read.

Owns: choosing the columns (`resolve`), and checking a shard's schema against them (`check`);
`pipeline.extract` then converts the values. Nothing is coerced in silence: each use of
a column is exact, or rounds floats and says so, or is checked value by value; a row whose value
the input cannot hold is a bad row, named with its column and the value.

What feeds an input of one row's shape () or (1,): one column of scalars. Shape (k,): k such
columns in order, or one list column of width k.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from pipeline.errors import ConfigError, ContractError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.input_options import InputOptions, Unit
    from pipeline.signature import InputSpec


class Fed(Protocol):
    """What columns are to feed: a model's signature, or the feed made for it."""

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The inputs, in order."""


Conversion = Literal["exact", "rounded", "checked"]

MANTISSA = {"float16": 11, "float32": 24, "float64": 53}
"""Bits of an integer that each float type holds exactly."""


@dataclass(frozen=True, slots=True)
class ColumnUse:
    """One column that feeds an input.

    Attributes:
        column: Its name.
        type: Its Arrow type.
        conversion: `exact`; `rounded` (to the nearest float of the input's type); or `checked`
            (each value must be held exactly, else its row is bad).
        width: For a list column, the width that each list must have; None for scalars.
    """

    column: str
    type: pa.DataType
    conversion: Conversion
    width: int | None


@dataclass(frozen=True, slots=True)
class InputBinding:
    """One input of the model and the columns that feed it."""

    spec: InputSpec
    uses: tuple[ColumnUse, ...]


@dataclass(frozen=True, slots=True)
class Binding:
    """All inputs of a model, bound to the columns of one schema."""

    inputs: tuple[InputBinding, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the model reads, each once."""
        return tuple(dict.fromkeys(use.column for bound in self.inputs for use in bound.uses))


def resolve(
    fed: Fed,
    schema: pa.Schema,
    features: Sequence[str] = (),
    inputs: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, tuple[str, ...]]:
    """Chooses the columns of each input of the model.

    An input that the job maps takes the columns it names; otherwise the column of the input's own
    name; otherwise, for a model with a single input, the only list column of its width.

    Raises:
        ConfigError: The job maps what the model does not have, or maps nothing where it must.
        ContractError: An input finds no column, or the job names one that is not there.
    """
    wanted = dict(inputs or {})
    if features:
        if len(fed.inputs) > 1:
            raise ConfigError(
                "--features is for a model with a single input",
                received="inputs " + ", ".join(spec.name for spec in fed.inputs),
                hint="map each input to its columns in the [inputs] table of the TOML",
            )
        wanted = {fed.inputs[0].name: features}
    names = [spec.name for spec in fed.inputs]
    for name in wanted:
        if name not in names:
            raise ConfigError(
                f"the model has no input {name!r}",
                expected=", ".join(names),
                hint="correct the [inputs] table of the TOML",
            )
    return {spec.name: _columns_of(spec, schema, wanted, fed) for spec in fed.inputs}


def _columns_of(
    spec: InputSpec,
    schema: pa.Schema,
    wanted: Mapping[str, Sequence[str]],
    fed: Fed,
) -> tuple[str, ...]:
    if spec.name in wanted:
        return expand(wanted[spec.name], schema, f"input {spec.name!r}")
    if spec.name in schema.names:
        return (spec.name,)
    if len(fed.inputs) == 1:
        lists = [f.name for f in schema if _list_width_fits(f.type, spec)]
        if len(lists) == 1:
            return (lists[0],)
        raise ConfigError(
            "which columns feed the model is not said",
            expected=f"columns for {spec}",
            received="columns " + ", ".join(schema.names),
            hint="name them in order with --features (names or globs), or in the TOML",
        )
    raise ContractError(
        f"no column feeds the model's input {spec.name!r}",
        column=spec.name,
        expected=f"a column of that name for {spec}",
        received="columns " + ", ".join(schema.names),
        hint="rename the column, or map the input to others in the [inputs] table of the TOML",
    )


def expand(patterns: Sequence[str], schema: pa.Schema, purpose: str) -> tuple[str, ...]:
    """Column names for names and globs, in their order; a glob's matches in the schema's order.

    Raises:
        ContractError: A pattern matches nothing.
    """
    chosen: dict[str, None] = {}
    for pattern in patterns:
        if pattern in schema.names:
            chosen[pattern] = None
            continue
        matches = [name for name in schema.names if fnmatchcase(name, pattern)]
        if not matches:
            raise ContractError(
                f"the column for {purpose} is missing",
                column=pattern,
                expected=f"a column {pattern!r}",
                received="columns " + ", ".join(schema.names),
                hint="rename the column in that shard, or take the shard out of the input",
            )
        chosen.update(dict.fromkeys(matches))
    return tuple(chosen)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a job says of how columns are read, beyond their names.

    Attributes:
        options: Input → its options, where there are any.
        time_unit: What times are counted in, where an input does not say it itself.
        allow_lossy: Columns (names or globs) that may lose precision on their way.
    """

    options: Mapping[str, InputOptions] = field(default_factory=dict)
    time_unit: Unit | None = None
    allow_lossy: tuple[str, ...] = ()


def natural_spec(
    name: str,
    columns: Sequence[str],
    schemas: Sequence[pa.Schema],
    options: InputOptions | None,
) -> InputSpec:
    """What columns feed when no model says what it wants: their own type and shape."""
    raise NotImplementedError(name)


def check(
    fed: Fed,
    chosen: Mapping[str, Sequence[str]],
    schema: pa.Schema,
    reading: Reading = Reading(),  # noqa: ARG001
) -> Binding:
    """Checks a shard's schema against the chosen columns.

    Raises:
        ContractError: A column is missing, occurs twice, or has a type or a width that cannot
            feed its input.
    """
    bound = []
    for spec in fed.inputs:
        uses = [_use_of(column, spec, schema) for column in chosen[spec.name]]
        _check_width(uses, spec)
        bound.append(InputBinding(spec, tuple(uses)))
    return Binding(tuple(bound))


def _use_of(column: str, spec: InputSpec, schema: pa.Schema) -> ColumnUse:
    places = schema.get_all_field_indices(column)
    if len(places) != 1:
        word = "missing" if not places else "there twice"
        raise ContractError(
            f"a column that the model reads is {word}",
            column=column,
            expected=f"one column for {spec}",
            received="columns " + ", ".join(schema.names),
            hint="rename the column in that shard, or take the shard out of the input",
        )
    kind = schema.field(places[0]).type
    width = None
    value_type = kind
    if _is_list(kind):
        value_type = kind.value_type
        width = spec.shape[0] if len(spec.shape) == 1 else None
        if width is None or (pt.is_fixed_size_list(kind) and kind.list_size != width):
            raise _wrong_type(column, spec, kind)
    conversion = _conversion(value_type, spec.dtype)
    if conversion is None:
        raise _wrong_type(column, spec, kind)
    return ColumnUse(column, kind, conversion, width)


def _check_width(uses: Sequence[ColumnUse], spec: InputSpec) -> None:
    needed = spec.shape[0] if len(spec.shape) == 1 else 1
    lists = [use for use in uses if use.width is not None]
    if (
        len(spec.shape) <= 1
        and needed is not None
        and (len(uses) == needed if not lists else len(uses) == 1)
    ):
        return
    raise ContractError(
        f"the columns do not fit the model's input {spec.name!r}",
        expected=f"{spec}: {needed if needed is not None else 'any number of'} values a row",
        received=f"{len(uses)} column(s): " + ", ".join(f"{u.column} {u.type}" for u in uses),
        hint="name as many columns as the input is wide, or one list column of that width",
    )


def _wrong_type(column: str, spec: InputSpec, kind: pa.DataType) -> ContractError:
    return ContractError(
        "a column has a type that its input cannot take",
        column=column,
        expected=f"values for {spec}",
        received=f"column {column}: {kind}",
        hint="convert the column when the shard is written, or bind another one",
    )


def _conversion(kind: pa.DataType, dtype: str) -> Conversion | None:
    """How values of an Arrow type become an input's dtype; None if they cannot."""
    if pt.is_dictionary(kind):
        kind = kind.value_type
    text = pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind)
    if dtype == "string":
        return "exact" if text or pt.is_binary(kind) or pt.is_large_binary(kind) else None
    if pt.is_boolean(kind):
        return "exact"
    if dtype == "bool" or text:
        return None
    target = np.dtype(dtype)
    if pt.is_floating(kind):
        if target.kind != "f":
            return None
        return "exact" if target.itemsize * 8 >= kind.bit_width else "rounded"
    if not pt.is_integer(kind):
        return None
    source = np.dtype(kind.to_pandas_dtype())
    if target.kind == "f":
        bits = source.itemsize * 8 - (source.kind == "i")
        return "exact" if bits <= MANTISSA[dtype] else "checked"
    return "exact" if np.can_cast(source, target) else "checked"


def _is_list(kind: pa.DataType) -> bool:
    return bool(pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind))


def _list_width_fits(kind: pa.DataType, spec: InputSpec) -> bool:
    if (
        not _is_list(kind)
        or len(spec.shape) != 1
        or _conversion(kind.value_type, spec.dtype) is None
    ):
        return False
    return not pt.is_fixed_size_list(kind) or kind.list_size == spec.shape[0]
