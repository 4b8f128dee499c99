"""Storage in an object store: S3 and what speaks its language, Google Cloud Storage, Azure.

A final name appears by one conditional put, which the server decides: of any number of creators one
wins. There is no rename and no delete before a publish.

The put is of a file that is mapped into memory, not read into it: its pages are the kernel's to
take back. Uploads in parts are left aside. They would have to be completed, or copied, on the
condition that nothing has the name, and under sixteen writers at once a real server let several of
them win; that a single put has one winner was seen to hold.
"""

from __future__ import annotations

import mmap
import os
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Self

from pipeline.errors import AlreadyExistsError, ContractError, NotFoundError, StorageError
from pipeline.storage.base import BLOCK, ObjectInfo, checked_name, fault_of
from pipeline.storage.buckets import bucket_at
from pipeline.storage.disk_errors import translated as disk_errors
from pipeline.storage.object_errors import translated
from pipeline.storage.object_listing import described, listed
from pipeline.storage.object_reader import ObjectReader
from pipeline.storage.remote_file import RemoteFile
from pipeline.storage.scratch import scratch
from pipeline.storage.together import published_at_once

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import pyarrow as pa
    from obstore import PutMode, UpdateVersion

    from pipeline.storage.base import Staged

LARGEST = 5 << 30
"""The most that one put can hold."""

_KEY_MAX = 1024
_QUICK = 1 << 20


class ObjectStorage:
    """The objects of a bucket whose keys begin with a prefix.

    Args:
        url: `s3://bucket/prefix`, `gs://…`, `az://container/…`, `abfss://container@account…/…`.

    Raises:
        ConfigError: The address names no bucket, or nothing says how to reach it.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._bucket, prefix = bucket_at(self.url)
        self._prefix = f"{checked_name(prefix)}/" if prefix else ""

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
        return RemoteFile(reader)

    def blocks(self, name: str) -> Iterator[bytes]:
        with self.open_input(name) as file:
            while block := file.read(BLOCK):
                yield block

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

    def publish_all(self, staged: Sequence[Staged]) -> tuple[bool, ...]:
        return published_at_once(staged)

    def sweep(self) -> int:
        return scratch().sweep()

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
        self._file = scratch().stage("staged")
        self.path = self._file.path

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def publish(self, name: str | None = None) -> None:
        final = checked_name(name or self._name)
        self._refuse_too_big(final)
        self._storage.put_file(final, self.path, "create")

    def replace(self, only_if: ObjectInfo | None = None) -> None:
        self._refuse_too_big(self._name)
        if only_if is None:
            self._storage.put_file(self._name, self.path, "overwrite")
        else:
            self._storage.put_over(self._name, self.path, only_if)

    def _refuse_too_big(self, name: str) -> None:
        with disk_errors(self.path):
            size = self.path.stat().st_size
        if size > LARGEST:
            # Another shard's file may fit.
            raise ContractError(
                "the file is too big to be published in one step",
                path=f"{self._storage.url}/{name}",
                expected=f"{LARGEST:,} bytes at most",
                received=f"{size:,} bytes",
                hint="split the shard, carry fewer columns with --keep, or publish to a disk",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.__exit__(*exc)


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
