"""From what a model returns to Arrow columns, checked.

Owns the shape of the output: which prediction columns there are, of which types
(`PredictionSchema`), and the conversion of each batch's outputs (`to_arrow`). A model's outputs
may be one array, a dict, or a list or tuple; nested ones get dotted names. Each array's first
dimension is the rows. (n,) and (n, 1) become scalars, (n, k) a fixed-size list, and higher ranks
the fixed-shape-tensor extension type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.errors import ContractError, ModelError, ScoringError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Array = np.ndarray[Any, Any]

SINGLE = "prediction"
"""Name of the column of a model whose one output has no name of its own."""


@dataclass(frozen=True, slots=True)
class Output:
    """One prediction column: its name, the shape of one row, its numpy dtype and Arrow type."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    type: pa.DataType

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, strings taken at the weight of a pointer."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class PredictionSchema:
    """The prediction columns of a job, the same in every file."""

    outputs: tuple[Output, ...]

    @property
    def fields(self) -> list[pa.Field]:
        """Arrow fields. All can be null: `--on-bad-row null` needs it, and one type is simpler."""
        return [pa.field(output.name, output.type) for output in self.outputs]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of all prediction columns."""
        return sum(output.row_bytes for output in self.outputs)

    def described(self) -> dict[str, str]:
        """Column → Arrow type, as text, for the job's identity."""
        return {output.name: str(output.type) for output in self.outputs}

    def to_arrow(self, arrays: Sequence[Array], rows: int) -> tuple[pa.Array, ...]:
        """Converts one batch's outputs.

        Args:
            arrays: One per column, (rows, …), as `flatten` gives them.
            rows: How many rows the model was given.

        Raises:
            ScoringError: The outputs are not of this schema, or not of that many rows.
        """
        if len(arrays) != len(self.outputs):
            raise ScoringError(
                "the model changed the structure of its outputs between batches",
                expected=f"{len(self.outputs)} arrays",
                received=f"{len(arrays)} arrays",
            )
        return tuple(
            _column(output, array, rows) for output, array in zip(self.outputs, arrays, strict=True)
        )

    def empty(self) -> tuple[pa.Array, ...]:
        """The columns of no rows."""
        return tuple(_column(o, np.empty((0, *o.shape), o.dtype), 0) for o in self.outputs)

    def refuse_collision(self, carried: Sequence[str], path: str) -> None:
        """Raises ContractError if a carried column has the name of a prediction."""
        for output in self.outputs:
            if output.name in carried:
                raise ContractError(
                    "a column of the shard has the name of a prediction",
                    path=path,
                    column=output.name,
                    expected="carried columns whose names differ from "
                    + ", ".join(o.name for o in self.outputs),
                    hint="leave it out with --keep (names, globs or none), or rename it",
                )


def flatten(outputs: Any, output_names: Sequence[str]) -> dict[str, Array]:
    """A model's outputs as one flat mapping of column name → array.

    Args:
        outputs: As Keras returned them: an array, or dicts, lists and tuples of arrays.
        output_names: The model's own names of its outputs, for a list or tuple of that length.

    Raises:
        ModelError: Something in there is no array, or two outputs have one name.
    """
    flat: dict[str, Array] = {}

    def put(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                put(f"{name}.{key}" if name else str(key), inner)
        elif isinstance(value, (list, tuple)):
            top = not name and len(output_names) == len(value)
            for i, inner in enumerate(value):
                label = output_names[i] if top else str(i)
                put(f"{name}.{label}" if name else _sequence_name(label, top), inner)
        else:
            _put_array(flat, name or SINGLE, value)

    put("", outputs)
    if not flat:
        raise ModelError("the model returned no output", received=repr(outputs))
    return flat


def _sequence_name(label: str, named: bool) -> str:
    return label if named else f"{SINGLE}_{label}"


def _put_array(flat: dict[str, Array], name: str, value: Any) -> None:
    if not hasattr(value, "shape") or not hasattr(value, "dtype") or hasattr(value, "row_splits"):
        raise ModelError(
            "the model returned something that is no dense array",
            column=name,
            expected="an array whose first dimension is the rows",
            received=type(value).__name__,
        )
    if name in flat:
        raise ModelError(
            "two outputs of the model have one name",
            column=name,
            hint="give the output layers different names, or return a dict",
        )
    flat[name] = np.asarray(value)


def schema_of(
    outputs: dict[str, Array], recorded: Mapping[str, str] | None = None
) -> PredictionSchema:
    """The prediction schema that a batch's outputs show.

    Args:
        outputs: As `flatten` gives them.
        recorded: Column → Arrow type of an output that has been begun. It says whether strings
            are text or bytes, which one batch cannot tell for the others.

    Raises:
        ModelError: An output has no rows' dimension, or a type that Parquet has no column for.
    """
    columns = []
    known = recorded or {}
    for name, array in outputs.items():
        if array.ndim == 0:
            raise ModelError(
                "an output of the model has no dimension for the rows",
                column=name,
                expected="shape (rows, …)",
                received="a single number",
            )
        shape = tuple(array.shape[1:])
        if 0 in shape:
            raise ModelError(
                "an output of the model is empty", column=name, received=f"shape {array.shape}"
            )
        columns.append(
            Output(name, shape, array.dtype, _arrow_type(name, array, shape, known.get(name)))
        )
    return PredictionSchema(tuple(columns))


def _arrow_type(
    name: str, array: Array, shape: tuple[int, ...], recorded: str | None
) -> pa.DataType:
    if array.dtype == object:
        text = _is_text(array) if recorded is None else "binary" not in recorded
        value = pa.string() if text else pa.binary()
    else:
        try:
            value = pa.from_numpy_dtype(array.dtype)
        except (pa.ArrowNotImplementedError, TypeError) as error:
            raise ModelError(
                "an output of the model has a type that cannot be written",
                column=name,
                expected="a float, an integer, a bool or a string",
                received=str(array.dtype),
                hint="cast it in the model, for instance to float32",
            ) from error
    if shape in {(), (1,)}:
        return value
    if len(shape) == 1:
        return pa.list_(value, shape[0])
    if value in {pa.string(), pa.binary()}:
        raise ModelError(
            "an output of strings has more than two dimensions",
            column=name,
            received=f"shape {array.shape}",
        )
    return pa.fixed_shape_tensor(value, shape)


def _is_text(array: Array) -> bool:
    for value in array.flat:
        if isinstance(value, bytes):
            try:
                value.decode()
            except UnicodeDecodeError:
                return False
    return True


def _column(output: Output, array: Array, rows: int) -> pa.Array:
    if array.shape != (rows, *output.shape) or array.dtype != output.dtype:
        raise ScoringError(
            f"the model's output {output.name!r} does not fit the rows",
            column=output.name,
            expected=f"{output.dtype} {(rows, *output.shape)}",
            received=f"{array.dtype} {array.shape}",
            hint="each output needs one entry a row, of one shape for all batches",
        )
    flat = np.ascontiguousarray(array).reshape(-1)
    try:
        return _stored(output, flat)
    except pa.ArrowInvalid as error:
        raise ScoringError(
            f"the model's output {output.name!r} does not fit its column",
            column=output.name,
            expected=str(output.type),
            received=str(error).splitlines()[0],
            hint="strings must be UTF-8 in all batches, or bytes that are not in the first",
        ) from error


def _stored(output: Output, flat: Array) -> pa.Array:
    if isinstance(output.type, pa.FixedShapeTensorType):
        values = pa.array(flat, type=output.type.value_type)
        width = int(np.prod(output.shape))
        return pa.ExtensionArray.from_storage(
            output.type, pa.FixedSizeListArray.from_arrays(values, width)
        )
    if output.shape in {(), (1,)}:
        return pa.array(flat, type=output.type)
    values = pa.array(flat, type=output.type.value_type)
    return pa.FixedSizeListArray.from_arrays(values, output.shape[0])
