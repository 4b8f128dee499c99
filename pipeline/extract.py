"""From record batches to the model's inputs, row by row accounted for.

A row that an input cannot take (a null, a list of the wrong width, a value that the input's type
cannot hold) is a bad row, with its column and the reason. The others become arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from pipeline.records import BadRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.binding import Binding, ColumnUse
    from pipeline.signature import InputSpec

Array = np.ndarray[Any, Any]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


def extract(
    binding: Binding, batch: pa.RecordBatch, start: int
) -> tuple[tuple[Array, ...], Mask | None, tuple[BadRow, ...]]:
    """Turns the rows of a batch into the model's inputs.

    Args:
        binding: The model's inputs, bound to the columns of the batch.
        batch: Rows with at least the bound columns.
        start: Number of the first row in its shard.

    Returns:
        One array per input, of the good rows only: (good, …); which rows are good, (rows,),
        or None for all of them; and the bad rows in order.
    """
    faults = _Faults(batch.num_rows, start)
    for bound in binding.inputs:
        for use in bound.uses:
            _find_nulls(batch.column(use.column), use, bound.spec, faults)
    present = faults.good
    rows = batch if present is None else batch.filter(pa.array(present))
    position = None if present is None else np.flatnonzero(present)
    arrays = []
    for bound in binding.inputs:
        parts = [
            _converted(rows.column(use.column), use, bound.spec, faults, position)
            for use in bound.uses
        ]
        arrays.append(_assembled(parts, bound.spec, rows.num_rows))
    good = faults.good
    if good is not present and good is not None:
        kept = good if present is None else good[present]
        arrays = [array[kept] for array in arrays]
    return tuple(arrays), good, faults.rows()


class _Faults:
    """The bad rows of one batch, the first reason of each."""

    def __init__(self, rows: int, start: int) -> None:
        self.good: Mask | None = None
        self._size = rows
        self._start = start
        self._found: dict[int, tuple[str, str]] = {}

    def add(self, positions: Sequence[int] | Array, column: str, reasons: Any) -> None:
        if len(positions) == 0:
            return
        good = np.ones(self._size, bool) if self.good is None else self.good.copy()
        good[np.asarray(positions)] = False
        self.good = good
        for index, position in enumerate(positions):
            self._found.setdefault(int(position), (column, reasons(index)))

    def rows(self) -> tuple[BadRow, ...]:
        return tuple(
            BadRow(self._start + position, column, reason)
            for position, (column, reason) in sorted(self._found.items())
        )


def _find_nulls(column: pa.Array, use: ColumnUse, spec: InputSpec, faults: _Faults) -> None:
    if column.null_count:
        nulls = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))
        faults.add(
            nulls,
            use.column,
            lambda _: f"null in column {use.column!r}, read by the model's input {spec.name!r}",
        )
    if use.width is None:
        return
    present = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    column = column.drop_null()
    if not pt.is_fixed_size_list(use.type):
        lengths = pc.list_value_length(column)
        wrong = np.flatnonzero(pc.not_equal(lengths, use.width).to_numpy(zero_copy_only=False))
        faults.add(
            present[wrong],
            use.column,
            lambda i: (
                f"a list of {lengths[int(wrong[i])]} values in column {use.column!r}; the "
                f"model's input takes {use.width}"
            ),
        )
    values = pc.list_flatten(column)
    if values.null_count:
        parents = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
        holes = np.unique(parents[values.is_null().to_numpy(zero_copy_only=False)])
        faults.add(
            present[holes], use.column, lambda _: f"null inside the list of column {use.column!r}"
        )


def _converted(
    column: pa.Array, use: ColumnUse, spec: InputSpec, faults: _Faults, position: Array | None
) -> Array:
    """One column without nulls as an array: (rows,), or (rows, width) for lists."""
    values = column if use.width is None else pc.list_flatten(column)
    if pt.is_dictionary(values.type):
        values = values.dictionary_decode()
    if spec.dtype == "string":
        # As bytes: text that is not UTF-8 is the model's to judge, as it would be in predict().
        if not pt.is_binary(values.type) and not pt.is_large_binary(values.type):
            values = values.cast(pa.large_binary(), safe=False)
        return np.asarray(values.to_numpy(zero_copy_only=False), dtype=object)
    raw: Array = values.to_numpy(zero_copy_only=False)
    if raw.dtype == np.dtype(spec.dtype):
        array = raw
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            array = raw.astype(spec.dtype)
        if use.conversion != "exact":
            _find_misfits(raw, array, use, spec, faults, position)
    return array if use.width is None else array.reshape(-1, use.width)


def _find_misfits(
    raw: Array,
    array: Array,
    use: ColumnUse,
    spec: InputSpec,
    faults: _Faults,
    position: Array | None,
) -> None:
    if use.conversion == "rounded":
        wrong = np.isinf(array) & ~np.isinf(raw)
    elif array.dtype.kind == "f":
        # A long double holds each 64-bit integer and each float exactly, so this is exact too.
        wrong = array.astype(np.longdouble) != raw.astype(np.longdouble)
    else:
        wrong = array.astype(raw.dtype) != raw
        wrong |= (raw < 0) != (array < 0)
    if not wrong.any():
        return
    flat = np.flatnonzero(wrong)
    rows = np.unique(flat // use.width) if use.width else flat
    first = {int(f // (use.width or 1)): raw[f] for f in flat[::-1]}
    places = rows if position is None else position[rows]
    faults.add(
        places,
        use.column,
        lambda i: (
            f"{first[int(rows[i])]} in column {use.column!r} "
            f"({use.type}) cannot be held by {spec.dtype}"
        ),
    )


def _assembled(parts: Sequence[Array], spec: InputSpec, rows: int) -> Array:
    shape = (rows, *(d or 1 for d in spec.shape))
    if len(parts) == 1:
        return parts[0].reshape(shape)
    # (rows, k): columns side by side, in the order in which the job names them.
    out = np.empty((rows, len(parts)), parts[0].dtype)
    for i, part in enumerate(parts):
        out[:, i] = part
    return out
