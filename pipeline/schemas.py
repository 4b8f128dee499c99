"""The schemas of a lake's shards, each worked out once.

A hundred thousand shards have a handful of schemas, and making an Arrow schema of a footer takes
longer than reading it. A footer begins with its schema, so one that begins with the same bytes has
the same one; what Arrow's writers add to it, and who wrote the file, is compared as well.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.types as pt

from pipeline.compact import ThriftError, end_of
from pipeline.footer import parquet_errors
from pipeline.soundness import check_schema

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_SCHEMA = 2
"""Number of the schema among the fields of a footer; before it there is a version alone."""

_ARROW_SCHEMA = b"ARROW:schema"
_LENGTHS = 8
_MOST_KNOWN = 64
"""Beginnings of footers that are kept, of kilobytes each. pandas writes a file's number of rows
into its schema's metadata, so a lake may have one for each shard."""

_Key = tuple[bytes, bytes, str | None, int]


class Schemas:
    """The schemas that were met so far. May be asked by several threads."""

    def __init__(self) -> None:
        self._known: dict[_Key, pa.Schema] = {}
        self._shared: dict[bytes, pa.Schema] = {}
        self._lengths: deque[int] = deque(maxlen=_LENGTHS)

    def of(self, footer: bytes, metadata: pq.FileMetaData, path: str) -> pa.Schema:
        """The Arrow schema of a file, without metadata and string views; equal ones are one object.

        Args:
            footer: The footer's bytes.
            metadata: The footer as pyarrow reads it.
            path: The file's address, for errors.

        Raises:
            CorruptShardError: The footer contradicts itself on columns.
            ContractError: Arrow cannot read files with such a schema.
        """
        added = (metadata.metadata or {}).get(_ARROW_SCHEMA, b"")
        with parquet_errors(path):  # who wrote the file need not be a text
            rest = (added, metadata.created_by, metadata.num_columns)
        for length in tuple(self._lengths):
            if (found := self._known.get((footer[:length], *rest))) is not None:
                return found
        with parquet_errors(path):
            check_schema(metadata, path)
            schema = _without_views(metadata.schema.to_arrow_schema().remove_metadata())
        schema = self._shared.setdefault(schema.serialize().to_pybytes(), schema)
        length = _schema_end(footer)
        if length:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[(footer[:length], *rest)] = schema
            if length not in self._lengths:
                self._lengths.append(length)
        return schema


def _schema_end(footer: bytes) -> int:
    """Where a footer's schema ends; 0 if that cannot be told."""
    try:
        return end_of(footer, _SCHEMA)
    except ThriftError:
        return 0


def _without_views(schema: pa.Schema) -> pa.Schema:
    """The schema with plain strings for string views, which Arrow cannot filter yet."""
    return pa.schema([field.with_type(_plain(field.type)) for field in schema])


def _plain(kind: pa.DataType) -> pa.DataType:
    views = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    if pt.is_list(kind):
        return pa.list_(_plain_field(kind.value_field))
    if pt.is_large_list(kind):
        return pa.large_list(_plain_field(kind.value_field))
    if pt.is_fixed_size_list(kind):
        return pa.list_(_plain_field(kind.value_field), kind.list_size)
    if pt.is_struct(kind):
        return pa.struct([_plain_field(kind.field(i)) for i in range(kind.num_fields)])
    if pt.is_map(kind):
        return pa.map_(_plain(kind.key_type), _plain_field(kind.item_field), kind.keys_sorted)
    return views.get(kind, kind)


def _plain_field(field: pa.Field) -> pa.Field:
    return field.with_type(_plain(field.type))
