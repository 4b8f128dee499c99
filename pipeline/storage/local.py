"""Storage on a local disk (or anything mounted like one).

The order of writes, which makes a final name appear only whole and durable:

    write STAGING/x → fsync x → link x to the final name, without replacing → unlink x
    → fsync the folder of the final name (and of each folder that was made for it)

`link` fails if the name exists, atomically, so it is the create-if-absent. Staged files live in
one folder below the root whose name begins with `_`, where no reader of the data set looks. Each
is held by a lock of its writer; one that nobody holds was left by a writer that died, and `sweep`
removes it. After a failed fsync the file is given up, never synced again: the kernel may have
dropped the pages that it could not write.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import socket
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from pipeline.errors import AlreadyExistsError, NotFoundError, StorageError, UsageError
from pipeline.storage.base import ObjectInfo, checked_name, is_hidden

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

STAGING = "_shardscore/staging"
LOCKS = "_shardscore/locks"

_HINTS = {
    errno.ENOSPC: "make room on the disk, then run again: it continues where it stopped",
    errno.EDQUOT: "the disk quota is used up; make room, then run again",
    errno.EACCES: "check the permissions of the file and of the folders above it",
    errno.EPERM: "check the permissions of the file and of the folders above it",
    errno.EROFS: "the file system is mounted read-only; choose another output",
    errno.EEXIST: "a part of the path is a file; choose another path",
    errno.ENOTDIR: "a part of the path is a file; choose another path",
    errno.EXDEV: "the folders of the output must lie on one file system",
    errno.ENAMETOOLONG: "the file system cannot hold a name that long; rename the shard",
}


@contextmanager
def translated(path: Path | str) -> Iterator[None]:
    """Turns the operating system's errors into ours, naming `path`."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError("no such file or folder", path=str(path)) from error
    except OSError as error:
        reason = error.strerror or str(error)
        hint = _HINTS.get(error.errno or 0)
        raise StorageError(f"storage failed: {reason}", path=str(path), hint=hint) from error


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """As `translated`; below a file, and behind a link to itself, there is nothing."""
    with translated(path):
        try:
            yield
        except OSError as error:
            if error.errno in {errno.ENOTDIR, errno.ELOOP}:
                raise FileNotFoundError from error
            raise


class LocalStorage:
    """A folder. It is made when first written to."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root).absolute()
        self.url = str(self._root)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        base = self.path_of(prefix.rstrip("/")) if prefix else self._root
        with translated(base):
            yield from sorted(self._walk(base), key=lambda info: info.name)

    def _walk(self, base: Path) -> Iterator[ObjectInfo]:
        if not base.is_dir():
            return
        skip = len(str(self._root)) + 1
        # A folder, and the real folders that were entered on the way to it: the root and the
        # targets of links.
        folders: list[tuple[str, tuple[str, ...]]] = [(str(base), (os.path.realpath(base),))]
        links: dict[str, str] = {}
        while folders:
            folder, entered = folders.pop()
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except FileNotFoundError:
                continue  # removed while we looked
            for entry in entries:
                if not _leads_to_folder(entry):
                    yield ObjectInfo(entry.path[skip:], *_size_and_mtime(entry))
                elif not entry.is_symlink():
                    folders.append((entry.path, entered))
                elif not is_hidden(entry.path[skip:]) and (
                    target := _new_folder(entry.path, entered)
                ):
                    if target in links:
                        raise UsageError(
                            "two links in the folder lead to one",
                            path=entry.path,
                            received=f"{links[target]}, which leads to {target} too",
                            hint="remove one of them, or its shards would be there twice",
                        )
                    links[target] = entry.path
                    folders.append((entry.path, (*entered, target)))

    def info(self, name: str) -> ObjectInfo:
        path = self.path_of(name)
        with _reading(path):
            stat = path.stat()
        return ObjectInfo(name, stat.st_size, stat.st_mtime_ns)

    def open_input(self, name: str) -> pa.NativeFile:
        path = self.path_of(name)
        with _reading(path):
            return pa.OSFile(str(path), "rb")

    def read(self, name: str) -> bytes:
        path = self.path_of(name)
        with _reading(path):
            return path.read_bytes()

    def create(self, name: str, data: bytes) -> None:
        with self.stage(name) as staged:
            staged.write(data)
            staged.publish()

    def replace(self, name: str, data: bytes) -> None:
        with self.stage(name) as staged:
            staged.write(data)
            staged.replace()

    def delete(self, name: str) -> None:
        path = self.path_of(name)
        with translated(path):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
            _sync_folder(path.parent)
        # An object store has no folders: those that hold nothing any more go.
        with suppress(OSError):
            while (path := path.parent) != self._root:
                path.rmdir()

    def stage(self, name: str) -> LocalStaged:
        return LocalStaged(self, self._root, self.path_of(name))

    def hold(self, name: str, *, shared: bool = False) -> AbstractContextManager[None]:
        from pipeline.storage.lock import held  # which needs this module's `translated`

        return held(self.path_of(f"{LOCKS}/{name}"), shared=shared)

    def sweep(self) -> int:
        folder = self._root / STAGING
        removed = 0
        with translated(folder):
            if not folder.is_dir():
                return 0
            ours = re.compile(re.escape(_host()) + r"-\d+-[0-9a-f]{16}\.tmp")
            for path in folder.iterdir():
                if not ours.fullmatch(path.name):
                    continue
                with suppress(FileNotFoundError), path.open("rb") as file:
                    if _try_lock(file.fileno()):
                        path.unlink()
                        removed += 1
        return removed

    def path_of(self, name: str) -> Path:
        """Where an object lies."""
        return self._root / checked_name(name)


class LocalStaged:
    """A file in the staging folder, locked by this process until it is published or discarded."""

    def __init__(self, storage: LocalStorage, root: Path, final: Path) -> None:
        self._storage = storage
        self._final = final
        folder = root / STAGING
        with translated(folder):
            _make_folders(folder)
            self.path, self._lock = _locked_file(folder)

    def write(self, data: bytes) -> None:
        """Writes a small object."""
        with translated(self._final):
            self.path.write_bytes(data)

    def publish(self, name: str | None = None) -> None:
        final = self._final if name is None else self._storage.path_of(name)
        with translated(final):
            os.fsync(self._lock)
            _link(self.path, final)
            self.path.unlink()
            _sync_folder(final.parent)

    def replace(self, only_if: ObjectInfo | None = None) -> None:
        with translated(self._final):
            os.fsync(self._lock)
            _make_folders(self._final.parent)
            if only_if is not None and not _is_still(self._final, only_if):
                raise AlreadyExistsError(
                    "something else was put there meanwhile", path=str(self._final)
                )
            self.path.replace(self._final)
            _sync_folder(self._final.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        # The lock goes last: until then no sweep takes the file for a dead writer's.
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        os.close(self._lock)


def _link(staged: Path, final: Path) -> None:
    """Links a staged file to its final name, in a folder that is made if there is none."""
    for attempts_left in (2, 1, 0):
        _make_folders(final.parent)
        try:
            os.link(staged, final)
        except FileExistsError as error:
            raise AlreadyExistsError("already exists", path=str(final)) from error
        except FileNotFoundError:
            # Another process may have removed the folder in between, for it was empty.
            if not attempts_left or not staged.exists():
                raise
        else:
            return


def _is_still(path: Path, info: ObjectInfo) -> bool:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (info.size, info.mtime_ns)


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself
            return False
        raise


def _new_folder(link: str, entered: tuple[str, ...]) -> str | None:
    """The real folder that a link leads to; None if it is listed without the link.

    Raises:
        UsageError: It lies above one that was entered, so following the link would never end.
    """
    target = os.path.realpath(link)
    for real in entered:
        if target == real:
            return None
        # What lies in a hidden folder of one that was entered is reached by the link alone.
        if target.startswith(real + os.sep) and not is_hidden(target[len(real) + 1 :]):
            return None
        if real.startswith(target.rstrip(os.sep) + os.sep):
            raise UsageError(
                "a link in the folder leads to one above it",
                path=link,
                received=f"a link to {target}",
                hint="remove the link",
            )
    return target


def _size_and_mtime(entry: os.DirEntry[str]) -> tuple[int, int]:
    """Of what an entry leads to, or of the link itself if that leads nowhere."""
    try:
        stat = entry.stat()
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ELOOP}:
            raise
        stat = entry.stat(follow_symlinks=False)
    return stat.st_size, stat.st_mtime_ns


def _locked_file(folder: Path) -> tuple[Path, int]:
    """A new file in the staging folder and the handle that holds its lock."""
    while True:
        # The name says nothing of the final one, which may be as long as a name can be.
        path = folder / f"{_host()}-{os.getpid()}-{secrets.token_hex(8)}.tmp"
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        # Between its creation and its lock a sweep may take the file for a dead writer's.
        if _try_lock(handle) and path.exists():
            return path, handle
        os.close(handle)


def _make_folders(folder: Path) -> None:
    """Makes a folder and those above it that are missing, durably."""
    missing = [f for f in (folder, *folder.parents) if not f.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        _sync_folder(made.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _host() -> str:
    # Locks are only known to hold within one machine, so each sweeps only what it left itself.
    return "".join(c for c in socket.gethostname() if c.isalnum() or c in "-.")[:64] or "host"
