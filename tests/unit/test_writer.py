"""The files of a shard: what is in them, when they get their names, and who wins."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import checkpoints, segments
from pipeline.checkpoints import Resumed
from pipeline.errors import (
    AlreadyExistsError,
    ChangedInputError,
    CheckpointError,
    ContractError,
    OutputMismatchError,
    ScoringError,
    ShardscoreError,
    StorageError,
    TooManyBadRowsError,
)
from pipeline.footer import Provenance, data_digest
from pipeline.quarantine import FOLDER, dead_letter_name
from pipeline.records import BadRow, RowCounts
from pipeline.sketch import SKETCH_KEY, PredictionSketch
from pipeline.spans import FOLDER as CHECKPOINTS
from pipeline.spans import listing
from pipeline.storage.memory import MemoryStaged, MemoryStorage
from pipeline.writer import ShardWriter, name_all
from tests.unit.conftest import parquet_bytes, shard
from tests.unit.outputs import letters, noted, rows
from tests.unit.scoring_of import NAME, VERSIONS, Writing

NOTE = b"shardscore.checkpoint"
LETTERS = f"_shardscore/quarantine/{NAME}"
FEW_GROUPS = 3
"""Rows of a row group, in the tests in which a shard has several."""


@pytest.fixture
def output() -> MemoryStorage:
    return MemoryStorage("memory://out")


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "row_group_rows", lambda _schema: FEW_GROUPS)


def text(error: ShardscoreError) -> dict[str, Any]:
    return {"message": error.message, **error.facts}


# What is in the files


@pytest.mark.parametrize("policy", ["fail", "null", "quarantine"])
@pytest.mark.parametrize("bad", [(), (2, 5, 9), range(10)], ids=["none", "some", "all"])
def test_each_row_has_its_outcome_in_order(
    output: MemoryStorage, policy: str, bad: tuple[int, ...]
) -> None:
    writing = Writing(output, policy=policy, bad=() if policy == "fail" else bad)
    assert writing.whole() == ("published", writing.counts)
    assert writing.read(NAME).equals(writing.expected)
    with_letters = policy == "quarantine" and len(bad) > 0
    assert writing.names == [LETTERS, NAME][not with_letters :]
    if with_letters:
        assert writing.read(LETTERS).equals(writing.expected_letters)


def test_rows_that_have_a_nan_are_counted_of_all_batches(output: MemoryStorage) -> None:
    assert Writing(output).whole()[1].nonfinite == 1


def test_a_published_file_says_whose_it_is_and_proves_its_data(output: MemoryStorage) -> None:
    writing = Writing(output, bad=[2])
    writing.whole()
    target = writing.target()
    note = Provenance(
        fingerprint=target.fingerprint,
        model_sha256="a" * 64,
        code_sha256="c" * 64,
        input=writing.shard.identity,
        counts=RowCounts(10, 9, 0, 1, 1),
        method="predict_on_batch",
        batch_size=4,
        data_xxh3=data_digest(output, NAME),
    )
    assert writing.note(NAME) == note
    # The dead letters' note is the same one, but for the digest of their own data.
    assert writing.note(LETTERS) == replace(note, data_xxh3=data_digest(output, LETTERS))


@pytest.mark.parametrize("policy", ["null", "quarantine"])
def test_a_published_file_says_what_its_predictions_look_like(
    output: MemoryStorage, policy: str
) -> None:
    writing = Writing(output, bad=[2, 5], policy=policy)
    writing.whole()
    predictions = writing.expected["prediction"].drop_null().combine_chunks()
    sketch = PredictionSketch(pa.schema([("prediction", pa.float32())]), 10)
    sketch.add(0, [predictions])
    told = pq.read_metadata(pa.BufferReader(output.read(NAME))).metadata
    assert told[SKETCH_KEY].decode() == sketch.encoded()


def test_of_a_big_shard_those_rows_are_looked_at_that_its_size_and_their_places_say(
    output: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.sketch.MOST_ROWS", 2)
    writing = Writing(output, table=rows(30), bad=[0, 1, 2, 13])
    writing.whole()
    predictions = writing.expected["prediction"].combine_chunks()
    sketch = PredictionSketch(pa.schema([("prediction", pa.float32())]), 30)
    sketch.add(0, [predictions])
    told = pq.read_metadata(pa.BufferReader(output.read(NAME))).metadata
    assert told[SKETCH_KEY].decode() == sketch.encoded()


def test_the_first_bad_row_is_known(output: MemoryStorage) -> None:
    writing = Writing(output, bad=[5, 6, 9])
    with writing.writer() as writer:
        assert writer.first_bad is None
        for scored in writing.batches():
            writer.write(scored)
        assert writer.first_bad == BadRow(5, "x", "bad 5")


def test_only_kept_columns_travel_along_however_many_were_read(output: MemoryStorage) -> None:
    writing = Writing(output)
    writing.whole()
    assert writing.read(NAME).column_names == ["id", "name", "prediction"]


# What is refused


def test_a_batch_out_of_its_place_is_refused(output: MemoryStorage) -> None:
    writing = Writing(output)
    with writing.writer() as writer:
        writer.write(writing.batch(0, 4))
        with pytest.raises(ScoringError) as caught:
            writer.write(writing.batch(8, 2))
        assert writer.checkpoint() is None  # what was written last is not whole
    assert text(caught.value) == {
        "message": "a batch is out of its place",
        "path": "/lake/d=1/a.parquet",
        "expected": "row 4",
        "received": "row 8",
    }


def test_a_shard_of_which_rows_are_missing_is_not_published_and_begins_again(
    output: MemoryStorage,
) -> None:
    writing = Writing(output)
    output.create(f"{CHECKPOINTS}/other.parquet/x", b"")
    with writing.writer() as writer:
        for scored in writing.batches(0, 8):
            writer.write(scored)
        assert writer.checkpoint() == 8
        with pytest.raises(ScoringError) as caught:
            writer.commit()
    assert text(caught.value) == {
        "message": "rows are not accounted for; nothing was published",
        "path": "/lake/d=1/a.parquet",
        "expected": "10 rows",
        "received": str(RowCounts(8, 8, 0, 0, 1)),
    }
    assert writing.names == [f"{CHECKPOINTS}/other.parquet/x"]


def test_a_row_without_an_outcome_keeps_a_shard_from_being_published(
    output: MemoryStorage,
) -> None:
    writing = Writing(output)
    unbalanced = Resumed(rows=4, counts=RowCounts(4, 3))
    with writing.writer(resumed=unbalanced) as writer:
        for scored in writing.batches(4):
            writer.write(scored)
        with pytest.raises(ScoringError, match="not accounted for"):
            writer.commit()
    assert writing.names == []


def test_one_bad_row_too_many_ends_the_writing_and_is_never_saved(output: MemoryStorage) -> None:
    writing = Writing(output, bad=[1, 2, 5])
    with writing.writer(most_bad=2) as writer:
        writer.write(writing.batch(0, 4))
        with pytest.raises(TooManyBadRowsError) as caught:
            writer.write(writing.batch(4, 4))
        assert writer.checkpoint() is None
    assert caught.value.path == "/lake/d=1/a.parquet"
    assert (caught.value.expected or "").startswith("at most 2 of 10 rows")
    assert (caught.value.received or "").startswith("3 bad rows")
    assert writing.names == []


def test_bad_rows_of_checkpoints_count_before_anything_is_read(output: MemoryStorage) -> None:
    writing = Writing(output, bad=[1, 2])
    writing.saved(8)
    with pytest.raises(TooManyBadRowsError):
        writing.resumed(most_bad=1)


def test_a_column_that_arrow_cannot_filter_is_named_by_its_shard(output: MemoryStorage) -> None:
    table = rows(10)
    table = table.set_column(2, "name", table["name"].cast(pa.string_view()))
    writing = Writing(output, table=table, bad=[1], policy="quarantine")
    with writing.writer() as writer, pytest.raises(ContractError) as caught:
        writer.write(writing.batch(0, 4))
    assert caught.value.path == "/lake/d=1/a.parquet"


class Forgetful(MemoryStorage):
    """A disk that keeps something else of a file than was written."""

    def __init__(self, kept: Callable[[bytes], bytes]) -> None:
        super().__init__("memory://out")
        self.kept = kept

    def stage(self, name: str) -> MemoryStaged:
        staged = super().stage(name)
        write, kept = staged.write, self.kept
        staged.write = lambda data: write(kept(data))  # type: ignore[method-assign]
        return staged


def rewritten(data: bytes, rows: int, changes: dict[bytes, bytes]) -> bytes:
    """A Parquet file's first rows, and its metadata with something else in it."""
    file = pq.ParquetFile(pa.BufferReader(data))
    metadata = {**file.metadata.metadata, **changes}
    kept = {key: value for key, value in metadata.items() if value and key != b"ARROW:schema"}
    return parquet_bytes(file.read().slice(0, rows).replace_schema_metadata(kept))


@pytest.mark.parametrize(
    ("kept", "changes"),
    [
        (9, {}),
        (10, {b"shardscore": b""}),
        (10, {b"shardscore": b"another note"}),
        (10, {SKETCH_KEY: b""}),
    ],
    ids=["rows", "no note", "another note", "no sketch"],
)
def test_a_staged_file_that_reads_back_otherwise_is_not_published(
    kept: int, changes: dict[bytes, bytes]
) -> None:
    output = Forgetful(lambda data: rewritten(data, kept, changes))
    with pytest.raises(ScoringError) as caught:
        Writing(output).whole()
    assert text(caught.value) == {
        "message": "the staged file reads back otherwise than it was written",
        "path": f"memory://out/{NAME}",
        "expected": "10 rows",
        "received": f"{kept} rows",
    }
    assert [*output.list()] == []


def test_a_staged_file_need_not_hold_the_rows_that_are_quarantined() -> None:
    output = Forgetful(lambda data: rewritten(data, 10, {}))
    writing = Writing(output, bad=[1])
    assert writing.whole()[0] == "published"


def test_a_staged_file_that_is_gone_is_a_failure_of_the_storage(output: MemoryStorage) -> None:
    class Losing(MemoryStorage):
        def stage(self, name: str) -> MemoryStaged:
            staged = super().stage(name)
            staged.write = lambda _data: staged.path.unlink()  # type: ignore[method-assign]
            return staged

    with pytest.raises(StorageError) as caught:
        Writing(Losing("memory://out")).whole()
    assert caught.value.path == f"memory://out/{NAME}"


# Checkpoints


def saves(bad: tuple[int, ...] = (), policy: str = "quarantine") -> Any:
    return pytest.param(bad, policy, id=f"{policy}-{len(bad)}")


@pytest.mark.parametrize("ends", [(4,), (4, 8), (8,), (4, 8, 12, 16)], ids=str)
@pytest.mark.parametrize(
    ("bad", "policy"), [saves(), saves((2, 9)), saves((13,)), saves((2, 9, 13), "null")]
)
@pytest.mark.usefixtures("small_groups")
def test_a_shard_that_is_continued_becomes_the_same_bytes(
    output: MemoryStorage, ends: tuple[int, ...], bad: tuple[int, ...], policy: str
) -> None:
    undisturbed = Writing(MemoryStorage(), rows(17), bad, policy)
    undisturbed.whole()
    writing = Writing(output, rows(17), bad, policy)
    writing.saved(*ends)
    assert NAME not in writing.names
    assert writing.resumed() == ("published", writing.counts)
    assert writing.names == undisturbed.names  # the checkpoints are gone
    for name in writing.names:
        assert output.read(name) == undisturbed.output.read(name)


def test_a_checkpoint_says_how_the_shard_stood(output: MemoryStorage) -> None:
    writing = Writing(output, bad=[2, 5])
    writing.saved(4, 8)
    found = checkpoints.resume(output, listing(output)[NAME], writing.target().origin)
    assert found.rows == 8
    assert found.counts == RowCounts(8, 6, 0, 2)
    assert found.counts.nonfinite == 1
    first, second = sorted(listing(output)[NAME], key=lambda span: span.start)
    assert [(s.shard, s.start, s.end) for s in (first, second)] == [(NAME, 0, 4), (NAME, 4, 8)]
    assert [len(found.segments), len(found.bad_segments)] == [2, 2]
    told = [
        json.loads(pq.read_metadata(pa.BufferReader(output.read(segment.name))).metadata[NOTE])
        for segment in (found.segments[1], found.bad_segments[1])
    ]
    # The predictions' segment names that of the dead letters, which names none.
    assert [note.pop("bad") for note in told] == [found.bad_segments[1].footer_xxh3, ""]
    for note, segment in zip(told, (found.segments[1], found.bad_segments[1]), strict=True):
        assert (note["start"], note["end"], note["data_xxh3"]) == (4, 8, segment.data_xxh3)
    origin = writing.target().origin
    identity = writing.shard.identity
    assert origin.input == {**identity, "mtime_ns": 7}
    assert (origin.fingerprint, origin.versions) == (writing.target().fingerprint, VERSIONS)


def test_only_what_is_new_is_saved(output: MemoryStorage) -> None:
    writing = Writing(output)
    with writing.writer() as writer:
        assert writer.checkpoint() is None
        writer.write(writing.batch(0, 4))
        assert writer.checkpoint() == 4
        assert writer.checkpoint() is None
        writer.write(writing.batch(4, 4))
        assert writer.checkpoint() == 8
    far = checkpoints.resume(output, listing(output)[NAME], writing.target().origin)
    with writing.writer(resumed=far) as writer:
        assert writer.checkpoint() is None


def test_a_checkpoint_that_failed_is_followed_by_none(
    output: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise StorageError("the disk is full")

    writing = Writing(output)
    with writing.writer() as writer:
        writer.write(writing.batch(0, 4))
        with monkeypatch.context() as patched:
            patched.setattr(MemoryStaged, "publish", fails)
            with pytest.raises(StorageError, match="full"):
                writer.checkpoint()
        assert writer.checkpoint() is None
    assert writing.names == []


@pytest.mark.usefixtures("small_groups")
def test_a_checkpoint_that_is_gone_when_the_shard_is_joined_is_no_harm_if_another_has_published(
    output: MemoryStorage,
) -> None:
    writing = Writing(output, rows(17), bad=[2])
    writing.saved(8)
    with writing.writer(resumed=far_of(writing)) as writer:
        for scored in writing.batches(8):
            writer.write(scored)
        assert writing.resumed()[0] == "published"
        assert writer.commit() == ("already_published", writing.counts)


@pytest.mark.usefixtures("small_groups")
def test_a_checkpoint_that_is_damaged_when_the_shard_is_joined_goes_and_the_shard_fails(
    output: MemoryStorage,
) -> None:
    writing = Writing(output, rows(17))
    writing.saved(8, 16)
    damaged, sound = sorted(span.name for span in listing(output)[NAME])
    with writing.writer(resumed=far_of(writing)) as writer:
        for scored in writing.batches(16):
            writer.write(scored)
        output.replace(damaged, output.read(damaged)[:-9])
        with pytest.raises(CheckpointError) as caught:
            writer.commit()
    assert caught.value.path == f"memory://out/{damaged}"
    assert writing.names == [sound]


def far_of(writing: Writing) -> Resumed:
    return checkpoints.resume(
        writing.output, listing(writing.output)[NAME], writing.target().origin
    )


# Who wins


def test_of_two_writers_of_one_shard_the_second_finds_it_published(output: MemoryStorage) -> None:
    writing = Writing(output, bad=[2])
    writing.whole()
    before = output.info(NAME)
    assert writing.whole() == ("already_published", writing.counts)
    assert output.info(NAME) == before


def test_another_digest_of_the_same_rows_is_no_contradiction(output: MemoryStorage) -> None:
    writing = Writing(output)
    writing.whole()
    note = replace(writing.note(NAME), method="predict")
    output.replace(NAME, noted(writing.expected, note))
    assert writing.whole() == ("already_published", writing.counts)


@pytest.mark.parametrize("bad", [(), (2,)], ids=["all good", "some bad"])
def test_a_run_that_accounts_for_the_rows_otherwise_is_refused(
    output: MemoryStorage, bad: tuple[int, ...]
) -> None:
    Writing(output, bad=[5, 7]).whole()
    with pytest.raises(OutputMismatchError) as caught:
        Writing(output, bad=bad).whole()
    assert text(caught.value) == {
        "message": "another run of this job has accounted for the rows of the shard otherwise",
        "path": f"memory://out/{NAME}",
        "expected": str(RowCounts(10, 10 - len(bad), 0, len(bad), 1)),
        "received": str(RowCounts(10, 8, 0, 2, 1)),
        "hint": "is the model deterministic? compare the two runs' versions",
    }


def test_a_file_of_another_job_is_refused_and_stays(output: MemoryStorage) -> None:
    Writing(output, changes={"fingerprint": "e" * 64}).whole()
    before = output.read(NAME)
    writing = Writing(output)
    with pytest.raises(OutputMismatchError) as caught:
        writing.whole()
    assert caught.value.path == f"memory://out/{NAME}"
    assert caught.value.received == "a file of the job eeeeeeeeeeee"
    assert caught.value.expected == (
        f"nothing, or a file of the job {writing.target().fingerprint[:12]}"
    )
    assert output.read(NAME) == before


def test_a_file_that_is_not_ours_is_refused(output: MemoryStorage) -> None:
    output.create(NAME, parquet_bytes())
    with pytest.raises(OutputMismatchError) as caught:
        Writing(output).whole()
    assert caught.value.received == "a file that shardscore did not write, or that is damaged"


def test_a_file_of_another_version_of_the_shard_is_refused(output: MemoryStorage) -> None:
    other = shard(NAME, 10, size=999, schema=rows(1).schema)
    Writing(output, changes={"shard": other}).whole()
    with pytest.raises(ChangedInputError) as caught:
        Writing(output).whole()
    assert caught.value.path == "/lake/d=1/a.parquet"
    assert (caught.value.expected, caught.value.received) == ("size 999", "size 1000")


def test_a_name_that_was_taken_and_is_free_again_is_an_error_that_says_so(
    output: MemoryStorage,
) -> None:
    writing = Writing(output)
    output.create(NAME, b"")
    with writing.writer() as writer:
        for scored in writing.batches():
            writer.write(scored)
        writer.finish()
        assert not writer.name_alone()
        output.delete(NAME)
        with pytest.raises(AlreadyExistsError) as caught:
            writer.conclude(named=False)
    assert text(caught.value) == {
        "message": "something else had its name",
        "path": f"memory://out/{NAME}",
    }


def test_what_is_not_committed_leaves_nothing(output: MemoryStorage) -> None:
    writing = Writing(output, bad=[2])
    with writing.writer() as writer:
        for scored in writing.batches():
            writer.write(scored)
    assert writing.names == []


# The file of a shard that has changed


def changed(output: MemoryStorage) -> Writing:
    """A shard that was published from another version of it."""
    other = shard(NAME, 10, size=999, schema=rows(1).schema)
    Writing(output, changes={"shard": other}).whole()
    return Writing(output, changes={"replacing": output.info(NAME)})


def test_the_file_of_a_changed_shard_is_replaced(output: MemoryStorage) -> None:
    writing = changed(output)
    with writing.writer() as writer:
        for scored in writing.batches():
            writer.write(scored)
        writer.finish()
        assert writer.staged is None  # its publication is no plain creation
        assert writer.conclude(named=writer.name_alone()) == ("published", writing.counts)
    assert writing.note(NAME).input == writing.shard.identity


def test_the_file_of_a_changed_shard_that_another_run_has_replaced_is_let_be(
    output: MemoryStorage,
) -> None:
    writing = changed(output)
    writing.whole()
    before = output.info(NAME)
    assert writing.whole() == ("already_published", writing.counts)
    assert output.info(NAME) == before


def test_the_file_of_a_changed_shard_that_is_gone_is_not_made_anew(output: MemoryStorage) -> None:
    writing = changed(output)
    output.delete(NAME)
    with pytest.raises(AlreadyExistsError, match="something else had its name"):
        writing.whole()
    assert writing.names == []


# Dead letters that an earlier attempt has left


def left_over(output: MemoryStorage, bad: tuple[int, ...] = (1,)) -> bytes:
    """The dead letters of a run that was killed before its commit."""
    before = Writing(output, bad=bad)
    before.whole()
    output.delete(NAME)
    return output.read(LETTERS)


def test_left_over_dead_letters_are_replaced(output: MemoryStorage) -> None:
    left_over(output)
    writing = Writing(output, bad=[2, 9])
    assert writing.whole() == ("published", writing.counts)
    assert writing.read(LETTERS).equals(writing.expected_letters)
    assert len(writing.looked) == 1  # is the shard still what was read?


def test_left_over_dead_letters_that_change_meanwhile_are_not_replaced(
    output: MemoryStorage,
) -> None:
    left_over(output)
    other = Writing(MemoryStorage(), bad=[3], changes={"fingerprint": "e" * 64})
    other.whole()
    theirs = other.output.read(LETTERS)
    writing = Writing(output, bad=[2])
    with pytest.raises(OutputMismatchError, match="another job"):
        writing.whole(refuse_swapped=lambda: output.replace(LETTERS, theirs))
    assert output.read(LETTERS) == theirs
    assert writing.names == [LETTERS]


def test_left_over_dead_letters_go_once_a_shard_without_bad_rows_is_published(
    output: MemoryStorage,
) -> None:
    left_over(output)
    writing = Writing(output)
    with writing.writer() as writer:
        for scored in writing.batches():
            writer.write(scored)
        writer.finish()
        assert writing.names == [LETTERS]
        named = writer.name_alone()
        assert writing.names == [LETTERS, NAME]
        writer.conclude(named=named)
    assert writing.names == [NAME]
    assert len(writing.looked) == 1


def test_dead_letters_that_are_not_those_that_lay_there_stay(output: MemoryStorage) -> None:
    left_over(output)
    writing = Writing(output)
    with writing.writer() as writer:
        for scored in writing.batches():
            writer.write(scored)
        writer.finish()
        output.replace(LETTERS, b"of another one")
        writer.conclude(named=writer.name_alone())
    assert output.read(LETTERS) == b"of another one"


def test_left_over_dead_letters_that_are_gone_by_themselves_are_no_trouble(
    output: MemoryStorage,
) -> None:
    left_over(output)
    writing = Writing(output)
    with writing.writer() as writer:
        for scored in writing.batches():
            writer.write(scored)
        writer.finish()
        output.delete(LETTERS)
        assert writer.conclude(named=writer.name_alone())[0] == "published"


def test_left_over_dead_letters_stay_if_the_shard_was_not_named(output: MemoryStorage) -> None:
    left = left_over(output, bad=(1,))
    writing = Writing(output, bad=[])
    with writing.writer() as writer:
        for scored in writing.batches():
            writer.write(scored)
        writer.finish()
        Writing(output, policy="quarantine", changes={}).output.create(
            NAME, noted(writing.expected, writing_note(writing))
        )
        assert writer.conclude(named=writer.name_alone())[0] == "already_published"
    assert output.read(LETTERS) == left


def writing_note(writing: Writing) -> Provenance:
    other = Writing(MemoryStorage(), bad=writing.bad, policy=writing.policy)
    other.whole()
    return other.note(NAME)


def test_a_shard_without_dead_letters_is_not_looked_at_again(output: MemoryStorage) -> None:
    writing = Writing(output)
    writing.whole()
    assert writing.looked == []


def test_dead_letters_of_a_shard_that_another_has_published_are_not_touched(
    output: MemoryStorage,
) -> None:
    writing = Writing(output, bad=[2])
    writing.whole()
    before = output.info(LETTERS)
    assert writing.whole()[0] == "already_published"
    assert output.info(LETTERS) == before
    assert len(writing.looked) == 1


def test_a_shard_that_was_swapped_publishes_no_dead_letters(output: MemoryStorage) -> None:
    def swapped() -> None:
        raise ChangedInputError("the shard was swapped")

    writing = Writing(output, bad=[2], changes={"refuse_swapped": swapped})
    with pytest.raises(ChangedInputError, match="swapped"):
        writing.whole()
    assert writing.names == []


def test_a_policy_that_quarantines_nothing_looks_at_no_dead_letters(output: MemoryStorage) -> None:
    left = left_over(output)
    writing = Writing(output, bad=[2], policy="null")
    writing.whole()
    assert output.read(LETTERS) == left
    assert writing.looked == []


def faster(writing: Writing, **changes: Any) -> Callable[[], None]:
    """Another run that publishes its dead letters while this one looks at its shard again."""

    def publishes() -> None:
        Writing(MemoryStorage(), bad=writing.bad)
        other = Writing(writing.output, bad=writing.bad, changes=changes)
        with other.writer() as writer:
            for scored in other.batches():
                writer.write(scored)
            writer.finish()

    return publishes


def test_dead_letters_that_another_run_of_the_job_has_published_first_are_as_good(
    output: MemoryStorage,
) -> None:
    writing = Writing(output, bad=[2])
    there: list[Any] = []

    def races() -> None:
        faster(writing)()
        there.append(output.info(LETTERS))

    assert writing.whole(refuse_swapped=races) == ("published", writing.counts)
    assert output.info(LETTERS) == there[0]


def test_dead_letters_that_another_job_has_published_first_are_refused(
    output: MemoryStorage,
) -> None:
    writing = Writing(output, bad=[2])
    with pytest.raises(OutputMismatchError) as caught:
        writing.whole(refuse_swapped=faster(writing, fingerprint="e" * 64))
    assert caught.value.path == f"memory://out/{LETTERS}"
    assert caught.value.received == "a file of the job eeeeeeeeeeee"
    assert writing.target().fingerprint[:12] in (caught.value.expected or "")
    assert writing.names == [LETTERS]


def test_dead_letters_that_are_no_file_of_ours_are_refused(output: MemoryStorage) -> None:
    writing = Writing(output, bad=[2])
    with pytest.raises(OutputMismatchError) as caught:
        writing.whole(refuse_swapped=lambda: output.create(LETTERS, parquet_bytes()))
    assert caught.value.received == "a file that shardscore did not write, or that is damaged"


def test_dead_letters_of_another_version_of_the_shard_are_refused(output: MemoryStorage) -> None:
    writing = Writing(output, bad=[2])
    other = shard(NAME, 10, size=999, schema=writing.table.schema)
    with pytest.raises(ChangedInputError) as caught:
        writing.whole(refuse_swapped=faster(writing, shard=other))
    assert caught.value.path == "/lake/d=1/a.parquet"
    assert (caught.value.expected, caught.value.received) == ("size 999", "size 1000")


def test_dead_letters_are_those_of_the_shard_whatever_an_earlier_mending_left_in_it(
    output: MemoryStorage,
) -> None:
    mended = letters(rows(10), range(10)).combine_chunks()
    writing = Writing(output, table=mended, bad=[1, 8])
    writing.whole()
    found = writing.read(LETTERS)
    assert found.column_names == [*mended.column_names]
    assert found["quarantine_row"].to_pylist() == [1, 8]
    assert found["quarantine_reason"].to_pylist() == ["bad 1", "bad 8"]
    assert found["id"].to_pylist() == [1, 8]


def test_dead_letters_hold_all_columns_and_say_where_no_single_one_is_at_fault(
    output: MemoryStorage,
) -> None:
    table = rows(10)
    for name in ("p", "q"):
        table = table.append_column(name, pa.array([f"{name} {i}" for i in range(10)]))
    writing = Writing(output, table, bad=[1, 6], column=None)
    writing.whole()
    found = writing.read(LETTERS)
    assert found.select(table.column_names).equals(table.take([1, 6]))
    assert found["quarantine_column"].to_pylist() == [None, None]
    assert found.schema.types[-3:] == [pa.int64(), pa.string(), pa.string()]


def test_a_dead_letter_file_is_called_as_its_shard() -> None:
    assert dead_letter_name("d=1/a.parquet") == f"{FOLDER}/d=1/a.parquet" == LETTERS


# Several shards together


def test_shards_get_their_names_together_but_for_those_that_take_the_place_of_a_file(
    output: MemoryStorage,
) -> None:
    replacing = changed(output)
    fresh = [
        Writing(output, rows(5 + i), changes={"shard": shard(f"{i}", 5 + i)}) for i in range(3)
    ]
    together = [replacing, *fresh]
    writers: list[ShardWriter] = []
    for writing in together:
        writer = writing.writer()
        writer.__enter__()
        for scored in writing.batches():
            writer.write(scored)
        writer.finish()
        writers.append(writer)
    output.create("1", b"another was faster")
    assert name_all(output, writers) == [True, True, False, True]
    assert output.read("1") == b"another was faster"
    assert replacing.note(NAME).input == replacing.shard.identity
    for writer in writers:
        writer.__exit__(None, None, None)


@settings(max_examples=25)
@given(st.sets(st.integers(0, 11)), st.sampled_from(["null", "quarantine"]))
def test_whatever_rows_are_bad_the_counts_are_those_of_the_files(
    bad: set[int], policy: str
) -> None:
    writing = Writing(MemoryStorage(), rows(12), bad, policy)
    assert writing.whole() == ("published", writing.counts)
    assert writing.read(NAME).equals(writing.expected)
    if bad and policy == "quarantine":
        assert writing.read(LETTERS).equals(writing.expected_letters)
