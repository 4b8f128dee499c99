"""What every storage promises, tested on each of them.

Local disk, memory, and S3 twice: a real server, and a simulated one as a second opinion. They are
what `storage_at` gives, so object stores are tested with the retries that they have in a run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from pipeline.errors import (
    AlreadyExistsError,
    NotFoundError,
    ShardscoreError,
    UsageError,
    VersionChangedError,
)
from pipeline.storage import Storage, storage_at
from pipeline.storage.base import BLOCK
from pipeline.storage.memory import MemoryStorage

RACERS = 16


def _at(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if kind == "memory":
        return MemoryStorage()
    if kind == "local":
        return storage_at(str(tmp_path / "root"))
    return storage_at(request.getfixturevalue({"s3": "s3", "moto": "moto_s3"}[kind]))


@pytest.fixture(params=["local", "memory", "s3", "moto"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return _at(request.param, request, tmp_path)


def names(storage: Storage, prefix: str = "") -> list[str]:
    """What a listing shows; what is staged is shown too, where it lies in the storage."""
    return [info.name for info in storage.list(prefix)]


def publish(storage: Storage, name: str, data: bytes) -> None:
    with storage.stage(name) as staged:
        staged.path.write_bytes(data)
        staged.publish()


Creator = Callable[[Storage, str, bytes], None]


def create(storage: Storage, name: str, data: bytes) -> None:
    storage.create(name, data)


@pytest.fixture(params=[create, publish])
def creator(request: pytest.FixtureRequest) -> Creator:
    """The ways to make an object."""
    made: Creator = request.param
    return made


# Creating


def test_what_was_created_reads_back(storage: Storage, creator: Creator) -> None:
    creator(storage, "year=2013/a.parquet", b"abc")
    assert storage.read("year=2013/a.parquet") == b"abc"
    assert names(storage) == ["year=2013/a.parquet"]


def test_a_second_creator_gets_already_exists_and_leaves_nothing_behind(
    storage: Storage, creator: Creator
) -> None:
    storage.create("a", b"first")
    with pytest.raises(AlreadyExistsError) as caught:
        creator(storage, "a", b"second")
    assert caught.value.path == f"{storage.url}/a"
    assert storage.read("a") == b"first"
    assert names(storage) == ["a"]


def test_of_many_creators_at_once_one_wins(storage: Storage, creator: Creator) -> None:
    barrier = threading.Barrier(RACERS)

    def race(racer: int) -> bytes | ShardscoreError:
        data = b"%d" % racer * 1000
        barrier.wait()
        try:
            creator(storage, "folder/a", data)
        except ShardscoreError as error:
            return error
        return data

    with ThreadPoolExecutor(RACERS) as pool:
        results = list(pool.map(race, range(RACERS)))
    winners = [result for result in results if isinstance(result, bytes)]
    losers = [result for result in results if not isinstance(result, bytes)]
    assert [storage.read("folder/a")] == winners
    assert [type(error) for error in losers] == [AlreadyExistsError] * (RACERS - 1)
    assert names(storage) == ["folder/a"]


def test_an_empty_object_is_an_object(storage: Storage) -> None:
    storage.create("a", b"")
    assert storage.read("a") == b""
    with pytest.raises(AlreadyExistsError):
        storage.create("a", b"more")


# Staging


def test_what_is_staged_has_no_final_name_until_it_is_published(storage: Storage) -> None:
    with storage.stage("a") as staged:
        assert staged.path.read_bytes() == b""
        staged.path.write_bytes(b"half")
        assert "a" not in names(storage)
        with pytest.raises(NotFoundError):
            storage.read("a")
        staged.path.write_bytes(b"whole")
        staged.publish()
        assert storage.read("a") == b"whole"
    assert storage.read("a") == b"whole"
    assert not staged.path.exists()


def test_what_was_staged_and_not_published_is_gone(storage: Storage) -> None:
    with storage.stage("a") as staged:
        staged.path.write_bytes(b"abc")
    assert names(storage) == []
    assert not staged.path.exists()


def test_an_error_while_staging_discards(storage: Storage) -> None:
    with suppress(ZeroDivisionError), storage.stage("a") as staged:
        staged.path.write_bytes(b"abc")
        raise ZeroDivisionError
    assert names(storage) == []
    assert not staged.path.exists()


def test_two_can_stage_one_name_and_the_first_to_publish_has_it(storage: Storage) -> None:
    with storage.stage("a") as first, storage.stage("a") as second:
        first.path.write_bytes(b"first")
        second.path.write_bytes(b"second")
        second.publish()
        with pytest.raises(AlreadyExistsError):
            first.publish()
    assert storage.read("a") == b"second"
    assert names(storage) == ["a"]


def test_objects_published_together_each_have_their_name_or_are_told_that_it_was_taken(
    storage: Storage,
) -> None:
    storage.create("b/taken", b"first")
    wanted = ["a", "b/taken", "b/free", "year=2013/c", "b/last"]
    with ExitStack() as opened:
        staged = [opened.enter_context(storage.stage(name)) for name in wanted]
        for one, name in zip(staged, wanted, strict=True):
            one.write(name.encode() * 100)
        assert names(storage, "b") == ["b/taken"]
        assert list(storage.publish_all(staged)) == [True, False, True, True, True]
    for name in wanted:
        assert storage.read(name) == (b"first" if name == "b/taken" else name.encode() * 100)
    assert names(storage) == sorted(wanted)


def test_nothing_can_be_published_together(storage: Storage) -> None:
    assert list(storage.publish_all([])) == []
    assert names(storage) == []


def test_of_many_groups_published_at_once_each_name_has_one_winner(storage: Storage) -> None:
    barrier = threading.Barrier(4)
    wanted = [f"folder/{i}" for i in range(5)]

    def race(racer: int) -> list[bool]:
        with ExitStack() as opened:
            staged = [opened.enter_context(storage.stage(name)) for name in wanted]
            for one in staged:
                one.write(b"%d" % racer)
            barrier.wait()
            return list(storage.publish_all(staged))

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(race, range(4)))
    for i, name in enumerate(wanted):
        winners = [b"%d" % racer for racer in range(4) if results[racer][i]]
        assert winners == [storage.read(name)]
    assert names(storage) == sorted(wanted)


def test_a_staged_object_can_take_the_place_of_another(storage: Storage) -> None:
    for data in (b"first", b"second", b""):
        with storage.stage("folder/a") as staged:
            staged.path.write_bytes(data)
            staged.replace()
        assert storage.read("folder/a") == data
    assert names(storage) == ["folder/a"]


def test_a_staged_object_can_take_the_place_of_one_version_alone(storage: Storage) -> None:
    storage.create("folder/a", b"first")
    first = storage.info("folder/a")
    with storage.stage("folder/a") as staged:
        staged.path.write_bytes(b"the second")
        staged.replace(only_if=first)
    assert storage.read("folder/a") == b"the second"
    with storage.stage("folder/a") as staged:
        staged.path.write_bytes(b"a third")
        with pytest.raises(AlreadyExistsError) as caught:
            staged.replace(only_if=first)
    assert caught.value.path == f"{storage.url}/folder/a"
    assert storage.read("folder/a") == b"the second"
    assert names(storage) == ["folder/a"]


def test_what_is_gone_is_not_replaced_by_version(storage: Storage) -> None:
    storage.create("a", b"first")
    first = storage.info("a")
    storage.delete("a")
    with storage.stage("a") as staged:
        staged.path.write_bytes(b"second")
        with pytest.raises(AlreadyExistsError):
            staged.replace(only_if=first)
    assert names(storage) == []


def test_a_listing_and_an_object_tell_the_same_version(storage: Storage) -> None:
    storage.create("folder/a", b"first")
    (listed,) = storage.list()
    assert listed == storage.info("folder/a")
    assert listed.same_version(storage.info("folder/a"))
    storage.replace("folder/a", b"second")
    assert not listed.same_version(storage.info("folder/a"))


def test_an_opened_object_is_the_version_that_was_opened_or_says_that_it_changed(
    storage: Storage,
) -> None:
    old, new = b"o" * 3_000_000, b"n" * 3_000_000
    for change in (lambda: storage.replace("a", new), lambda: storage.delete("a")):
        storage.replace("a", old)
        with storage.open_input("a") as file:
            assert file.read(10) == old[:10]
            change()
            file.seek(1_000_000)
            with suppress(VersionChangedError):
                assert file.read() == old[1_000_000:]


@pytest.mark.parametrize("size", [1, BLOCK, 3 * BLOCK + 1])
def test_the_blocks_of_an_object_are_its_bytes_and_none_is_more_than_was_said(
    storage: Storage, size: int
) -> None:
    data = bytes(range(251)) * (size // 251) + b"x" * (size % 251)
    storage.create("folder/a", data)
    blocks = list(storage.blocks("folder/a"))
    assert b"".join(blocks) == data
    assert all(0 < len(block) <= BLOCK for block in blocks)


def test_blocks_are_of_the_version_whose_first_was_read_or_say_that_it_changed(
    storage: Storage,
) -> None:
    old, new = b"o" * 3_000_000, b"n" * 3_000_000
    for change in (lambda: storage.replace("a", new), lambda: storage.delete("a")):
        storage.replace("a", old)
        blocks = storage.blocks("a")
        first = next(blocks)
        change()
        with suppress(VersionChangedError):
            assert first + b"".join(blocks) == old


def test_a_claim_is_held_and_given_back(storage: Storage) -> None:
    for _ in range(2):
        with storage.hold("folder/a"):
            assert "folder/a" not in names(storage)


PUNCTUATION = ["100%", "a%20b", "a+b", "a#b", "a?b=c&d", "a*b[c]", "a'b\"c", "a~b^c`d", "-a"]
DOTS_AND_BLANKS = [
    "a b",
    " a ",
    "k=v/x=y z",
    "..a",
    "a..",
    ".a",
    "_a",
    "a|b{c}<d>",
    "a:b;c@d,e!f(g)$",
]
LETTERS = ["ü.parquet", "日本", "e\u0301", "n" * 255]


@pytest.mark.parametrize("name", [*PUNCTUATION, *DOTS_AND_BLANKS, *LETTERS])
def test_a_name_is_kept_to_the_letter(storage: Storage, name: str) -> None:
    assert storage.refuses(name) is None
    storage.create(f"{name}/{name}", b"created")
    publish(storage, f"{name}/b", b"published")
    assert names(storage) == sorted([f"{name}/b", f"{name}/{name}"])
    assert names(storage, name) == names(storage)
    assert storage.read(f"{name}/{name}") == b"created"
    with storage.open_input(f"{name}/b") as file:
        assert file.read() == b"published"
    assert storage.info(f"{name}/b").size == 9
    storage.delete(f"{name}/{name}")
    assert names(storage) == [f"{name}/b"]


# Replacing and deleting


def test_replace_creates_or_overwrites(storage: Storage) -> None:
    storage.replace("folder/a", b"a longer first")
    storage.replace("folder/a", b"second")
    assert storage.read("folder/a") == b"second"
    assert names(storage) == ["folder/a"]


def test_a_reader_never_sees_half_of_a_replacement(storage: Storage) -> None:
    size, rounds = 1 << 18, 40
    storage.replace("a", b"\0" * size)

    def write() -> None:
        for i in range(1, rounds):
            storage.replace("a", bytes([i]) * size)

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    while writer.is_alive():
        seen.append(storage.read("a"))
    writer.join()
    seen.append(storage.read("a"))
    assert {(len(data), len(set(data))) for data in seen} == {(size, 1)}
    assert seen[-1][0] == rounds - 1


def test_a_reader_never_sees_half_of_a_new_object(storage: Storage) -> None:
    data, rounds = b"x" * (1 << 18), 40

    def write() -> None:
        for i in range(rounds):
            storage.create(str(i), data)

    writer = threading.Thread(target=write)
    writer.start()
    for i in range(rounds):
        while True:
            with suppress(NotFoundError):
                assert storage.read(str(i)) == data
                break
            assert writer.is_alive() or str(i) in names(storage)
    writer.join()


def test_delete_removes_one_object_and_may_be_repeated(storage: Storage) -> None:
    storage.create("folder/a", b"abc")
    storage.create("folder/b", b"abc")
    storage.delete("folder/a")
    storage.delete("folder/a")
    storage.delete("never/was")
    assert names(storage) == ["folder/b"]
    with pytest.raises(NotFoundError):
        storage.read("folder/a")


def test_a_deleted_name_can_be_created_again(storage: Storage) -> None:
    storage.create("a", b"first")
    storage.delete("a")
    storage.create("a", b"second")
    assert storage.read("a") == b"second"


# Reading and listing


def test_an_object_is_read_at_random_places(storage: Storage) -> None:
    storage.create("a", b"0123456789")
    with storage.open_input("a") as file:
        assert file.size() == 10
        file.seek(7)
        assert file.read(2) == b"78"
        file.seek(0)
        assert file.read() == b"0123456789"


@pytest.mark.parametrize("name", ["a", "folder/a", "object/a", "object/folder/a"])
def test_what_is_not_there_is_not_found(storage: Storage, name: str) -> None:
    storage.create("object", b"abc")
    for read in (storage.read, storage.open_input, lambda name: list(storage.blocks(name))):
        with pytest.raises(NotFoundError) as caught:
            read(name)
        assert caught.value.path == f"{storage.url}/{name}"


def test_a_listing_is_sorted_by_whole_names(storage: Storage) -> None:
    created = ["b", "a/z", "a-b", "a.b", "a/b/c", "ab/x", "B"]
    for name in created:
        storage.create(name, b"")
    assert names(storage) == sorted(created)


def test_a_listing_tells_size_and_time(storage: Storage) -> None:
    storage.create("a", b"abc")
    (info,) = storage.list()
    assert info.size == 3
    assert abs(info.mtime_ns - time.time_ns()) < 60e9


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("a", ["a/b/c", "a/d"]),
        ("a/", ["a/b/c", "a/d"]),
        ("a/b", ["a/b/c"]),
        ("ab", ["ab/e"]),
        ("a/d", []),
        ("none", []),
    ],
)
def test_a_prefix_is_a_folder(storage: Storage, prefix: str, found: list[str]) -> None:
    for name in ("a/b/c", "a/d", "ab/e", "f"):
        storage.create(name, b"")
    assert names(storage, prefix) == found


def test_an_empty_storage_lists_nothing(storage: Storage) -> None:
    assert names(storage) == []
    assert storage.sweep() == 0


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../a", "a/../b", "./a", "/a", "/", "a//b", "a/", "a\0b"]
)
@pytest.mark.parametrize(
    "method", ["read", "info", "open_input", "create", "replace", "delete", "stage"]
)
def test_a_name_that_is_not_below_the_root_is_refused(
    storage: Storage, method: str, name: str
) -> None:
    data = (b"",) if method in {"create", "replace"} else ()
    with pytest.raises(UsageError):
        getattr(storage, method)(name, *data)
    assert storage.refuses(name) is not None
    assert names(storage) == []


@pytest.mark.parametrize("prefix", ["..", "a/../..", "{outside}"])
def test_a_listing_never_leaves_the_root(storage: Storage, tmp_path: Path, prefix: str) -> None:
    storage.create("a/b", b"")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").touch()
    found: list[str] = []
    with suppress(UsageError):
        found = names(storage, prefix.format(outside=outside))
    assert found == []
