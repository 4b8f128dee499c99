"""From what a model returns to Arrow columns, checked.

Owns the shape of the output: which prediction columns there are, of which types
(`PredictionSchema`), and the conversion of each batch's outputs (`to_arrow`). How nested outputs
become named arrays is `pipeline.outputs`'s.

Each array's first dimension is the rows. (n,) and (n, 1) become scalars, (n, k) a fixed-size list,
and higher ranks the fixed-shape-tensor extension type; strings, which that type does not take,
become lists of lists. Types are kept. bfloat16, which Parquet has not, is stored as float32: each
of its values is one of float32's, and the field's metadata says what it was.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.errors import ContractError, ModelError, ScoringError, shortened
from pipeline.outputs import Array, flatten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["DTYPE_KEY", "Array", "Output", "PredictionSchema", "flatten", "schema_of"]

DTYPE_KEY = b"shardscore.dtype"
"""Key of a field's metadata: the type of a prediction that is stored as a wider one."""


@dataclass(frozen=True, slots=True)
class Output:
    """One prediction column: its name, the shape of one row, its numpy dtype and Arrow type.

    The dtype is the model's; the Arrow type is float32's where that is bfloat16.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    type: pa.DataType

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, strings taken at the weight of a pointer."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def field(self) -> pa.Field:
        """The Arrow field. Each can be null, as `--on-bad-row null` needs: one type is simpler."""
        told = {DTYPE_KEY: self.dtype.name.encode()} if _is_bfloat16(self.dtype) else None
        return pa.field(self.name, self.type, metadata=told)

    @property
    def described(self) -> str:
        """The type as text; two outputs that are stored alike and are not alike differ in it."""
        return f"{self.type} of bfloat16" if _is_bfloat16(self.dtype) else str(self.type)


@dataclass(frozen=True, slots=True)
class PredictionSchema:
    """The prediction columns of a job, the same in every file."""

    outputs: tuple[Output, ...]

    @property
    def fields(self) -> list[pa.Field]:
        """The Arrow fields of the columns, in order."""
        return [output.field for output in self.outputs]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of all prediction columns."""
        return sum(output.row_bytes for output in self.outputs)

    def described(self) -> dict[str, str]:
        """Column → type, as text, for the job's identity."""
        return {output.name: output.described for output in self.outputs}

    def in_order(self, outputs: Mapping[str, Array]) -> list[Array]:
        """One batch's outputs in the order of the columns: a dict need not have one order always.

        Args:
            outputs: As `flatten` gives them.

        Raises:
            ScoringError: They have other names.
        """
        names = [output.name for output in self.outputs]
        if outputs.keys() != set(names):
            raise ScoringError(
                "the model changed the structure of its outputs between batches",
                expected="outputs " + shortened(names),
                received="outputs " + shortened(list(outputs)),
                hint="the model, and a postprocess hook, give the same names for all batches",
            )
        return [outputs[name] for name in names]

    def to_arrow(self, arrays: Sequence[Array], rows: int) -> tuple[pa.Array, ...]:
        """Converts one batch's outputs.

        Args:
            arrays: One per column, (rows, …), in their order.
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


def schema_of(
    outputs: dict[str, Array], recorded: Mapping[str, str] | None = None
) -> PredictionSchema:
    """The prediction schema that a batch's outputs show.

    Args:
        outputs: As `flatten` gives them.
        recorded: Column → Arrow type of an output that has been begun. It says whether strings
            are text or bytes, which one batch cannot tell for the others; and in which order the
            columns are, since a hook's dict may have another in each process.

    Raises:
        ModelError: An output has no rows' dimension, or a type that Parquet has no column for.
    """
    columns = []
    known = recorded or {}
    names = known if known.keys() == outputs.keys() else outputs
    for name in names:
        array = outputs[name]
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
    strings = array.dtype == object
    value = _string_type(name, array, recorded) if strings else _number_type(name, array.dtype)
    if shape in {(), (1,)}:
        return value
    if len(shape) > 1 and not strings:
        return pa.fixed_shape_tensor(value, shape)
    for width in reversed(shape):
        value = pa.list_(value, width)
    return value


def _number_type(name: str, dtype: np.dtype[Any]) -> pa.DataType:
    if _is_bfloat16(dtype):
        return pa.float32()
    if dtype.kind in "fiub":
        with suppress(pa.ArrowNotImplementedError):
            return pa.from_numpy_dtype(dtype)
    raise ModelError(
        "an output of the model has a type that cannot be written",
        column=name,
        expected="a float, an integer, a bool or a string",
        received=str(dtype),
        hint="return its real and imaginary parts as two outputs"
        if dtype.kind == "c"
        else "cast it in the model, for instance to float32",
    )


def _string_type(name: str, array: Array, recorded: str | None) -> pa.DataType:
    text = True
    for value in array.flat:
        if isinstance(value, bytes):
            text = text and _decodes(value)
        elif value is not None and not isinstance(value, str):
            raise ModelError(
                "an output of the model holds objects that cannot be written",
                column=name,
                expected="strings",
                received=type(value).__name__,
                hint="return an array of numbers, of bools or of strings",
            )
    if recorded is not None:
        text = "binary" not in recorded
    return pa.string() if text else pa.binary()


def _decodes(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_bfloat16(dtype: np.dtype[Any]) -> bool:
    # By its name: the package that brings the type is TensorFlow's, and may not be loaded.
    return dtype.name == "bfloat16"


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
    if _is_bfloat16(flat.dtype):
        flat = flat.astype(np.float32)
    try:
        return _stored(output, flat)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ScoringError(
            f"the model's output {output.name!r} does not fit its column",
            column=output.name,
            expected=str(output.type),
            received=str(error).splitlines()[0],
            hint="strings must be UTF-8 in all batches, or bytes that are not in the first",
        ) from error


def _stored(output: Output, flat: Array) -> pa.Array:
    kind = output.type
    if isinstance(kind, pa.FixedShapeTensorType):
        values = pa.array(flat, type=kind.value_type)
        width = int(np.prod(output.shape))
        return pa.ExtensionArray.from_storage(
            kind, pa.FixedSizeListArray.from_arrays(values, width)
        )
    widths = () if output.shape == (1,) else output.shape
    for _ in widths:
        kind = kind.value_type
    values = pa.array(flat, type=kind)
    for width in reversed(widths):
        values = pa.FixedSizeListArray.from_arrays(values, width)
    return values
