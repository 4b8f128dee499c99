"""Thrift's compact protocol as plain values: enough to read and write a Parquet footer.

PURE. pyarrow can read a footer and write one of its own, but cannot shift the offsets in one, and
that is all that joining Parquet files needs (`pipeline.joining`). The values keep each field's
number and type, so that what was read is written back to the same bytes, whatever it means.

Source: Apache Thrift, `doc/specs/thrift-compact-protocol.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.errors import CorruptShardError

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
_DEEPEST = 64
"""Nesting beyond it is an attack: a Parquet footer has some six levels."""


@dataclass(slots=True)
class Field:
    """One field of a struct: its number, its type, and its value.

    The value is a bool, an int, 8 bytes (double), bytes (binary), a `Sequence`, or a `Struct`.
    """

    number: int
    kind: int
    value: Any


@dataclass(slots=True)
class Sequence:
    """A list or a set: the type of its elements and their values."""

    kind: int
    values: list[Any]


@dataclass(slots=True)
class Encoded:
    """A list that is written already: the type of its elements, and their bytes one by one."""

    kind: int
    elements: list[bytes]


@dataclass(slots=True)
class Struct:
    """A struct: its fields, in the order in which they are written."""

    fields: list[Field]

    def get(self, number: int) -> Any:
        """The value of a field, or None if it is not set."""
        return next((field.value for field in self.fields if field.number == number), None)

    def put(self, number: int, value: Any) -> None:
        """Changes the value of a field that is set.

        Raises:
            KeyError: It is not.
        """
        for field in self.fields:
            if field.number == number:
                field.value = value
                return
        raise KeyError(number)


def decode(data: bytes) -> Struct:
    """Reads one struct, which must be all of `data`.

    Raises:
        CorruptShardError: It is not one.
    """
    reader = _Reader(data)
    try:
        found = reader.struct(0)
    except (IndexError, ValueError) as error:
        raise CorruptShardError("not a Thrift struct", received=str(error)) from error
    if reader.place != len(data):
        raise CorruptShardError(
            "not a Thrift struct", received=f"{len(data) - reader.place} bytes behind its end"
        )
    return found


def encode(struct: Struct) -> bytes:
    """Writes one struct; the inverse of `decode`."""
    out = bytearray()
    _write_struct(out, struct)
    return bytes(out)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.place = 0

    def struct(self, depth: int) -> Struct:
        if depth > _DEEPEST:
            raise ValueError(f"nested deeper than {_DEEPEST} levels")
        fields: list[Field] = []
        number = 0
        while head := self._byte():
            kind, delta = head & 0x0F, head >> 4
            number = number + delta if delta else _unzigzag(self._varint())
            if kind in {TRUE, FALSE}:
                fields.append(Field(number, TRUE, kind == TRUE))
            else:
                fields.append(Field(number, kind, self._value(kind, depth)))
        return Struct(fields)

    def _value(self, kind: int, depth: int) -> Any:
        if kind in {I16, I32, I64}:
            return _unzigzag(self._varint())
        if kind == BINARY:
            return self._bytes(self._varint())
        if kind == STRUCT:
            return self.struct(depth + 1)
        if kind in {LIST, SET}:
            return self._sequence(depth)
        if kind == BYTE:
            return self._byte()
        if kind == DOUBLE:
            return self._bytes(8)
        raise ValueError(f"type {kind} at byte {self.place}")

    def _sequence(self, depth: int) -> Sequence:
        head = self._byte()
        kind, count = head & 0x0F, head >> 4
        if count == 0x0F:
            count = self._varint()
        if count > len(self._data) - self.place:
            raise ValueError(f"a list of {count} elements in {len(self._data)} bytes")
        if kind in {TRUE, FALSE}:  # in a list, each has a byte of its own
            return Sequence(kind, [self._byte() == TRUE for _ in range(count)])
        return Sequence(kind, [self._value(kind, depth) for _ in range(count)])

    def _byte(self) -> int:
        value = self._data[self.place]
        self.place += 1
        return value

    def _bytes(self, count: int) -> bytes:
        value = self._data[self.place : self.place + count]
        if len(value) < count:
            raise ValueError(f"{count} bytes wanted where {len(value)} are left")
        self.place += count
        return value

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError(f"a number longer than 64 bits at byte {self.place}")


def _write_struct(out: bytearray, struct: Struct) -> None:
    last = 0
    for field in struct.fields:
        kind = field.kind
        if kind == TRUE:
            kind = TRUE if field.value else FALSE
        delta = field.number - last
        if 0 < delta <= 15:
            out.append(delta << 4 | kind)
        else:
            out.append(kind)
            _write_varint(out, _zigzag(field.number))
        last = field.number
        if field.kind != TRUE:
            _write_value(out, kind, field.value)
    out.append(0)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in {I16, I32, I64}:
        _write_varint(out, _zigzag(value))
    elif kind == BINARY:
        _write_varint(out, len(value))
        out += value
    elif kind == STRUCT:
        _write_struct(out, value)
    elif kind in {LIST, SET}:
        if isinstance(value, Encoded):
            _write_head(out, value.kind, len(value.elements))
            out += b"".join(value.elements)
        else:
            _write_sequence(out, value)
    elif kind == BYTE:
        out.append(value)
    else:  # DOUBLE
        out += value


def _write_sequence(out: bytearray, sequence: Sequence) -> None:
    _write_head(out, sequence.kind, len(sequence.values))
    for value in sequence.values:
        if sequence.kind in {TRUE, FALSE}:
            out.append(TRUE if value else FALSE)
        else:
            _write_value(out, sequence.kind, value)


def _write_head(out: bytearray, kind: int, count: int) -> None:
    if count < 0x0F:
        out.append(count << 4 | kind)
    else:
        out.append(0xF0 | kind)
        _write_varint(out, count)


def _write_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _unzigzag(value: int) -> int:
    return value >> 1 if not value & 1 else -(value >> 1) - 1
