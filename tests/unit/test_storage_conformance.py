"""What every storage promises, tested on each of them; then what only a local disk can break."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pipeline.errors import (
    AlreadyExistsError,
    NotFoundError,
    ShardscoreError,
    StorageError,
    UsageError,
)
from pipeline.storage import LocalStorage, Storage
from pipeline.storage.local import STAGING
from pipeline.storage.memory import MemoryStorage

ROOT = Path(__file__).resolve().parents[2]
RACERS = 16


@pytest.fixture
def local(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "root")


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return LocalStorage(tmp_path / "root") if request.param == "local" else MemoryStorage()


def names(storage: Storage, prefix: str = "") -> list[str]:
    """What a listing shows; what is staged on a local disk is shown too."""
    return [info.name for info in storage.list(prefix)]


def staged_files(storage: LocalStorage) -> list[Path]:
    return list((Path(storage.url) / STAGING).glob("*"))


def publish(storage: Storage, name: str, data: bytes) -> None:
    with storage.stage(name) as staged:
        staged.path.write_bytes(data)
        staged.publish()


Creator = Callable[[Storage, str, bytes], None]


def create(storage: Storage, name: str, data: bytes) -> None:
    storage.create(name, data)


by_either_way = pytest.mark.parametrize("creator", [create, publish])


# Creating


@by_either_way
def test_what_was_created_reads_back(storage: Storage, creator: Creator) -> None:
    creator(storage, "year=2013/a.parquet", b"abc")
    assert storage.read("year=2013/a.parquet") == b"abc"
    assert names(storage) == ["year=2013/a.parquet"]


@by_either_way
def test_a_second_creator_gets_already_exists_and_leaves_nothing_behind(
    storage: Storage, creator: Creator
) -> None:
    storage.create("a", b"first")
    with pytest.raises(AlreadyExistsError) as caught:
        creator(storage, "a", b"second")
    assert caught.value.path == f"{storage.url}/a"
    assert storage.read("a") == b"first"
    assert names(storage) == ["a"]


@by_either_way
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


def test_a_staged_object_can_take_the_place_of_another(storage: Storage) -> None:
    for data in (b"first", b"second"):
        with storage.stage("folder/a") as staged:
            staged.path.write_bytes(data)
            staged.replace()
        assert storage.read("folder/a") == data
    assert names(storage) == ["folder/a"]


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
    for read in (storage.read, storage.open_input):
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
@pytest.mark.parametrize("method", ["read", "open_input", "create", "replace", "delete", "stage"])
def test_a_name_that_is_not_below_the_root_is_refused(
    storage: Storage, method: str, name: str
) -> None:
    data = (b"",) if method in {"create", "replace"} else ()
    with pytest.raises(UsageError):
        getattr(storage, method)(name, *data)
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


# A local disk: what dead writers leave

HOLD = """
import sys, time
from pipeline.storage import LocalStorage
with LocalStorage(sys.argv[1]).stage("a") as staged:
    staged.path.write_bytes(b"half")
    print(staged.path, flush=True)
    time.sleep(60)
"""


@contextmanager
def another_writer(storage: LocalStorage) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that holds a staged file, and that file."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLD, storage.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_a_killed_writer_leaves_no_object_and_a_sweep_takes_its_staged_file(
    local: LocalStorage,
) -> None:
    with another_writer(local) as (process, left):
        process.kill()
        process.wait()
        assert left.read_bytes() == b"half"
        with pytest.raises(NotFoundError):
            local.read("a")
        assert local.sweep() == 1
        assert staged_files(local) == []
        assert local.sweep() == 0


def test_a_sweep_leaves_what_a_live_writer_holds(local: LocalStorage) -> None:
    with another_writer(local) as (_, theirs), local.stage("a") as ours:
        assert local.sweep() == 0
        assert theirs.exists()
        assert ours.path.exists()


def test_a_sweep_leaves_what_another_host_staged(local: LocalStorage) -> None:
    # Its locks do not show here, so nothing tells whether its writer is alive.
    with local.stage("a") as staged:
        ours = staged.path.name
    host, writer, suffix = ours.rsplit("-", 2)
    theirs = staged.path.with_name(f"{host}-2-{writer}-{suffix}")
    theirs.touch()
    assert local.sweep() == 0
    assert theirs.exists()


def test_a_sweep_touches_no_object(local: LocalStorage) -> None:
    local.create("a", b"abc")
    local.create("_shardscore/run.json", b"{}")
    assert local.sweep() == 0
    assert names(local) == ["_shardscore/run.json", "a"]


# A local disk: what can go wrong


def failing(storage: LocalStorage, name: str) -> StorageError:
    """The error of creating an object, which must be a failure and not a lost race."""
    with pytest.raises(StorageError) as caught:
        storage.create(name, b"abc")
    assert type(caught.value) is StorageError
    return caught.value


def test_a_root_below_a_file_is_a_storage_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = failing(LocalStorage(tmp_path / "file" / "root"), "a")
    assert "is a file" in (error.hint or "")
    assert str(tmp_path / "file") in (error.path or "")


@pytest.mark.parametrize("name", ["file/a", "file/folder/a"])
def test_a_name_below_a_file_is_a_storage_error_with_a_hint(local: LocalStorage, name: str) -> None:
    local.create("file", b"abc")
    error = failing(local, name)
    assert "is a file" in (error.hint or "")
    assert error.path == f"{local.url}/{name}"
    assert names(local) == ["file"]


def test_a_staging_folder_that_is_a_file_is_a_storage_error(local: LocalStorage) -> None:
    staging = Path(local.url) / STAGING
    staging.parent.mkdir(parents=True)
    staging.touch()
    failing(local, "a")


@pytest.mark.parametrize("name", ["n" * 300, "folder/" + "n" * 300, "n" * 300 + "/a"])
def test_a_name_too_long_for_the_disk_is_a_storage_error_with_a_hint(
    local: LocalStorage, name: str
) -> None:
    error = failing(local, name)
    assert "rename" in (error.hint or "")
    assert error.path == f"{local.url}/{name}"
    assert names(local) == []
    for read in (local.read, local.open_input):
        with pytest.raises(StorageError):
            read(name)


def test_the_longest_name_of_the_disk_can_be_published(local: LocalStorage) -> None:
    publish(local, "n" * 255, b"abc")
    assert names(local) == ["n" * 255]


SEALED = """
import os, sys
from pathlib import Path
from pipeline.errors import StorageError
from pipeline.storage import LocalStorage

storage = LocalStorage(sys.argv[1])
storage.create("sealed/a", b"abc")
for folder in (Path(sys.argv[1]), *Path(sys.argv[1]).rglob("*/")):
    folder.chmod(0o777)
(Path(sys.argv[1]) / "sealed").chmod(0o555)
if os.geteuid() == 0:  # the superuser heeds no permissions
    os.setegid(65534)
    os.seteuid(65534)
for act in (lambda: storage.create("sealed/b", b""), lambda: storage.delete("sealed/a")):
    try:
        act()
    except StorageError as error:
        print(error.hint)
print([info.name for info in storage.list()])
"""


def test_a_sealed_folder_is_a_storage_error_with_a_hint() -> None:
    # Not below tmp_path, which none but its owner may enter.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", SEALED, f"{folder}/out"], capture_output=True, text=True
        )
    hint = "check the permissions of the file and of the folders above it"
    assert done.stdout.splitlines() == [hint, hint, "['sealed/a']"], done.stderr


FILL = """
import resource, signal, sys
from pipeline.errors import StorageError
from pipeline.storage import LocalStorage
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
storage = LocalStorage(sys.argv[1])
try:
    storage.create("a", b"x" * 5000)
except StorageError as error:
    print(type(error).__name__, [info.name for info in storage.list()], error.path)
"""


def test_a_file_that_cannot_be_written_whole_is_not_there_at_all(local: LocalStorage) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILL, local.url],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.strip() == f"StorageError [] {local.url}/a", done.stderr


@pytest.mark.parametrize("method", ["create", "replace"])
def test_a_file_whose_sync_failed_is_not_published(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    fsync = os.fsync

    def broken(handle: int) -> None:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StorageError, match="Input/output error"):
        getattr(local, method)("a", b"abc")
    assert names(local) == []


def test_every_folder_made_for_an_object_is_synced_in_the_one_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = set()
    fsync = os.fsync

    def watched(handle: int) -> None:
        synced.add(Path(f"/proc/self/fd/{handle}").readlink())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    root = tmp_path / "new" / "root"
    LocalStorage(root).create("year=2013/month=01/a", b"abc")
    made = [root / "year=2013" / "month=01", root / "year=2013", root, root.parent, tmp_path]
    assert [folder for folder in made if folder not in synced] == []
