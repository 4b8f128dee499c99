"""Footers: reading them, those that lie, and the note in those of published files."""

from __future__ import annotations

import errno
import hashlib
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import CorruptShardError, NotFoundError, StorageError
from pipeline.footer import (
    PROVENANCE_KEY,
    Provenance,
    data_digest,
    parquet_errors,
    read_footer,
    unclosed_digest,
)
from pipeline.records import RowCounts
from pipeline.storage import LocalStorage
from pipeline.storage.memory import MemoryStorage
from tests.unit.conftest import TABLE, note_of, parquet_bytes, shard

NOTE = note_of(shard())
FIELDS: dict[str, Any] = json.loads(NOTE.encoded()[PROVENANCE_KEY])


def footer_of(data: bytes) -> tuple[pq.FileMetaData, str]:
    storage = MemoryStorage()
    storage.create("a.parquet", data)
    return read_footer(storage, "a.parquet")


def noted(metadata: dict[bytes, bytes] | None) -> Provenance | None:
    """The note of a Parquet file that was written with some metadata."""
    read, _ = footer_of(parquet_bytes(TABLE.replace_schema_metadata(metadata)))
    return Provenance.of(read)


# Reading


@pytest.mark.parametrize("columns", [1, 2000], ids=["a small footer", "a footer above 64 KiB"])
def test_a_footer_is_read_whole_and_digested(columns: int) -> None:
    data = parquet_bytes(pa.table({f"x{i}": [1.0, 2.0] for i in range(columns)}))
    (length,) = struct.unpack("<I", data[-8:-4])
    assert (length > 1 << 16) == (columns > 1)
    metadata, digest = footer_of(data)
    assert (metadata.num_rows, metadata.num_columns) == (2, columns)
    assert digest == hashlib.sha256(data[-8 - length : -8]).hexdigest()


def test_a_file_of_no_rows_has_a_footer() -> None:
    assert footer_of(parquet_bytes(TABLE.slice(0, 0)))[0].num_rows == 0


def test_no_file_has_no_footer() -> None:
    with pytest.raises(NotFoundError):
        read_footer(MemoryStorage(), "a.parquet")


GOOD = parquet_bytes()
(LENGTH,) = struct.unpack("<I", GOOD[-8:-4])


def with_length(length: int) -> bytes:
    return GOOD[:-8] + struct.pack("<I", length) + b"PAR1"


@pytest.mark.parametrize(
    ("data", "received"),
    [
        (b"", "0 bytes"),
        (b"PAR1PAR1", "8 bytes"),
        (with_length(len(GOOD)), f"a footer of {len(GOOD)} bytes in a file of {len(GOOD)}"),
        (with_length(len(GOOD) - 11), "a footer of"),
        (with_length(2**32 - 1), "a footer of 4294967295 bytes"),
        (with_length(0), ""),
        (with_length(LENGTH - 1), ""),
        (GOOD[:-4] + b"PARX", "b'PARX'"),
        (GOOD[:-4] + b"PARE", "b'PARE'"),
        (GOOD[:-1], "truncated"),
        (b"PAR1" + b"\xff" * 100 + struct.pack("<I", 100) + b"PAR1", ""),
    ],
    ids=[
        "empty",
        "too short",
        "length of the file",
        "length above the rest",
        "largest length",
        "no length",
        "too small a length",
        "bad magic",
        "encrypted",
        "truncated",
        "noise",
    ],
)
def test_a_footer_that_lies_makes_a_corrupt_shard(data: bytes, received: str) -> None:
    with pytest.raises(CorruptShardError) as caught:
        footer_of(data)
    assert received in (caught.value.received or "")
    assert (caught.value.path or "").endswith("a.parquet")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (pa.ArrowInvalid("bad page\nwith details"), CorruptShardError),
        (OSError("Couldn't deserialize thrift"), CorruptShardError),
        (OSError(errno.EIO, "Input/output error"), StorageError),
    ],
)
def test_a_disk_that_fails_is_told_from_bytes_that_do_not_decode(
    raised: Exception, expected: type[Exception]
) -> None:
    with pytest.raises(expected) as caught, parquet_errors("/lake/a.parquet"):
        raise raised
    assert type(caught.value) is expected
    assert caught.value.path == "/lake/a.parquet"  # type: ignore[attr-defined]
    assert "details" not in str(caught.value)


# The digest of the data


@pytest.mark.parametrize("rows", [0, 3, 400_000], ids=["no rows", "a few", "several row groups"])
@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_a_file_before_it_is_closed_holds_just_the_data_before_its_footer(
    rows: int, compression: str, tmp_path: Path
) -> None:
    table = pa.table({"x": range(rows), "name": [f"row {i}" for i in range(rows)]})
    path = tmp_path / "a.parquet"
    writer = pq.ParquetWriter(path, table.schema, compression=compression, write_page_checksum=True)
    for start in range(0, rows, 100_000):
        writer.write_table(table.slice(start, 100_000))
    before = path.read_bytes()
    digest = unclosed_digest(path)
    writer.add_key_value_metadata({"note": digest})
    writer.close()
    data = path.read_bytes()
    (length,) = struct.unpack("<I", data[-8:-4])
    assert data[: -8 - length] == before
    assert data_digest(LocalStorage(tmp_path), "a.parquet") == digest
    assert digest == xxhash.xxh3_128(before).hexdigest()


def test_a_bit_that_flips_in_the_data_changes_its_digest() -> None:
    data = bytearray(parquet_bytes())
    storage = MemoryStorage()
    storage.replace("a.parquet", bytes(data))
    good = data_digest(storage, "a.parquet")
    data[0] ^= 1
    storage.replace("a.parquet", bytes(data))
    assert data_digest(storage, "a.parquet") != good


@pytest.mark.parametrize("data", [b"", GOOD[:-1], with_length(len(GOOD))])
def test_data_whose_end_is_not_known_is_corrupt(data: bytes) -> None:
    storage = MemoryStorage()
    storage.create("a.parquet", data)
    with pytest.raises(CorruptShardError):
        data_digest(storage, "a.parquet")


# The note

digests = st.text("0123456789abcdef", min_size=64, max_size=64)
counts = st.integers(0, 2**60)
notes = st.builds(
    Provenance,
    fingerprint=digests,
    model_sha256=digests,
    input=st.fixed_dictionaries(
        {"name": st.text(), "size": counts, "rows": counts, "footer_sha256": digests}
    ),
    counts=st.builds(RowCounts, counts, counts, counts, counts),
    method=st.sampled_from(["predict", "predict_on_batch", "predict_step"]),
    batch_size=st.integers(1, 10_000_000),
)


@given(notes)
def test_a_note_is_read_as_it_was_written(note: Provenance) -> None:
    assert noted(note.encoded()) == note  # type: ignore[arg-type]


def test_rows_that_are_not_finite_are_noted_only_if_there_are_any() -> None:
    """Notes were written before they were counted: those are still notes, and still these bytes."""
    assert b"nonfinite" not in NOTE.encoded()[PROVENANCE_KEY]
    some = replace(NOTE, counts=replace(NOTE.counts, nonfinite=3))
    assert b'"nonfinite":3' in some.encoded()[PROVENANCE_KEY]
    read = noted(some.encoded())
    assert read is not None
    assert read.counts.nonfinite == 3


def test_equal_notes_are_equal_bytes() -> None:
    turned = replace(NOTE, input=dict(reversed(NOTE.input.items())))
    assert turned.encoded() == NOTE.encoded()


DAMAGED = {
    "nothing": b"",
    "no JSON": b"{",
    "no text": b"\xff\xfe",
    "a number": b"5",
    "a list": b"[]",
    "null": b"null",
    "no fields": b"{}",
    "nested too deep": b"[" * 100_000,
    **{
        f"without {name}": json.dumps({k: v for k, v in FIELDS.items() if k != name}).encode()
        for name in FIELDS
        if name != "format"
    },
    **{
        f"wrong {name}": json.dumps({**FIELDS, name: value}).encode()
        for name, value in {"fingerprint": None, "input": 5, "counts": 5, "more": 1}.items()
    },
    "an unknown count": json.dumps({**FIELDS, "counts": {"lost": 1}}).encode(),
}


@pytest.mark.parametrize("note", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_note_is_no_note(note: bytes) -> None:
    assert noted({PROVENANCE_KEY: note}) is None


@pytest.mark.parametrize("metadata", [None, {}, {b"pandas": b"{}"}, {b"SHARDSCORE": b"{}"}])
def test_a_file_of_another_program_has_no_note(metadata: dict[bytes, bytes] | None) -> None:
    assert noted(metadata) is None
