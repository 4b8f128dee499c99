"""How the values of one prediction column are counted.

* Numbers are counted in buckets (`number_buckets`), less than 0.8% wide.
* Lists of up to `MOST_ELEMENTS` numbers are counted an element at a time, longer ones together. Of
  a list of scores it is also counted which is the highest.
* Strings, booleans and integers are counted by value: all, up to `MOST_VALUES`; of more, those
  whose hashes are the lowest, so that each that is named has been counted from the first row on.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
import xxhash

from pipeline.number_buckets import BUCKETS, bucket_of, summed
from pipeline.varints import from_varints, to_varints

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

MOST_ELEMENTS = 16
MOST_CLASSES = 1000
MOST_VALUES = 128

_PENDING = 1 << 16
"""Keys that wait to be counted: sorting a few at a time would cost more."""

_LONGEST = 64
"""Characters of a value that is told; of a longer one its beginning, and a digest."""


@dataclass
class ColumnSketch:
    """One prediction column's counts.

    Attributes:
        elements: Elements that are counted apart; 0 if values, not numbers, are counted.
        rows: Rows that were looked at.
        nan: NaNs among their numbers.
        low: The lowest number but for NaN; None if there is none.
        high: The highest.
        highest: For each class, in how many rows it has the highest score; empty if it is no list
            of scores.
        keys: element times 65,536, and the bucket, sorted; those that occur.
        counts: How often each does.
        values: Value, as text → how often it occurs.
        counted: How many values there are, named or not.
        null: Nulls among them.
        stands_for: Rows that the counts stand for, where they are sums of several shards' and each
            row that was looked at has been counted for all of its block; 0: `rows`.
    """

    elements: int
    rows: int = 0
    nan: int = 0
    low: float | None = None
    high: float | None = None
    highest: list[int] = field(default_factory=list)
    keys: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    values: dict[str, int] = field(default_factory=dict)
    counted: int = 0
    null: int = 0
    stands_for: int = 0
    _pending: list[NDArray[np.uint32]] = field(default_factory=list)
    _waiting: int = 0

    @classmethod
    def for_type(cls, kind: pa.DataType) -> Self:
        """An empty sketch of a column of some type."""
        inner, width = _unnested(kind)
        if pt.is_boolean(inner) or not (pt.is_floating(inner) or pt.is_integer(inner)):
            return cls(elements=0)
        flat_list = pt.is_fixed_size_list(kind) and kind.value_type == inner
        scores = flat_list and pt.is_floating(inner) and 1 < width <= MOST_CLASSES
        return cls(
            elements=width if width <= MOST_ELEMENTS else 1,
            highest=[0] * width if scores else [],
        )

    def add(self, column: pa.Array) -> None:
        """Counts the values of some rows.

        Args:
            column: Predictions, as they are written.
        """
        flat = _flat(column)
        self.rows += len(column)
        if not self.elements or (pt.is_integer(flat.type) and flat.type == column.type):
            self._count_values(flat)
        if self.elements and len(column):
            numbers = np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(column), -1)
            if self.highest:
                self._count_highest(numbers)
            self._count_numbers(numbers)

    def _count_highest(self, scores: NDArray[Any]) -> None:
        told = scores[~np.isnan(scores).any(axis=1)]
        found = np.bincount(told.argmax(axis=1), minlength=len(self.highest))
        self.highest = [a + int(b) for a, b in zip(self.highest, found, strict=True)]

    def _count_numbers(self, numbers: NDArray[Any]) -> None:
        if self.elements > 1:
            element = np.arange(self.elements, dtype=np.uint32) * BUCKETS
            places = np.broadcast_to(element, numbers.shape).reshape(-1)
        else:
            places = np.zeros(1, np.uint32)
        flat = numbers.reshape(-1)
        if numbers.dtype.kind == "f":
            nan = np.isnan(flat)
            if nan.any():
                self.nan += int(nan.sum())
                places = places[~nan] if self.elements > 1 else places
                flat = flat[~nan]
        if not len(flat):
            return
        low, high = float(flat.min()), float(flat.max())
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)
        self._pending.append(bucket_of(flat) + places)
        self._waiting += len(flat)
        if self._waiting >= _PENDING:
            self._settle()

    def _settle(self) -> None:
        """Counts the keys that wait."""
        if not self._pending:
            return
        pending = self._pending[0] if len(self._pending) == 1 else np.concatenate(self._pending)
        keys, counts = np.unique(pending, return_counts=True)
        self._pending, self._waiting = [], 0
        if len(self.keys):
            keys, counts = summed([(self.keys, self.counts), (keys, counts)])
        self.keys, self.counts = keys, counts

    def _count_values(self, flat: pa.Array) -> None:
        self.counted += len(flat) - flat.null_count
        self.null += flat.null_count
        found = pc.value_counts(flat.drop_null())
        names = (_spelt(value) for value in found.field("values").to_pylist())
        theirs = dict(zip(names, found.field("counts").to_pylist(), strict=True))
        self.values = lowest([self.values, theirs])

    def as_json(self) -> dict[str, Any]:
        """What `of_json` reads; equal sketches give equal texts."""
        self._settle()
        told: dict[str, Any] = {"elements": self.elements, "rows": self.rows}
        if self.elements:
            told |= {"nan": self.nan, "low": _told(self.low), "high": _told(self.high)}
            told |= {"keys": _packed(np.diff(self.keys, prepend=np.uint32(0)))}
            told |= {"counts": _packed(self.counts)}
        if self.stands_for:
            told["stands_for"] = self.stands_for
        if self.highest:
            told["highest"] = self.highest
        if self.counted or self.null:
            told |= {"values": dict(sorted(self.values.items()))}
            told |= {"counted": self.counted, "null": self.null}
        return told

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> Self:
        """The sketch that `as_json` told.

        Raises:
            ValueError: It is none.
        """
        try:
            keys = np.cumsum(_unpacked(told.get("keys", "")), dtype=np.int64)
            counts = _unpacked(told.get("counts", ""))
            if len(keys) != len(counts):
                raise ValueError("a count is missing")
            return cls(
                elements=int(told["elements"]),
                rows=int(told["rows"]),
                nan=int(told.get("nan", 0)),
                low=_number(told.get("low")),
                high=_number(told.get("high")),
                highest=[int(count) for count in told.get("highest", ())],
                keys=keys.astype(np.uint32),
                counts=counts,
                values={str(k): int(v) for k, v in told.get("values", {}).items()},
                counted=int(told.get("counted", 0)),
                null=int(told.get("null", 0)),
                stands_for=int(told.get("stands_for", 0)),
            )
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"not a sketch: {error}") from error


def lowest(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Counts of values added up: all, or the `MOST_VALUES` whose hashes are the lowest.

    One that is among the lowest of all is so in each part, so none of its counts is missing.
    """
    together: dict[str, int] = {}
    for part in parts:
        for value, count in part.items():
            together[value] = together.get(value, 0) + count
    if len(together) <= MOST_VALUES:
        return together
    kept = sorted(together, key=rank)[:MOST_VALUES]
    return {value: together[value] for value in kept}


def rank(value: str) -> tuple[int, str]:
    """Where a value stands among all: those that come first are named."""
    return xxhash.xxh3_64_intdigest(value.encode("utf-8", "surrogatepass")), value


def _spelt(value: Any) -> str:
    """A value as text, of bounded length; another value has another."""
    if isinstance(value, bytes):
        text = value.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}…{xxhash.xxh3_64_hexdigest(text.encode())}"


def _unnested(kind: pa.DataType) -> tuple[pa.DataType, int]:
    """The type of a column's values, and how many of them a row has."""
    width = 1
    while True:
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif pt.is_fixed_size_list(kind):
            width *= kind.list_size
            kind = kind.value_type
        else:
            return kind, width


def _flat(column: pa.Array) -> pa.Array:
    while True:
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        elif pt.is_fixed_size_list(column.type):
            column = column.flatten()
        else:
            return column


def _packed(numbers: NDArray[Any]) -> str:
    return base64.b64encode(to_varints(numbers)).decode()


def _unpacked(text: str) -> NDArray[np.int64]:
    return from_varints(base64.b64decode(text, validate=True))


def _told(number: float | None) -> float | str | None:
    """JSON has no infinity."""
    return number if number is None or np.isfinite(number) else str(number)


def _number(told: Any) -> float | None:
    return None if told is None else float(told)
