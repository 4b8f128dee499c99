"""Damaged and lying Parquet files, and a worker that reads them.

`MUTATIONS` of each of the `sound_files` are chosen by a fixed seed; the `lies` are made by hand.
`python -m tests.faults.hostile_parquet FOLDER FIRST LAST` tries some of them, in a process of its
own: a line of JSON before each one says what it is, a line after it what came of it.
"""

from __future__ import annotations

import io
import json
import os
import random
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import thrift
from pipeline.binding import check
from pipeline.compact import read_struct
from pipeline.discover import discover
from pipeline.errors import DataError
from pipeline.memory import peak_bytes
from pipeline.rows import read_batches
from pipeline.signature import InputSpec, Signature

SEED = 20130101
MUTATIONS = int(os.environ.get("HOSTILE_MUTATIONS", "330"))
"""Of each file, besides the lies."""

ROWS = 300
BATCH_ROWS = 64
ADDRESS_SPACE = 4 << 30
_SIGNATURE = Signature((InputSpec("x", (), "float32"),), "tensor", (), False)


# Sound files


def _columns() -> dict[str, pa.Array]:
    rng = np.random.default_rng(1)
    return {
        "x": pa.array(rng.standard_normal(ROWS).astype("f4")),
        "id": pa.array(np.arange(ROWS)),
        "color": pa.array(rng.choice(["red", "green", "blue", "black"], ROWS)),
        "maybe": pa.array([None if i % 7 == 0 else float(i) for i in range(ROWS)]),
        "list": pa.array([[i, i + 1] if i % 3 else [] for i in range(ROWS)], pa.list_(pa.int32())),
        "name": pa.array([f"name-{i}" if i % 11 else None for i in range(ROWS)]),
    }


def _file(columns: str, *, nullable: bool = True, **options: Any) -> bytes:
    arrays = {name: _columns()[name] for name in columns.split()}
    schema = pa.schema([pa.field(name, array.type, nullable) for name, array in arrays.items()])
    out = io.BytesIO()
    options = {"compression": "none", "write_page_checksum": True, "row_group_size": 100, **options}
    pq.write_table(pa.table(arrays, schema=schema), out, **options)
    return out.getvalue()


@cache
def sound_files() -> dict[str, bytes]:
    """Sound files of several kinds, by name."""
    small_pages = {"data_page_size": 64, "write_batch_size": 25}
    return {
        "plain": _file("x id", use_dictionary=False),
        "no nulls": _file("x id", nullable=False, use_dictionary=False, **small_pages),
        "zstd": _file("x id maybe", compression="zstd", use_dictionary=False, **small_pages),
        "texts": _file("x color name", compression="snappy", row_group_size=150),
        "lists": _file("x list maybe", row_group_size=150),
        "pages of version 2": _file(
            "x list maybe name", compression="zstd", data_page_version="2.0", row_group_size=150
        ),
        "page index": _file("x color", write_page_index=True),
        "no Arrow schema": _file("x id name", store_schema=False),
        "no checksums": _file("x id name", write_page_checksum=False),
    }


def footer_start(data: bytes) -> int:
    """Offset of the footer."""
    return len(data) - 8 - int.from_bytes(data[-8:-4], "little")


def headers(data: bytes) -> list[tuple[int, int, int]]:
    """The pages of a sound file: offsets of the header, of the body and of what follows."""
    found = []
    metadata = pq.read_metadata(io.BytesIO(data))
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            at = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
            end = at + chunk.total_compressed_size
            while at < end:
                header, length = read_struct(data[at:end])
                found.append((at, at + length, at + length + header[3]))
                at += length + header[3]
    return found


# Damage


@dataclass(frozen=True, slots=True)
class Mutation:
    """A sound file, damaged.

    Attributes:
        kind: Which file.
        what: What was done to it, in words.
        data: The bytes.
        in_pages: Whether the bodies of pages are all that was touched.
    """

    kind: str
    what: str
    data: bytes
    in_pages: bool = False


def flipped(data: bytes, bit: int) -> bytes:
    """The data with one bit changed."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _damaged(kind: str, number: int) -> Mutation:
    data = sound_files()[kind]
    rng = random.Random(f"{SEED} {kind} {number}")  # noqa: S311 - a test's dice
    pages, footer = headers(data), footer_start(data)
    way = number % 11
    if way < 7:
        start, stop = (0, len(data))
        if way < 3:
            start, stop = footer, len(data)
        elif way < 5:
            start, stop, _ = rng.choice(pages)
        bit = rng.randrange(start * 8, stop * 8)
        inside = any(body <= bit // 8 < end for _, body, end in pages)
        return Mutation(kind, f"bit {bit} flipped", flipped(data, bit), inside)
    if way == 7:
        cut = rng.randrange(len(data))
        return Mutation(kind, f"cut to {cut} bytes", data[:cut])
    length = rng.randrange(1, 65)
    at = rng.randrange(len(data) - length)
    after = at + length
    if way == 8:
        run = rng.randbytes(length)
        same = data[at:after] == run
        inside = same or any(body <= at and after <= end for _, body, end in pages)
        what = f"{length} random bytes at {at}"
        return Mutation(kind, what, data[:at] + run + data[after:], inside)
    if way == 9:
        what = f"bytes {at} to {after} left out"
        return Mutation(kind, what, data[:at] + data[after:])
    other = rng.randrange(len(data) - length)
    first, second = sorted((at, other))
    if second - first < length:
        length = second - first
    swapped = bytearray(data)
    swapped[first : first + length] = data[second : second + length]
    swapped[second : second + length] = data[first : first + length]
    inside = all(
        any(body <= place and place + length <= end for _, body, end in pages)
        for place in (first, second)
    )
    what = f"{length} bytes at {first} and {second} swapped"
    return Mutation(kind, what, bytes(swapped), inside)


# Lies

Lie = Callable[[thrift.Struct], None]

# Field numbers in parquet.thrift.
FILE_SCHEMA, FILE_ROWS, FILE_GROUPS = 2, 3, 4
GROUP_COLUMNS, GROUP_BYTES, GROUP_ROWS = 1, 2, 3
CHUNK_META = 3
TYPE, PATH, CODEC, VALUES, UNCOMPRESSED, COMPRESSED, OFFSET, DICTIONARY = 1, 3, 4, 5, 6, 7, 9, 11
ABSURD = (-(1 << 62), -1, 0, 1, (1 << 31) - 1, 1 << 31, 1 << 62)


def group(footer: thrift.Struct, number: int = 0) -> thrift.Struct:
    return footer.get(FILE_GROUPS).values[number]


def chunk(footer: thrift.Struct, column: int = 0, of: int = 0) -> thrift.Struct:
    return group(footer, of).get(GROUP_COLUMNS).values[column].get(CHUNK_META)


def told_otherwise(data: bytes, lie: Lie) -> bytes:
    """A file with a footer that was changed by hand."""
    at = footer_start(data)
    footer = thrift.decode(data[at:-8])
    lie(footer)
    told = thrift.encode(footer)
    return data[:at] + told + len(told).to_bytes(4, "little") + b"PAR1"


def _all_rows(change: int) -> Lie:
    """Every count of the first row group says other rows, and so does the file's."""

    def lie(footer: thrift.Struct) -> None:
        footer.put(FILE_ROWS, footer.get(FILE_ROWS) + change)
        group(footer).put(GROUP_ROWS, group(footer).get(GROUP_ROWS) + change)
        for i in range(len(group(footer).get(GROUP_COLUMNS).values)):
            chunk(footer, i).put(VALUES, chunk(footer, i).get(VALUES) + change)

    return lie


def _empty_groups(count: int) -> Lie:
    def lie(footer: thrift.Struct) -> None:
        empty = thrift.decode(thrift.encode(group(footer)))
        empty.put(GROUP_ROWS, 0)
        for column in empty.get(GROUP_COLUMNS).values:
            column.get(CHUNK_META).put(VALUES, 0)
        footer.get(FILE_GROUPS).values += [empty] * count

    return lie


def _twice(footer: thrift.Struct) -> None:
    footer.get(FILE_GROUPS).values.append(group(footer))
    footer.put(FILE_ROWS, footer.get(FILE_ROWS) + group(footer).get(GROUP_ROWS))


def _anothers_bytes(footer: thrift.Struct) -> None:
    """A row group's column is where that of the next one is."""
    for field in (OFFSET, COMPRESSED, UNCOMPRESSED, DICTIONARY):
        if chunk(footer).get(field) is not None:
            chunk(footer).put(field, chunk(footer, of=1).get(field))


def _deep(footer: thrift.Struct) -> None:
    """A schema of a group in a group in a group …"""
    schema = footer.get(FILE_SCHEMA).values
    inner = thrift.Struct(
        [
            thrift.Field(3, thrift.I32, 1),
            thrift.Field(4, thrift.BINARY, b"g"),
            thrift.Field(5, thrift.I32, 1),
        ]
    )
    schema[1:1] = [inner] * 50_000


def _name(footer: thrift.Struct) -> None:
    footer.get(FILE_SCHEMA).values[2].put(4, b"other")


def _missing_chunk(footer: thrift.Struct) -> None:
    group(footer).get(GROUP_COLUMNS).values.pop()


def _put(place: Callable[[thrift.Struct], thrift.Struct], field: int, value: int) -> Lie:
    return lambda footer: place(footer).put(field, value)


LIES: dict[str, Lie] = {
    "one row more, everywhere in the footer": _all_rows(1),
    "one row less, everywhere in the footer": _all_rows(-1),
    "more rows than there are bytes, everywhere in the footer": _all_rows(1 << 40),
    "a row group twice": _twice,
    "a column with another row group's bytes": _anothers_bytes,
    "another name in the schema": _name,
    "a column chunk missing": _missing_chunk,
    "a schema of 50,000 levels": _deep,
    "an unknown codec": _put(chunk, CODEC, 99),
    "another codec": _put(chunk, CODEC, 1),
    "another type": _put(chunk, TYPE, 1),
    "bytes that begin before the file": _put(chunk, OFFSET, -100),
    "bytes that begin in the footer": _put(chunk, OFFSET, 1 << 20),
}


@cache
def lies() -> tuple[tuple[str, str, Lie], ...]:
    """Which file, what it is told in words, and the lie."""
    places: dict[str, tuple[Callable[[thrift.Struct], thrift.Struct], int]] = {
        "the file": (lambda footer: footer, FILE_ROWS),
        "a row group": (group, GROUP_ROWS),
        "a row group's bytes": (group, GROUP_BYTES),
        "a column's values": (chunk, VALUES),
        "a column's size": (chunk, COMPRESSED),
        "a column's unpacked size": (chunk, UNCOMPRESSED),
        "a column's place": (chunk, OFFSET),
    }
    absurd = {
        f"{value} for {what}": _put(place, field, value)
        for what, (place, field) in places.items()
        for value in ABSURD
    }
    told = {**LIES, **absurd, **{f"{n} empty row groups": _empty_groups(n) for n in (1, 5000)}}
    kinds = [kind for kind in sound_files() if kind not in {"page index", "no checksums"}]
    return tuple((kind, what, lie) for kind in kinds for what, lie in told.items())


def count() -> int:
    """How many mutations there are."""
    return len(lies()) + MUTATIONS * len(sound_files())


def mutation(number: int) -> Mutation:
    """One of them: first come the lies."""
    if number < len(lies()):
        kind, what, lie = lies()[number]
        return Mutation(kind, what, told_otherwise(sound_files()[kind], lie))
    number -= len(lies())
    kinds = list(sound_files())
    return _damaged(kinds[number % len(kinds)], number // len(kinds))


# Trying them


def outcome(path: Path, truth: pa.Table) -> str:
    """What comes of reading a file: `error`, `right`, `wrong: …`, or `bad error: …`."""
    discovery = discover([str(path)], "/nowhere")
    if discovery.failed:
        return _told(discovery.failed[0].error, path)
    (shard,) = discovery.shards
    try:
        binding = check(_SIGNATURE, {"x": ("x",)}, shard.schema)
        columns = shard.schema.names
        read = read_batches(shard, binding, columns, BATCH_ROWS, fail_on_bad=False)
        table = pa.Table.from_batches([batch.carried for batch in read], shard.schema)
    except DataError as error:
        return _told(error.with_path(str(path)), path)
    if not table.schema.equals(truth.schema):
        return f"wrong: columns {table.schema.to_string()!r}"
    if not table.equals(truth):
        wrong = [c for c in table.column_names if not table[c].equals(truth[c])]
        return f"wrong: values of {', '.join(wrong)}"
    return "right"


def _told(error: Exception, path: Path) -> str:
    fits = isinstance(error, DataError) and error.path == str(path)
    return "error" if fits else f"bad error: {error!r}"


def truth_of(data: bytes) -> pa.Table:
    """The rows of a sound file."""
    return pq.read_table(io.BytesIO(data)).replace_schema_metadata(None)


def main() -> None:
    """Tries some mutations."""
    folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    truths = {kind: truth_of(data) for kind, data in sound_files().items()}
    path = folder / f"hostile-{first}.parquet"
    for number in range(first, last):
        tried = mutation(number)
        _say(number=number, kind=tried.kind, what=tried.what, in_pages=tried.in_pages)
        path.write_bytes(tried.data)
        try:
            came = outcome(path, truths[tried.kind])
        except Exception as error:
            came = f"bad error: {error!r}"
        _say(number=number, came=came, peak=peak_bytes())


def _say(**facts: Any) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
