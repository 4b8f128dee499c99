"""Storage in memory, for tests: the same promises as the others, and nothing on a disk.

Staged objects are written to a temporary file, since writers want a path.
"""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pipeline.errors import AlreadyExistsError, NotFoundError
from pipeline.storage.base import BLOCK, ObjectInfo, checked_name, fault_of
from pipeline.storage.together import published

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    import pyarrow as pa

    from pipeline.storage.base import Staged


@dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    mtime_ns: int
    version: int

    def info(self, name: str) -> ObjectInfo:
        return ObjectInfo(name, len(self.data), self.mtime_ns, str(self.version))


class MemoryBucket:
    """Objects in a dictionary, by their keys."""

    def __init__(self) -> None:
        self.objects: dict[str, _Object] = {}
        self.versions = itertools.count()
        self.lock = threading.Lock()


class MemoryStorage:
    """The objects of a bucket whose keys begin with a prefix.

    Args:
        url: Its address.
        bucket: Where its objects are; None: a bucket of its own.
        prefix: Empty, or ends with `/`.
    """

    def __init__(
        self, url: str = "memory://", bucket: MemoryBucket | None = None, prefix: str = ""
    ) -> None:
        self.url = url
        self._bucket = bucket or MemoryBucket()
        self._prefix = prefix

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        start = self._prefix + (f"{prefix.rstrip('/')}/" if prefix else "")
        with self._bucket.lock:
            found = sorted(self._bucket.objects.items())
        for key, there in found:
            if key.startswith(start):
                yield there.info(key[len(self._prefix) :])

    def info(self, name: str) -> ObjectInfo:
        return self._at(name).info(name)

    def open_input(self, name: str) -> pa.NativeFile:
        import pyarrow as pa  # as on a disk

        return pa.BufferReader(self._at(name).data)

    def blocks(self, name: str) -> Iterator[bytes]:
        data = self._at(name).data
        for start in range(0, len(data), BLOCK):
            yield data[start : start + BLOCK]

    def read(self, name: str) -> bytes:
        return self._at(name).data

    def create(self, name: str, data: bytes) -> None:
        with self._bucket.lock:
            if self._key(name) in self._bucket.objects:
                raise AlreadyExistsError("already exists", path=self._address(name))
            self._put(name, data)

    def replace(self, name: str, data: bytes) -> None:
        with self._bucket.lock:
            self._put(name, data)

    def replace_only(self, name: str, data: bytes, only_if: ObjectInfo) -> None:
        """Replaces one version of an object and no other."""
        with self._bucket.lock:
            there = self._bucket.objects.get(self._key(name))
            if there is None or not there.info(name).same_version(only_if):
                raise AlreadyExistsError("it was changed meanwhile", path=self._address(name))
            self._put(name, data)

    def delete(self, name: str) -> None:
        with self._bucket.lock:
            self._bucket.objects.pop(self._key(name), None)

    def stage(self, name: str) -> MemoryStaged:
        return MemoryStaged(self, checked_name(name))

    def publish_all(self, staged: Sequence[Staged]) -> tuple[bool, ...]:
        return tuple(map(published, staged))

    def sweep(self) -> int:
        return 0

    def refuses(self, name: str) -> str | None:
        return fault_of(name)

    def hold(self, name: str, *, shared: bool = False) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def _put(self, name: str, data: bytes) -> None:
        there = _Object(data, time.time_ns(), next(self._bucket.versions))
        self._bucket.objects[self._key(name)] = there

    def _at(self, name: str) -> _Object:
        try:
            return self._bucket.objects[self._key(name)]
        except KeyError as error:
            raise NotFoundError("no such object", path=self._address(name)) from error

    def _key(self, name: str) -> str:
        return self._prefix + checked_name(name)

    def _address(self, name: str) -> str:
        return f"{self.url}/{name}"


class MemoryStaged:
    """A temporary file that becomes an object."""

    def __init__(self, storage: MemoryStorage, name: str) -> None:
        self._storage = storage
        self._name = name
        self._folder = tempfile.TemporaryDirectory(prefix="shardscore-")
        self.path = Path(self._folder.name) / "staged"
        self.path.touch()

    def write(self, data: bytes) -> None:
        self.path.write_bytes(data)

    def publish(self, name: str | None = None) -> None:
        self._storage.create(name or self._name, self.path.read_bytes())

    def replace(self, only_if: ObjectInfo | None = None) -> None:
        data = self.path.read_bytes()
        if only_if is None:
            self._storage.replace(self._name, data)
        else:
            self._storage.replace_only(self._name, data, only_if)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._folder.cleanup()
