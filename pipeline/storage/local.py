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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from pipeline.errors import AlreadyExistsError, NotFoundError, StorageError
from pipeline.storage.base import ObjectInfo, checked_name, fault_of
from pipeline.storage.folders import entered
from pipeline.storage.links import Leaving, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

STAGING = "_shardscore/staging"
LOCKS = "_shardscore/locks"

_ATTEMPTS = 100
_NAME_MAX = 255
_PATH_MAX = 4096

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
def _reading(path: Path | str) -> Iterator[None]:
    """As `translated`; below a file, behind a link to itself, and under a name that is too long,
    there is nothing."""
    with translated(path):
        try:
            yield
        except OSError as error:
            if error.errno in {errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}:
                raise FileNotFoundError from error
            raise


class LocalStorage:
    """A folder. It is made when first written to."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root).absolute()
        self.url = str(self._root)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        base = self.path_of(prefix.rstrip("/")) if prefix else self._root
        tree = os.path.realpath(self._root)
        with translated(base):
            found = list(walk(self.url, str(base), tree=tree, follow=False))
        # A folder that lies outside is no part of this storage: nothing is written there.
        objects = [item.info if isinstance(item, Leaving) else item for item in found]
        yield from sorted(
            (item for item in objects if isinstance(item, ObjectInfo)), key=lambda item: item.name
        )

    def info(self, name: str) -> ObjectInfo:
        path = self.path_of(name)
        with _reading(path):
            stat = path.stat()
        return ObjectInfo(name, stat.st_size, stat.st_mtime_ns, ctime_ns=stat.st_ctime_ns)

    def open_input(self, name: str) -> pa.NativeFile:
        path = f"{self.url}/{checked_name(name)}"  # no Path: a lake has many thousands of shards
        try:
            return pa.OSFile(path, "rb")
        except OSError:
            with _reading(path):
                raise

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
                with entered(self._root, path.parent, make=False) as folder:
                    os.unlink(path.name, dir_fd=folder)
                    os.fsync(folder)
            except (FileNotFoundError, NotADirectoryError):
                return
        # An object store has no folders: those that hold nothing any more go.
        with suppress(OSError):
            while (path := path.parent) != self._root:
                path.rmdir()

    def stage(self, name: str) -> LocalStaged:
        return LocalStaged(self, self._root, self.path_of(name))

    def hold(self, name: str, *, shared: bool = False) -> AbstractContextManager[None]:
        from pipeline.storage.lock import held  # which needs this module's `translated`

        path = self.path_of(f"{LOCKS}/{name}")
        with translated(path), suppress(FileNotFoundError, NotADirectoryError):
            with entered(self._root, path.parent, make=False):
                pass  # it is no link out of the output
        return held(path, shared=shared)

    def sweep(self) -> int:
        folder = self._root / STAGING
        removed = 0
        with translated(folder):
            try:
                with entered(self._root, folder, make=False):
                    pass  # it is no link out of the output
            except (FileNotFoundError, NotADirectoryError):
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

    def refuses(self, name: str) -> str | None:
        fault = fault_of(name)
        if fault is not None:
            return fault
        encoded = os.fsencode(name)
        longest = max(map(len, encoded.split(b"/")))
        if longest > _NAME_MAX:
            return f"a part of it has {longest} bytes, and a disk holds {_NAME_MAX} at most"
        whole = len(os.fsencode(self.url).rstrip(b"/")) + 1 + len(encoded)
        if whole >= _PATH_MAX:  # which counts the byte that ends it
            return f"its path has {whole} bytes, and a disk holds {_PATH_MAX - 1} at most"
        return None

    def path_of(self, name: str) -> Path:
        """Where an object lies."""
        return self._root / checked_name(name)


class LocalStaged:
    """A file in the staging folder, locked by this process until it is published or discarded."""

    def __init__(self, storage: LocalStorage, root: Path, final: Path) -> None:
        self._storage = storage
        self._root = root
        self._final = final
        folder = root / STAGING
        with translated(folder), entered(root, folder, make=True) as handle:
            self.path, self._lock = _locked_file(folder, handle)

    def write(self, data: bytes) -> None:
        """Writes a small object."""
        with translated(self._final):
            self.path.write_bytes(data)

    def publish(self, name: str | None = None) -> None:
        final = self._final if name is None else self._storage.path_of(name)
        with translated(final):
            os.fsync(self._lock)
            self._named(final, self._link)

    def replace(self, only_if: ObjectInfo | None = None) -> None:
        with translated(self._final):
            os.fsync(self._lock)
            self._named(self._final, partial(self._replace, only_if))

    def _link(self, folder: int, final: Path) -> None:
        try:
            os.link(self.path, final.name, dst_dir_fd=folder)
        except FileExistsError as error:
            raise AlreadyExistsError("already exists", path=str(final)) from error
        self.path.unlink(missing_ok=True)

    def _replace(self, only_if: ObjectInfo | None, folder: int, final: Path) -> None:
        if only_if is not None and not _is_still(folder, final.name, only_if):
            raise AlreadyExistsError("something else was put there meanwhile", path=str(final))
        os.replace(self.path, final.name, dst_dir_fd=folder)

    def _named(self, final: Path, give: Callable[[int, Path], None]) -> None:
        """Gives the file a final name, in a folder that is made if there is none."""
        for attempts_left in reversed(range(_ATTEMPTS)):
            try:
                with entered(self._root, final.parent, make=True) as folder:
                    give(folder, final)
                    os.fsync(folder)
            except FileNotFoundError:
                # Another process may have removed the folder in between, for it was empty.
                if not attempts_left or not self.path.exists():
                    raise
            else:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        # The lock goes last: until then no sweep takes the file for a dead writer's.
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        os.close(self._lock)


def _is_still(folder: int, name: str, info: ObjectInfo) -> bool:
    try:
        stat = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (info.size, info.mtime_ns)


def _locked_file(folder: Path, opened: int) -> tuple[Path, int]:
    """A new file in the staging folder, which is open, and the handle that holds its lock."""
    while True:
        # The name says nothing of the final one, which may be as long as a name can be.
        path = folder / f"{_host()}-{os.getpid()}-{secrets.token_hex(8)}.tmp"
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
        handle = os.open(path.name, flags, 0o644, dir_fd=opened)
        # Between its creation and its lock a sweep may take the file for a dead writer's.
        if _try_lock(handle) and path.exists():
            return path, handle
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
