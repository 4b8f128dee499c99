"""What a storage must do, in words and as a protocol. One conformance suite tests them all.

Names are relative, with `/` between their parts; no part is empty, `.` or `..`. A storage:

* never shows a partial object under a final name, to any reader, at any moment;
* has create-if-absent: of any number of creators of one name exactly one succeeds, and the
  others get `AlreadyExistsError`, with nothing of theirs left behind;
* is durable: when `create`, `replace`, `publish` or `publish_all` has returned, the objects survive
  a crash;
* reads one version: an opened input gives the bytes that were there when it was opened, or
  raises `VersionChangedError`;
* raises only errors of `pipeline.errors`, each naming the object's full address.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import pyarrow as pa


BLOCK = 1 << 18
"""Bytes that are read of an object at a time, where all of it is."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a listing.

    Attributes:
        name: Its name.
        size: Bytes.
        mtime_ns: Time of the last change, in nanoseconds since the epoch; whole seconds on object
            stores.
        etag: What an object store calls this version of it; None on a disk.
        ctime_ns: On a disk, time of the last change of its inode, which no program sets, in a
            listing also of the folders and links on the way to it; else 0.
    """

    name: str
    size: int
    mtime_ns: int
    etag: str | None = None
    ctime_ns: int = field(default=0, compare=False)

    def same_version(self, other: ObjectInfo) -> bool:
        """Whether both describe one version of an object."""
        if self.etag is not None and other.etag is not None:
            return (self.size, self.etag) == (other.size, other.etag)
        return (self.size, self.mtime_ns) == (other.size, other.mtime_ns)


class Staged(Protocol):
    """An object being written under no final name yet. Leaving its `with` block discards it.

    Attributes:
        path: A local file to write to. It exists, empty, and is closed.
    """

    path: Path

    def write(self, data: bytes) -> None:
        """Fills the file, which is empty, with a small object."""

    def publish(self, name: str | None = None) -> None:
        """Makes the file durable and gives it its final name.

        Args:
            name: That name, if it is another than was said when it was begun.

        Raises:
            AlreadyExistsError: The name is taken; what is there was not touched.
        """

    def replace(self, only_if: ObjectInfo | None = None) -> None:
        """Makes the file durable and puts it in the place of whatever has the final name.

        Args:
            only_if: What must have the final name for it to be replaced; None: whatever is there.

        Raises:
            AlreadyExistsError: Something else has the final name, or nothing has it.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class Storage(Protocol):
    """A tree of objects under one address.

    Attributes:
        url: The address, for messages and for `storage_at`.
    """

    url: str

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """The objects below a folder, sorted by name; none if there is no such folder."""

    def info(self, name: str) -> ObjectInfo:
        """One object's size and mtime. Raises NotFoundError."""

    def open_input(self, name: str) -> pa.NativeFile:
        """Opens an object for reading at random places. Raises NotFoundError.

        Reading from it raises VersionChangedError once the object was replaced or removed, where
        the version that was opened is not kept.
        """

    def blocks(self, name: str) -> Iterator[bytes]:
        """An object from its beginning to its end, some bytes at a time. As `open_input`, but on a
        disk without pyarrow, whose import takes longer than to read what a command like `status`
        tells. Raises NotFoundError, also when the first block is asked for."""

    def read(self, name: str) -> bytes:
        """A small object, whole. Raises NotFoundError."""

    def create(self, name: str, data: bytes) -> None:
        """Creates a small object. Raises AlreadyExistsError."""

    def replace(self, name: str, data: bytes) -> None:
        """Puts a small object in the place of whatever has that name, atomically."""

    def delete(self, name: str) -> None:
        """Removes an object; it is no error if there is none."""

    def stage(self, name: str) -> Staged:
        """Begins an object of any size."""

    def publish_all(self, staged: Sequence[Staged]) -> tuple[bool, ...]:
        """Publishes several staged objects of this storage, which takes less time together.

        Each is whole and durable before it has its final name, as if it were published alone; none
        may be told to be published before all are.

        Returns:
            For each, whether it has its final name now; False if the name was taken before.

        Raises:
            StorageError: One failed. Any of the others may be published, and a later `publish` of
                those gets AlreadyExistsError.
        """

    def hold(self, name: str, *, shared: bool = False) -> AbstractContextManager[None]:
        """An exclusive claim that dies with its process, where a storage can give one; elsewhere
        nothing: correctness never rests on it.

        Args:
            name: What is claimed.
            shared: Whether others may hold it who share it too.

        Raises:
            BusyError: Another process holds it.
        """

    def sweep(self) -> int:
        """Removes what dead writers left staged; returns how many files that was."""

    def refuses(self, name: str) -> str | None:
        """Why this storage cannot hold an object of that name, in words; None if it can."""


def checked_name(name: str) -> str:
    """`name`, if it is one that stays below the storage's root.

    Raises:
        UsageError: It does not.
    """
    if fault_of(name) is not None:
        raise UsageError(f"{name!r} is not a name inside a storage")
    return name


def fault_of(name: str) -> str | None:
    """Why `name` cannot be a name in any storage, in words; None if it can."""
    if "\0" in name:
        return "it holds a NUL"
    between = f"/{name}/"
    if "//" in between or "/./" in between or "/../" in between:
        return "a part of it is empty, `.` or `..`"
    return None


def is_hidden(name: str) -> bool:
    """Whether readers of a data set pass a name over: a part of it begins with `_` or `.`."""
    return name.startswith(("_", ".")) or "/_" in name or "/." in name
