"""Storage in memory, for tests: the same promises as the others, and nothing on a disk.

Staged objects are written to a temporary file, since writers want a path.
"""

from __future__ import annotations

import tempfile
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from pipeline.errors import AlreadyExistsError, NotFoundError
from pipeline.storage.base import ObjectInfo, checked_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


class MemoryStorage:
    """Objects in a dictionary."""

    def __init__(self, url: str = "memory://") -> None:
        self.url = url
        self._objects: dict[str, tuple[bytes, int]] = {}
        self._lock = threading.Lock()

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        with self._lock:
            found = sorted(self._objects.items())
        for name, (data, mtime_ns) in found:
            if name.startswith(start):
                yield ObjectInfo(name, len(data), mtime_ns)

    def info(self, name: str) -> ObjectInfo:
        data = self.read(name)
        return ObjectInfo(name, len(data), self._objects[name][1])

    def open_input(self, name: str) -> pa.NativeFile:
        return pa.BufferReader(self.read(name))

    def read(self, name: str) -> bytes:
        try:
            return self._objects[checked_name(name)][0]
        except KeyError as error:
            raise NotFoundError("no such object", path=self._address(name)) from error

    def create(self, name: str, data: bytes) -> None:
        with self._lock:
            if checked_name(name) in self._objects:
                raise AlreadyExistsError("already exists", path=self._address(name))
            self._objects[name] = (data, time.time_ns())

    def replace(self, name: str, data: bytes, only_if: ObjectInfo | None = None) -> None:
        with self._lock:
            if only_if is not None:
                there = self._objects.get(name)
                if there is None or (len(there[0]), there[1]) != (only_if.size, only_if.mtime_ns):
                    raise AlreadyExistsError(
                        "something else was put there meanwhile", path=self._address(name)
                    )
            self._objects[checked_name(name)] = (data, time.time_ns())

    def delete(self, name: str) -> None:
        with self._lock:
            self._objects.pop(checked_name(name), None)

    def stage(self, name: str) -> MemoryStaged:
        return MemoryStaged(self, checked_name(name))

    def hold(self, name: str, *, shared: bool = False) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def sweep(self) -> int:
        return 0

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

    def publish(self, name: str | None = None) -> None:
        self._storage.create(name or self._name, self.path.read_bytes())

    def replace(self, only_if: ObjectInfo | None = None) -> None:
        self._storage.replace(self._name, self.path.read_bytes(), only_if)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._folder.cleanup()
