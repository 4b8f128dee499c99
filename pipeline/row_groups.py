"""How big a row group is: bounds in rows and in bytes, as pure functions of what is written.

Both bounds must be the same however the rows arrived, or a resumed file would differ from an
undisturbed one. So bytes are counted by lengths of values, never by the buffers that hold them.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

ROW_GROUP_ROWS = 131_072
ROW_GROUP_BYTES = 4 << 20
"""Writing a row group takes some six times its bytes; at twice this, memory shows it."""

_VARYING = 32
"""What a value without a fixed width is taken to weigh by its type alone."""


def row_group_rows(schema: pa.Schema) -> int:
    """Most rows of a row group, by the widths that the schema tells."""
    width = sum(_width(field.type) for field in schema)
    return max(1024, min(ROW_GROUP_ROWS, ROW_GROUP_BYTES // max(1, width)))


def varying_bytes(rows: pa.RecordBatch) -> int:
    """Bytes of the values whose width the schema does not tell: texts, lists, dictionaries."""
    return sum(map(_varying, rows.columns))


def _varying(array: pa.Array) -> int:
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _varying(array.storage)
    if pt.is_fixed_size_list(kind):
        return _varying(pc.list_flatten(array))
    if pt.is_list(kind) or pt.is_large_list(kind):
        values = pc.list_flatten(array)
        return len(values) * _width(values.type) + _varying(values)
    if pt.is_struct(kind):
        return sum(_varying(pc.struct_field(array, i)) for i in range(kind.num_fields))
    if pt.is_map(kind):
        # A map is a list of pairs; its own accessors do not heed slices.
        pairs = pa.ListArray.from_arrays(
            array.offsets, pa.StructArray.from_arrays([array.keys, array.items], ["key", "value"])
        )
        return _varying(pairs)
    if pt.is_dictionary(kind):
        return _text(array.dictionary, array.indices) if _is_text(kind.value_type) else 0
    return _text(array, None) if _is_text(kind) else 0


def _text(values: pa.Array, indices: pa.Array | None) -> int:
    lengths = pc.binary_length(values)
    return int(pc.sum(lengths if indices is None else lengths.take(indices)).as_py() or 0)


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pt.is_string(kind)
        or pt.is_large_string(kind)
        or pt.is_binary(kind)
        or pt.is_large_binary(kind)
    )


def _width(kind: pa.DataType) -> int:
    """Bytes of one value, as far as its type tells."""
    if isinstance(kind, pa.BaseExtensionType):
        return _width(kind.storage_type)
    if pt.is_fixed_size_list(kind):
        return int(kind.list_size) * _width(kind.value_type)
    if pt.is_struct(kind):
        return sum(_width(kind.field(i).type) for i in range(kind.num_fields))
    try:
        return max(1, int(kind.bit_width) // 8)
    except ValueError:
        return _VARYING
