"""A sound file of any writer passes; one that contradicts itself does not."""

from __future__ import annotations

import datetime
import decimal
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import thrift
from pipeline.compact import EndOfDataError, ThriftError, elements, read_struct
from pipeline.errors import CorruptShardError
from pipeline.footer import footer_bytes, parquet_errors
from pipeline.row_group_checks import RowGroupChecks
from pipeline.soundness import check_footer
from tests.faults import hostile_parquet as hostile
from tests.unit.conftest import parquet_bytes

ROWS = 60
TIME = datetime.datetime(2013, 1, 1)


def checked(tmp_path: Path, data: bytes) -> None:
    """Runs all checks on all columns of a file."""
    path = tmp_path / "a.parquet"
    path.write_bytes(data)
    with parquet_errors(str(path)), pa.OSFile(str(path), "rb") as file:
        metadata = pq.read_metadata(path)
        check_footer(metadata, str(path))
        names = metadata.schema.to_arrow_schema().names
        footer = footer_bytes(file, str(path))
        checks = RowGroupChecks(file, footer, metadata, names, walk_from=0, path=str(path))
        checks.up_to(metadata.num_rows)


def some(values: list[Any], kind: pa.DataType | None = None) -> pa.Array:
    return pa.array([values[i % len(values)] for i in range(ROWS)], kind)


COLUMNS = {
    "bool": some([True, None, False]),
    "uint8": some([1, 2], pa.uint8()),
    "uint32": some([1, 1 << 31], pa.uint32()),
    "float16": some([1.5, None], pa.float16()),
    "decimal": some([decimal.Decimal("1.25"), None]),
    "date32": some([datetime.date(2013, 1, 1)]),
    "date64": some([datetime.date(2013, 1, 1)], pa.date64()),
    "seconds": some([TIME], pa.timestamp("s")),
    "nanoseconds": some([TIME, None], pa.timestamp("ns", "Europe/Berlin")),
    "time32": some([datetime.time(1, 2)], pa.time32("s")),
    "duration": some([datetime.timedelta(1)]),
    "large_string": some(["a", None], pa.large_string()),
    "string_view": some(["a", None], pa.string_view()),
    "binary": some([b"a", b""]),
    "fixed binary": some([b"abc", None], pa.binary(3)),
    "dictionary": some(["a", "b", None]).dictionary_encode(),
    "null": pa.nulls(ROWS),
    "list": some([[1.0, None], [], None, [2.0]]),
    "large_list": some([["a"], []], pa.large_list(pa.string())),
    "fixed list": some([[1, 2], [3, 4]], pa.list_(pa.int64(), 2)),
    "list of lists": some([[[1], []], [], [[2, 3]]]),
    "struct": some([{"a": 1, "b": "x"}, {"a": None, "b": "y"}]),
    "list of structs": some([[{"a": 1}], []]),
    "map": some([[("k", 1)], []], pa.map_(pa.string(), pa.int32())),
    "a.dotted.name": some([1.0]),
    "tensor": pa.FixedShapeTensorArray.from_storage(
        pa.fixed_shape_tensor(pa.float32(), [2]),
        some([[1.0, 2.0]], pa.list_(pa.float32(), 2)),
    ),
}

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "version 1.0": {"version": "1.0"},
    "version 2.4": {"version": "2.4"},
    "data pages of version 2": {"data_page_version": "2.0", "compression": "zstd"},
    "uncompressed data pages of version 2": {"data_page_version": "2.0", "compression": "none"},
    "many pages": {"data_page_size": 16, "write_batch_size": 7, "write_page_checksum": True},
    "no statistics": {"write_statistics": False, "use_dictionary": False},
    "page index": {"write_page_index": True},
    "no Arrow schema": {"store_schema": False},
    "one row a row group": {"row_group_size": 1},
    "old lists": {"use_compliant_nested_type": False},
    "gzip": {"compression": "gzip"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_sound_file_passes(tmp_path: Path, options: dict[str, Any]) -> None:
    checked(tmp_path, parquet_bytes(pa.table(COLUMNS), **options))


def test_times_of_the_old_kind_pass(tmp_path: Path) -> None:
    table = pa.table({"t": COLUMNS["nanoseconds"]})
    checked(tmp_path, parquet_bytes(table, use_deprecated_int96_timestamps=True))


@pytest.mark.parametrize("encoding", ["DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT", "PLAIN"])
def test_each_encoding_passes(tmp_path: Path, encoding: str) -> None:
    table = pa.table({"x": some([1, None, 3])})
    checked(tmp_path, parquet_bytes(table, use_dictionary=False, column_encoding=encoding))


def test_files_without_rows_or_columns_pass(tmp_path: Path) -> None:
    empty = pa.table(COLUMNS).slice(0, 0)
    checked(tmp_path, parquet_bytes(empty))
    out = io.BytesIO()
    pq.ParquetWriter(out, empty.schema).close()  # no row group at all
    checked(tmp_path, out.getvalue())
    checked(tmp_path, parquet_bytes(pa.table({})))


def test_a_file_of_pandas_passes(tmp_path: Path) -> None:
    frame = pa.table(COLUMNS).select(["bool", "date32", "list", "large_string"]).to_pandas()
    out = io.BytesIO()
    frame.set_index("large_string").to_parquet(out)
    checked(tmp_path, out.getvalue())


def _without(place: Callable[[thrift.Struct], thrift.Struct], *fields: int) -> hostile.Lie:
    def lie(footer: thrift.Struct) -> None:
        struct = place(footer)
        struct.fields = [field for field in struct.fields if field.number not in fields]

    return lie


def _made_by(writer: bytes) -> hostile.Lie:
    return lambda footer: footer.put(6, writer)


def _short(footer: thrift.Struct) -> None:
    """The size leaves out some of the header of the dictionary page."""
    _made_by(b"parquet-mr version 1.2.8")(footer)
    chunk = hostile.chunk(footer)
    chunk.put(hostile.COMPRESSED, chunk.get(hostile.COMPRESSED) - 14)


def _renamed(footer: thrift.Struct) -> None:
    """Rewritten by a program that kept the Arrow schema of the columns of old."""
    _made_by(b"parquet-mr version 1.15.0")(footer)
    footer.get(hostile.FILE_SCHEMA).values[1].put(4, b"renamed")
    for group in footer.get(hostile.FILE_GROUPS).values:
        meta = group.get(hostile.GROUP_COLUMNS).values[0].get(hostile.CHUNK_META)
        meta.get(hostile.PATH).values[0] = b"renamed"


OTHER_WRITERS: dict[str, hostile.Lie] = {
    "row groups without number, place and size": _without(hostile.group, 5, 6, 7),
    "no writer's name": _without(lambda footer: footer, 6),
    "no statistics of encodings and sizes": _without(hostile.chunk, 13, 16),
    "a dictionary at byte 0": lambda f: hostile.chunk(f).put(hostile.DICTIONARY, 0),
    "no old names of types": _without(lambda f: f.get(hostile.FILE_SCHEMA).values[2], 6),
    "old names of types alone": _without(lambda f: f.get(hostile.FILE_SCHEMA).values[2], 10),
    "columns renamed by a program that kept the Arrow schema": _renamed,
}


@pytest.mark.parametrize("lie", OTHER_WRITERS.values(), ids=OTHER_WRITERS)
def test_what_other_writers_do_passes(tmp_path: Path, lie: hostile.Lie) -> None:
    table = pa.table({"x": some([1.5, 2.5]), "s": some(["a", "b"])})
    plain = lie is OTHER_WRITERS["a dictionary at byte 0"]
    # A dictionary at byte 0 is how some writers say that there is none.
    data = hostile.told_otherwise(parquet_bytes(table), _no_change)
    if plain:
        data = parquet_bytes(table, use_dictionary=False)
        lie = _zero_dictionary
    checked(tmp_path, hostile.told_otherwise(data, lie))


def _no_change(footer: thrift.Struct) -> None:
    """The same footer again."""


def _zero_dictionary(footer: thrift.Struct) -> None:
    hostile.chunk(footer).fields.append(thrift.Field(hostile.DICTIONARY, thrift.I64, 0))
    hostile.chunk(footer).fields.sort(key=lambda field: field.number)


def test_sizes_that_leave_a_header_out_pass_for_the_writers_that_did_so(tmp_path: Path) -> None:
    data = parquet_bytes(pa.table({"x": some([1.5, 2.5])}))
    checked(tmp_path, hostile.told_otherwise(data, _short))


def test_names_types_and_nullability_are_compared_with_the_arrow_schema(tmp_path: Path) -> None:
    data = parquet_bytes(pa.table({"x": some([1.5]), "s": some(["a"])}))
    changes: list[hostile.Lie] = [
        lambda footer: footer.get(hostile.FILE_SCHEMA).values[1].put(4, b"y"),
        lambda footer: footer.get(hostile.FILE_SCHEMA).values[1].put(3, 0),
        _without(lambda footer: footer.get(hostile.FILE_SCHEMA).values[2], 6, 10),
    ]
    for change in changes:
        with pytest.raises(CorruptShardError, match="not a readable") as caught:
            checked(tmp_path, hostile.told_otherwise(data, change))
        assert "the Arrow schema says" in (caught.value.received or "")


# The reader of Thrift


def test_a_struct_is_read_as_plain_values() -> None:
    struct = thrift.Struct(
        [
            thrift.Field(1, thrift.I32, -5),
            thrift.Field(2, thrift.BINARY, b"abc"),
            thrift.Field(3, thrift.TRUE, False),
            thrift.Field(20, thrift.LIST, thrift.Sequence(thrift.I64, list(range(20)))),
            thrift.Field(21, thrift.STRUCT, thrift.Struct([thrift.Field(1, thrift.I64, 1 << 40)])),
        ]
    )
    data = thrift.encode(struct)
    expected = {1: -5, 2: b"abc", 3: False, 20: list(range(20)), 21: {1: 1 << 40}}
    assert read_struct(data + b"rest") == (expected, len(data))


def test_a_struct_that_is_cut_anywhere_asks_for_more() -> None:
    data = hostile.sound_files()["plain"]
    _, length = read_struct(data[4:])
    for end in range(length):
        with pytest.raises(EndOfDataError):
            read_struct(data[4 : 4 + end])


@pytest.mark.parametrize(
    "data",
    [
        b"\x1c" * 100,
        b"\x15" + b"\xff" * 20,
        b"\x1f\x00",
        b"\x19\xfc\xff\xff\xff\xff\x0f" + b"\0" * 9,
    ],
    ids=["deep", "a long number", "an unknown type", "a long list"],
)
def test_what_is_no_struct_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(ThriftError):
        read_struct(data)


def test_a_lists_structs_are_read_one_by_one() -> None:
    data = hostile.sound_files()["plain"]
    footer = data[hostile.footer_start(data) : -8]
    assert [group[hostile.GROUP_ROWS] for group in elements(footer, hostile.FILE_GROUPS)] == [
        100,
        100,
        100,
    ]
