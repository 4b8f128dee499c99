"""Storage in an object store: S3 and what speaks its language, Google Cloud Storage, Azure.

A final name appears by one conditional request, which the server decides: of any number of
creators one wins. There is no rename and no delete before a publish.

    small files:  put, if there is nothing of that name
    big files:    upload in parts to STAGING/x → copy to the final name by the server, if there is
                  nothing of that name → delete STAGING/x

The second way keeps memory to a few parts and a failed part from costing the whole; what a killed
writer left in the staging folder is removed by `sweep` once it is a day old, since no lock tells
whether a writer on another machine is alive.
"""

from __future__ import annotations

import math
import mmap
import os
import secrets
import socket
import time
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from pipeline.errors import AlreadyExistsError, NotFoundError, StorageError
from pipeline.storage.base import ObjectInfo, checked_name, fault_of
from pipeline.storage.buckets import bucket_at
from pipeline.storage.local import STAGING
from pipeline.storage.local import translated as disk_errors
from pipeline.storage.object_errors import translated
from pipeline.storage.object_listing import described, listed
from pipeline.storage.object_reader import ObjectReader
from pipeline.storage.scratch import scratch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from obstore import PutMode, UpdateVersion

WHOLE = 64 << 20
"""Files up to this size are put by one request."""

LARGEST = 5 << 30
"""The most that one put can hold and, on S3, what a copy that never replaces can."""

_KEY_MAX = 1024
_PART = 8 << 20
_PARTS_AT_ONCE = 4
_MOST_PARTS = 9_000
_QUICK = 1 << 20
_STALE_SECONDS = 24 * 3600


class ObjectStorage:
    """The objects of a bucket whose keys begin with a prefix.

    Attributes:
        largest: Bytes that a file can have to be published.

    Args:
        url: `s3://bucket/prefix`, `gs://…`, `az://container/…`, `abfss://container@account…/…`.
        clock: Seconds since the epoch.

    Raises:
        ConfigError: The address names no bucket, or nothing says how to reach it.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        self.url = url.rstrip("/")
        self._bucket, prefix = bucket_at(self.url)
        self._prefix = f"{checked_name(prefix)}/" if prefix else ""
        self._clock = clock
        self.largest = LARGEST if self._bucket.scheme == "s3" else math.inf

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        folder = prefix.rstrip("/")
        below = self._prefix + (f"{checked_name(folder)}/" if folder else "")
        found = listed(self._bucket, below, f"{self.url}/{folder}".rstrip("/"))
        skip = len(self._prefix)
        for info in sorted(found, key=lambda info: info.name):
            yield ObjectInfo(info.name[skip:], info.size, info.mtime_ns, info.etag)

    def info(self, name: str) -> ObjectInfo:
        with self._translated(name) as key:
            return described(self._bucket.quick.head(key), name)

    def open_input(self, name: str) -> pa.NativeFile:
        with self._translated(name) as key:
            reader = ObjectReader(self._bucket.quick, key, self._address(name))
        return pa.PythonFile(reader, mode="r")

    def read(self, name: str) -> bytes:
        with self._translated(name) as key:
            return bytes(self._bucket.quick.get(key).bytes())

    def create(self, name: str, data: bytes) -> None:
        with self._translated(name) as key:
            self._put(key, data, "create")

    def replace(self, name: str, data: bytes) -> None:
        with self._translated(name) as key:
            self._put(key, data, "overwrite")

    def delete(self, name: str) -> None:
        with self._translated(name) as key, suppress(FileNotFoundError):
            self._bucket.quick.delete(key)

    def stage(self, name: str) -> ObjectStaged:
        return ObjectStaged(self, checked_name(name))

    def sweep(self) -> int:
        removed = scratch().sweep()
        for info in self.list(STAGING):
            if info.mtime_ns < (self._clock() - _STALE_SECONDS) * 1e9:
                self.delete(info.name)
                removed += 1
        return removed

    def refuses(self, name: str) -> str | None:
        fault = fault_of(name) or _unspeakable(name)
        if fault is not None:
            return fault
        length = len((self._prefix + name).encode())
        if length > _KEY_MAX:
            return f"its key has {length} bytes, and an object store holds {_KEY_MAX} at most"
        return None

    def hold(self, name: str, *, shared: bool = False) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    # What a staged file needs.

    def put_file(self, name: str, path: Path, mode: PutMode) -> None:
        """Puts a file of up to `LARGEST` bytes, without a copy of it in memory."""
        with self._translated(name) as key, disk_errors(path), path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                self._put(key, b"", mode)
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                self._put(key, data, mode)

    def put_parts(self, name: str, path: Path, size: int) -> None:
        """Uploads a file of any size in parts, over whatever has that name."""
        with self._translated(name) as key, disk_errors(path), path.open("rb") as file:
            self._bucket.patient.put(
                key,
                file,
                mode="overwrite",
                use_multipart=True,
                chunk_size=max(_PART, size // _MOST_PARTS + 1),
                max_concurrency=_PARTS_AT_ONCE,
            )

    def copy(self, source: str, name: str) -> None:
        """Copies an object to a name that nothing has yet, by the server."""
        with self._translated(name) as key:
            self._bucket.patient.copy(self._prefix + source, key, overwrite=False)

    def put_over(self, name: str, path: Path, only_if: ObjectInfo) -> None:
        """Puts a file in the place of one version of an object and of no other."""
        changed = AlreadyExistsError(
            "it was changed or removed meanwhile", path=self._address(name)
        )
        try:
            with self._translated(name) as key:
                there = self._bucket.quick.head(key)
            if not described(there, name).same_version(only_if):
                raise changed
            version: UpdateVersion = {"e_tag": there["e_tag"]}
            if there["version"] is not None:
                version["version"] = there["version"]
            self.put_file(name, path, version)
        except NotFoundError as error:
            raise changed from error

    def _put(self, key: str, data: bytes | mmap.mmap, mode: PutMode) -> None:
        client = self._bucket.quick if len(data) <= _QUICK else self._bucket.patient
        client.put(key, data, mode=mode, use_multipart=False)

    @contextmanager
    def _translated(self, name: str) -> Iterator[str]:
        """The key of a name; obstore's errors become ours, naming it."""
        fault = _unspeakable(checked_name(name))
        if fault is not None:
            raise StorageError(
                "the storage cannot hold that name", path=self._address(name), received=fault
            )
        with translated(self._address(name)):
            yield self._prefix + name

    def _address(self, name: str) -> str:
        return f"{self.url}/{name}"


class ObjectStaged:
    """A file on the local disk that becomes an object."""

    def __init__(self, storage: ObjectStorage, name: str) -> None:
        self._storage = storage
        self._name = name
        self._uploaded: str | None = None
        self._file = scratch().stage("staged")
        self.path = self._file.path

    def publish(self, name: str | None = None) -> None:
        size, final = self._size(), checked_name(name or self._name)
        if size <= WHOLE:
            self._storage.put_file(final, self.path, "create")
            return
        self._refuse_over(self._storage.largest, size)
        if self._uploaded is None:  # a publish that is tried again copies again, no more
            parts = f"{STAGING}/{socket.gethostname()[:64]}-{os.getpid()}-{secrets.token_hex(8)}"
            self._storage.put_parts(parts, self.path, size)
            self._uploaded = parts
        self._storage.copy(self._uploaded, final)

    def replace(self, only_if: ObjectInfo | None = None) -> None:
        size = self._size()
        if only_if is not None:
            self._refuse_over(LARGEST, size)
            self._storage.put_over(self._name, self.path, only_if)
        elif size <= WHOLE:
            self._storage.put_file(self._name, self.path, "overwrite")
        else:
            self._storage.put_parts(self._name, self.path, size)

    def _size(self) -> int:
        with disk_errors(self.path):
            return self.path.stat().st_size

    def _refuse_over(self, largest: float, size: int) -> None:
        if size > largest:
            raise StorageError(
                "the file is too big to be published in one step",
                path=f"{self._storage.url}/{self._name}",
                expected=f"{largest:,} bytes at most on this storage",
                received=f"{size:,} bytes",
                hint="split the shard, carry fewer columns with --keep, or publish to a disk",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.__exit__(*exc)
        if self._uploaded is not None:
            with suppress(StorageError):  # a sweep takes what is left
                self._storage.delete(self._uploaded)


def _unspeakable(name: str) -> str | None:
    """What keeps a name from being a key that each object store takes as it is; None if nothing."""
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        return "it holds a control character"
    if "\\" in name:
        return "it holds a backslash, which some object stores take for a slash"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "it is not UTF-8"
    return None
