"""What the operating system says of a disk, in our errors. Each names the path, and what to do."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import NotFoundError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        if error.errno in {errno.EEXIST, errno.ENOTDIR}:
            files = [str(above) for above in Path(path).parents if above.is_file()]
            hint = f"{files[0]} is a file, not a folder; choose another path" if files else hint
        raise StorageError(f"storage failed: {reason}", path=str(path), hint=hint) from error


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """As `translated`; below a file, behind a link to itself, and under a name that is too long,
    there is nothing."""
    with translated(path):
        try:
            yield
        except OSError as error:
            if error.errno in {errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}:
                raise FileNotFoundError from error
            raise
