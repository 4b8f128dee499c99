"""Whether a Parquet file's footer agrees with itself: what is said twice in it must be said alike.

Parquet protects its pages by checksums, if the writer adds them, and its footer and its page
headers by nothing. So a flipped bit there, or a footer made by hand, may read well and yield wrong
rows. But much is told twice: row counts by the file, its row groups, their column chunks and their
pages; where a chunk lies by its own offset and by its neighbours; the columns' names by the schema
and by each chunk; and Arrow's writers add their own schema.

Here is what is compared at discovery: cheap, since there may be a million shards, and in two
halves, since these may have one schema. The rest is for `row_group_checks`, while rows are read. A
sound file of any writer passes: nothing is asked that the format leaves open, nor that a known
writer gets wrong.

pyarrow's accessors of column chunks end the interpreter when the footer is damaged in some places
(an unknown codec, a histogram of another length): they are not used here, nor anywhere.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.types as pt

from pipeline.footer import corrupt

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_ARROW_SCHEMA = b"ARROW:schema"

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
