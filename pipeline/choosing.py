"""Choosing: the columns of each input of a model, by what the job says or by their names.

Nothing is guessed but the one column of lists that fits a single input. `pipeline.binding` then
checks what was chosen against each schema.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from pipeline.binding import Fed, column_of
from pipeline.columns import Column, expand, nesting, value_type
from pipeline.conversions import conversion_of, is_time
from pipeline.errors import ConfigError, ContractError, shortened
from pipeline.input_options import InputOptions, Unit
from pipeline.misfits import unknown_length, wrong_type
from pipeline.signature import InputSpec
from pipeline.spelling import closest, did_you_mean
from pipeline.toml_text import toml_key, toml_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def resolve(
    fed: Fed,
    schema: pa.Schema,
    features: Sequence[str] = (),
    inputs: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, tuple[str, ...]]:
    """Chooses the columns of each input of the model.

    An input that the job maps takes the columns it names; otherwise the column of the input's own
    name; otherwise, for a model with a single input, the only column of lists that fit it.

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
                hint=did_you_mean(name, names, "correct the [inputs] table of the TOML"),
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
        lists = [f.name for f in schema if _lists_fit(f.type, spec)]
        if len(lists) == 1 and not any(_scalar_fits(f.type, spec) for f in schema):
            return (lists[0],)
        raise ConfigError(
            "which columns feed the model is not said",
            expected=f"columns for {spec}",
            received="columns " + shortened(schema.names),
            hint="name them in order with --features (names or globs), or in the job file, at the "
            "lines that `init` marked DECIDE",
        )
    meant = closest(spec.name, schema.names)
    mapped = "" if meant is None else f": {toml_key(spec.name)} = {toml_value(meant)}"
    raise ContractError(
        f"no column feeds the model's input {spec.name!r}",
        column=spec.name,
        expected=f"a column of that name for {spec}",
        received="columns " + shortened(schema.names),
        hint="rename the column, or map the input to others in the [inputs] table of the job file"
        + (mapped or ", at the lines that `init` marked DECIDE"),
    )


def _scalar_fits(kind: pa.DataType, spec: InputSpec) -> bool:
    """Whether a column of scalars can feed an input by itself, as one of lists of one value can."""
    alone = spec.shape == (1,) and nesting(kind)[0] == ()
    return alone and conversion_of(kind, spec.dtype, allow_lossy=True) is not None


def _lists_fit(kind: pa.DataType, spec: InputSpec) -> bool:
    """Whether a column of lists can feed an input, should it lose precision on the way."""
    levels, values = nesting(kind)
    if not levels or len(levels) != len(spec.shape) or None in spec.shape:
        return False
    if conversion_of(values, spec.dtype, allow_lossy=True) is None:
        return False
    return all(level in {None, wanted} for level, wanted in zip(levels, spec.shape, strict=True))


def natural_spec(
    name: str,
    columns: Sequence[str],
    schemas: Sequence[pa.Schema],
    options: InputOptions | None,
    time_unit: Unit | None = None,
) -> InputSpec:
    """What columns feed when no model says what it wants: values of their own type and shape.

    Args:
        name: Of the input.
        columns: Names, globs or paths.
        schemas: The first of them that has all the columns decides.
        options: What the job says of the input.
        time_unit: What times are counted in otherwise.

    Raises:
        ContractError: No schema has the columns, or they have no one type and shape.
    """
    options = options or InputOptions()
    failure: ContractError | None = None
    for schema in schemas:
        try:
            found = [
                column_of(one, InputSpec(name, (), "any"), schema)
                for one in expand(columns, schema, f"input {name!r}")
            ]
        except ContractError as error:
            failure = failure or error
            continue
        return _natural(name, found, options, time_unit)
    raise failure or ContractError(f"no shard has a column for {name!r}", column=name)


def _natural(
    name: str, columns: Sequence[Column], options: InputOptions, time_unit: Unit | None
) -> InputSpec:
    types = {_natural_type(column, name, options, time_unit) for column in columns}
    dims, _ = nesting(columns[0].type)
    lists = any(nesting(column.type)[0] for column in columns)
    if (len(types) > 1 and "string" in types) or (len(columns) > 1 and lists):
        raise ContractError(
            f"the columns of {name!r} cannot stand side by side",
            expected="numbers alone, or one column",
            received=", ".join(f"{c.name} {c.type}" for c in columns),
            hint="give each an input of its own in the [inputs] table of the job file",
        )
    if options.length is not None and dims:
        dims = (options.length, *dims[1:])
    if None in dims:
        expected = f"a length for the input {name!r} of the preprocess hook"
        raise unknown_length(columns[0], name, expected, inner=None in dims[1:])
    shape = dims if len(columns) == 1 else (len(columns),)
    if types == {"string"}:
        return InputSpec(name, shape, "string")
    return InputSpec(name, shape, np.result_type(*types).name)


def _natural_type(column: Column, name: str, options: InputOptions, time_unit: Unit | None) -> str:
    kind = value_type(column.type)
    if is_time(kind) and (options.unit or time_unit) is not None:
        return "int64"
    if pt.is_decimal(kind):
        return "float64" if kind.scale > 0 else "int64"
    if conversion_of(kind, "string"):
        return "string"
    if pt.is_boolean(kind) or pt.is_integer(kind) or pt.is_floating(kind):
        return str(np.dtype(kind.to_pandas_dtype()))
    expected = f"numbers, texts, times or lists of them for the preprocess hook's {name!r}"
    raise wrong_type(column, InputSpec(name, (), "int64"), options, expected=expected)
