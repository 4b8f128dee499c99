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

import pyarrow as pa

from pipeline.errors import AlreadyExistsError, NotFoundError
from pipeline.storage.base import ObjectInfo, checked_name, fault_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


@dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    mtime_ns: int
    version: int

    def info(self, name: str) -> ObjectInfo:
        return ObjectInfo(name, len(self.data), self.mtime_ns, str(self.version))


class MemoryStorage:
    """Objects in a dictionary."""

    def __init__(self, url: str = "memory://") -> None:
        self.url = url
        self._objects: dict[str, _Object] = {}
        self._versions = itertools.count()
        self._lock = threading.Lock()

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        with self._lock:
            found = sorted(self._objects.items())
        for name, there in found:
            if name.startswith(start):
                yield there.info(name)

    def info(self, name: str) -> ObjectInfo:
        return self._at(name).info(name)

    def open_input(self, name: str) -> pa.NativeFile:
        return pa.BufferReader(self._at(name).data)

    def read(self, name: str) -> bytes:
        return self._at(name).data

    def create(self, name: str, data: bytes) -> None:
        with self._lock:
            if checked_name(name) in self._objects:
                raise AlreadyExistsError("already exists", path=self._address(name))
            self._put(name, data)

    def replace(self, name: str, data: bytes) -> None:
        with self._lock:
            self._put(checked_name(name), data)

    def replace_only(self, name: str, data: bytes, only_if: ObjectInfo) -> None:
        """Replaces one version of an object and no other."""
        with self._lock:
            there = self._objects.get(checked_name(name))
            if there is None or not there.info(name).same_version(only_if):
                raise AlreadyExistsError("it was changed meanwhile", path=self._address(name))
            self._put(name, data)

    def delete(self, name: str) -> None:
        with self._lock:
            self._objects.pop(checked_name(name), None)

    def stage(self, name: str) -> MemoryStaged:
        return MemoryStaged(self, checked_name(name))

    def sweep(self) -> int:
        return 0

    def refuses(self, name: str) -> str | None:
        return fault_of(name)

    def hold(self, name: str, *, shared: bool = False) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def _put(self, name: str, data: bytes) -> None:
        self._objects[name] = _Object(data, time.time_ns(), next(self._versions))

    def _at(self, name: str) -> _Object:
        try:
            return self._objects[checked_name(name)]
        except KeyError as error:
            raise NotFoundError("no such object", path=self._address(name)) from error

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
        data = self.path.read_bytes()
        if only_if is None:
            self._storage.replace(self._name, data)
        else:
            self._storage.replace_only(self._name, data, only_if)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._folder.cleanup()
