"""Extraction of columns of every kind against Python's own arithmetic, without bounds or haste.

Each value is known as a fraction or a text; which of them an input holds, and how lists are cut
and padded, is said here a second time and as plainly as can be. The rows that reach the model, and
those that do not, must be the same.
"""

from __future__ import annotations

import decimal
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import event, given, settings
from hypothesis import strategies as st

from pipeline.binding import Binding, ColumnUse, Reading, check
from pipeline.conversions import MANTISSA, PER_SECOND, TYPES, conversion_of, is_time, numpy_type
from pipeline.extract import extract
from pipeline.input_options import InputOptions
from pipeline.signature import InputSpec, Signature

Number = Fraction | str | bytes


class Bad(Exception):  # noqa: N818 - no error: a row that no model sees
    """A row that does not reach the model."""


# Kinds of values: an Arrow type, the type that its values are made as, and what they are


@dataclass(frozen=True)
class Kind:
    type: pa.DataType
    made_as: pa.DataType
    values: st.SearchStrategy[Any]

    def meaning(self, value: Any, use: ColumnUse) -> Number:
        """What a value means: a text, or a number in the unit that the job says."""
        if isinstance(value, (str, bytes)):
            return value
        number = Fraction(value)
        if use.unit is None:
            return number
        up, down = PER_SECOND[use.unit]
        return number / SECOND[counted_in(self.type)] * up / down


SECOND = {unit: Fraction(up, down) for unit, (up, down) in PER_SECOND.items()}


def counted_in(kind: pa.DataType) -> str:
    if kind == pa.date32():
        return "days"
    return "ms" if kind == pa.date64() else str(kind.unit)


def integers(kind: pa.DataType) -> st.SearchStrategy[int]:
    limits = np.iinfo(kind.to_pandas_dtype())
    low, high = int(limits.min), int(limits.max)
    powers = [
        p + d for e in (7, 8, 11, 15, 16, 24, 31, 32, 53, 63) for p in [2**e] for d in (-1, 1)
    ]
    edges = [v for p in [*powers, *(p + 1 for p in powers)] for v in (p, -p) if low <= v <= high]
    return st.one_of(st.integers(max(low, -3), min(high, 300)), st.sampled_from(edges))


def numbers(kind: pa.DataType) -> Kind:
    return Kind(kind, kind, integers(kind))


def floats(kind: pa.DataType) -> Kind:
    width = kind.bit_width
    return Kind(kind, kind, st.floats(allow_nan=False, allow_infinity=False, width=width))


def times(kind: pa.DataType) -> Kind:
    """Counts of seconds around today, and all that the type holds."""
    storage = pa.int32() if kind.bit_width == 32 else pa.int64()
    unit = SECOND[counted_in(kind)]
    today = [int(s * unit) for s in (0, 86_400 * 20_000, 1_700_000_000, Fraction(3, 2), -86_400)]
    near = st.sampled_from([t for t in today if -(2**31) <= t < 2**31 or storage == pa.int64()])
    return Kind(kind, storage, st.one_of(near, near, integers(storage)))


def decimals(kind: pa.DataType) -> Kind:
    top = 10**kind.precision - 1
    whole = st.one_of(
        st.integers(-min(top, 300), min(top, 300)),
        st.integers(-top, top),
        st.sampled_from([v for e in (24, 53, 63, 64, 70) if (v := 2**e) <= top] or [0]),
    )
    return Kind(kind, kind, whole.map(lambda v: decimal.Decimal(v).scaleb(-kind.scale, CONTEXT)))


CONTEXT = decimal.Context(prec=80)
TEXT = st.text(max_size=3)
UNITS = ("s", "ms", "us", "ns")
KINDS: dict[str, Kind] = {
    **{str(t): numbers(t) for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{str(t): numbers(t) for t in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    **{str(t): floats(t) for t in (pa.float16(), pa.float32(), pa.float64())},
    "bool": Kind(pa.bool_(), pa.bool_(), st.booleans()),
    "string": Kind(pa.string(), pa.string(), TEXT),
    "large_string": Kind(pa.large_string(), pa.large_string(), TEXT),
    "binary": Kind(pa.binary(), pa.binary(), st.binary(max_size=3)),
    "dictionary of texts": Kind(
        pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int8(), pa.string()), TEXT
    ),
    "dictionary of numbers": Kind(
        pa.dictionary(pa.int8(), pa.int64()),
        pa.dictionary(pa.int8(), pa.int64()),
        integers(pa.int64()),
    ),
    "date32": times(pa.date32()),
    "date64": times(pa.date64()),
    "time32[s]": times(pa.time32("s")),
    "time32[ms]": times(pa.time32("ms")),
    "time64[us]": times(pa.time64("us")),
    "time64[ns]": times(pa.time64("ns")),
    **{f"timestamp[{u}]": times(pa.timestamp(u)) for u in UNITS},
    **{f"timestamp[{u}, zone]": times(pa.timestamp(u, "America/New_York")) for u in UNITS},
    **{f"duration[{u}]": times(pa.duration(u)) for u in UNITS},
    **{
        str(t): decimals(t)
        for t in (
            pa.decimal32(7, 0),
            pa.decimal64(15, 2),
            pa.decimal128(12, 2),
            pa.decimal128(38, 0),
            pa.decimal256(60, 0),
            pa.decimal256(60, 10),
        )
    },
}


# What an input holds


def held(meaning: Number, dtype: str, conversion: str) -> Any:
    """The value of an input that a number becomes, or Bad."""
    if not isinstance(meaning, Fraction):
        return meaning.encode() if isinstance(meaning, str) else meaning
    if dtype == "bool":
        return bool(meaning)
    if dtype not in MANTISSA:
        limits = np.iinfo(dtype)
        if meaning.denominator > 1 or not int(limits.min) <= meaning <= int(limits.max):
            raise Bad
        return int(meaning)
    nearest = nearest_float(meaning, dtype)
    if not math.isfinite(nearest) or (conversion == "checked" and Fraction(nearest) != meaning):
        raise Bad
    assert conversion == "rounded" or Fraction(nearest) == meaning, "called exact, and is not"
    return nearest


def nearest_float(number: Fraction, dtype: str) -> float:
    with np.errstate(over="ignore"):
        first = np.array(float(number)).astype(numpy_type(dtype))
        if dtype == "bfloat16" or not np.isfinite(first):
            return float(first)
        around = [first, np.nextafter(first, -np.inf), np.nextafter(first, np.inf)]
    return min(
        (float(one) for one in around if np.isfinite(one)),
        key=lambda one: abs(Fraction(one) - number),
    )


def expected(value: Any, use: ColumnUse, dtype: str, kind: Kind, level: int = 0) -> Any:
    """One row as nested lists, or Bad."""
    if value is None:
        raise Bad
    dims, sequence = use.dims or (), use.sequence if level == 0 else None
    if level == len(dims):
        return held(kind.meaning(value, use), dtype, use.conversion)
    items = [expected(item, use, dtype, kind, level + 1) for item in value]
    if sequence is None:
        if len(items) != dims[level]:
            raise Bad
        return items
    if len(items) > dims[0]:
        if sequence.truncate == "never":
            raise Bad
        items = items[: dims[0]] if sequence.truncate == "end" else items[-dims[0] :]
    filling = [blank(sequence, dims[1:], dtype)] * (dims[0] - len(items))
    return items + filling if sequence.pad == "after" else filling + items


def blank(sequence: InputOptions, dims: tuple[int, ...], dtype: str) -> Any:
    if dims:
        return [blank(sequence, dims[1:], dtype)] * dims[0]
    if dtype == "string":
        return str(sequence.pad_value or "").encode()
    return numpy_type(dtype).type(sequence.pad_value).item()


# Columns


@dataclass(frozen=True)
class Case:
    """One column, and how it is read."""

    kind: Kind
    rows: list[Any]
    column: pa.Array
    name: str
    spec: InputSpec
    reading: Reading

    def bound(self, schema: pa.Schema) -> Binding:
        signature = Signature((self.spec,), "tensor", (), custom_step=False)
        return check(signature, {"x": (self.name,)}, schema, self.reading)


def often(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(values, values, values, values, values, st.none())


@st.composite
def cases(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(KINDS)) -> Case:
    kind = KINDS[draw(st.sampled_from(kinds))]
    unit = draw(st.sampled_from(sorted(PER_SECOND))) if is_time(kind.type) else None
    lossy = draw(st.booleans())
    targets = [
        dtype
        for dtype in sorted({*TYPES, "string"})
        if conversion_of(kind.type, dtype, unit, allow_lossy=lossy)  # type: ignore[arg-type]
        not in ({None} if lossy else {None, "rounded"})
    ]
    dtype = draw(st.sampled_from(targets or ["float64"]))
    if not targets:
        lossy = True
    dims = tuple(draw(st.lists(st.integers(1, 3), max_size=3)))
    said: dict[str, Any] = {"unit": unit} if unit else {}
    loose = bool(dims) and draw(st.booleans())
    if loose:
        fill = {"string": ["", "pad"], "bool": [False, True]}.get(dtype, [0, 1])
        said |= {
            "length": dims[0],
            "pad": draw(st.sampled_from(["after", "before"])),
            "truncate": draw(st.sampled_from(["never", "end", "start"])),
            "pad_value": draw(st.sampled_from(fill)),
        }
    full, made_as, values = kind.type, kind.made_as, often(kind.values)
    for i, size in reversed(list(enumerate(dims))):
        form = draw(st.sampled_from(["list", "large", "fixed"]))
        if form == "fixed":
            wide = draw(st.integers(1, size)) if loose and i == 0 else size
            full, made_as = pa.list_(full, wide), pa.list_(made_as, wide)
            values = often(st.lists(values, min_size=wide, max_size=wide))
        else:
            make = pa.list_ if form == "list" else pa.large_list
            full, made_as = make(full), make(made_as)
            some = 6 if loose and i == 0 else size + 1
            right = st.lists(values, min_size=size, max_size=size)
            values = often(st.one_of(right, right, st.lists(values, max_size=some)))
    rows = draw(st.lists(values, max_size=8))
    column = pa.array(rows, made_as).cast(full)
    name = draw(st.sampled_from(["x", "s.x", "s.t.x"]))
    for step in reversed(name.split(".")[1:]):
        hidden = draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
        rows = [None if gone else row for row, gone in zip(rows, hidden, strict=True)]
        column = pa.StructArray.from_arrays([column], [step], mask=pa.array(hidden, pa.bool_()))
    reading = Reading({"x": InputOptions(**said)}, None, (name,) if lossy else ())
    return Case(kind, rows, column, name, InputSpec("x", dims, dtype), reading)


@settings(max_examples=400)
@given(cases(), st.integers(0, 3), st.integers(0, 10**9))
def test_what_reaches_the_model_is_what_plain_arithmetic_says(
    case: Case, offset: int, start: int
) -> None:
    batch = pa.record_batch({case.name.split(".")[0]: case.column}).slice(offset)
    use = case.bound(batch.schema).inputs[0].uses[0]
    event(use.conversion)
    wanted, bad = [], []
    for i, row in enumerate(case.rows[offset:]):
        try:
            wanted.append(expected(row, use, case.spec.dtype, case.kind))
        except Bad:
            bad.append(start + i)
    (array,), good, found = extract(case.bound(batch.schema), batch, start)
    assert [row.row for row in found] == bad
    assert all(row.column == case.name and row.reason for row in found)
    assert (good is None) == (not bad)
    assert array.dtype == (object if case.spec.dtype == "string" else numpy_type(case.spec.dtype))
    assert array.shape == (len(wanted), *case.spec.shape)
    assert array.tolist() == wanted
