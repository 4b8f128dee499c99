"""The headers of Parquet's pages, read without the pages.

Each page of a column chunk begins with a header: how many bytes and values follow, and how they
are encoded. No checksum covers it. `check_pages` walks from header to
header through a chunk, one small read each, and holds them against the footer.

The headers: `PageHeader` in parquet.thrift of https://github.com/apache/parquet-format
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pipeline import usual_forms
from pipeline.compact import EndOfDataError, Struct, ThriftError, read_struct, read_varint

Read = Callable[[int, int], bytes]
"""Reads so many bytes at a place of the file; fewer where it ends."""

_FIRST_READ = 128
_LARGEST_HEADER = 16 << 20  # Arrow's own limit

_MOST_EMPTY = 64
"""Pages of dictionaries, of indexes and without values that a chunk may have."""

# Page types.
_DATA, _INDEX, _DICTIONARY, _DATA_V2 = 0, 1, 2, 3

# Field numbers of PageHeader.
_TYPE, _UNCOMPRESSED, _COMPRESSED = 1, 2, 3
_DATA_HEADER, _DATA_V2_HEADER = 5, 8

# Field numbers of DataPageHeader and DataPageHeaderV2.
_VALUES = 1
_V2_NULLS, _V2_ROWS, _V2_DEFINITION_BYTES, _V2_REPETITION_BYTES = 2, 3, 5, 6


class PageError(Exception):
    """The pages of a column chunk are not what the footer says."""


class Chunk(NamedTuple):
    """What the footer says of a column chunk.

    Attributes:
        start: Offset of its first page in the file.
        stop: Offset of the first byte past it.
        values: Values in its data pages, nulls included.
        rows: Rows of its row group.
        uncompressed_bytes: Bytes of its pages and their headers once decompressed.
        compressed: Whether its pages are.
        max_definition: Its column's highest definition level.
        max_repetition: Its column's highest repetition level.
    """

    start: int
    stop: int
    values: int
    rows: int
    uncompressed_bytes: int
    compressed: bool
    max_definition: int
    max_repetition: int


def whole_reader(data: bytes) -> Read:
    """Reads a file that is in memory."""
    return lambda size, position: data[position : position + size]


def check_pages(read: Read, chunk: Chunk) -> None:
    """Walks the pages of a chunk.

    Args:
        read: Reads the file.
        chunk: What the footer says of the chunk.

    Raises:
        PageError: They hold another number of values or rows than the footer says, or lead out
            of the chunk.
    """
    position, values, rows, empty = chunk.start, 0, 0, 0
    only_v2 = True
    while values < chunk.values:
        if position >= chunk.stop:
            raise PageError(f"pages of {values} values; the footer says {chunk.values}")
        header, body = _header_at(read, position)
        kind, count = header.get(_TYPE), 0
        packed, unpacked = header.get(_COMPRESSED), header.get(_UNCOMPRESSED)
        if not isinstance(packed, int) or not isinstance(unpacked, int):
            raise PageError(f"no page begins at byte {position}")
        if not 0 <= packed <= chunk.stop - body or not 0 <= unpacked <= chunk.uncompressed_bytes:
            raise PageError(
                f"a page of {packed} bytes, {unpacked} unpacked, at byte {position}: more than "
                "the column has"
            )
        if not chunk.compressed and packed != unpacked:
            raise PageError(f"{packed} bytes that unpack to {unpacked}, in an unpacked column")
        if kind in (_DATA, _DATA_V2):
            of_kind = header.get(_DATA_HEADER if kind == _DATA else _DATA_V2_HEADER)
            found = of_kind.get(_VALUES) if isinstance(of_kind, dict) else None
            if not isinstance(of_kind, dict) or not isinstance(found, int) or found < 0:
                raise PageError(f"a page that does not say what it holds, at byte {position}")
            count = found
            values += count
            if kind == _DATA_V2:
                rows += _checked_v2(read, body, packed, of_kind, chunk)
            else:
                only_v2 = False
        elif kind not in (_INDEX, _DICTIONARY):
            raise PageError(f"a page of unknown type {kind} at byte {position}")
        if not count:
            empty += 1
            if empty > _MOST_EMPTY:  # or a gigabyte of them would be walked
                raise PageError(f"more than {_MOST_EMPTY} pages without a value")
        position = body + packed
    if values != chunk.values:
        raise PageError(f"pages of {values} values; the footer says {chunk.values}")
    if only_v2 and rows != chunk.rows:
        raise PageError(f"pages of {rows} rows; the footer says {chunk.rows}")


def _checked_v2(read: Read, body: int, packed: int, header: Struct, chunk: Chunk) -> int:
    """The rows of a page of the second version, whose levels lie unpacked before its values."""
    fields = (_V2_NULLS, _V2_ROWS, _V2_DEFINITION_BYTES, _V2_REPETITION_BYTES)
    numbers = [n for f in fields if isinstance(n := header.get(f), int) and n >= 0]
    if len(numbers) < len(fields):
        raise PageError(f"a page that does not say what it holds, at byte {body}")
    nulls, rows, definition, repetition = numbers
    values = header[_VALUES]
    if nulls > values or rows > values or (not chunk.max_repetition and rows != values):
        raise PageError(f"a page of {values} values, {nulls} nulls and {rows} rows")
    if definition + repetition > packed:
        raise PageError(f"levels of {definition + repetition} bytes in a page of {packed}")
    levels = read(definition + repetition, body)
    for part, highest in (
        (levels[:repetition], chunk.max_repetition),
        (levels[repetition:], chunk.max_definition),
    ):
        if _levels_length(part, highest, values) != len(part):
            raise PageError(f"levels that end before or after their {len(part)} bytes")
    return rows


def _levels_length(levels: bytes, highest: int, count: int) -> int:
    """Bytes that `count` levels take in the hybrid of run lengths and packed bits; -1 if more
    than there are."""
    if highest == 0:
        return 0
    width = highest.bit_length()
    position = 0
    while count > 0:
        try:
            run, position = read_varint(levels, position)
        except (IndexError, ThriftError):
            return -1
        if run & 1:  # groups of eight, packed
            count -= (run >> 1) * 8
            position += (run >> 1) * width
        else:
            count -= run >> 1
            position += (width + 7) // 8
        if run < 2:
            return -1  # a run of nothing
    return position


def _header_at(read: Read, position: int) -> tuple[Struct, int]:
    """A page's header, by field number, and the offset of the page's first byte after it."""
    wanted = _FIRST_READ
    while True:
        data = read(wanted, position)
        if (usual := usual_forms.page(data)) is not None:
            header, length = usual
            return header, position + length
        try:
            header, length = read_struct(data)
        except EndOfDataError:
            # Long texts among its statistics; or it is no header.
            if len(data) < wanted or wanted >= _LARGEST_HEADER:
                raise PageError(f"no page begins at byte {position}") from None
            wanted *= 8
        except ThriftError as error:
            raise PageError(f"no page begins at byte {position}: {error}") from error
        else:
            return header, position + length
