"""What only a local disk can break: what dead writers leave, and what can go wrong."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import AlreadyExistsError, BusyError, NotFoundError, StorageError
from pipeline.storage import LocalStorage, Storage, local_staged
from pipeline.storage.local import LOCKS
from pipeline.storage.local_staged import STAGING, this_host, try_lock
from pipeline.storage.memory import MemoryStorage

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


def planted(local: LocalStorage, name: str) -> Path:
    """A link in the storage to a folder outside, in which a file lies."""
    outside = Path(local.url).parent / "outside"
    (outside / "b").mkdir(parents=True)
    (outside / "a").write_bytes(b"not ours")
    link = Path(local.url) / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    return outside


def test_a_listing_holds_a_link_to_a_file_outside_and_nothing_of_a_folder_outside(
    local: LocalStorage,
) -> None:
    outside = planted(local, "linked")
    (Path(local.url) / "c").symlink_to(outside / "a")
    local.create("d", b"ours")
    assert names(local) == ["c", "d"]


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("", ["a", "b/a", "b/c/a", "bX/a", "bb/a"]),
        ("b", ["b/a", "b/c/a"]),
        ("b/", ["b/a", "b/c/a"]),
        ("b/c", ["b/c/a"]),
        ("bX", ["bX/a"]),
        ("a", []),
        ("none", []),
    ],
)
def test_a_prefix_is_a_folder(local: LocalStorage, prefix: str, found: list[str]) -> None:
    for name in ("a", "b/a", "b/c/a", "bb/a", "bX/a"):
        local.create(name, b"")
    assert [info.name for info in local.list(prefix)] == found


def test_an_object_tells_when_its_inode_changed_which_no_program_sets(
    local: LocalStorage,
) -> None:
    local.create("a", b"abc")
    path = Path(local.url) / "a"
    os.utime(path, ns=(1, 1))
    info = local.info("a")
    assert (info.name, info.size, info.mtime_ns) == ("a", 3, 1)
    assert info.ctime_ns == path.stat().st_ctime_ns > 1


def test_deleting_takes_away_the_folders_that_hold_nothing_then_but_never_the_root(
    local: LocalStorage,
) -> None:
    root = Path(local.url)
    for name in ("a/b/c/x", "a/y", "z"):
        local.create(name, b"")
    local.sweep()
    local.delete("a/b/c/x")
    assert not (root / "a" / "b").exists()
    assert (root / "a").exists()
    local.delete("a/y")
    assert not (root / "a").exists()
    for folder in sorted(root.rglob("_shardscore/**/"), reverse=True):
        folder.rmdir()
    local.delete("z")
    assert [*root.iterdir()] == []


def test_a_deletion_is_durable(local: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        fsync(handle)

    local.create("folder/a", b"abc")
    local.create("folder/b", b"abc")
    monkeypatch.setattr(os, "fsync", watched)
    local.delete("folder/a")
    assert synced == [Path(local.url) / "folder"]


def publish_together(storage: LocalStorage, name: str) -> None:
    with storage.stage(name) as staged:
        storage.publish_all([staged])


@pytest.mark.parametrize("act", ["create", "delete", "replace", "publish", "publish together"])
def test_nothing_is_written_or_deleted_through_a_link_that_leads_out(
    local: LocalStorage, act: str
) -> None:
    outside = planted(local, "folder")
    acts: dict[str, Callable[[], object]] = {
        "create": lambda: local.create("folder/new", b""),
        "delete": lambda: local.delete("folder/a"),
        "replace": lambda: local.replace("folder/a", b""),
        "publish": lambda: publish(local, "folder/new", b""),
        "publish together": lambda: publish_together(local, "folder/new"),
    }
    with pytest.raises(StorageError, match="leads out of it") as caught:
        acts[act]()
    assert caught.value.path == f"{local.url}/folder"
    assert (outside / "a").read_bytes() == b"not ours"
    assert sorted(path.name for path in outside.iterdir()) == ["a", "b"]


def test_nothing_is_staged_swept_or_locked_through_a_link_that_leads_out(
    local: LocalStorage,
) -> None:
    with local.stage("a") as staged:
        ours = staged.path.name
    (Path(local.url) / STAGING).rmdir()
    outside = planted(local, STAGING)
    (outside / ours).touch()
    (Path(local.url) / LOCKS).symlink_to(outside)
    acts: list[Callable[[], object]] = [
        lambda: local.stage("a"),
        local.sweep,
        lambda: local.hold("b/run.lock"),
        lambda: local.hold("run.lock"),
    ]
    for act in acts:
        with pytest.raises(StorageError, match="leads out of it"):
            act()
    assert (outside / ours).exists()


def test_a_root_that_is_not_there_has_nothing_to_delete_to_sweep_or_to_list(
    local: LocalStorage,
) -> None:
    local.delete("a/b")
    assert local.sweep() == 0
    assert names(local) == []
    assert not Path(local.url).exists()


def test_a_sweep_takes_nothing_but_staged_files_that_nobody_holds(local: LocalStorage) -> None:
    with local.stage("a") as staged:
        ours = staged.path
    others = ["x.tmp", ours.name + "x", "x" + ours.name, ours.name.replace(".", "-")]
    for name in [ours.name, *others]:
        ours.with_name(name).touch()
    second = ours.with_name(ours.name.replace(".tmp", "")[:-1] + "0.tmp")
    second.touch()
    left = {path.name for path in staged_files(local)} - {ours.name, second.name}
    count = len({ours.name, second.name})
    assert local.sweep() == count
    assert {path.name for path in staged_files(local)} == left == set(others)


def test_a_staged_file_can_be_read_by_all_and_is_named_for_its_host_and_writer(
    local: LocalStorage,
) -> None:
    before = os.umask(0o022)
    try:
        with local.stage("a") as staged:
            assert stat.S_IMODE(staged.path.stat().st_mode) == 0o644
            assert staged.path.name.startswith(f"{this_host()}-{os.getpid()}-")
            staged.write(b"x" * 3_000_000)
            staged.publish()
    finally:
        os.umask(before)
    assert stat.S_IMODE((Path(local.url) / "a").stat().st_mode) == 0o644
    assert local.info("a").size == 3_000_000


def test_a_write_that_the_system_takes_in_parts_is_whole(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:7]))
    local.create("a", bytes(range(100)))
    assert local.read("a") == bytes(range(100))


def test_a_staged_file_can_be_published_under_another_name(local: LocalStorage) -> None:
    with local.stage("a") as staged:
        staged.write(b"abc")
        staged.publish("folder/b")
    assert names(local) == ["folder/b"]
    with local.stage("a") as staged, pytest.raises(AlreadyExistsError) as caught:
        staged.publish("folder/b")
    assert caught.value.path == f"{local.url}/folder/b"
    assert staged_files(local) == []


def test_what_is_staged_elsewhere_is_not_published_here(local: LocalStorage) -> None:
    with MemoryStorage().stage("a") as theirs, local.stage("b") as ours:
        with pytest.raises(TypeError) as caught:
            local.publish_all([ours, theirs])
    assert str(caught.value) == "staged in another storage"
    assert "b" not in names(local)


def test_a_link_under_a_name_is_no_version_of_the_file_that_it_leads_to(
    local: LocalStorage,
) -> None:
    local.create("a", b"abc")
    there = local.info("a")
    path = Path(local.url) / "a"
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")
    with local.stage("a") as staged, pytest.raises(AlreadyExistsError):
        staged.replace(only_if=there)
    assert path.is_symlink()
    assert staged_files(local) == []


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_version_is_a_size_and_a_time(local: LocalStorage, change: str) -> None:
    local.create("a", b"abc")
    there = local.info("a")
    path = Path(local.url) / "a"
    if change == "size":
        path.write_bytes(b"abcd")
        os.utime(path, ns=(there.mtime_ns, there.mtime_ns))
    else:
        os.utime(path, ns=(1, 1))
    with local.stage("a") as staged, pytest.raises(AlreadyExistsError):
        staged.replace(only_if=there)


def test_a_failed_sync_of_one_of_several_names_its_file(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, begun = os.fsync, list[int]()

    def fails(handle: int) -> None:
        begun.append(handle)
        if len(begun) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(handle)

    with ExitStack() as opened:
        staged = [opened.enter_context(local.stage(f"a/{i}")) for i in range(3)]
        monkeypatch.setattr(os, "fsync", fails)
        with pytest.raises(StorageError, match="Input/output error") as caught:
            local.publish_all(staged)
    assert caught.value.path == f"{local.url}/a/1"


def test_a_folder_that_cannot_be_made_durable_is_named(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fails(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(handle)

    local.create("a/0", b"")
    with ExitStack() as opened:
        staged = [opened.enter_context(local.stage(f"a/{i}")) for i in range(1, 3)]
        monkeypatch.setattr(os, "fsync", fails)
        with pytest.raises(StorageError, match="Input/output error") as caught:
            local.publish_all(staged)
    assert caught.value.path == f"{local.url}/a"


def test_the_disk_is_asked_to_write_all_before_the_first_is_waited_for(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real = os.fsync
    monkeypatch.setattr(local_staged, "begin_writeback_of", lambda _: calls.append("begin"))
    with ExitStack() as opened:
        staged = [opened.enter_context(local.stage(f"{i}")) for i in range(3)]

        def waited(handle: int) -> None:
            if stat.S_ISREG(os.fstat(handle).st_mode):
                calls.append("wait")
            real(handle)

        monkeypatch.setattr(os, "fsync", waited)
        local.publish_all(staged)
    assert calls == ["begin"] * 3 + ["wait"] * 3


def test_a_folder_that_others_remove_again_and_again_is_given_up_at_last(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def link(*_: object, **__: object) -> None:
        tries.append(None)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    with local.stage("a/b") as staged:
        monkeypatch.setattr(os, "link", link)
        with pytest.raises(NotFoundError) as caught:
            staged.publish()
    assert caught.value.path == f"{local.url}/a/b"
    assert len(tries) == 100


def test_a_staged_file_that_somebody_removed_is_not_waited_for(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []
    real = os.link

    def link(*arguments: Any, **more: Any) -> None:
        tries.append(None)
        real(*arguments, **more)

    monkeypatch.setattr(os, "link", link)
    with local.stage("a/b") as staged:
        staged.path.unlink()
        with pytest.raises(NotFoundError):
            staged.publish()
    assert len(tries) == 1


def test_a_staged_file_that_somebody_removes_once_it_has_its_name_is_published(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def link(source: Path, *arguments: Any, **more: Any) -> None:
        real(source, *arguments, **more)
        source.unlink()

    monkeypatch.setattr(os, "link", link)
    with local.stage("a/b") as staged:
        staged.write(b"abc")
        staged.publish()
    assert local.read("a/b") == b"abc"


def test_a_staged_file_that_a_sweep_takes_before_it_is_locked_is_made_anew(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks: list[int] = []
    real = local_staged.try_lock

    def lock(handle: int) -> bool:
        locks.append(handle)
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if len(locks) == 1:  # a sweep was faster, and has taken the file
            path.unlink()
        return len(locks) != 2 and real(handle)  # at the second it still holds the lock

    monkeypatch.setattr(local_staged, "try_lock", lock)
    with local.stage("a") as staged:
        assert len(locks) == 3
        for left in set(locks[:2]) - {locks[2]}:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(left)
        staged.write(b"abc")
        staged.publish()
    assert local.read("a") == b"abc"


def test_a_lock_of_a_staged_file_ends_with_it(local: LocalStorage) -> None:
    with local.stage("a") as staged:
        opened = os.open(staged.path, os.O_RDONLY)
        assert not try_lock(opened)
    assert try_lock(opened)
    os.close(opened)


def test_names_are_held_in_the_storages_own_folder(local: LocalStorage) -> None:
    with local.hold("run.lock"):
        assert (Path(local.url) / LOCKS / "run.lock").exists()
        with pytest.raises(BusyError), local.hold("run.lock"):
            pass
    with local.hold("run.lock", shared=True), local.hold("run.lock", shared=True):
        pass
