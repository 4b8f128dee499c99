"""A file on its way to its final name on a local disk, alone or with others.

The order of writes is that of `pipeline.storage.local`. Of several that are published together
each is durable before it is linked to its final name, as if it were alone. What they share is the
wait: the disk is asked to write all of them before the first is waited for, and each folder that
got names is made durable once. A crash in between may leave names, each of a whole file, of which
nobody was told: the next run finds them published.
"""

from __future__ import annotations

import fcntl
import functools
import os
import secrets
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Self, TypeVar

from pipeline.errors import AlreadyExistsError
from pipeline.storage.disk_errors import translated
from pipeline.storage.folders import entered
from pipeline.storage.writeback import begin_writeback_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pipeline.storage.base import ObjectInfo
    from pipeline.storage.local import LocalStorage

STAGING = "_shardscore/staging"

_ATTEMPTS = 100

T = TypeVar("T")


class LocalStaged:
    """A file in the staging folder, locked by this process until it is published or discarded."""

    def __init__(self, storage: LocalStorage, root: Path, final: Path) -> None:
        self._storage = storage
        self.root = root
        self.final = final
        self._staged = True
        folder = root / STAGING
        with translated(folder), entered(root, folder, make=True) as handle:
            self.path, self._lock = _locked_file(folder, handle)

    def write(self, data: bytes) -> None:
        left = memoryview(data)
        with translated(self.final):
            while left:
                left = left[os.write(self._lock, left) :]

    def publish(self, name: str | None = None) -> None:
        final = self.final if name is None else self._storage.path_of(name)
        with translated(final):
            self.sync()
            _named(final.parent, [self], lambda one, folder: one.link(folder, final))

    def replace(self, only_if: ObjectInfo | None = None) -> None:
        with translated(self.final):
            self.sync()
            _named(self.final.parent, [self], lambda one, folder: one._replace(folder, only_if))

    def begin_writeback(self) -> None:
        """Asks the disk to write the file, without waiting for it."""
        begin_writeback_of(self._lock)

    def sync(self) -> None:
        """Makes the file durable; its name is another matter."""
        os.fsync(self._lock)

    def link(self, folder: int, final: Path) -> None:
        """Gives the file a final name in its opened folder, if nothing has it."""
        try:
            os.link(self.path, final.name, dst_dir_fd=folder)
        except FileExistsError as error:
            raise AlreadyExistsError("already exists", path=str(final)) from error
        self.path.unlink(missing_ok=True)
        self._staged = False

    def _replace(self, folder: int, only_if: ObjectInfo | None) -> None:
        final = self.final
        if only_if is not None and not _is_still(folder, final.name, only_if):
            raise AlreadyExistsError("something else was put there meanwhile", path=str(final))
        os.replace(self.path, final.name, dst_dir_fd=folder)
        self._staged = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        # The lock goes last: until then no sweep takes the file for a dead writer's.
        if self._staged:
            with suppress(OSError):
                self.path.unlink()
        os.close(self._lock)


def published_together(staged: Sequence[LocalStaged]) -> tuple[bool, ...]:
    """Publishes files of one storage; returns for each whether its final name was free."""
    for one in staged:
        one.begin_writeback()
    folders: dict[Path, list[LocalStaged]] = {}
    for one in staged:
        with translated(one.final):
            one.sync()
        folders.setdefault(one.final.parent, []).append(one)
    free: dict[int, bool] = {}
    for folder, files in folders.items():
        with translated(folder):
            found = _named(folder, files, _has_linked)
        free.update(zip(map(id, files), found, strict=True))
    return tuple(free[id(one)] for one in staged)


def _has_linked(staged: LocalStaged, folder: int) -> bool:
    try:
        staged.link(folder, staged.final)
    except AlreadyExistsError:
        return False
    return True


def _named(
    folder: Path, staged: Sequence[LocalStaged], give: Callable[[LocalStaged, int], T]
) -> list[T]:
    """Gives files their final names in a folder that is made if there is none, durably.

    Args:
        folder: The folder.
        staged: The files.
        give: Gives one file its name in the opened folder.

    Returns:
        What `give` returned for each.
    """
    given: list[T] = []
    for attempts_left in reversed(range(_ATTEMPTS)):
        left = staged[len(given) :]
        try:
            with entered(staged[0].root, folder, make=True) as handle:
                for one in left:
                    given.append(give(one, handle))  # noqa: PERF401 - kept if the next one fails
                os.fsync(handle)
        except FileNotFoundError:
            # Another process may have removed the folder in between, for it was empty.
            if not attempts_left or not all(one.path.exists() for one in left):
                raise
        else:
            break
    return given


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
        path = folder / f"{this_host()}-{os.getpid()}-{secrets.token_hex(8)}.tmp"
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
        handle = os.open(path.name, flags, 0o644, dir_fd=opened)
        # Between its creation and its lock a sweep may take the file for a dead writer's.
        if try_lock(handle) and os.fstat(handle).st_nlink:
            return path, handle
        os.close(handle)


def try_lock(handle: int) -> bool:
    """Locks an open file; whether nobody else holds it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@functools.cache
def this_host() -> str:
    """This machine's name as staged files carry it.

    Locks are only known to hold within one machine, so each sweeps only what it left itself.
    """
    return "".join(c for c in socket.gethostname() if c.isalnum() or c in "-.")[:64] or "host"
