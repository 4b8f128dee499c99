"""From record batches to the model's inputs, row by row accounted for.

A row that an input cannot take (a null, a list of the wrong width, a value that the input's type
cannot hold) is a bad row, with its column and the reason. The others become arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.conversions import MANTISSA, UNITS
from pipeline.nested import flat, lengths_of, misshapen, padded
from pipeline.records import BadRow
from pipeline.values import converted, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.binding import Binding, ColumnUse
    from pipeline.signature import InputSpec

Array = np.ndarray[Any, Any]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

_BLOCK_BYTES = 1 << 18
"""Of columns that are put side by side at a time: half of that misses by calls, twice by cache."""

_ALIGNMENT = 64  # EIGEN_MAX_ALIGN_BYTES


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
    if binding.plain and (found := _as_they_are(binding, batch)) is not None:
        return found, None, ()
    faults = _Faults(batch.num_rows, start)
    for bound in binding.inputs:
        for use in bound.uses:
            _find_nulls(_column(batch, use), use, bound.spec, faults)
    present = faults.good
    rows = batch if present is None else batch.filter(pa.array(present))
    position = None if present is None else np.flatnonzero(present)
    arrays = []
    for bound in binding.inputs:
        parts = [
            _converted(_column(rows, use), use, bound.spec, faults, position) for use in bound.uses
        ]
        arrays.append(_assembled(parts, bound.spec, rows.num_rows))
    good = faults.good
    if good is not present and good is not None:
        kept = good if present is None else good[present]
        arrays = [array[kept] for array in arrays]
    return tuple(arrays), good, faults.rows()


def _as_they_are(binding: Binding, batch: pa.RecordBatch) -> tuple[Array, ...] | None:
    """The arrays of columns that hold the inputs' own types, None if a value of them is null.

    What most tables are, and a tenth of the work: no column is looked at twice.
    """
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    arrays = []
    for bound in binding.inputs:
        parts = [columns[use.path[0]] for use in bound.uses]
        if any(part.null_count for part in parts):
            return None
        arrays.append(_assembled([p.to_numpy() for p in parts], bound.spec, batch.num_rows))
    return tuple(arrays)


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


def _column(batch: pa.RecordBatch, use: ColumnUse) -> pa.Array:
    """What a use reads: a column, or a field of a struct, which is null where the struct is."""
    column = batch.column(use.path[0])
    return column if len(use.path) == 1 else pc.struct_field(column, list(use.path[1:]))


def _find_nulls(column: pa.Array, use: ColumnUse, spec: InputSpec, faults: _Faults) -> None:
    if column.null_count:
        nulls = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))
        faults.add(
            nulls,
            use.column,
            lambda _: f"null in column {use.column!r}, read by the model's input {spec.name!r}",
        )
    if use.dims is None:
        return
    present = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    for rows, lengths, level in misshapen(column.drop_null(), use.dims, use.sequence):
        if lengths is None:
            faults.add(
                present[rows],
                use.column,
                lambda _: f"null inside the list of column {use.column!r}",
            )
        else:
            faults.add(present[rows], use.column, _wrong_length(lengths, level, use))


def _wrong_length(lengths: list[int], level: int, use: ColumnUse) -> Callable[[int], str]:
    dims = use.dims or ()
    takes = f"the model's input takes {dims[level]}"
    if len(dims) > 1:
        takes += f" ({' x '.join(map(str, dims))} in all)"
    if use.sequence is not None and level == 0:
        takes += ", and nothing is cut off (truncate)"
    place = "in" if level == 0 else "inside a list of"
    return lambda i: f"a list of {lengths[i]} values {place} column {use.column!r}; {takes}"


def _converted(
    column: pa.Array, use: ColumnUse, spec: InputSpec, faults: _Faults, position: Array | None
) -> Array:
    """One column without nulls as an array: (rows,), or (rows, …) for lists."""
    values = column if use.dims is None else flat(column, use.dims)
    array, wrong = converted(values, spec.dtype, use.conversion, use.unit)
    lengths = None
    if use.dims is not None and use.sequence is not None:
        lengths = lengths_of(column)
    if wrong is not None:
        owners = _owners(wrong, use, lengths)
        _add_misfits(values, wrong, owners, use, spec, faults, position)
    if use.dims is None:
        return array
    if lengths is None or use.sequence is None:
        return array.reshape(-1, *use.dims)
    return padded(array.reshape(-1, *use.dims[1:]), lengths, use.dims[0], use.sequence)


def _owners(wrong: Mask, use: ColumnUse, lengths: Array | None) -> Array:
    """The row that each wrong value is of."""
    places = np.flatnonzero(wrong)
    if use.dims is None:
        return places
    if lengths is None:
        return places // int(np.prod(use.dims))
    return np.repeat(np.arange(len(lengths)), lengths)[places // int(np.prod(use.dims[1:]))]


def _add_misfits(
    values: pa.Array,
    wrong: Mask,
    owners: Array,
    use: ColumnUse,
    spec: InputSpec,
    faults: _Faults,
    position: Array | None,
) -> None:
    rows, first = np.unique(owners, return_index=True)
    places = np.flatnonzero(wrong)[first]
    held = f"cannot be held by {spec.dtype}"
    if use.unit is not None:
        held += f" in {UNITS[use.unit]}"
    if spec.dtype in MANTISSA and use.conversion == "checked":
        held += f" (it would be rounded with --allow-lossy {use.column})"
    found = [shown(values, int(place)) for place in places]
    faults.add(
        rows if position is None else position[rows],
        use.column,
        lambda i: f"{found[i]} in column {use.column!r} ({use.type}) {held}",
    )


def _assembled(parts: Sequence[Array], spec: InputSpec, rows: int) -> Array:
    shape = (rows, *(d or 1 for d in spec.shape))
    if len(parts) == 1:
        return parts[0].reshape(shape)
    # (rows, k): columns side by side, in the order in which the job names them. Block by block,
    # so that a block stays in the cache until its last column is in its place.
    out = _aligned((rows, len(parts)), parts[0].dtype)
    block = max(1, _BLOCK_BYTES // (len(parts) * out.itemsize))
    for first in range(0, rows, block):
        into = out[first : first + block]
        for i, part in enumerate(parts):
            into[:, i] = part[first : first + block]
    return out


def _aligned(shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
    """An array of undefined values, which TensorFlow takes for a tensor without a copy."""
    if dtype.hasobject:
        return np.empty(shape, dtype)
    size = shape[0] * shape[1] * dtype.itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    skipped = -raw.ctypes.data % _ALIGNMENT
    return raw[skipped : skipped + size].view(dtype).reshape(shape)
