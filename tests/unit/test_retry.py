"""Retries: what is tried again, for how long, and what is looked at first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from pipeline.errors import (
    AlreadyExistsError,
    NotFoundError,
    ShardscoreError,
    StorageError,
    UnavailableError,
    VersionChangedError,
)
from pipeline.storage.base import ObjectInfo, Staged
from pipeline.storage.memory import MemoryStorage
from pipeline.storage.retry import Patience, Retrying


class Faulty(MemoryStorage):
    """A storage that does as a script says, one line a call: `lost` does what it is asked, and its
    answer is lost; `down` does nothing; an error is raised. After the script it works."""

    def __init__(self, *script: str | Exception) -> None:
        super().__init__("faulty://lake")
        self.script = list(script)
        self.calls: list[str] = []

    def scripted(self, call: str, act: Callable[[], Any]) -> Any:
        self.calls.append(call)
        line = self.script.pop(0) if self.script else "works"
        if isinstance(line, Exception):
            raise line
        if line == "down":
            raise UnavailableError("no answer")
        done = act()
        if line == "lost":
            raise UnavailableError("no answer")
        return done

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        found = [*MemoryStorage.list(self, prefix)]
        yield from found[:1]
        self.scripted("list", lambda: None)
        yield from found[1:]

    def info(self, name: str) -> ObjectInfo:
        return self.scripted("info", lambda: MemoryStorage.info(self, name))

    def read(self, name: str) -> bytes:
        return self.scripted("read", lambda: MemoryStorage.read(self, name))

    def create(self, name: str, data: bytes) -> None:
        self.scripted("create", lambda: MemoryStorage.create(self, name, data))

    def replace(self, name: str, data: bytes) -> None:
        self.scripted("replace", lambda: MemoryStorage.replace(self, name, data))

    def replace_only(self, name: str, data: bytes, only_if: ObjectInfo) -> None:
        self.scripted("replace", lambda: MemoryStorage.replace_only(self, name, data, only_if))

    def delete(self, name: str) -> None:
        self.scripted("delete", lambda: MemoryStorage.delete(self, name))

    def open_input(self, name: str) -> pa.NativeFile:
        data = self.scripted("open", lambda: MemoryStorage.open_input(self, name)).read()
        return pa.PythonFile(FaultyFile(self, data), mode="r")


class FaultyFile:
    """A file of a faulty storage."""

    closed = False

    def __init__(self, storage: Faulty, data: bytes) -> None:
        self._storage = storage
        self._data = data
        self._at = 0

    def read(self, size: int) -> bytes:
        data = self._data[self._at : self._at + size]
        answer = self._storage.scripted("range", lambda: data)
        self._at += len(data)
        return answer

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + {0: 0, 1: self._at, 2: len(self._data)}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self.closed = True


class Sleeper:
    """A clock that runs only while one sleeps."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def now(self) -> float:
        return sum(self.pauses)


@pytest.fixture
def sleeper() -> Sleeper:
    return Sleeper()


@pytest.fixture
def retrying(sleeper: Sleeper) -> Callable[[Faulty], Retrying]:
    patience = Patience(sleep=sleeper.sleep, clock=sleeper.now, jitter=lambda: 0.5)
    return lambda storage: Retrying(storage, patience)


Wrap = Callable[[Faulty], Retrying]


def calls(storage: Faulty) -> str:
    return " ".join(storage.calls)


def put(storage: Faulty, name: str, data: bytes) -> None:
    """What someone else has written: it is no line of the script."""
    MemoryStorage.replace(storage, name, data)


def there(storage: Faulty, name: str) -> bytes:
    return MemoryStorage.read(storage, name)


# How often, and what


def test_what_works_is_asked_once(retrying: Wrap, sleeper: Sleeper) -> None:
    storage = Faulty()
    retrying(storage).create("a", b"abc")
    assert retrying(storage).read("a") == b"abc"
    assert calls(storage) == "create read"
    assert sleeper.pauses == []


def test_pauses_grow_and_the_sixth_try_is_the_last(retrying: Wrap, sleeper: Sleeper) -> None:
    storage = Faulty(*["down"] * 100)
    with pytest.raises(UnavailableError):
        retrying(storage).read("a")
    assert storage.calls == ["read"] * 6
    assert sleeper.pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2])


def test_no_try_begins_after_the_time_is_up(sleeper: Sleeper) -> None:
    storage = Faulty(*["down"] * 100)
    patience = Patience(100, 30, sleeper.sleep, lambda: 0.5, sleeper.now)
    with pytest.raises(UnavailableError):
        Retrying(storage, patience).read("a")
    assert 20 < sum(sleeper.pauses) <= 30
    assert max(sleeper.pauses) <= 10


def test_pauses_are_spread_so_that_workers_do_not_return_together(sleeper: Sleeper) -> None:
    for random, pause in ((0.0, 0.1), (1.0, 0.3)):
        patience = Patience(2, 30, sleeper.sleep, lambda random=random: random, sleeper.now)
        with pytest.raises(UnavailableError):
            Retrying(Faulty("down", "down"), patience).read("a")
        assert sleeper.pauses.pop() == pytest.approx(pause)


ASKS: dict[str, Callable[[Retrying], Any]] = {
    "list": lambda storage: [info.name for info in storage.list()],
    "info": lambda storage: storage.info("a").size,
    "read": lambda storage: storage.read("a"),
    "open": lambda storage: storage.open_input("a").read(),
    "replace": lambda storage: storage.replace("a", b"abc"),
    "delete": lambda storage: storage.delete("a"),
}


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("fault", ["down", "lost"])
def test_what_changes_nothing_by_being_repeated_is_repeated(
    retrying: Wrap, ask: str, fault: str
) -> None:
    quiet, storage = Faulty(), Faulty(fault, fault)
    for one in (quiet, storage):
        put(one, "a", b"abc")
        put(one, "b", b"abc")
    assert ASKS[ask](retrying(storage)) == ASKS[ask](retrying(quiet))
    assert storage.calls[:3] == [ask] * 3
    assert storage.calls[2:] == quiet.calls


@pytest.mark.parametrize(
    "error",
    [
        StorageError("access is denied"),
        NotFoundError("no such object"),
        AlreadyExistsError("already exists"),
        VersionChangedError("changed"),
    ],
)
@pytest.mark.parametrize("ask", ["read", "replace", "open", "list"])
def test_what_is_an_answer_is_not_asked_for_again(
    retrying: Wrap, sleeper: Sleeper, ask: str, error: ShardscoreError
) -> None:
    storage = Faulty(error)
    put(storage, "a", b"abc")
    with pytest.raises(type(error)) as caught:
        ASKS[ask](retrying(storage))
    assert caught.value is error
    assert storage.calls == [ask]
    assert sleeper.pauses == []


# Creating: the answer was lost


def publish(storage: Retrying, data: bytes) -> None:
    with storage.stage("a") as staged:
        staged.path.write_bytes(data)
        staged.publish()


def create(storage: Retrying, data: bytes) -> None:
    storage.create("a", data)


both_ways = pytest.mark.parametrize("way", [create, publish])


@both_ways
def test_a_create_that_was_done_though_its_answer_was_lost_is_a_success(
    retrying: Wrap, way: Callable[[Retrying, bytes], None]
) -> None:
    storage = Faulty("lost")
    way(retrying(storage), b"abc")
    assert there(storage, "a") == b"abc"
    assert storage.calls.count("create") == 1


@both_ways
def test_a_create_that_was_not_done_is_tried_again(
    retrying: Wrap, way: Callable[[Retrying, bytes], None]
) -> None:
    storage = Faulty("down", "works", "down")
    way(retrying(storage), b"abc")
    assert there(storage, "a") == b"abc"
    assert storage.calls.count("create") == 3


@both_ways
@pytest.mark.parametrize("theirs", [b"xyz", b"longer", b"", b"abcd"])
def test_another_writer_between_two_tries_has_the_name(
    retrying: Wrap, way: Callable[[Retrying, bytes], None], theirs: bytes
) -> None:
    storage = Faulty("down")
    put(storage, "a", theirs)
    with pytest.raises(AlreadyExistsError) as caught:
        way(retrying(storage), b"abc")
    assert caught.value.path == "faulty://lake/a"
    assert there(storage, "a") == theirs
    assert storage.calls.count("create") == 1


@both_ways
def test_the_same_bytes_of_another_writer_are_a_success_after_a_lost_answer(
    retrying: Wrap, way: Callable[[Retrying, bytes], None]
) -> None:
    storage = Faulty("down")
    put(storage, "a", b"abc")
    way(retrying(storage), b"abc")
    assert storage.calls.count("create") == 1


@both_ways
def test_the_same_bytes_of_another_writer_are_no_success_where_no_answer_was_lost(
    retrying: Wrap, way: Callable[[Retrying, bytes], None]
) -> None:
    storage = Faulty()
    put(storage, "a", b"abc")
    with pytest.raises(AlreadyExistsError):
        way(retrying(storage), b"abc")


@both_ways
def test_a_first_try_that_arrives_after_the_look_is_known_by_its_bytes(
    retrying: Wrap, way: Callable[[Retrying, bytes], None]
) -> None:
    storage = Faulty("down", NotFoundError("not yet"), AlreadyExistsError("now it is"))
    put(storage, "a", b"abc")
    way(retrying(storage), b"abc")
    assert there(storage, "a") == b"abc"


@both_ways
def test_a_look_that_fails_is_tried_again_before_anything_is_created(
    retrying: Wrap, way: Callable[[Retrying, bytes], None]
) -> None:
    storage = Faulty("lost", "down", "down")
    way(retrying(storage), b"abc")
    assert storage.calls.count("create") == 1


@both_ways
def test_an_outcome_that_stays_unknown_is_unavailable(
    retrying: Wrap, way: Callable[[Retrying, bytes], None]
) -> None:
    storage = Faulty(*["down"] * 100)
    with pytest.raises(UnavailableError):
        way(retrying(storage), b"abc")
    assert len(storage.calls) == 6


def test_a_published_file_is_compared_to_its_last_byte(retrying: Wrap) -> None:
    data = bytes(range(256)) * 10_000
    storage = Faulty("down")
    put(storage, "a", data[:-1] + b"\0")
    with pytest.raises(AlreadyExistsError):
        publish(retrying(storage), data)
    storage = Faulty("down")
    put(storage, "a", data)
    publish(retrying(storage), data)


# Replacing one version


def replace_first(storage: Faulty, wrap: Wrap, data: bytes) -> None:
    put(storage, "a", b"first")
    first = MemoryStorage.info(storage, "a")
    with wrap(storage).stage("a") as staged:
        staged.path.write_bytes(data)
        staged.replace(only_if=first)


def test_a_replacement_that_was_done_though_its_answer_was_lost_is_a_success(
    retrying: Wrap,
) -> None:
    storage = Faulty("lost")
    replace_first(storage, retrying, b"second")
    assert there(storage, "a") == b"second"
    assert storage.calls.count("replace") == 1


def test_a_replacement_that_was_not_done_is_tried_again(retrying: Wrap) -> None:
    storage = Faulty("down")
    replace_first(storage, retrying, b"second")
    assert there(storage, "a") == b"second"
    assert storage.calls.count("replace") == 2


def test_a_replacement_whose_object_another_replaced_is_refused(retrying: Wrap) -> None:
    storage = Faulty("down")
    put(storage, "a", b"old")
    old = MemoryStorage.info(storage, "a")
    put(storage, "a", b"theirs")
    staged: Staged
    with retrying(storage).stage("a") as staged:
        staged.path.write_bytes(b"second")
        with pytest.raises(AlreadyExistsError):
            staged.replace(only_if=old)
    assert there(storage, "a") == b"theirs"
    assert storage.calls.count("replace") == 1


# Reading


def test_each_read_of_an_opened_object_is_tried_again_at_its_own_place(retrying: Wrap) -> None:
    storage = Faulty("down", "works", "lost", "works", "down", "lost")
    put(storage, "a", b"0123456789")
    with retrying(storage).open_input("a") as file:
        assert file.size() == 10
        assert file.read(3) == b"012"
        assert file.tell() == 3
        assert file.read(4) == b"3456"
        file.seek(-2, 2)
        assert file.read() == b"89"
        assert file.read() == b""
    assert storage.script == []


def test_a_change_while_reading_comes_out_as_itself(retrying: Wrap) -> None:
    storage = Faulty("works", VersionChangedError("changed", path="faulty://lake/a"))
    put(storage, "a", b"0123456789")
    with retrying(storage).open_input("a") as file:
        with pytest.raises(VersionChangedError, match="changed"):
            file.read()
