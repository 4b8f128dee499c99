"""Checkpoints: their names, the way through them, what is trusted and what is taken away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import checkpoints
from pipeline.checkpoints import (
    NOTHING,
    CheckpointNote,
    Origin,
    Resumed,
    resume,
)
from pipeline.errors import StorageError
from pipeline.records import RowCounts
from pipeline.segments import GroupedFile, Saved
from pipeline.spans import FOLDER, Span, in_progress, listing, longest_way, reach
from pipeline.storage import Storage
from pipeline.storage.memory import MemoryStorage

SHARD = "year=2013/a.parquet"
ORIGIN = Origin("f" * 64, {"name": SHARD, "size": 9}, {"tensorflow": "2"})
ROWS = pa.record_batch({"x": [1.0, 2.0, 3.0]})
DIGESTS = st.sampled_from(["0" * 32, "f" * 32])
SPANS = st.lists(
    st.builds(Span, st.just(SHARD), st.integers(0, 12), st.integers(0, 12), DIGESTS),
    max_size=30,
)


def span(start: int, end: int, digest: str = "0" * 32) -> Span:
    return Span(SHARD, start, end, digest)


def test_a_name_of_several_lines_tells_its_span_too() -> None:
    made = Span("a\nb.parquet", 0, 5, "0" * 32)
    assert Span.of(made.name) == made


@given(st.integers(0, 10**12 - 1), st.integers(0, 10**12 - 1))
def test_a_name_tells_its_span(start: int, end: int) -> None:
    made = span(start, end)
    assert Span.of(made.name) == made
    assert Span.of(made.bad_name) is None
    assert made.name.startswith("_shardscore/checkpoints/year=2013/a.parquet/")


@pytest.mark.parametrize(
    "name",
    [
        "a.parquet",
        "_shardscore/checkpoints/a.parquet",
        "_shardscore/checkpoints/a.parquet/0-5.0123456789abcdef0123456789abcdef.parquet",
        "_shardscore/checkpoints/000000000000-000000000005.0123456789abcdef0123456789abcdef.parquet",
        "_shardscore/quarantine/a.parquet/000000000000-000000000005.0123456789abcdef0123456789abcdef.parquet",
    ],
)
def test_another_name_is_no_checkpoint(name: str) -> None:
    assert Span.of(name) is None


@given(SPANS)
def test_a_way_begins_at_row_0_and_each_step_begins_where_the_last_ended(spans: list[Span]) -> None:
    way = longest_way(spans)
    assert all(step in spans for step in way)
    assert [step.start for step in way] == [0, *(step.end for step in way)][: len(way)]
    assert all(step.start < step.end for step in way)


@given(SPANS)
def test_no_way_leads_further_than_the_longest(spans: list[Span]) -> None:
    reached = {0}
    for _ in spans:
        reached |= {s.end for s in spans if s.start in reached and s.end > s.start}
    assert reach(spans) == max(reached)


def test_of_ways_that_lead_as_far_the_one_of_fewest_steps_is_taken() -> None:
    short = [span(0, 5), span(5, 10)]
    assert longest_way([span(0, 2), span(2, 4), span(4, 10), *short]) == short


def save(
    output: Storage, before: Resumed, end: int, *, bad: bool = False, **changes: Any
) -> Resumed:
    """One more checkpoint, as `ShardWriter` makes them; how things stand after it."""
    letters = ""

    def note(saved: Saved) -> dict[bytes, bytes]:
        facts = CheckpointNote(
            origin=ORIGIN,
            start=before.rows,
            end=end,
            counts=RowCounts(end, end - bad, 0, int(bad)),
            varying=saved.varying,
            data_xxh3=saved.data_xxh3,
            bad=letters,
            sketch=f"of {end} rows",
        )
        return replace(facts, **changes).encoded()

    if bad:
        with GroupedFile(output, "bad", ROWS.schema, before.bad_segments) as file:
            file.append(ROWS.slice(0, 1))
            file.save(lambda digest: span(before.rows, end, digest).bad_name, note)
            letters = file.segments[-1].footer_xxh3
    with GroupedFile(output, "good", ROWS.schema, before.segments, before.waiting) as file:
        file.append(ROWS)
        file.save(lambda digest: span(before.rows, end, digest).name, note)
    return resume(output, there(output), ORIGIN)


def there(output: Storage) -> list[Span]:
    return listing(output)[SHARD]


def at(output: Storage, start: int) -> Span:
    """The checkpoint that begins at a row."""
    (found,) = [span for span in there(output) if span.start == start]
    return found


def names(output: Storage) -> list[str]:
    return [info.name for info in output.list()]


def test_what_was_saved_is_what_a_resume_finds() -> None:
    output = MemoryStorage()
    first = save(output, NOTHING, 4)
    assert (first.rows, first.counts, first.bad_waiting) == (4, RowCounts(4, 4), None)
    second = save(output, first, 8, bad=True)
    assert (second.rows, second.counts) == (8, RowCounts(8, 7, 0, 1))
    assert [segment.name for segment in second.segments] == [
        at(output, 0).name,
        at(output, 4).name,
    ]
    (letters,) = second.bad_segments
    assert replace(at(output, 4), digest=letters.footer_xxh3).bad_name == letters.name
    assert sum(batch.num_rows for batch in second.waiting.batches) == 6
    assert second.bad_waiting is not None
    assert [batch.num_rows for batch in second.bad_waiting.batches] == [1]


def test_progress_is_told_from_the_listing_alone() -> None:
    output = MemoryStorage()
    for name in (span(0, 4).name, span(4, 8).name, span(4, 8).bad_name, span(9, 12).name):
        output.create(name, b"never opened")
    output.create("_shardscore/checkpoints/stray.txt", b"")
    assert in_progress(output) == {SHARD: 8}


HARMS: dict[str, dict[str, Any]] = {
    "another job": {"origin": replace(ORIGIN, fingerprint="e" * 64)},
    "another input": {"origin": replace(ORIGIN, input={"name": SHARD, "size": 10})},
    "another version": {"origin": replace(ORIGIN, versions={"tensorflow": "3"})},
    "another span": {"start": 3},
    "another format": {"format": 1},
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_checkpoint_of_something_else_ends_the_way_and_stays(harm: str) -> None:
    output = MemoryStorage()
    first = save(output, NOTHING, 4)
    before = len(names(output))
    assert save(output, first, 8, **HARMS[harm]) == first
    # Of another format it cannot be read; else its writer may be at work.
    assert len(names(output)) == before + (harm != "another format")


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda _data: b"", id="empty"),
        pytest.param(lambda data: data[:-5], id="cut"),
        pytest.param(lambda _data: b"PAR1" * 9, id="not Parquet"),
        pytest.param(lambda data: data[:-20] + bytes([data[-20] ^ 1]) + data[-19:], id="flipped"),
    ],
)
@pytest.mark.parametrize("bad", [False, True], ids=["predictions", "dead letters"])
def test_a_damaged_checkpoint_is_taken_away(harm: Callable[[bytes], bytes], bad: bool) -> None:
    output = MemoryStorage()
    first = save(output, NOTHING, 4)
    second = save(output, first, 8, bad=True)
    name = second.bad_segments[0].name if bad else second.segments[1].name
    output.replace(name, harm(output.read(name)))
    assert resume(output, there(output), ORIGIN) == first
    assert [span.start for span in there(output)] == [0]


def test_each_flipped_bit_of_a_footer_is_found() -> None:
    output = MemoryStorage()
    save(output, NOTHING, 4)
    name = at(output, 0).name
    data = output.read(name)
    spans = there(output)
    for place in range(len(data) - 400, len(data)):
        output.replace(name, data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        assert resume(output, spans, ORIGIN) == NOTHING, place


def test_checkpoints_of_several_writers_are_followed_in_any_mixture() -> None:
    output = MemoryStorage()
    first = save(output, NOTHING, 4)
    save(output, NOTHING, 3)
    assert save(output, first, 9).rows == 9


def test_a_checkpoint_that_is_gone_meanwhile_ends_the_way() -> None:
    output = MemoryStorage()
    first = save(output, NOTHING, 4)
    save(output, first, 8)
    spans = there(output)
    output.delete(at(output, 4).name)
    assert resume(output, spans, ORIGIN) == first


def test_storage_that_fails_is_no_reason_to_take_a_checkpoint_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = MemoryStorage()
    save(output, NOTHING, 4)
    spans = there(output)

    def fails(name: str) -> Any:
        raise StorageError("no answer", path=name)

    monkeypatch.setattr(output, "open_input", fails)
    with pytest.raises(StorageError, match="no answer"):
        resume(output, spans, ORIGIN)
    assert there(output) == spans


def test_clearing_a_shard_leaves_those_of_others_alone() -> None:
    output = MemoryStorage()
    save(output, NOTHING, 4, bad=True)
    others = [f"{FOLDER}/{SHARD}.parquet/x", f"{FOLDER}/b.parquet/x"]
    for name in others:
        output.create(name, b"")
    checkpoints.clear(output, SHARD)
    assert sorted(names(output)) == sorted(others)


def test_a_sweep_takes_those_of_published_shards_alone() -> None:
    output = MemoryStorage()
    save(output, NOTHING, 4, bad=True)
    kept = f"{FOLDER}/b.parquet/{'0' * 12}-{'0' * 11}4.{'0' * 32}.parquet"
    output.create(kept, b"")
    assert checkpoints.sweep(output, {SHARD}) == 2
    assert names(output) == [kept]
