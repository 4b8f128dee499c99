"""A file that was saved on its way, and taken up again, is the same bytes as one that was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import row_groups, segments
from pipeline.errors import CheckpointError
from pipeline.footer import data_digest, footer_bytes
from pipeline.segments import (
    WAITING_KEY,
    GroupedFile,
    Saved,
    Waiting,
    unpacked,
)
from pipeline.stitching import Segment, footer_digest
from pipeline.storage import Storage
from pipeline.storage.memory import MemoryStorage

NAME = "a.parquet"
BATCH = 5
GROUP = 12
ROWS = pa.record_batch({"x": [1.0, 2.0]})


@pytest.fixture(autouse=True)
def _small_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups of few rows, so that small tables have several."""
    monkeypatch.setattr(segments, "row_group_rows", lambda _schema: GROUP)
    monkeypatch.setattr(segments, "ROW_GROUP_BYTES", 400)


def column(kind: str, values: list[int]) -> pa.Array:
    if kind == "float":
        return pa.array([v / 7 for v in values], pa.float32())
    if kind == "nulls":
        return pa.array([None if v % 3 == 0 else v for v in values], pa.int64())
    if kind == "text":
        return pa.array([f"{v}" * (v % 9) for v in values])
    if kind == "list":
        return pa.array([[v] * (v % 5) for v in values], pa.list_(pa.int32()))
    if kind == "category":
        # Each batch brings a dictionary of its own, as row groups of an input do.
        return pa.array([f"c{v % 6}" for v in values]).dictionary_encode()
    assert kind == "tensor"
    storage = pa.FixedSizeListArray.from_arrays(
        pa.array([float(v) for v in values for _ in range(4)], pa.float32()), 4
    )
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), (2, 2)), storage)


def batches(kinds: list[str], values: list[int]) -> list[pa.RecordBatch]:
    return [
        pa.record_batch({kind: column(kind, values[i : i + BATCH]) for kind in kinds})
        for i in range(0, len(values), BATCH)
    ]


def note(saved: Saved) -> dict[bytes, bytes]:
    return {b"shardscore.checkpoint": saved.data_xxh3.encode()}


def published(output: Storage, file: GroupedFile) -> bytes:
    with file:
        file.finished(lambda digest: {b"shardscore": digest.encode()}).publish()
    return output.read(NAME)


def at_once(parts: list[pa.RecordBatch], schema: pa.Schema) -> bytes:
    output = MemoryStorage()
    file = GroupedFile(output, NAME, schema)
    for part in parts:
        file.append(part)
    return published(output, file)


def footer_of(output: Storage, name: str) -> str:
    return footer_digest(footer_bytes(pa.BufferReader(output.read(name)), name))


def to(name: str) -> Callable[[str], str]:
    return lambda _digest: name


def taken_up(output: Storage, schema: pa.Schema, saved: list[str], varying: int) -> GroupedFile:
    """What another process makes of the saved segments."""
    found = [pq.read_metadata(pa.BufferReader(output.read(name))).metadata for name in saved]
    return GroupedFile(
        output,
        NAME,
        schema,
        tuple(
            Segment(name, meta[b"shardscore.checkpoint"].decode(), footer_of(output, name))
            for name, meta in zip(saved, found, strict=True)
        ),
        unpacked(found[-1][WAITING_KEY], varying),
    )


KINDS = st.lists(
    st.sampled_from(["float", "nulls", "text", "list", "category", "tensor"]),
    min_size=1,
    max_size=4,
    unique=True,
)


@given(
    kinds=KINDS,
    values=st.lists(st.integers(0, 10_000), max_size=90),
    saves=st.sets(st.integers(0, 18)),
    kills=st.sets(st.integers(0, 18)),
)
def test_resume_after_interrupt_is_run(
    kinds: list[str], values: list[int], saves: set[int], kills: set[int]
) -> None:
    parts = batches(kinds, values)
    schema = batches(kinds, [1])[0].schema
    output = MemoryStorage()
    file, names = GroupedFile(output, NAME, schema), []
    varying = 0

    def keep(saved: Saved) -> dict[bytes, bytes]:
        nonlocal varying
        varying = saved.varying
        return note(saved)

    for number, part in enumerate(parts):
        file.append(part)
        if number in saves:
            names.append(f"_saved/{number}.parquet")
            file.save(to(names[-1]), keep)
            if number in kills:
                with file:
                    pass
                file = taken_up(output, schema, names, varying)

    assert published(output, file) == at_once(parts, schema)


def test_a_joined_file_reads_back_as_the_rows_that_went_in() -> None:
    parts = batches(["float", "text", "category"], list(range(80)))
    output = MemoryStorage()
    file = GroupedFile(output, NAME, parts[0].schema)
    for number, part in enumerate(parts):
        file.append(part)
        file.save(to(f"_saved/{number}.parquet"), note)
    published(output, file)
    whole = pq.read_table(pa.BufferReader(output.read(NAME)), page_checksum_verification=True)
    plain = pa.Table.from_batches(parts).unify_dictionaries()
    assert whole.to_pylist() == plain.to_pylist()
    assert data_digest(output, NAME) == whole_note(output)


def whole_note(output: Storage) -> str:
    metadata: dict[bytes, bytes] = pq.read_metadata(pa.BufferReader(output.read(NAME))).metadata
    assert set(metadata) == {b"ARROW:schema", b"shardscore"}
    return metadata[b"shardscore"].decode()


def saved_once(output: Storage) -> GroupedFile:
    parts = batches(["float"], list(range(40)))
    file = GroupedFile(output, NAME, parts[0].schema)
    for part in parts:
        file.append(part)
    file.save(to("_saved/0.parquet"), note)
    return file


def test_what_was_saved_is_a_sound_parquet_file_of_whole_row_groups() -> None:
    output = MemoryStorage()
    with saved_once(output):
        saved = pq.ParquetFile(pa.BufferReader(output.read("_saved/0.parquet")))
        assert [saved.metadata.row_group(i).num_rows for i in range(3)] == [GROUP] * 3
        waiting = unpacked(saved.metadata.metadata[WAITING_KEY], 0)
        assert sum(batch.num_rows for batch in waiting.batches) == 40 - 3 * GROUP


def test_two_writers_of_the_same_save_it_under_one_name() -> None:
    output = MemoryStorage()
    names = []
    for _ in range(2):
        with GroupedFile(output, NAME, ROWS.schema) as file:
            file.append(ROWS)
            names.append(file.save(lambda digest: f"_saved/{digest}.parquet", note))
    assert [info.name for info in output.list()] == names[:1] == names[1:]


def gone(output: Storage) -> None:
    output.delete("_saved/0.parquet")


def flipped(output: Storage) -> None:
    data = bytearray(output.read("_saved/0.parquet"))
    data[40] ^= 1
    output.replace("_saved/0.parquet", bytes(data))


def statistics_flipped(output: Storage) -> None:
    """In the footer, which no digest of row groups covers."""
    data = bytearray(output.read("_saved/0.parquet"))
    data[-300] ^= 1
    output.replace("_saved/0.parquet", bytes(data))


def cut(output: Storage) -> None:
    output.replace("_saved/0.parquet", output.read("_saved/0.parquet")[:-9])


@pytest.mark.parametrize("harm", [gone, flipped, statistics_flipped, cut])
def test_a_segment_that_is_not_what_was_saved_is_named_and_nothing_is_published(harm: Any) -> None:
    output = MemoryStorage()
    with saved_once(output) as file:
        harm(output)
        with pytest.raises(CheckpointError) as caught:
            file.finished(lambda digest: {b"shardscore": digest.encode()})
    assert caught.value.path == "memory:///_saved/0.parquet"
    assert NAME not in [info.name for info in output.list()]


def test_without_rows_there_is_a_file_without_row_groups() -> None:
    schema = batches(["float"], [1])[0].schema
    data = at_once([], schema)
    assert pq.read_metadata(pa.BufferReader(data)).num_row_groups == 0


def test_row_groups_end_where_texts_grow_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [pa.record_batch({"text": ["x" * 100] * BATCH}) for _ in range(4)]
    assert row_groups.varying_bytes(parts[0]) == 500
    metadata = pq.read_metadata(pa.BufferReader(at_once(parts, parts[0].schema)))
    assert [metadata.row_group(i).num_rows for i in range(4)] == [BATCH] * 4


def test_waiting_rows_keep_their_dictionaries() -> None:
    output = MemoryStorage()
    words = pa.array(["b", "a", "b"]).dictionary_encode()
    part = pa.record_batch({"c": words.take(pa.array([1]))})
    with GroupedFile(output, NAME, part.schema) as file:
        file.append(part)
        file.save(to("_saved/0.parquet"), note)
    metadata = pq.read_metadata(pa.BufferReader(output.read("_saved/0.parquet"))).metadata
    (back,) = unpacked(metadata[WAITING_KEY], 0).batches
    assert back["c"].dictionary.to_pylist() == ["b", "a"]


def test_nothing_waits_by_default() -> None:
    assert Waiting() == Waiting((), 0)


def test_what_is_left_without_being_finished_leaves_no_trace(tmp_path: Path) -> None:
    from pipeline.storage import LocalStorage

    output = LocalStorage(tmp_path / "out")
    part = batches(["float"], list(range(20)))[0]
    with GroupedFile(output, NAME, part.schema) as file:
        for _ in range(5):
            file.append(part)
    assert [info.name for info in output.list()] == []
