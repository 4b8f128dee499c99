"""What a footer says of its columns and, row group by row group, of their chunks.

The columns of a file are told at the start of its footer, and a lake has few kinds of files: what
follows from these bytes is kept, for the next footer that begins with the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pipeline import usual_forms
from pipeline.compact import Struct, fields, list_of_structs, read_struct
from pipeline.page_headers import PageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow.parquet as pq

PHYSICAL_TYPES = (
    "BOOLEAN",
    "INT32",
    "INT64",
    "INT96",
    "FLOAT",
    "DOUBLE",
    "BYTE_ARRAY",
    "FIXED_LEN_BYTE_ARRAY",
)

# Field numbers of FileMetaData, SchemaElement, RowGroup, ColumnChunk and ColumnMetaData in
# parquet.thrift.
_SCHEMA, _ROW_GROUPS = 2, 4
_CONVERTED_TYPE, _LOGICAL_TYPE = 6, 10
_COLUMNS, _ROWS = 1, 3
_META_DATA = 3
_TYPE, _PATH, _CODEC, _VALUES = 1, 3, 4, 5
_UNCOMPRESSED_BYTES, _COMPRESSED_BYTES = 6, 7
_DATA_OFFSET, _DICTIONARY_OFFSET = 9, 11

_LIST = 9
_COLUMNS_FIRST = b"\x19"
"""The head of a list that is a struct's first field."""

_LOGICAL_OF_CONVERTED = dict(
    enumerate((1, 2, 2, 3, 4, 5, 6, 7, 7, 8, 8, 10, 10, 10, 10, 10, 10, 10, 10, 12, 13))
)
"""The member of LogicalType that stands for each ConvertedType, in which older versions of the
format say the same. Writers give both, or either."""

_KEPT = 8
"""Kinds of files whose columns are kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """A column of values.

    Attributes:
        path: Its path, as pyarrow spells it.
        physical_type: Its type in the file.
        max_definition: Its highest definition level.
        max_repetition: Its highest repetition level.
        form: The usual form of its path; None if it has none.
    """

    path: str
    physical_type: str
    max_definition: int
    max_repetition: int
    form: bytes | None


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The columns of a file.

    Attributes:
        told: The bytes of the footer that tell them; empty if they are not at its start.
        field: The number of the footer's field that they end with.
        schema: The columns as pyarrow reads them.
        leaves: The columns of values, in order.
    """

    told: bytes
    field: int
    schema: pq.ParquetSchema
    leaves: tuple[Column, ...]


class ColumnChunk(NamedTuple):
    """What a footer says of a column chunk.

    Attributes:
        kind: Its type, a place in `PHYSICAL_TYPES`.
        codec: How its pages are compressed; 0: not.
        values: Its values, nulls included.
        uncompressed_bytes: Bytes of its pages and their headers once decompressed.
        compressed_bytes: As they lie in the file.
        data_offset: Where its first data page begins.
        dictionary_offset: Where its dictionary page begins; 0 if there is none.
    """

    kind: int
    codec: int
    values: int
    uncompressed_bytes: int
    compressed_bytes: int
    data_offset: int
    dictionary_offset: int


_known: list[Columns] = []


def columns_of(footer: bytes, metadata: pq.FileMetaData) -> Columns:
    """The columns of a file.

    Args:
        footer: The bytes of its footer.
        metadata: The footer as pyarrow reads it.

    Raises:
        ThriftError, PageError: The footer cannot be read, or says a type in two ways.
    """
    schema = metadata.schema
    for known in _known:
        if known.told and footer.startswith(known.told) and schema.equals(known.schema):
            return known
    leaves = tuple(_column(schema.column(i)) for i in range(metadata.num_columns))
    told = _checked_types(footer)
    found = Columns(footer[:told], _SCHEMA if told else 0, schema, leaves)
    _known[:] = [found, *_known[: _KEPT - 1]]
    return found


def _column(column: pq.ColumnSchema) -> Column:
    path = column.path
    return Column(
        path,
        column.physical_type,
        column.max_definition_level,
        column.max_repetition_level,
        usual_forms.path_form(path.encode()),
    )


def _checked_types(footer: bytes) -> int:
    """Checks the types of all elements of the schema; the bytes of the footer that tell it, 0 if
    they are not at its start."""
    before = 0
    for number, kind, place in fields(footer):
        if number == _SCHEMA:
            count, position = list_of_structs(footer, kind, place)
            for _ in range(count):
                element, position = read_struct(footer, position)
                _check_type(element)
            return position if before < _SCHEMA else 0
        before = max(before, number)
    return 0


def _check_type(element: Struct) -> None:
    """Compares the two ways in which an element of the schema says its type."""
    converted, logical = element.get(_CONVERTED_TYPE), element.get(_LOGICAL_TYPE)
    if converted in _LOGICAL_OF_CONVERTED and isinstance(logical, dict):
        expected = _LOGICAL_OF_CONVERTED[converted]
        if list(logical) != [expected]:
            raise PageError(f"a column of logical type {list(logical)}, elsewhere of {expected}")


def row_groups(footer: bytes, columns: Columns) -> Iterator[tuple[int, Iterable[ColumnChunk]]]:
    """The row groups of a file, one by one: their rows, and the chunks of all columns in order.

    Raises:
        ThriftError, PageError: The footer cannot be read, or a chunk is of another column.
    """
    for number, kind, place in fields(footer, len(columns.told), columns.field):
        if number == _ROW_GROUPS:
            count, position = list_of_structs(footer, kind, place)
            for _ in range(count):
                rows, chunks, position = _row_group(footer, position, columns.leaves)
                yield rows, chunks
            return


def _row_group(
    footer: bytes, position: int, leaves: Sequence[Column]
) -> tuple[int, Iterable[ColumnChunk], int]:
    """A row group, and the position behind it."""
    chunks: list[ColumnChunk | Struct] = []
    if footer[position : position + 1] == _COLUMNS_FIRST:
        count, position = list_of_structs(footer, _LIST, position + 1)
        for i in range(count):
            form = leaves[i].form if i < len(leaves) else None
            usual = usual_forms.chunk(form, footer, position) if form else None
            if usual is None:
                chunk, position = read_struct(footer, position)
                chunks.append(chunk)
            else:
                numbers, position = usual
                chunks.append(ColumnChunk._make(numbers))
        group, position = read_struct(footer, position, _COLUMNS)
        if _COLUMNS in group:
            raise unreadable()
    else:
        group, position = read_struct(footer, position)
        found = group.get(_COLUMNS)
        chunks = found if isinstance(found, list) else []
    rows = group.get(_ROWS)
    if not isinstance(rows, int):
        raise unreadable()
    if len(chunks) != len(leaves):
        raise PageError(f"{len(chunks)} columns, where the schema has {len(leaves)}")
    told = (
        chunk if isinstance(chunk, ColumnChunk) else _column_chunk(chunk, column)
        for chunk, column in zip(chunks, leaves, strict=True)
    )
    return rows, told, position


def _column_chunk(chunk: object, column: Column) -> ColumnChunk:
    meta = chunk.get(_META_DATA) if isinstance(chunk, dict) else None
    if not isinstance(meta, dict):
        raise unreadable()
    name = meta.get(_PATH)
    # Newer versions of the format let writers leave it out.
    if name and _joined(name) != column.path:
        raise PageError(f"a chunk of column {_joined(name)}")
    kind, values = _number(meta, _TYPE), _number(meta, _VALUES)
    if values == 0:  # some writers leave its place open
        return ColumnChunk(kind, 0, 0, 0, 0, 0, 0)
    dictionary = meta.get(_DICTIONARY_OFFSET)
    return ColumnChunk(
        kind,
        _number(meta, _CODEC),
        values,
        _number(meta, _UNCOMPRESSED_BYTES),
        _number(meta, _COMPRESSED_BYTES),
        _number(meta, _DATA_OFFSET),
        dictionary if isinstance(dictionary, int) else 0,
    )


def _joined(parts: object) -> str:
    """A column's path as pyarrow spells it."""
    texts = [p for p in parts if isinstance(p, bytes)] if isinstance(parts, list) else []
    return b".".join(texts).decode(errors="replace")


def _number(meta: Struct, field: int) -> int:
    value = meta.get(field)
    if not isinstance(value, int):
        raise unreadable()
    return value


def unreadable() -> PageError:
    """The error for a footer that does not say what it must."""
    return PageError("its part of the footer cannot be read")
