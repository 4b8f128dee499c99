"""PURE: columns as a job names them: names, globs, and dotted paths into structs.

A column whose own name holds a dot comes before a path. Globs stand for columns; one that holds a
dot stands for the fields of structs. What lists hold is told here too: how deep they are nested,
how long each level is, and of what values.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.types as pt

from pipeline.errors import ContractError, shortened
from pipeline.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Column:
    """A column, or a field of a struct.

    Attributes:
        name: As the job names it.
        path: The column's name, then those of fields.
        type: Arrow type of what is there.
    """

    name: str
    path: tuple[str, ...]
    type: pa.DataType

    @property
    def top(self) -> str:
        """The column that is read for it."""
        return self.path[0]


def find(schema: pa.Schema, name: str) -> list[Column]:
    """The columns that a name, not a glob, can mean: none, one, or several of the same name."""
    places = schema.get_all_field_indices(name)
    if places:
        return [Column(name, (name,), schema.field(place).type) for place in places]
    return [column for column in _fields(schema) if column.name == name]


def expand(patterns: Sequence[str], schema: pa.Schema, purpose: str) -> tuple[str, ...]:
    """Column names for names and globs, in their order; a glob's matches in the schema's order.

    Raises:
        ContractError: A pattern matches nothing.
    """
    chosen: dict[str, None] = {}
    for pattern in patterns:
        matches = matching(pattern, schema)
        if not matches:
            raise ContractError(
                f"the column for {purpose} is missing",
                column=pattern,
                expected=f"a column {pattern!r}",
                received=astray(schema, pattern) or "columns " + shortened(schema.names),
                hint=did_you_mean(
                    pattern,
                    schema.names,
                    "rename the column in that shard, or take the shard out of the input",
                ),
            )
        chosen.update(dict.fromkeys(matches))
    return tuple(chosen)


def matching(pattern: str, schema: pa.Schema) -> list[str]:
    """The names of columns and fields that a name or a glob means."""
    if find(schema, pattern):
        return [pattern]
    matches = [name for name in schema.names if fnmatchcase(name, pattern)]
    if not matches and "." in pattern:
        leaves = (column for column in _fields(schema) if not pt.is_struct(column.type))
        matches = [column.name for column in leaves if fnmatchcase(column.name, pattern)]
    return matches


def astray(schema: pa.Schema, name: str) -> str | None:
    """Where a dotted path that leads to nothing ends, in words; None for what is no path."""
    if find(schema, name):
        return None
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        way = ".".join(parts[:length])
        for column in find(schema, way):
            if pt.is_struct(column.type):
                fields = [column.type.field(i).name for i in range(column.type.num_fields)]
                return f"column {way} with the fields {shortened(fields)}"
            return f"column {way}: {column.type}; a path leads through structs alone"
    return None


def _fields(schema: pa.Schema) -> Iterator[Column]:
    """The fields of structs, at any depth."""
    waiting = [Column(field.name, (field.name,), field.type) for field in schema]
    while waiting:
        column = waiting.pop(0)
        if not pt.is_struct(column.type):
            continue
        for i in range(column.type.num_fields):
            field = column.type.field(i)
            inner = Column(f"{column.name}.{field.name}", (*column.path, field.name), field.type)
            yield inner
            waiting.append(inner)


def nesting(kind: pa.DataType) -> tuple[tuple[int | None, ...], pa.DataType]:
    """How lists are nested.

    Returns:
        The length of each level, None where lists may differ; and the type of the values.
    """
    levels: list[int | None] = []
    while True:
        if isinstance(kind, pa.FixedShapeTensorType) and not levels:
            return tuple(kind.shape), kind.value_type
        if pt.is_fixed_size_list(kind):
            levels.append(kind.list_size)
            kind = kind.value_type
        elif pt.is_list(kind) or pt.is_large_list(kind):
            levels.append(None)
            kind = kind.value_type
        else:
            return tuple(levels), kind


def value_type(kind: pa.DataType) -> pa.DataType:
    """The type of a column's values, out of their lists and dictionaries."""
    _, values = nesting(kind)
    return values.value_type if pt.is_dictionary(values) else values


def is_permuted(kind: pa.DataType) -> bool:
    """Whether a tensor's values are stored in another order than that of its dimensions."""
    if not isinstance(kind, pa.FixedShapeTensorType) or kind.permutation is None:
        return False
    return list(kind.permutation) != sorted(kind.permutation)
