"""Folders below a root, entered without leaving it.

A folder of an output may have been planted there as a link: `out/2013 -> /etc`. What is published,
replaced or deleted must not go through it. So each part of a path is opened from the one above it,
never following a link, and the caller works in the folder that was opened, whatever its path leads
to by then. A link that stays below the root is followed; the root itself is the user's, and may be
a link.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENTER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_LINKS = 40
"""Links on one path, after which the kernel gives up too."""


@contextmanager
def entered(root: Path, folder: Path, *, make: bool) -> Iterator[int]:
    """Opens a folder for work in it with `dir_fd`.

    Args:
        root: The folder that must not be left.
        folder: The root, or a folder below it.
        make: Whether it and those above it are made, durably, if they are missing.

    Yields:
        A handle of the folder, which can be synced.

    Raises:
        StorageError: A link on the way leads out of the root.
        OSError: It cannot be opened or made.
    """
    if make:
        _make_root(root)
    handle = _descended(root, list(folder.relative_to(root).parts), make=make)
    try:
        yield handle
    finally:
        os.close(handle)


def leads_out(real_root: str, real: str) -> bool:
    """Whether a real path is neither a real root nor below it."""
    return real != real_root and not real.startswith(real_root.rstrip(os.sep) + os.sep)


def _descended(root: Path, parts: list[str], *, make: bool) -> int:
    handle = os.open(root, os.O_PATH | os.O_DIRECTORY)
    at, links = root, 0
    try:
        while parts:
            part = parts.pop(0)
            at = at / part
            try:
                below = _opened(handle, part, make=make)
            except NotADirectoryError:
                links += 1
                if not at.is_symlink() or links > _LINKS:
                    raise
                # From the root again, by the way that the link stands for.
                parts = [*_inside(root, at), *parts]
                below, at = os.open(root, os.O_PATH | os.O_DIRECTORY), root
            os.close(handle)
            handle = below
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=handle)
    finally:
        os.close(handle)


def _opened(above: int, name: str, *, make: bool) -> int:
    """A folder in another one, made if need be."""
    while True:
        try:
            return os.open(name, _ENTER, dir_fd=above)
        except FileNotFoundError:
            if not make:
                raise
        try:
            os.mkdir(name, dir_fd=above)
        except FileExistsError:
            continue
        sync(above)


def _inside(root: Path, link: Path) -> tuple[str, ...]:
    """The parts, below the root, of the folder that a link leads to."""
    real_root, real = os.path.realpath(root), os.path.realpath(link)
    if leads_out(real_root, real):
        raise StorageError(
            "a link in the output leads out of it: nothing is written there",
            path=str(link),
            received=f"a link to {real}",
            hint="remove the link, or give the folder that it leads to as --output",
        )
    return Path(real).relative_to(real_root).parts


def _make_root(root: Path) -> None:
    if root.exists():
        return
    missing = [f for f in (root, *root.parents) if not f.exists()]
    root.mkdir(parents=True, exist_ok=True)
    for made in missing:
        handle = os.open(made.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            sync(handle)
        finally:
            os.close(handle)


def sync(folder: int) -> None:
    """Makes the entries of an opened folder durable."""
    handle = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
