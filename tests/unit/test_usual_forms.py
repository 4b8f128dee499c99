"""What the regular expressions read is exactly what the reader of anything reads."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import usual_forms
from pipeline.compact import ThriftError, elements, read_struct
from pipeline.footer import footer_bytes
from tests.unit.conftest import parquet_bytes

ROWS = 40
TABLE = pa.table(
    {
        "floats": pa.array([i / 7 for i in range(ROWS)], pa.float32()),
        "ids": pa.array(range(ROWS), pa.int64()),
        "texts": pa.array([None if i % 5 == 0 else f"text {i}" for i in range(ROWS)]),
        "lists": pa.array([[i] * (i % 3) for i in range(ROWS)], pa.list_(pa.int32())),
        "nulls": pa.array([None] * ROWS, pa.float64()),
        "flags": pa.array([i % 2 == 0 for i in range(ROWS)]),
    }
)
WRITERS: dict[str, dict[str, Any]] = {
    "default": {},
    "plain": {"use_dictionary": False, "compression": "none", "write_statistics": False},
    "checksums": {"write_page_checksum": True, "compression": "zstd"},
    "second version": {"data_page_version": "2.0"},
    "page index": {"write_page_index": True},
    "many groups": {"row_group_size": 7},
}


def chunks(data: bytes) -> tuple[bytes, list[dict[int, Any]]]:
    """A file's footer, and the column chunks in it as anything is read."""
    footer = footer_bytes(pa.BufferReader(data), "a")
    return footer, [chunk for group in elements(footer, 4) for chunk in group[1]]


def encoded_chunk(chunk: dict[int, Any], footer: bytes) -> int:
    """Where a chunk is in a footer."""
    (place,) = {
        at for at in range(len(footer)) if footer[at] == 0x26 and _read(footer, at) == chunk
    }
    return place


def _read(data: bytes, at: int) -> dict[int, Any] | None:
    try:
        return read_struct(data, at)[0]
    except ThriftError:
        return None


def headers(data: bytes) -> list[bytes]:
    """What is read for the first pages of each chunk."""
    found = []
    for chunk in chunks(data)[1]:
        meta = chunk[3]
        found += [data[at : at + 128] for at in {meta[9], meta.get(11) or meta[9]}]
    return found


FILES = {name: parquet_bytes(TABLE, **options) for name, options in WRITERS.items()}
HEADERS = [header for data in FILES.values() for header in headers(data)]
FOOTERS = [chunks(data) for data in FILES.values()]
CHUNKS = [
    (footer, encoded_chunk(chunk, footer), b".".join(chunk[3][3]))
    for footer, found in FOOTERS
    for chunk in found
]


def same_page(data: bytes) -> bool:
    """Whether a header has a usual form; it is then what is read without."""
    usual = usual_forms.page(data)
    if usual is None:
        return False
    fields, length = read_struct(data)
    wanted: dict[int, Any] = {n: fields[n] for n in (1, 2, 3)}
    if fields[1] == 0:
        wanted[5] = {1: fields[5][1]}
    else:
        assert fields[1] == 2
        assert 7 in fields
    assert usual == (wanted, length)
    return True


def same_chunk(path: bytes, data: bytes, at: int) -> bool:
    """Whether a chunk has the usual form of its column; it is then what is read without."""
    form = usual_forms.path_form(path)
    assert form is not None
    usual = usual_forms.chunk(form, data, at)
    if usual is None:
        return False
    chunk, end = read_struct(data, at)
    meta = chunk[3]
    assert b".".join(meta[3]) == path
    assert usual == ((*(meta[n] for n in (1, 4, 5, 6, 7, 9)), meta.get(11, 0)), end)
    return True


@pytest.mark.parametrize("writer", [name for name in FILES if name != "second version"])
def test_the_headers_that_arrow_writes_have_a_usual_form(writer: str) -> None:
    assert all(map(same_page, headers(FILES[writer])))


def test_the_chunks_that_arrow_writes_have_the_usual_form_of_their_column() -> None:
    assert all(same_chunk(path, footer, at) for footer, at, path in CHUNKS)


def test_with_any_bit_flipped_a_header_is_read_alike_or_has_no_usual_form() -> None:
    for header in set(HEADERS):
        _, length = read_struct(header)
        for bit in range(length * 8):
            harmed = bytearray(header)
            harmed[bit // 8] ^= 1 << bit % 8
            same_page(bytes(harmed))


def test_with_any_bit_flipped_a_chunk_is_read_alike_or_has_no_usual_form() -> None:
    for footer, at, path in CHUNKS[:: len(CHUNKS) // 16]:
        _, end = read_struct(footer, at)
        for bit in range(at * 8, end * 8):
            harmed = bytearray(footer)
            harmed[bit // 8] ^= 1 << bit % 8
            same_chunk(path, bytes(harmed), at)


@given(st.sampled_from(HEADERS), st.data())
def test_a_header_with_bytes_of_another_is_read_alike_or_has_no_usual_form(
    header: bytes, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, 60))
    other = data.draw(st.sampled_from(HEADERS) | st.binary(max_size=20))
    begin = data.draw(st.integers(0, 60))
    same_page(header[:at] + other[begin:] + header[at:])


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_each_number_is_read_as_it_was_written(value: int) -> None:
    raw, number = (value << 1) ^ (value >> 63), bytearray()
    while raw >= 0x80:
        number.append(raw & 0x7F | 0x80)
        raw >>= 7
    number.append(raw)
    header = (
        b"\x15\x00\x15" + bytes(number) + b"\x15\x02\x2c\x15\x02\x15\x00\x15\x06\x15\x06\x00\x00"
    )
    assert same_page(header)


def test_a_header_that_is_cut_has_no_usual_form() -> None:
    for header in set(HEADERS):
        _, length = read_struct(header)
        assert all(usual_forms.page(header[:end]) is None for end in range(length))


def test_the_chunk_of_another_column_has_no_usual_form() -> None:
    for footer, at, path in CHUNKS:
        form = usual_forms.path_form(path + b"x")
        assert form is not None
        assert usual_forms.chunk(form, footer, at) is None


def test_a_column_of_another_name_has_nothing_compiled_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(re, "compile", lambda *_: pytest.fail("compiled"))
    data = parquet_bytes(pa.table({f"never met {i}": [1.0] for i in range(8)}))
    footer, found = chunks(data)
    for chunk in found:
        path = b".".join(chunk[3][3])
        assert same_chunk(path, footer, encoded_chunk(chunk, footer))
