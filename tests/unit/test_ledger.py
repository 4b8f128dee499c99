"""The ledger: the notes of published files, and plans, created once and read in pieces."""

from __future__ import annotations

import json
import threading
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from pipeline import ledger
from pipeline.errors import NotFoundError, StorageError
from pipeline.layout import plan_name
from pipeline.plan import listing, plan_id
from pipeline.storage import LocalStorage, Storage
from pipeline.storage.memory import MemoryStorage
from tests.unit.conftest import TABLE, note_of, parquet_bytes, shard
from tests.unit.outputs import noted

SHARDS = [shard(f"{i:03}.parquet", rows=i) for i in range(40)]


def publish(output: Storage, count: int) -> list[str]:
    """Files of ours, which each tell another shard."""
    for member in SHARDS[:count]:
        output.create(member.name, noted(TABLE, note_of(member)))
    return [member.name for member in SHARDS[:count]]


# Notes


def test_each_published_file_has_its_own_note() -> None:
    output = MemoryStorage("memory://out")
    names = publish(output, 40)[::-1]
    found = ledger.notes(output, iter(names))
    assert list(found) == names
    told = {name: note.input for name, note in found.items() if note is not None}
    assert told == {member.name: member.identity for member in SHARDS}


def test_a_file_that_is_not_ours_or_is_damaged_has_no_note() -> None:
    output = MemoryStorage("memory://out")
    (ours,) = publish(output, 1)
    output.create("theirs.parquet", parquet_bytes())
    output.create("empty.parquet", b"")
    output.create("cut.parquet", output.read(ours)[:-1])
    found = ledger.notes(output, ["theirs.parquet", ours, "empty.parquet", "cut.parquet"])
    assert [name for name, note in found.items() if note is not None] == [ours]
    assert len(found) == 4


def test_a_note_that_cannot_be_read_is_no_missing_note(monkeypatch: pytest.MonkeyPatch) -> None:
    output = MemoryStorage("memory://out")
    with pytest.raises(NotFoundError) as caught:
        ledger.notes(output, [*publish(output, 1), "gone.parquet"])
    assert caught.value.path == "memory://out/gone.parquet"

    def fails(name: str) -> Any:
        raise StorageError("no answer", path=name)

    monkeypatch.setattr(output, "open_input", fails)
    with pytest.raises(StorageError, match="no answer"):
        ledger.note(output, SHARDS[0].name)


def test_no_file_has_no_notes() -> None:
    assert ledger.notes(MemoryStorage(), []) == {}


def readers(output: Storage, names: list[str], monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The threads that open files while their notes are read."""
    seen: set[int] = set()
    real = output.open_input

    def opened(name: str) -> Any:
        seen.add(threading.get_ident())
        return real(name)

    monkeypatch.setattr(output, "open_input", opened)
    assert None not in ledger.notes(output, names).values()
    return seen


def test_files_at_hand_are_read_by_the_thread_that_asks_and_objects_by_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {threading.get_ident()}
    local = LocalStorage(tmp_path)
    assert readers(local, publish(local, 40), monkeypatch) == here  # just written: in memory
    remote = MemoryStorage("memory://out")
    others = readers(remote, publish(remote, 40), monkeypatch)
    assert not others & here
    assert 1 <= len(others) <= 8


# Plans


def test_a_plan_is_stored_under_the_digest_of_its_listing_and_reads_back() -> None:
    output = MemoryStorage("memory://out")
    name = ledger.freeze_plan(output, iter(SHARDS))
    assert name == plan_id(listing(SHARDS))
    assert output.read(plan_name(name)) == listing(SHARDS)
    assert list(ledger.read_plan(output, name)) == [member.identity for member in SHARDS]


def test_equal_listings_are_one_plan_and_others_are_others() -> None:
    output = MemoryStorage("memory://out")
    name = ledger.freeze_plan(output, SHARDS)
    before = output.info(plan_name(name))
    assert ledger.freeze_plan(output, SHARDS) == name
    assert output.info(plan_name(name)) == before
    assert ledger.freeze_plan(output, SHARDS[1:]) != name
    assert len([*output.list()]) == 2


def test_a_plan_that_could_not_be_stored_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    output = MemoryStorage("memory://out")

    def fails(name: str, _data: bytes) -> None:
        raise StorageError("the disk is full", path=name)

    monkeypatch.setattr(output, "create", fails)
    with pytest.raises(StorageError, match="full"):
        ledger.freeze_plan(output, SHARDS)


def test_a_plan_that_there_is_not_is_not_found() -> None:
    with pytest.raises(NotFoundError):
        list(ledger.read_plan(MemoryStorage("memory://out"), "0123456789abcdef"))


def test_a_plan_that_was_changed_is_found_out_at_its_end() -> None:
    output = MemoryStorage("memory://out")
    name = ledger.freeze_plan(output, SHARDS)
    output.replace(plan_name(name), listing(SHARDS[1:]))
    entries = ledger.read_plan(output, name)
    assert [*islice(entries, 39)] == [member.identity for member in SHARDS[1:]]
    with pytest.raises(ValueError, match="named for") as caught:
        next(entries)
    assert str(caught.value) == "a plan whose bytes are not those that it is named for"


def test_a_plan_is_read_a_piece_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    output = MemoryStorage("memory://out")
    name = ledger.freeze_plan(output, SHARDS)
    data, given = output.read(plan_name(name)), [0]

    def pieces(_name: str) -> Any:
        for start in range(0, len(data), 500):
            given[0] += 1
            yield data[start : start + 500]

    monkeypatch.setattr(output, "blocks", pieces)
    entries = ledger.read_plan(output, name)
    assert next(entries) == SHARDS[0].identity
    assert given[0] < 5 < len(data) // 500
    assert [entry["name"] for entry in entries] == [member.name for member in SHARDS[1:]]


def test_a_damaged_plan_is_an_error() -> None:
    output = MemoryStorage("memory://out")
    name = ledger.freeze_plan(output, SHARDS)
    output.replace(plan_name(name), json.dumps({"shards": 3}).encode())
    with pytest.raises((ValueError, TypeError, KeyError)):
        list(ledger.read_plan(output, name))
