"""Walking a folder on a disk, and the rules for the links in it.

A link that stays within the tree adds what is not listed anyway. One that leads out of it is
told as `Leaving`: whether it is followed is the user's to say. Where links are followed, two that
lead to one folder, and one that leads to a folder above, are refused, since a row would be scored
twice or the walk would not end.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import UsageError
from pipeline.storage.base import ObjectInfo, is_hidden
from pipeline.storage.folders import leads_out

if TYPE_CHECKING:
    from collections.abc import Iterator


_PATH_MAX = 4096
"""Bytes of a path that the kernel takes, with the one that ends it."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """A link out of the tree.

    Attributes:
        name: Its name, relative to the root.
        target: The real path that it leads to.
        info: Of the file that it leads to; None if that is a folder, or cannot be looked at.
    """

    name: str
    target: str
    info: ObjectInfo | None


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A file or folder whose path is longer than the system takes.

    Attributes:
        name: Its name, relative to the root.
    """

    name: str


def walk(
    root: str, base: str, *, tree: str, follow: bool
) -> Iterator[ObjectInfo | Leaving | Unreachable]:
    """The files below a folder, in no particular order.

    A file's time of change is the latest of its own, of a link's that leads to it, and of those of
    the folders between the root and it: who renames a folder into another's place brings along
    other files, and changes no time of theirs.

    Args:
        root: What names are relative to.
        base: The folder: the root, or one below it.
        tree: The real path of the folder that a link leaves or does not.
        follow: Whether links that leave it are followed.

    Raises:
        UsageError: A folder would be walked twice, or without end.
        OSError: A folder cannot be read.
    """
    if not os.path.isdir(base):  # noqa: PTH112 - one path among many that are strings
        return
    skip = len(root.rstrip(os.sep)) + 1
    # A folder, the real folders that were entered on the way to it (the base and the targets of
    # links), and the latest time of change on that way.
    folders: list[tuple[str, tuple[str, ...], int]] = [(base, (os.path.realpath(base),), 0)]
    links: dict[str, str] = {}
    while folders:
        folder, entered, changed = folders.pop()
        try:
            if len(folder) >= skip:  # below the root, whose own time each new name in it changes
                changed = max(changed, os.stat(folder).st_ctime_ns)  # noqa: PTH116 - one of many
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            continue  # removed while we looked
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            yield Unreachable(folder[skip:])
            continue
        for entry in entries:
            name = entry.path[skip:]
            if len(os.fsencode(entry.path)) >= _PATH_MAX:
                yield Unreachable(name)
                continue
            if not entry.is_symlink():
                if entry.is_dir():
                    folders.append((entry.path, entered, changed))
                elif (info := _described(entry, name, changed)) is not None:
                    yield info
                continue
            since = max(changed, _link_changed(entry))
            is_folder = _leads_to_folder(entry)
            if not follow and not is_hidden(name):
                target = os.path.realpath(entry.path)
                if leads_out(tree, target):
                    info = None if is_folder else _described(entry, name, since)
                    yield Leaving(name, target, info)
                    continue
            if not is_folder:
                if (info := _described(entry, name, since)) is not None:
                    yield info
            elif not is_hidden(name) and (new := _new_folder(entry.path, entered)):
                if new in links:
                    raise UsageError(
                        "two links in the folder lead to one",
                        path=entry.path,
                        received=f"{links[new]}, which leads to {new} too",
                        hint="remove one of them, or its shards would be there twice",
                    )
                links[new] = entry.path
                folders.append((entry.path, (*entered, new), since))


def _leads_to_folder(link: os.DirEntry[str]) -> bool:
    """Whether it leads to a folder, or perhaps does: what may not be looked at is never passed
    over in silence."""
    try:
        return link.is_dir()
    except PermissionError:
        return True
    except OSError:  # a link to itself, or to a name that is too long
        return False


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


def _link_changed(link: os.DirEntry[str]) -> int:
    """When a link was made, in nanoseconds; 0 if it is gone."""
    try:
        return link.stat(follow_symlinks=False).st_ctime_ns
    except FileNotFoundError:
        return 0


def _described(entry: os.DirEntry[str], name: str, changed: int) -> ObjectInfo | None:
    """What an entry leads to, or the link itself if that leads nowhere; None if it is gone.

    Args:
        entry: The entry.
        name: Its name, relative to the root.
        changed: The latest time of change on the way to it.
    """
    try:
        stat = entry.stat()
    except OSError:
        try:
            stat = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None  # removed while we looked, as staged files are
    at = max(changed, stat.st_ctime_ns)
    return ObjectInfo(name, stat.st_size, stat.st_mtime_ns, ctime_ns=at)
