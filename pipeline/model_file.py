"""Where a model's file is: on a disk, or on an object store, from where it is brought first.

A model that is stored remotely is read twice: once for its digest, before anything else is done,
and once when it is loaded, to a private file that is gone when that is over. Its digest is computed
on the way, so what is opened as a model is what the digest was checked of.
"""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from pipeline.errors import ModelError, NotFoundError
from pipeline.storage import storage_at
from pipeline.storage.local import translated
from pipeline.storage.locate import has_scheme

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 20
_REMOTE_CHUNK = 8 << 20


def digest_of(path: str) -> str:
    """SHA-256 of a model file.

    Raises:
        ModelError: There is no such file, or it cannot be read.
        StorageError: The object store that holds it failed.
    """
    return _digest(_chunks(path))


@contextmanager
def at_hand(path: str) -> Iterator[tuple[Path, str]]:
    """A model file on the local disk, and its SHA-256; a copy if it is stored elsewhere.

    Raises:
        ModelError: There is no such file, or it cannot be read.
        StorageError: The object store that holds it failed, or the disk is full.
    """
    if not has_scheme(path):
        yield Path(path), digest_of(path)
        return
    with tempfile.TemporaryDirectory(prefix="shardscore-") as folder:
        copy = Path(folder) / f"model{PurePosixPath(path).suffix}"
        with translated(copy), copy.open("wb") as file:
            sha256 = _digest(_chunks(path), file)
        yield copy, sha256


def _digest(chunks: Iterator[bytes], copy: BinaryIO | None = None) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        if copy is not None:
            copy.write(chunk)
    return digest.hexdigest()


def _chunks(path: str) -> Iterator[bytes]:
    if has_scheme(path):
        yield from _remote_chunks(path)
        return
    try:
        with Path(path).open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise ModelError(f"the model cannot be read: {error.strerror}", path=path) from error


def _remote_chunks(path: str) -> Iterator[bytes]:
    folder, _, name = path.rpartition("/")
    try:
        opened = storage_at(folder).open_input(name)
    except NotFoundError as error:
        raise ModelError(
            "the model does not exist", path=path, hint="check the address of --model"
        ) from error
    with opened as file:
        while chunk := file.read(_REMOTE_CHUNK):
            yield chunk
