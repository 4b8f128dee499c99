"""Schemas that are worked out once, and footers that are parsed without their files."""

from __future__ import annotations

import io
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import schemas
from pipeline.footer import footer_bytes, parsed
from pipeline.schemas import Schemas
from tests.unit.conftest import TABLE, parquet_bytes


def footer(content: bytes) -> bytes:
    return footer_bytes(pa.BufferReader(content), "a.parquet")


def schema_of(known: Schemas, content: bytes) -> pa.Schema:
    found = footer(content)
    return known.of(found, parsed(found, "a.parquet"), "a.parquet")


def test_a_footer_alone_says_what_its_file_says() -> None:
    content = parquet_bytes()
    alone, whole = parsed(footer(content), ""), pq.ParquetFile(io.BytesIO(content)).metadata
    assert alone.equals(whole)
    assert alone.metadata == whole.metadata
    assert alone.schema.to_arrow_schema() == whole.schema.to_arrow_schema()


def test_files_of_one_schema_are_looked_into_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    check = schemas.check_schema

    def counted(metadata: pq.FileMetaData, path: str) -> None:
        looked.append(path)
        check(metadata, path)

    monkeypatch.setattr(schemas, "check_schema", counted)
    known = Schemas()
    first = schema_of(known, parquet_bytes(TABLE))
    assert all(schema_of(known, parquet_bytes(TABLE.slice(i))) is first for i in range(3))
    assert len(looked) == 1


def test_what_is_kept_does_not_grow_with_files_that_each_begin_in_their_own_way() -> None:
    """As those of pandas do, by their number of rows."""
    known = Schemas()

    def kept(numbers: range) -> int:
        tracemalloc.start()
        for number in numbers:
            told = {"pandas": f"{number} rows".ljust(4096)}
            assert schema_of(known, parquet_bytes(TABLE.replace_schema_metadata(told))) is first
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return held

    first = schema_of(known, parquet_bytes(TABLE))
    assert kept(range(640)) < 640 * 1024


@pytest.mark.parametrize(
    "other",
    [
        TABLE.rename_columns(["x", "lable"]),
        TABLE.append_column("y", TABLE["x"]),
        TABLE.set_column(0, "x", TABLE["x"].cast("float32")),
        TABLE.set_column(1, "label", TABLE["label"].cast("large_string")),
        TABLE.set_column(1, "label", TABLE["label"].dictionary_encode()),
        TABLE.cast(pa.schema([TABLE.schema.field(0).with_nullable(False), TABLE.schema.field(1)])),
    ],
)
def test_a_schema_that_differs_in_anything_is_another(other: pa.Table) -> None:
    known = Schemas()
    for table in (TABLE, other, TABLE, other):
        assert schema_of(known, parquet_bytes(table)) == table.schema


def test_schemas_that_are_equal_are_one_object_whoever_wrote_them() -> None:
    known = Schemas()
    first = schema_of(known, parquet_bytes(TABLE))
    other = schema_of(known, parquet_bytes(TABLE, store_schema=False, version="1.0"))
    assert other is first


def test_many_schemas_in_turn_stay_apart() -> None:
    known = Schemas()
    tables = [pa.table({"x" * (i + 1): [1.0]}) for i in range(20)]
    for table in (*tables, *tables):
        assert schema_of(known, parquet_bytes(table)) == table.schema
