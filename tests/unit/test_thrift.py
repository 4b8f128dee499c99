"""What is read of a Thrift struct is written back to the same bytes; what is none is refused."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import thrift
from pipeline.errors import CorruptShardError
from pipeline.footer import footer_bytes
from pipeline.thrift import Field, Sequence, Struct, decode, encode
from tests.unit.conftest import parquet_bytes

NUMBERS = {
    thrift.BYTE: st.integers(0, 255),
    thrift.I16: st.integers(-(2**15), 2**15 - 1),
    thrift.I32: st.integers(-(2**31), 2**31 - 1),
    thrift.I64: st.integers(-(2**63), 2**63 - 1),
    thrift.DOUBLE: st.binary(min_size=8, max_size=8),
    thrift.BINARY: st.binary(max_size=200),
}


def values(kind: int, structs: st.SearchStrategy[Struct]) -> st.SearchStrategy[object]:
    if kind == thrift.TRUE:
        return st.booleans()
    if kind == thrift.STRUCT:
        return structs
    if kind == thrift.LIST:
        return st.sampled_from([thrift.TRUE, thrift.I32, thrift.BINARY, thrift.STRUCT]).flatmap(
            lambda inner: st.lists(values(inner, structs), max_size=20).map(
                lambda found: Sequence(inner, found)
            )
        )
    return NUMBERS[kind]


def fields(structs: st.SearchStrategy[Struct]) -> st.SearchStrategy[Struct]:
    kinds = [thrift.TRUE, *NUMBERS, thrift.LIST, thrift.STRUCT]
    one = st.sampled_from(kinds).flatmap(
        lambda kind: st.tuples(st.integers(1, 40), st.just(kind), values(kind, structs))
    )
    return st.lists(one, max_size=5, unique_by=lambda field: field[0]).map(
        lambda found: Struct([Field(*field) for field in found])
    )


STRUCTS = st.recursive(st.just(Struct([])), fields, max_leaves=10)


@given(STRUCTS)
def test_decoding_undoes_encoding(struct: Struct) -> None:
    assert decode(encode(struct)) == struct


@pytest.mark.parametrize("rows", [0, 1, 1000])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"write_page_index": True, "write_page_checksum": True, "row_group_size": 7},
        {"data_page_version": "2.0", "compression": "gzip", "use_dictionary": False},
        {"write_statistics": False, "store_schema": False, "version": "1.0"},
    ],
)
def test_each_kind_of_footer_comes_back_to_the_same_bytes(
    rows: int, options: dict[str, object]
) -> None:
    table = pa.table(
        {
            "x": pa.array([i / 3 for i in range(rows)], pa.float32()),
            "s": [None if i % 3 else f"text {i}" for i in range(rows)],
            "l": pa.array([[i] * (i % 4) for i in range(rows)], pa.list_(pa.int64())),
            "t": pa.array(range(rows), pa.timestamp("us", "UTC")),
            "d": pa.array(list(range(rows)), pa.decimal128(20, 3)),
        }
    )
    data = parquet_bytes(table, **options)
    footer = footer_bytes(pa.BufferReader(data), "a.parquet")
    assert encode(decode(footer)) == footer


def test_pyarrow_reads_what_was_written_back() -> None:
    data = parquet_bytes()
    footer = footer_bytes(pa.BufferReader(data), "a.parquet")
    again = data[: -8 - len(footer)] + encode(decode(footer)) + data[-8:]
    assert pq.read_table(pa.BufferReader(again)).num_rows == 3


def test_the_value_of_a_field_is_found_and_changed() -> None:
    struct = Struct([Field(3, thrift.I32, 7)])
    assert struct.get(3) == 7
    assert struct.get(4) is None
    struct.put(3, 8)
    assert struct.get(3) == 8
    with pytest.raises(KeyError):
        struct.put(4, 1)


HOSTILE = {
    "nothing": b"",
    "cut": encode(Struct([Field(1, thrift.BINARY, b"abcdef")]))[:-3],
    "more behind it": encode(Struct([])) + b"x",
    "an unknown type": b"\x1d\x00",
    "a long list in few bytes": b"\x19\xf5\xff\xff\xff\xff\x0f",
    "a text longer than the data": b"\x18\xff\xff\x03abc",
    "a number without an end": b"\x16" + b"\xff" * 30,
    "nested without an end": b"\x1c" * 10_000,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_struct_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptShardError, match="not a Thrift struct"):
        decode(data)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_struct_or_refused(data: bytes) -> None:
    try:
        decode(data)
    except CorruptShardError:
        return
