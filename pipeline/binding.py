"""Binding: which column feeds which input of the model, checked before any row is read.

`pipeline.choosing` names the columns of each input, this module checks a shard's schema against
them (`check`), and `pipeline.extract` converts the values. Nothing is coerced in silence: each use
of a column is exact, or is checked value by value, or rounds where the user has allowed it
(`pipeline.conversions`); all that a type leaves open, the user says (`pipeline.input_options`).

What feeds an input of one row's shape () or (1,): one column of scalars. Shape (k,): k such
columns in order, or one list column of width k. Shape (k, m, …): one column of lists nested alike,
or of tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
import pyarrow.types as pt

from pipeline.columns import Column, astray, find, is_permuted, nesting, value_type
from pipeline.conversions import UNITS, Conversion, conversion_of, is_own_type, is_time
from pipeline.errors import ContractError, shortened
from pipeline.input_options import InputOptions, Unit
from pipeline.misfits import (
    lossy,
    needless,
    permuted,
    unknown_length,
    wrong_padding,
    wrong_shape,
    wrong_type,
)
from pipeline.nested import pad_fits
from pipeline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.signature import InputSpec


class Fed(Protocol):
    """What columns are to feed: a model's signature, or the feed made for it."""

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The inputs, in order."""


@dataclass(frozen=True, slots=True)
class ColumnUse:
    """One column that feeds an input.

    Attributes:
        column: Its name, or the dotted path of a struct's field.
        path: The column that is read, then the fields that lead to the values.
        type: The Arrow type of what is there.
        conversion: See `pipeline.conversions`.
        dims: For lists, the length that each level must have; None for scalars.
        unit: What times are counted in, where they are times.
        sequence: How lists of any length are made `dims[0]` long; None: they have that length.
        encoded: Whether values are encoded images, which are decoded before the model sees them.
    """

    column: str
    path: tuple[str, ...]
    type: pa.DataType
    conversion: Conversion
    dims: tuple[int, ...] | None
    unit: Unit | None = None
    sequence: InputOptions | None = None
    encoded: bool = False

    @property
    def described(self) -> str:
        """The conversion in words."""
        if self.encoded:
            return "decoded"
        words: list[str] = [self.conversion]
        if self.unit is not None:
            words.append(UNITS[self.unit] + (" since 1970" if _is_date(self.type) else ""))
        if self.sequence is not None and self.dims is not None:
            words.append(f"padded {self.sequence.pad} to {self.dims[0]}")
            if self.sequence.truncate != "never":
                words.append(f"cut at the {self.sequence.truncate}")
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class InputBinding:
    """One input of the model and the columns that feed it."""

    spec: InputSpec
    uses: tuple[ColumnUse, ...]


@dataclass(frozen=True, slots=True)
class Binding:
    """All inputs of a model, bound to the columns of one schema.

    Attributes:
        inputs: The inputs.
        plain: Whether each of their columns is a scalar of its input's own type.
    """

    inputs: tuple[InputBinding, ...]
    plain: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        plain = all(_is_plain(use, bound.spec) for bound in self.inputs for use in bound.uses)
        object.__setattr__(self, "plain", plain)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read for the model, each once."""
        return tuple(dict.fromkeys(use.path[0] for bound in self.inputs for use in bound.uses))

    @property
    def consumed(self) -> frozenset[str]:
        """The columns of which the model reads all, not only a field."""
        uses = [use for bound in self.inputs for use in bound.uses]
        return frozenset(use.path[0] for use in uses if len(use.path) == 1)


def _is_plain(use: ColumnUse, spec: InputSpec) -> bool:
    return len(use.path) == 1 and use.dims is None and is_own_type(use.type, spec.dtype)


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

    def of(self, name: str) -> InputOptions:
        """The options of an input."""
        return self.options.get(name) or InputOptions()

    def may_lose(self, column: str) -> bool:
        """Whether a column's values may lose precision."""
        return any(column == name or fnmatchcase(column, name) for name in self.allow_lossy)


PLAIN = Reading()


def check(
    fed: Fed,
    chosen: Mapping[str, Sequence[str]],
    schema: pa.Schema,
    reading: Reading = PLAIN,
) -> Binding:
    """Checks a shard's schema against the chosen columns.

    Raises:
        ContractError: A column is missing, occurs twice, has a type or a shape that cannot feed
            its input, would lose precision, or lacks what only the user can say.
    """
    bound = []
    losing: list[tuple[InputSpec, ColumnUse]] = []
    for spec in fed.inputs:
        columns = [column_of(name, spec, schema) for name in chosen[spec.name]]
        uses = [_use_of(column, spec, reading) for column in columns]
        _check_width(uses, spec)
        if reading.of(spec.name).unit is not None and not any(use.unit for use in uses):
            raise needless("unit", columns[0], spec, "a column of dates, times or durations")
        losing += [
            (spec, use)
            for use in uses
            if use.conversion == "rounded" and not reading.may_lose(use.column)
        ]
        bound.append(InputBinding(spec, tuple(uses)))
    if losing:
        raise lossy((spec.dtype, use.column, use.type) for spec, use in losing)
    return Binding(tuple(bound))


def column_of(name: str, spec: InputSpec, schema: pa.Schema) -> Column:
    """The one column of a name.

    Raises:
        ContractError: There is none, or there are several.
    """
    found = find(schema, name)
    if len(found) == 1:
        return found[0]
    word = "there twice" if found else "missing"
    raise ContractError(
        f"a column that the model reads is {word}",
        column=name,
        expected=f"one column for {spec}",
        received=astray(schema, name) or "columns " + shortened(schema.names),
        hint="rename the column in that shard, or take the shard out of the input",
    )


def _use_of(column: Column, spec: InputSpec, reading: Reading) -> ColumnUse:
    options = reading.of(spec.name)
    levels, values = nesting(column.type)
    if is_permuted(column.type):
        raise permuted(column)
    unit = options.unit or reading.time_unit
    if not is_time(value_type(column.type)):
        unit = None
    allowed = reading.may_lose(column.name)
    conversion = conversion_of(values, spec.dtype, unit, allow_lossy=allowed)
    if conversion is None:
        raise wrong_type(column, spec, options, reading.time_unit)
    dims, sequence = _dims(column, levels, spec, options)
    return ColumnUse(
        column.name,
        column.path,
        column.type,
        conversion,
        dims,
        unit,
        sequence,
        encoded=options.image is not None,
    )


def _dims(
    column: Column, levels: tuple[int | None, ...], spec: InputSpec, options: InputOptions
) -> tuple[tuple[int, ...] | None, InputOptions | None]:
    """The lengths that lists must have at each level, and whether they are padded to them."""
    if not levels:
        if options.length is not None:
            raise needless("length", column, spec, "a column of lists")
        return None, None
    shape = spec.shape
    if len(shape) != len(levels):
        raise wrong_shape(column, levels, spec, options)
    if None in shape:
        inner = None in shape[1:]
        raise unknown_length(column, spec.name, f"a length for {spec}", inner=inner)
    dims = tuple(d for d in shape if d is not None)
    if levels[0] == dims[0] or (levels[0] is None and options.length is None):
        sequence = None
    elif options.length is None or isinstance(column.type, pa.FixedShapeTensorType):
        raise wrong_shape(column, levels, spec, options)
    else:
        sequence = options
    if any(level not in {None, d} for level, d in zip(levels[1:], dims[1:], strict=True)):
        raise wrong_shape(column, levels, spec, options)
    if sequence is not None:
        if not pad_fits(sequence.pad_value, spec.dtype):
            raise wrong_padding(column, spec, sequence.pad_value)
        fixed = levels[0]
        if fixed is not None and fixed > dims[0] and sequence.truncate == "never":
            raise wrong_shape(column, levels, spec, sequence)
    return dims, sequence


def _check_width(uses: Sequence[ColumnUse], spec: InputSpec) -> None:
    lists = [use for use in uses if use.dims is not None]
    if lists and len(uses) == 1:
        return
    needed = spec.shape[0] if len(spec.shape) == 1 else 1
    if not lists and len(spec.shape) <= 1 and needed is not None and len(uses) == needed:
        return
    raise ContractError(
        f"the columns do not fit the model's input {spec.name!r}",
        expected=f"{spec}: {needed if needed is not None else 'any number of'} values a row",
        received=counted(len(uses), "column")
        + ": "
        + shortened([f"{use.column} {use.type}" for use in uses]),
        hint="name as many columns as the input is wide, or one column of lists of its shape",
    )


def _is_date(kind: pa.DataType) -> bool:
    values = value_type(kind)
    return bool(pt.is_date(values) or pt.is_timestamp(values))
