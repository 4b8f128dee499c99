"""Frames: an Arrow table as a pandas DataFrame, without loss.

Two things differ from what pyarrow does by itself. A column of arrays of one shape becomes one
numpy array a row, of that shape. And integers and bools with nulls become pandas' nullable types,
where pyarrow would make floats of them, which do not hold each integer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

if TYPE_CHECKING:
    import pandas as pd


def frame_of(table: pa.Table) -> pd.DataFrame:
    """A table as a DataFrame, its rows numbered from 0 on."""
    import pandas as pd

    names = table.column_names
    columns = {name: _series(table.column(name)) for name in names}
    # Without a copy: each column is an array of its own, as it was made.
    return pd.DataFrame(columns, index=pd.RangeIndex(len(table)), columns=names, copy=False)


def _series(column: pa.ChunkedArray) -> Any:
    shape = _shape(column.type)
    if shape:
        rows = _arrays(column, shape)
        if rows is not None:
            return rows
    if column.null_count and (pt.is_integer(column.type) or pt.is_boolean(column.type)):
        return column.to_pandas(types_mapper=_nullable)
    return column.to_pandas()


def _nullable(kind: pa.DataType) -> Any:
    import pandas as pd

    if pt.is_boolean(kind):
        return pd.BooleanDtype()
    return getattr(pd, str(kind).replace("int", "Int").replace("uI", "UI") + "Dtype")()


def _shape(kind: pa.DataType) -> tuple[int, ...]:
    """The shape of a row, if the type gives all rows one; else ()."""
    if isinstance(kind, pa.FixedShapeTensorType):
        # Where its axes are permuted, pyarrow knows better.
        return tuple(kind.shape) if kind.permutation is None else ()
    widths = []
    while pt.is_fixed_size_list(kind):
        widths.append(kind.list_size)
        kind = kind.value_type
    flat = pt.is_primitive(kind) or pt.is_string(kind) or pt.is_binary(kind)
    return tuple(widths) if flat and not pt.is_temporal(kind) else ()


def _arrays(column: pa.ChunkedArray, shape: tuple[int, ...]) -> Any:
    """One array a row, None where the row is null; None if there are nulls within rows."""
    present = column.drop_null().combine_chunks()
    if isinstance(present, pa.ExtensionArray):
        present = present.storage
    while pt.is_fixed_size_list(present.type):
        if present.null_count:
            return None
        present = present.flatten()
    if present.null_count:
        return None
    values = present.to_numpy(zero_copy_only=False).reshape(-1, *shape)
    rows = np.empty(len(column), object)
    for place, row in zip(np.flatnonzero(column.is_valid()), values, strict=True):
        rows[place] = row
    return rows
