"""A footer that says of columns and row groups what cannot be, one lie at a time."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import thrift
from pipeline.column_chunks import Column, ColumnChunk, Columns, row_groups
from pipeline.compact import (
    EndOfDataError,
    ThriftError,
    elements,
    end_of,
    fields,
    list_of_structs,
    read_struct,
)
from pipeline.errors import CorruptShardError
from pipeline.page_headers import PageError
from tests.faults import hostile_parquet as hostile
from tests.unit.conftest import parquet_bytes
from tests.unit.test_soundness import checked


def _drop(struct: thrift.Struct, number: int) -> None:
    struct.fields = [field for field in struct.fields if field.number != number]


def _whole_chunk(footer: thrift.Struct) -> thrift.Struct:
    found = hostile.group(footer).get(hostile.GROUP_COLUMNS).values[0]
    assert isinstance(found, thrift.Struct)
    return found


def _put(number: int, value: int, column: int = 0) -> hostile.Lie:
    return lambda footer: hostile.chunk(footer, column).put(number, value)


def _of_another_column(footer: thrift.Struct) -> None:
    hostile.chunk(footer).get(hostile.PATH).values[0] = b"s"


def _second_list_of_columns(footer: thrift.Struct) -> None:
    group = hostile.group(footer)
    group.fields.append(next(f for f in group.fields if f.number == hostile.GROUP_COLUMNS))


def _columns_last(footer: thrift.Struct) -> None:
    """In no order that a writer has; and of rows that are told twice."""
    group = hostile.group(footer)
    group.fields.sort(key=lambda field: -field.number)
    group.fields.append(thrift.Field(hostile.GROUP_ROWS, thrift.BYTE, 1))


def _two_types(footer: thrift.Struct) -> None:
    """The old name of a text's type says a list, the new one a text."""
    schema = footer.get(hostile.FILE_SCHEMA).values
    next(e for e in schema if e.get(10) is not None and e.get(6) is not None).put(6, 3)


def _negative_rows(footer: thrift.Struct) -> None:
    hostile.group(footer).put(hostile.GROUP_ROWS, -1)


LIES: dict[str, tuple[hostile.Lie, str]] = {
    "a row group twice": (hostile.LIES["a row group twice"], "are another column's"),
    "another row group's bytes": (
        hostile.LIES["a column with another row group's bytes"],
        "are another column's",
    ),
    "a column chunk missing": (hostile.LIES["a column chunk missing"], "where the schema has"),
    "another type": (hostile.LIES["another type"], "a chunk of type 1, where the schema says"),
    "no known type": (_put(hostile.TYPE, 77), "a chunk of type 77"),
    "before the file": (hostile.LIES["bytes that begin before the file"], "outside of the data"),
    "in the footer": (hostile.LIES["bytes that begin in the footer"], "outside of the data"),
    "of no size": (_put(hostile.COMPRESSED, 0), "outside of the data"),
    "fewer values than rows": (_put(hostile.VALUES, 7), "7 values in 100 rows"),
    "more values than rows": (_put(hostile.VALUES, 700), "700 values in 100 rows"),
    "another column's": (_of_another_column, "a chunk of column s"),
    "a chunk that says nothing": (
        lambda footer: _drop(_whole_chunk(footer), hostile.CHUNK_META),
        "cannot be read",
    ),
    "two lists of columns": (_second_list_of_columns, "cannot be read"),
    "columns that come last": (_columns_last, "cannot be read"),
    "fewer rows than none": (_negative_rows, "rows"),
}


@pytest.mark.parametrize(("lie", "said"), LIES.values(), ids=LIES)
def test_a_footer_that_contradicts_itself_is_told(
    lie: hostile.Lie, said: str, tmp_path: Path
) -> None:
    data = hostile.told_otherwise(hostile.sound_files()["plain"], lie)
    with pytest.raises(CorruptShardError) as caught:
        checked(tmp_path, data)
    assert said in f"{caught.value} {caught.value.__cause__}"


def test_the_two_names_of_a_type_must_mean_one(tmp_path: Path) -> None:
    data = parquet_bytes(pa.table({"s": ["a", "b"]}), store_schema=False)
    checked(tmp_path, data)
    with pytest.raises(CorruptShardError) as caught:
        checked(tmp_path, hostile.told_otherwise(data, _two_types))
    assert "a column of logical type [1], elsewhere of 3" in str(caught.value)


def struct(*told: thrift.Field) -> bytes:
    return thrift.encode(thrift.Struct(list(told)))


def listed(*values: Any, of: int = thrift.I32) -> thrift.Sequence:
    return thrift.Sequence(of, list(values))


# What pyarrow would refuse before it is looked at


LEAF = Column("x", "DOUBLE", 1, 0, None)
META = thrift.Struct([thrift.Field(number, thrift.I64, 5) for number in (1, 4, 5, 6, 7, 9)])


def chunk_of(meta: thrift.Struct | None) -> thrift.Struct:
    return thrift.Struct([] if meta is None else [thrift.Field(3, thrift.STRUCT, meta)])


def group_of(*chunks: thrift.Struct, rows: int | None = 5) -> thrift.Struct:
    told = [thrift.Field(1, thrift.LIST, listed(*chunks, of=thrift.STRUCT))]
    told += [] if rows is None else [thrift.Field(3, thrift.I64, rows)]
    return thrift.Struct(told)


def groups(*told: thrift.Field) -> list[tuple[int, list[ColumnChunk]]]:
    columns = Columns(b"", 0, pa.schema([]), (LEAF,))
    return [(rows, list(chunks)) for rows, chunks in row_groups(struct(*told), columns)]


def test_a_footer_without_row_groups_has_none() -> None:
    assert groups(thrift.Field(3, thrift.I64, 0)) == []


def test_a_row_group_is_read_as_it_is_told() -> None:
    told = groups(thrift.Field(4, thrift.LIST, listed(group_of(chunk_of(META)), of=12)))
    assert told == [(5, [ColumnChunk(5, 5, 5, 5, 5, 5, 0)])]


def without(number: int) -> thrift.Struct:
    return thrift.Struct([field for field in META.fields if field.number != number])


@pytest.mark.parametrize(
    ("group", "said"),
    [
        (group_of(chunk_of(META), rows=None), "cannot be read"),
        (group_of(chunk_of(None)), "cannot be read"),
        (group_of(chunk_of(without(5))), "cannot be read"),
        (group_of(), "0 columns, where the schema has 1"),
        (thrift.Struct([thrift.Field(3, thrift.I64, 5)]), "0 columns, where the schema has 1"),
    ],
    ids=["no rows", "nothing of a chunk", "no values of a chunk", "no chunk", "no chunks"],
)
def test_a_row_group_that_does_not_say_what_it_must_is_refused(
    group: thrift.Struct, said: str
) -> None:
    with pytest.raises(PageError, match=said):
        groups(thrift.Field(4, thrift.LIST, listed(group, of=12)))


def test_of_a_chunk_without_values_nothing_else_is_asked() -> None:
    empty = thrift.Struct([thrift.Field(1, thrift.I64, 5), thrift.Field(5, thrift.I64, 0)])
    told = groups(thrift.Field(4, thrift.LIST, listed(group_of(chunk_of(empty)), of=12)))
    assert told == [(5, [ColumnChunk(5, 0, 0, 0, 0, 0, 0)])]


# Structs, and parts of them


EVERY_KIND = (
    thrift.Field(1, thrift.TRUE, True),
    thrift.Field(2, thrift.BYTE, 7),
    thrift.Field(3, thrift.DOUBLE, b"\0\0\0\0\0\0\xf8\x3f"),
    thrift.Field(4, thrift.LIST, listed(True, False, of=thrift.TRUE)),
    thrift.Field(5, thrift.SET, listed(1, 2)),
    thrift.Field(6, thrift.BINARY, b"x" * 200),
    thrift.Field(7, thrift.LIST, listed(thrift.Struct([thrift.Field(1, thrift.I32, 1)]), of=12)),
    thrift.Field(300, thrift.I64, -(1 << 40)),
)


def test_each_kind_of_value_is_read() -> None:
    found, length = read_struct(struct(*EVERY_KIND))
    assert length == len(struct(*EVERY_KIND))
    assert found == {
        1: True,
        2: 7,
        3: 1.5,
        4: [thrift.TRUE, thrift.FALSE],
        5: [1, 2],
        6: b"x" * 200,
        7: [{1: 1}],
        300: -(1 << 40),
    }


@pytest.mark.parametrize("number", [field.number for field in EVERY_KIND])
def test_a_field_ends_where_the_next_one_begins(number: int) -> None:
    upto = [field for field in EVERY_KIND if field.number <= number]
    assert end_of(struct(*EVERY_KIND), number) == len(struct(*upto)) - 1


def test_a_field_that_is_not_set_has_no_end() -> None:
    assert end_of(struct(*EVERY_KIND), 8) == 0


def _each_cut(data: bytes) -> Iterator[bytes]:
    yield from (data[:end] for end in range(len(data)))


def test_what_is_cut_anywhere_asks_for_more() -> None:
    whole = struct(*EVERY_KIND)
    for part in _each_cut(whole):
        with pytest.raises(EndOfDataError):
            read_struct(part)
        with pytest.raises(EndOfDataError):
            end_of(part, 301)
        with pytest.raises(EndOfDataError):
            list(fields(part))


def test_a_list_is_read_as_structs_only_if_it_is_one() -> None:
    data = struct(*EVERY_KIND)
    assert list(elements(data, 7)) == [{1: 1}]
    assert list(elements(data, 9)) == []
    for number, said in ((4, "something else"), (5, "no list"), (6, "no list")):
        with pytest.raises(ThriftError, match=said):
            list(elements(data, number))
    with pytest.raises(EndOfDataError):
        list_of_structs(b"", thrift.LIST, 0)


@pytest.mark.parametrize(
    "data",
    [b"\x19" + b"\x19" * 200, b"\x0c\x03" + b"\0" * 3, b"\x1b\0\0"],
    ids=["lists of lists", "a field of a negative number", "a map"],
)
def test_what_no_footer_holds_is_refused(data: bytes) -> None:
    with pytest.raises(ThriftError) as caught:
        read_struct(data)
    assert not isinstance(caught.value, EndOfDataError)


@pytest.mark.parametrize("told", [b"no schema", base64.b64encode(b"no schema")], ids=str)
def test_an_arrow_schema_that_cannot_be_read_is_told(told: bytes, tmp_path: Path) -> None:
    def spoilt(footer: thrift.Struct) -> None:
        for entry in footer.get(5).values:
            entry.put(2, told)

    data = hostile.told_otherwise(hostile.sound_files()["plain"], spoilt)
    with pytest.raises(CorruptShardError):
        checked(tmp_path, data)
