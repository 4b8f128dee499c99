"""What only a local disk can break: what dead writers leave, and what can go wrong."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pipeline.errors import NotFoundError, StorageError
from pipeline.storage import LocalStorage, Storage
from pipeline.storage.local_staged import STAGING

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def local(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "root")


def names(storage: Storage) -> list[str]:
    """What a listing shows; what is staged is shown too."""
    return [info.name for info in storage.list()]


def staged_files(storage: LocalStorage) -> list[Path]:
    return list((Path(storage.url) / STAGING).glob("*"))


def publish(storage: Storage, name: str, data: bytes) -> None:
    with storage.stage(name) as staged:
        staged.path.write_bytes(data)
        staged.publish()


# What dead writers leave

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


# What can go wrong


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


def test_a_disk_says_what_it_refuses_before_it_is_tried(local: LocalStorage) -> None:
    assert local.refuses("n" * 255) is None
    assert "256 bytes" in (local.refuses("folder/" + "n" * 256) or "")
    assert "bytes" in (local.refuses("ü" * 128) or "")
    assert "4095" in (local.refuses("/".join(["n" * 250] * 17)) or "")
    for name in ("", "a//b", "../a", "a/.", "a\0b"):
        assert local.refuses(name) is not None


def test_a_deep_path_that_is_not_refused_can_be_published(local: LocalStorage) -> None:
    room = 4095 - len(local.url) - 1
    name = "/".join(["n" * 200] * 30)[:room].rstrip("/")
    assert local.refuses(name) is None
    assert local.refuses(name + "n" * (room - len(name) + 1)) is not None
    local.create(name, b"abc")
    assert local.read(name) == b"abc"


def test_a_listed_file_has_no_etag(local: LocalStorage) -> None:
    local.create("a", b"abc")
    assert [info.etag for info in local.list()] == [None]


def test_files_published_together_are_durable_before_they_are_named_and_share_the_folders_sync(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def noted(name: str) -> None:
        real = getattr(os, name)

        def call(*args: object, **kwargs: object) -> object:
            folder = name == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode)
            calls.append("fsync of a folder" if folder else name)
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    local.create("a/0", b"so that the folder is there")
    with ExitStack() as opened:
        staged = [opened.enter_context(local.stage(f"a/{i}")) for i in range(1, 9)]
        for one in staged:
            one.write(b"abc")
        noted("fsync")
        noted("link")
        assert all(local.publish_all(staged))
    assert calls == ["fsync"] * 8 + ["link"] * 8 + ["fsync of a folder"]


def test_a_file_that_cannot_be_made_durable_keeps_its_group_from_being_named(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [3]
    real = os.fsync

    def fails_once(handle: int) -> None:
        left[0] -= 1
        if not left[0]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(handle)

    with ExitStack() as opened:
        staged = [opened.enter_context(local.stage(f"{i}")) for i in range(5)]
        monkeypatch.setattr(os, "fsync", fails_once)
        with pytest.raises(StorageError):
            local.publish_all(staged)
    assert [info.name for info in local.list()] == []


def test_a_folder_that_is_removed_while_files_are_being_named_is_made_again(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, removed = os.link, []

    def link(source: object, target: object, *, dst_dir_fd: int) -> None:
        if not removed:
            removed.append((Path(local.url) / "a").rmdir())
        real(source, target, dst_dir_fd=dst_dir_fd)  # type: ignore[arg-type]

    with ExitStack() as opened:
        staged = [opened.enter_context(local.stage(f"a/{i}")) for i in range(3)]
        monkeypatch.setattr(os, "link", link)
        assert list(local.publish_all(staged)) == [True, True, True]
    assert removed
    assert [info.name for info in local.list()] == ["a/0", "a/1", "a/2"]
