"""Whether a Parquet file agrees with itself: what is said twice in it must be said alike.

Parquet protects its pages by checksums, if the writer adds them, and its footer and its page
headers by nothing. So a flipped bit there, or a footer made by hand, may read well and yield wrong
rows. But much is told twice: row counts by the file, its row groups, their column chunks and their
pages; where a chunk lies by its own offset and by its neighbours; the columns' names by the schema
and by each chunk; and Arrow's writers add their own schema. This module compares these.

`check_footer` is for discovery: cheap, since there may be a million shards, and in two halves,
since these may have one schema. `RowGroupChecks` is for the stream: it reads a row group's part of
the footer, and the headers of the pages that will be read, before the group is. A sound file of any
writer passes: nothing is asked that the format leaves open, nor that a known writer gets wrong.

pyarrow's accessors of column chunks end the interpreter when the footer is damaged in some places
(an unknown codec, a histogram of another length): they are not used here, nor anywhere.
"""

from __future__ import annotations

import base64
import binascii
import re
from array import array
from bisect import bisect
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.types as pt

from pipeline.compact import Struct, ThriftError, elements
from pipeline.footer import corrupt
from pipeline.page_headers import Chunk, PageError, check_pages

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow.parquet as pq

_ARROW_SCHEMA = b"ARROW:schema"
_FIRST_OFFSET = 4
"""Where the magic number at the start of a file ends."""

_FORGETFUL = re.compile(r"parquet-mr version 1\.[0-2]\.")
"""Writers that left the header of the dictionary page out of a chunk's size (PARQUET-816)."""

_HEADER_BYTES = 100

_PHYSICAL_TYPES = (
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

_LOGICAL_OF_CONVERTED = dict(
    enumerate((1, 2, 2, 3, 4, 5, 6, 7, 7, 8, 8, 10, 10, 10, 10, 10, 10, 10, 10, 12, 13))
)
"""The member of LogicalType that stands for each ConvertedType, in which older versions of the
format say the same. Writers give both, or either."""

# Types that each version of Arrow's writer and reader brings back as they were.
_STEADY = frozenset(
    {
        *(pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16()),
        *(pa.uint64(), pa.float32(), pa.float64(), pa.string(), pa.binary(), pa.date32()),
    }
)


def check_footer(metadata: pq.FileMetaData, path: str) -> None:
    """Refuses a file whose footer contradicts itself on rows or on columns.

    Args:
        metadata: The footer.
        path: The file's address, for the error.

    Raises:
        CorruptShardError: It does.
    """
    check_rows(metadata, path)
    check_schema(metadata, path)


def check_rows(metadata: pq.FileMetaData, path: str) -> None:
    """Refuses a file whose footer contradicts itself on rows.

    Args:
        metadata: The footer.
        path: The file's address, for the error.

    Raises:
        CorruptShardError: It does.
    """
    total = 0
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        if rows < 0:
            raise corrupt(path, f"row group {group} has {rows} rows")
        total += rows
    if total != metadata.num_rows:
        raise corrupt(
            path, f"row groups of {total} rows in all; the footer says {metadata.num_rows}"
        )


def check_schema(metadata: pq.FileMetaData, path: str) -> None:
    """Refuses a file whose schema is not the one that Arrow's C++ writer adds.

    Other writers may copy that from a file that they rewrote with other columns.

    Args:
        metadata: The footer.
        path: The file's address, for the error.

    Raises:
        CorruptShardError: It is another.
    """
    encoded = (metadata.metadata or {}).get(_ARROW_SCHEMA)
    if encoded is None or not (metadata.created_by or "").startswith("parquet-cpp"):
        return
    try:
        told = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(encoded)))
    except (pa.ArrowException, binascii.Error, OSError, ValueError) as error:
        raise corrupt(path, "an Arrow schema that cannot be read") from error
    found = metadata.schema.to_arrow_schema()
    if told.names != found.names:
        raise corrupt(
            path, f"columns {', '.join(found.names)}; the Arrow schema says {', '.join(told.names)}"
        )
    for said, seen in zip(told, found, strict=True):
        if said.nullable != seen.nullable or not _compatible(said.type, seen.type):
            raise corrupt(path, f"column {seen}; the Arrow schema says {said}")


def _compatible(said: pa.DataType, found: pa.DataType) -> bool:
    """Whether a column that was written as one type may be read as another."""
    if said in _STEADY:
        return bool(said == found)
    if pt.is_struct(said):
        return (
            pt.is_struct(found)
            and said.num_fields == found.num_fields
            and all(
                said.field(i).name == found.field(i).name
                and _compatible(said.field(i).type, found.field(i).type)
                for i in range(said.num_fields)
            )
        )
    if pt.is_list(said):
        return pt.is_list(found) and _compatible(said.value_type, found.value_type)
    return True


class RowGroupChecks:
    """Checks the row groups of a file, one at a time, ahead of its reader.

    Args:
        file: The file; read at places of its own, whatever else reads it.
        footer: The bytes of its footer.
        metadata: The footer as pyarrow reads it.
        columns: Names of the top-level columns that are read.
        walk_from: The first row group of which the headers of the pages are read, a small read
            for each; None for none.
        path: The file's address, for errors.
    """

    def __init__(
        self,
        file: pa.NativeFile,
        footer: bytes,
        metadata: pq.FileMetaData,
        columns: Sequence[str],
        *,
        walk_from: int | None,
        path: str,
    ) -> None:
        self._file = file
        self._path = path
        self._end = file.size() - len(footer) - 8
        self._schema = elements(footer, _SCHEMA)
        self._groups = elements(footer, _ROW_GROUPS)
        self._count = metadata.num_row_groups
        self._metadata = metadata
        self._columns = [metadata.schema.column(i) for i in range(metadata.num_columns)]
        self._walked = frozenset(_leaves(self._columns, columns))
        self._walk_from = metadata.num_row_groups if walk_from is None else walk_from
        self._slack = _HEADER_BYTES if _FORGETFUL.match(metadata.created_by or "") else 0
        self._group = 0
        self._rows = 0
        self._starts = array("q")
        self._stops = array("q")

    def up_to(self, rows: int) -> None:
        """Checks the row groups that hold the first `rows` rows, as far as it has not yet.

        Raises:
            CorruptShardError: They are not what the footer says, or it contradicts itself.
        """
        while self._rows < rows and self._group < self._count:
            try:
                for element in self._schema:  # once: it is empty afterwards
                    _check_type(element)
                self._check(next(self._groups, {}))
            except (ThriftError, PageError) as error:
                raise self._corrupt(str(error)) from error
            self._rows += self._metadata.row_group(self._group).num_rows
            self._group += 1

    def _check(self, group: Struct) -> None:
        rows = self._metadata.row_group(self._group).num_rows
        chunks = group.get(_COLUMNS)
        if group.get(_ROWS) != rows or not isinstance(chunks, list):
            raise PageError("its part of the footer cannot be read")
        if len(chunks) != len(self._columns):
            raise PageError(f"{len(chunks)} columns, where the schema has {len(self._columns)}")
        for i, (chunk, column) in enumerate(zip(chunks, self._columns, strict=True)):
            meta = chunk.get(_META_DATA) if isinstance(chunk, dict) else None
            try:
                self._check_chunk(meta if isinstance(meta, dict) else {}, column, i, rows)
            except PageError as error:
                raise PageError(f"column {column.path}: {error}") from error

    def _check_chunk(self, meta: Struct, column: Any, index: int, rows: int) -> None:
        name = meta.get(_PATH)
        # Newer versions of the format let writers leave it out.
        if name and _joined(name) != column.path:
            raise PageError(f"a chunk of column {_joined(name)}")
        kind = _number(meta, _TYPE)
        if not 0 <= kind < len(_PHYSICAL_TYPES) or _PHYSICAL_TYPES[kind] != column.physical_type:
            raise PageError(f"a chunk of type {kind}, where the schema says {column.physical_type}")
        values = _number(meta, _VALUES)
        if values < rows or (column.max_repetition_level == 0 and values != rows):
            raise PageError(f"{values} values in {rows} rows")
        if values == 0:  # some writers leave its place open
            return
        start, length = _number(meta, _DATA_OFFSET), _number(meta, _COMPRESSED_BYTES)
        dictionary = meta.get(_DICTIONARY_OFFSET)
        # Some writers say 0, or the first data page, where there is no dictionary.
        if isinstance(dictionary, int) and 0 < dictionary < start:
            start = dictionary
        if start < _FIRST_OFFSET or length <= 0 or start + length > self._end:
            raise PageError(f"bytes {start} to {start + length}, outside of the data")
        self._claim(start, start + length)
        if index in self._walked and self._group >= self._walk_from:
            facts = Chunk(
                start=start,
                stop=min(start + length + self._slack, self._end),
                values=values,
                rows=rows,
                uncompressed_bytes=_number(meta, _UNCOMPRESSED_BYTES),
                compressed=_number(meta, _CODEC) != 0,
                max_definition=column.max_definition_level,
                max_repetition=column.max_repetition_level,
            )
            check_pages(self._file, facts)

    def _claim(self, start: int, stop: int) -> None:
        """Notes the bytes of a chunk, which no other may have."""
        place = bisect(self._starts, start)
        before = place and self._stops[place - 1] > start
        after = place < len(self._starts) and self._starts[place] < stop
        if before or after:
            raise PageError(f"bytes {start} to {stop}, some of which are another column's")
        self._starts.insert(place, start)
        self._stops.insert(place, stop)

    def _corrupt(self, reason: str) -> Exception:
        return corrupt(self._path, f"row group {self._group}: {reason}")


def _check_type(element: Struct) -> None:
    """Compares the two ways in which an element of the schema says its type."""
    converted, logical = element.get(_CONVERTED_TYPE), element.get(_LOGICAL_TYPE)
    if converted in _LOGICAL_OF_CONVERTED and isinstance(logical, dict):
        expected = _LOGICAL_OF_CONVERTED[converted]
        if list(logical) != [expected]:
            raise PageError(f"a column of logical type {list(logical)}, elsewhere of {expected}")


def _joined(parts: Any) -> str:
    """A column's path as pyarrow spells it."""
    texts = [p for p in parts if isinstance(p, bytes)] if isinstance(parts, list) else []
    return b".".join(texts).decode(errors="replace")


def _number(meta: Struct, field: int) -> int:
    value = meta.get(field)
    if not isinstance(value, int):
        raise PageError("its part of the footer cannot be read")
    return value


def _leaves(columns: Sequence[Any], names: Sequence[str]) -> list[int]:
    """Places of the columns of values that belong to some top-level columns.

    A dot may be part of a name, or divide it from the name of a field: both are taken.
    """
    wanted = set(names)
    return [
        i
        for i, column in enumerate(columns)
        if column.path in wanted or any(column.path[:end] in wanted for end in _dots(column.path))
    ]


def _dots(path: str) -> list[int]:
    return [i for i, c in enumerate(path) if c == "."]
