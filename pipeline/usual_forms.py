"""The usual forms of page headers and column chunks, read in one go.

Nearly each page header and each column chunk of a footer has one of few forms: the same fields in
the same order, numbers, short texts, a struct of statistics. A regular expression takes such a one
in a tenth of the time of `pipeline.compact`, which reads anything, and a small shard has a hundred
of them. What is matched is exactly what `compact` would read; what is not matched says nothing, and
is for `compact` to read.

PURE. The bytes: Apache Thrift, `doc/specs/thrift-compact-protocol.md`; the fields: parquet.thrift.
"""

from __future__ import annotations

import re
from typing import Any

Numbers = tuple[int, ...]

_MOST_PARTS = 14
_LONGEST_PART = 127
_LONGEST_LIST = 4


def _heads(*kinds: int) -> bytes:
    """The bytes that begin a field of some types, 1 to 15 past the field before, as a class."""
    return b"[" + b"".join(_byte(n << 4 | kind) for kind in kinds for n in range(1, 16)) + b"]"


def _byte(value: int) -> bytes:
    return re.escape(bytes([value]))


# Types: 1 and 2 booleans, 4 to 6 whole numbers, 8 a text, 9 a list, 12 a struct.
_NUMBER = rb"[\x80-\xff]{0,9}+[\x00-\x7f]"
_INTEGER = _heads(4, 5, 6) + _NUMBER
_TEXT = (
    b"(?:"
    + b"|".join(_byte(n) + b".{%d}" % n for n in [8, 4, *range(4), *range(5, 8), *range(9, 64)])
    + b")"
)


def _list(of: int, element: bytes) -> bytes:
    """A list of up to four elements, without the head of its field."""
    counts = (
        _byte(n << 4 | of) + b"(?:%b){%d}" % (element, n) for n in range(1, _LONGEST_LIST + 1)
    )
    return b"(?:" + b"|".join([_byte(of), *counts]) + b")"


_NUMBERS = b"(?:" + _list(5, _NUMBER) + b"|" + _list(6, _NUMBER) + b")"
_PLAIN = b"|".join(
    [
        _INTEGER,
        _heads(1, 2),
        _heads(8) + _TEXT,
        _heads(9) + _NUMBERS,
    ]
)
_STRUCT = b"(?:" + _PLAIN + rb"){0,16}+\x00"
"""The rest of a struct without structs in it."""
_REST = (
    b"(?:"
    + _PLAIN
    + b"|"
    + _heads(12)
    + _STRUCT
    + b"|"
    + _heads(9)
    + _list(12, _STRUCT)
    + rb"){0,16}+\x00"
)
"""The rest of a struct that holds structs like those."""

_CAPTURED = b"(" + _NUMBER + b")"

_PAGE = re.compile(
    # Its type, its bytes unpacked and packed, maybe a checksum; then what a data page holds …
    rb"\x15(?:\x00\x15N\x15N(?:\x15n\x1c|\x2c)\x15N".replace(b"N", _CAPTURED).replace(b"n", _NUMBER)
    + _REST
    # … or a dictionary page.
    + rb"|\x04\x15N\x15N(?:\x15n\x3c|\x4c)".replace(b"N", _CAPTURED).replace(b"n", _NUMBER)
    + _STRUCT
    + rb")\x00",
    re.DOTALL,
)


def page(data: bytes) -> tuple[dict[int, Any], int] | None:
    """A page header at the start of some data.

    Returns:
        Its fields by number, as `compact` gives them, but for what nobody asks for: checksums,
        encodings, statistics; and its bytes. None if it has no usual form.
    """
    match = _PAGE.match(data)
    if match is None:
        return None
    unpacked, packed, values, of_dictionary, packed_dictionary = match.groups()
    if values is None:
        return {1: 2, 2: _whole(of_dictionary), 3: _whole(packed_dictionary)}, match.end()
    fields = {1: 0, 2: _whole(unpacked), 3: _whole(packed), 5: {1: _whole(values)}}
    return fields, match.end()


# A chunk is read in two goes, up to its column's path and from there on: a form that held the path
# would have to be compiled for each column, which takes longer than to read a thousand of them.
_TO_PATH = re.compile(
    rb"\x26n\x1c\x15N\x19".replace(b"N", _CAPTURED).replace(b"n", _NUMBER)
    + _list(5, _NUMBER)
    + rb"\x19",
    re.DOTALL,
)
_FROM_PATH = re.compile(
    # Behind the offset of the first data page that of the dictionary, or nothing that matters.
    rb"\x15N\x16N\x16N\x16N\x26N(?:\x26N|(?![\x10-\x2f]))".replace(b"N", _CAPTURED)
    + _REST
    + _STRUCT,
    re.DOTALL,
)


def path_form(path: bytes) -> bytes | None:
    """A column's path, its parts joined by dots, as its chunks say it; None if that is no usual
    form."""
    parts = path.split(b".")
    if len(parts) > _MOST_PARTS or max(map(len, parts)) > _LONGEST_PART:
        return None
    texts = (bytes([len(part)]) + part for part in parts)
    return bytes([len(parts) << 4 | 8]) + b"".join(texts)


def chunk(path: bytes, data: bytes, position: int) -> tuple[Numbers, int] | None:
    """A column chunk of a footer.

    Args:
        path: The usual form of its column's path.
        data: The footer.
        position: Where it begins.

    Returns:
        Its type, codec, values, bytes unpacked and packed, and the offsets of its first data page
        and of its dictionary page, 0 if there is none; and the position behind it. None if it
        has no usual form.
    """
    before = _TO_PATH.match(data, position)
    if before is None or not data.startswith(path, before.end()):
        return None
    behind = _FROM_PATH.match(data, before.end() + len(path))
    if behind is None:
        return None
    return tuple(map(_whole, before.groups() + behind.groups(b"\0"))), behind.end()


def _whole(number: bytes) -> int:
    """A whole number from its zigzag varint."""
    value = number[0]
    if value >= 0x80:  # the short ones without a loop: there are hundreds of them
        if len(number) == 2:
            value += (number[1] << 7) - 0x80
        elif len(number) == 3:
            value += (number[1] << 7) + (number[2] << 14) - 0x4080
        else:
            value = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(number))
    return (value >> 1) ^ -(value & 1)
