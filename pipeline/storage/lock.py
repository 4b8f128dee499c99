"""Locks between runs on one local disk: an exclusive claim that dies with its process.

A lock is a file that is held by `flock`, so a killed process holds nothing. Who holds it stands in
the file, for the message of the one that comes second. When the last holder leaves, the file goes,
and with it the folders that were made for it, if nothing else came into them.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipeline.errors import BusyError
from pipeline.storage.disk_errors import translated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def held(path: Path, *, shared: bool) -> Iterator[None]:
    """Holds a lock while its block runs.

    Args:
        path: The lock's file; it and its folders are made.
        shared: Whether others that share it may hold it too.

    Raises:
        BusyError: Another process holds it.
        StorageError: The file cannot be made.
    """
    with translated(path):
        made = [folder for folder in path.parents if not folder.exists()]
        handle = _locked(path, shared=shared)
    try:
        with translated(path):
            os.ftruncate(handle, 0)  # whoever was killed has left its name
            if not shared:
                os.pwrite(handle, _who().encode(), 0)
        yield
    finally:
        _let_go(path, handle, made)


def _locked(path: Path, *, shared: bool) -> int:
    """A handle of the lock's file that holds the lock."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except FileNotFoundError:  # the last holder has just taken the folder away
            continue
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(handle, 4096, 0).decode(errors="replace")
            os.close(handle)
            if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
                raise
            raise BusyError(
                "another run is at work on this output",
                path=str(path),
                received=f"held by {_told(holder) or _sharing(path)}",
                hint="wait until it ends, then run again: what it leaves is scored then",
            ) from error
        # Between opening and locking, the last holder may have removed the file.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)


def _let_go(path: Path, handle: int, made: list[Path]) -> None:
    with suppress(OSError):
        # Others that share the lock still need its file.
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
        for folder in made:
            folder.rmdir()  # the first that holds something ends this
    os.close(handle)


def _who() -> str:
    return json.dumps(
        {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )


def _told(holder: str) -> str | None:
    """Who stands in a lock's file, in words; None if nobody does."""
    try:
        who = json.loads(holder)
        return f"process {who['pid']} on {who['host']} since {who['since']}"
    except (ValueError, KeyError, TypeError):
        return None


def _sharing(path: Path) -> str:
    """Who shares a lock, in words: each of them holds one of its own beside it."""
    found = [
        who
        for lock in sorted(path.parent.glob("*.lock"))
        if lock != path and (who := _holder(lock))
    ]
    told = "a run that has a share of it"
    if not found:
        return told
    return f"{told}, {found[0]}" + (f", and {len(found) - 1} more" if found[1:] else "")


def _holder(lock: Path) -> str | None:
    """Who holds a lock, in words; None if nobody does: a killed process has left its name."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with suppress(OSError):
            return _told(lock.read_text(errors="replace"))
    except OSError:  # it has gone
        pass
    return None
