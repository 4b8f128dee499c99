"""What a shard, its bad rows or its published file are refused for, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.bad_rows import refuse_too_many, refused
from pipeline.checkpoints import NOTHING
from pipeline.errors import ShardscoreError
from pipeline.plan import changed_input, foreign_output
from pipeline.records import BadRow
from pipeline.storage import LocalStorage
from pipeline.storage.memory import MemoryStorage
from tests.golden_texts import GOLDEN, assert_golden
from tests.unit.conftest import FINGERPRINT, note_of, shard
from tests.unit.scoring_of import NAME, Writing

Raised = Callable[[Path], object]


def raised(error: Callable[[], ShardscoreError]) -> Raised:
    def case(_folder: Path) -> None:
        raise error()

    return case


def whole(writing: Callable[[], Writing]) -> Raised:
    return lambda _folder: writing().whole()


def output() -> MemoryStorage:
    return MemoryStorage("memory://out")


def published(bad: list[int]) -> Writing:
    """A shard that another run has published, and of whose rows it has found some bad."""
    there = output()
    Writing(there, bad=[5, 7]).whole()
    return Writing(there, bad=bad)


def out_of_place(_folder: Path) -> None:
    writing = Writing(output())
    with writing.writer() as writer:
        writer.write(writing.batch(8, 2))


def too_few_rows(_folder: Path) -> None:
    writing = Writing(output())
    with writing.writer() as writer:
        writer.write(writing.batch(0, 4))
        writer.commit()


def name_taken_and_free_again(_folder: Path) -> None:
    writing = Writing(output(), changes={"resumed": NOTHING})
    with writing.writer() as writer:
        for scored in writing.batches():
            writer.write(scored)
        writer.finish()
        writer.conclude(named=False)


def published_twice(folder: Path) -> None:
    local = LocalStorage(folder)
    local.create(NAME, b"first")
    local.create(NAME, b"second")


def replaced_meanwhile(folder: Path) -> None:
    local = LocalStorage(folder)
    local.create(NAME, b"first")
    first = local.info(NAME)
    local.replace(NAME, b"the second")
    with local.stage(NAME) as staged:
        staged.write(b"a third")
        staged.replace(only_if=first)


LETTERS = pa.schema([("x", pa.float32()), ("quarantine_row", pa.int64())])

CASES: dict[str, Raised] = {
    "file_of_another_job": raised(
        lambda: foreign_output("/out/a.parquet", note_of(shard(), "0123456789ab" * 5), FINGERPRINT)
    ),
    "file_of_no_job": raised(lambda: foreign_output("/out/a.parquet", None, FINGERPRINT)),
    "file_where_nothing_was_expected": raised(lambda: foreign_output("/out/a.parquet", None, "")),
    "changed_shard": raised(
        lambda: changed_input(shard(rows=11, size=1001), note_of(shard("a.parquet")))
    ),
    "changed_shard_of_which_less_is_known": raised(
        lambda: changed_input(shard(), replace(note_of(shard()), input={"name": "a.parquet"}))
    ),
    "dead_letters_in_the_place_of_their_shard": raised(
        lambda: changed_input(replace(shard(rows=3), schema=LETTERS), note_of(shard(rows=100)))
    ),
    "changed_dead_letters_that_were_scored_as_a_shard": raised(
        lambda: changed_input(replace(shard(size=9), schema=LETTERS), note_of(shard()))
    ),
    "too_many_bad_rows": lambda _: refuse_too_many(shard(rows=12_345), 1_001, 1_000),
    "bad_row": raised(lambda: refused(shard(), BadRow(7, "x", "null"))),
    "bad_row_of_no_column": raised(lambda: refused(shard(), BadRow(7, None, "it raised"))),
    "batch_out_of_place": out_of_place,
    "rows_not_accounted_for": too_few_rows,
    "rows_accounted_for_otherwise": whole(lambda: published([2])),
    "name_taken_and_free_again": name_taken_and_free_again,
    "name_taken": published_twice,
    "replaced_meanwhile": replaced_meanwhile,
}


@pytest.mark.parametrize("case", CASES)
def test_a_refusal_says_which_file_and_what_is_wrong(case: str, tmp_path: Path) -> None:
    with pytest.raises(ShardscoreError) as caught:
        CASES[case](tmp_path)
    assert caught.value.path
    assert_golden(f"publishing/{case}", str(caught.value).replace(str(tmp_path), "/out"))


def test_each_golden_text_has_its_case() -> None:
    assert {path.stem for path in (GOLDEN / "publishing").glob("*.txt")} == set(CASES)


def test_a_bad_row_that_fails_its_shard_says_where_it_is() -> None:
    error = refused(shard(), BadRow(7, "x", "null"))
    assert (error.path, error.column, error.row) == ("/lake/a.parquet", "x", 7)


# What a disk refuses before it is tried


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("folder/" + "n" * 256, "a part of it has 256 bytes, and a disk holds 255 at most"),
        ("ü" * 128, "a part of it has 256 bytes, and a disk holds 255 at most"),
        ("/".join(["n" * 7] * 512), "its path has 4100 bytes, and a disk holds 4095 at most"),
    ],
)
def test_a_name_that_is_too_long_is_refused_with_its_length(name: str, words: str | None) -> None:
    assert LocalStorage("/out").refuses(name) == words


@pytest.mark.parametrize("root", ["/", "/ü"])
def test_the_length_of_a_path_is_in_bytes_and_counts_its_root(root: str) -> None:
    room = 4095 - len(root.rstrip("/").encode()) - 1
    name = ("n" * 199 + "/") * 30
    assert LocalStorage(root).refuses(name[:room]) is None
    assert LocalStorage(root).refuses(name[: room + 1]) == (
        "its path has 4096 bytes, and a disk holds 4095 at most"
    )
