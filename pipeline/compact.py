"""Reading Thrift's compact protocol quickly and piecemeal: page headers, parts of a footer.

Where `pipeline.thrift` reads a whole footer so that it can be written back, this reads one struct
from the start of some data, or a list's structs one by one, into plain dicts by field number, in
half the time: it is done for each page. Nothing is believed: the data may be anything.

pyarrow shows nothing of page headers, and its accessors of column chunks end the interpreter when
the footer is damaged.

Source: Apache Thrift, `doc/specs/thrift-compact-protocol.md`.
"""

from __future__ import annotations

import struct as packing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEEPEST = 16
_HIGHEST_FIELD = 0x7FFF
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64 = 1, 2, 3, 4, 5, 6
_DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 7, 8, 9, 10, 12

Struct = dict[int, Any]


class ThriftError(Exception):
    """The data are not of the protocol."""


class EndOfDataError(ThriftError):
    """The data end too early; more of them may be readable."""


def read_struct(data: bytes, position: int = 0, number: int = 0) -> tuple[Struct, int]:
    """A struct, or its fields behind the one of that number, and the position after it.

    Raises:
        ThriftError: There is none.
    """
    try:
        return _struct(data, position, 0, number)
    except (IndexError, packing.error):
        raise EndOfDataError("a struct that does not end") from None


def fields(data: bytes, position: int = 0, number: int = 0) -> Iterator[tuple[int, int, int]]:
    """Number, type and position of the fields of the struct at the start of the data.

    Args:
        data: The data.
        position: Where the fields that are wanted begin.
        number: That of the field before them.

    Raises:
        ThriftError: The data are not of the protocol.
    """
    try:
        yield from _fields(data, position, number)
    except (IndexError, packing.error):
        raise EndOfDataError("a struct that does not end") from None


def list_of_structs(data: bytes, kind: int, position: int) -> tuple[int, int]:
    """The number of structs in a list that is a field of that type there, and where they begin.

    Raises:
        ThriftError: It is no such list.
    """
    if kind != _LIST:
        raise ThriftError("a field that is no list")
    try:
        count, of, position = _list_head(data, position)
    except IndexError:
        raise EndOfDataError("a list that does not end") from None
    if of != _STRUCT and count:
        raise ThriftError("a list of something else")
    return count, position


def elements(data: bytes, field: int) -> Iterator[Struct]:
    """The structs of a list that is a field of the struct at the start of the data, one by one.

    Raises:
        ThriftError: The data are not of the protocol, or the field is no such list.
    """
    for number, kind, position in fields(data):
        if number == field:
            count, position = list_of_structs(data, kind, position)
            for _ in range(count):
                element, position = read_struct(data, position)
                yield element
            return


def end_of(data: bytes, field: int) -> int:
    """The position behind a field of the struct at the start of the data; 0 if it has none.

    Raises:
        ThriftError: The data are not of the protocol.
    """
    try:
        for number, kind, position in _fields(data, 0, 0):
            if number == field:
                told_by_type = kind in (_TRUE, _FALSE)
                return position if told_by_type else _value(data, position, kind, 0)[1]
    except (IndexError, packing.error):
        raise EndOfDataError("a struct that does not end") from None
    return 0


def _fields(data: bytes, position: int, number: int) -> Iterator[tuple[int, int, int]]:
    while data[position]:
        number, kind, position = _field_head(data, position, number)
        yield number, kind, position
        if kind not in (_TRUE, _FALSE):
            _, position = _value(data, position, kind, 0)


def _field_head(data: bytes, position: int, number: int) -> tuple[int, int, int]:
    head = data[position]
    position += 1
    if head >> 4:
        return number + (head >> 4), head & 0x0F, position
    raw, position = read_varint(data, position)
    return (raw >> 1) ^ -(raw & 1), head & 0x0F, position


def _struct(data: bytes, position: int, depth: int, number: int = 0) -> tuple[Struct, int]:
    if depth > _DEEPEST:
        raise ThriftError("structs nested too deeply")
    fields: Struct = {}
    while head := data[position]:
        position += 1
        kind = head & 0x0F
        if head >> 4:
            number += head >> 4
        else:
            raw, position = read_varint(data, position)
            number = (raw >> 1) ^ -(raw & 1)
        if not 0 <= number <= _HIGHEST_FIELD:
            raise ThriftError(f"a field of number {number}")
        # Most values are short: their one byte is read here, without a call.
        if _I16 <= kind <= _I64:
            byte = data[position]
            position += 1
            if byte >= 0x80:
                byte, position = read_varint(data, position - 1)
            fields[number] = (byte >> 1) ^ -(byte & 1)
        elif kind == _STRUCT:
            fields[number], position = _struct(data, position, depth + 1)
        elif kind == _BINARY and (length := data[position]) < 0x80:
            start = position + 1
            position = start + length
            if position > len(data):
                raise EndOfDataError("a text that does not end")
            fields[number] = data[start:position]
        elif kind in (_TRUE, _FALSE):  # told by the type itself
            fields[number] = kind == _TRUE
        else:
            fields[number], position = _value(data, position, kind, depth)
    return fields, position + 1


def _value(data: bytes, position: int, kind: int, depth: int) -> tuple[Any, int]:
    if _I16 <= kind <= _I64:
        raw, position = read_varint(data, position)
        return (raw >> 1) ^ -(raw & 1), position
    if kind == _BINARY:
        length, position = read_varint(data, position)
        if position + length > len(data):
            raise EndOfDataError("a text that does not end")
        return data[position : position + length], position + length
    if kind == _STRUCT:
        return _struct(data, position, depth + 1)
    if kind in (_LIST, _SET):
        if depth > _DEEPEST:
            raise ThriftError("lists nested too deeply")
        count, of, position = _list_head(data, position)
        values = []
        for _ in range(count):
            value, position = _value(data, position, of, depth + 1)
            values.append(value)
        return values, position
    if kind == _DOUBLE:
        return packing.unpack_from("<d", data, position)[0], position + 8
    if kind in (_TRUE, _FALSE, _BYTE):
        return data[position], position + 1
    raise ThriftError(f"a value of type {kind}")  # Parquet has no maps


def _list_head(data: bytes, position: int) -> tuple[int, int, int]:
    head = data[position]
    position += 1
    count = head >> 4
    if count == 0x0F:
        count, position = read_varint(data, position)
    if count > len(data):  # each element takes a byte at least
        raise EndOfDataError("a list that does not end")
    return count, head & 0x0F, position


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """An unsigned number of seven bits a byte, and the position after it.

    Raises:
        IndexError: It does not end.
        ThriftError: It is longer than any number of the protocol.
    """
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ThriftError("a number that is too long")
