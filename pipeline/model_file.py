"""Where a model is: on a disk, or on an object store, from where it is brought first.

Owns which kind of model a path names, its digest, and having it at hand to be opened. A model that
is stored remotely is read twice: once for its digest, before anything else is done, and once when
it is loaded, to a private place that is gone when that is over. Its digest is computed on the way,
so what is opened as a model is what the digest was checked of.
"""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Literal

from pipeline.errors import ModelError, NotFoundError
from pipeline.model_folder import digest_of_folder
from pipeline.spelling import near
from pipeline.storage import storage_at
from pipeline.storage.disk_errors import translated
from pipeline.storage.locate import has_scheme, is_served
from pipeline.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 20
_REMOTE_CHUNK = 8 << 20

Kind = Literal["keras", "hdf5", "saved_model"]

_KINDS: dict[str, Kind] = {".keras": "keras", ".h5": "hdf5", ".hdf5": "hdf5"}

_EXPECTED = "a .keras, .h5 or .hdf5 file, or the folder of a SavedModel"

_PICKLES = {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".dill"}

_HINTS = {
    **dict.fromkeys(
        _PICKLES,
        "pickles run code when they are opened, and never are here: save the model with "
        "model.save('model.keras')",
    ),
    ".onnx": "ONNX is not read here: save the Keras model with model.save('model.keras')",
    ".tflite": "TFLite is not read here: save the Keras model with model.save('model.keras')",
    ".pb": "name the folder that holds it, if it is the saved_model.pb of a SavedModel",
}


def kind_of(path: str) -> Kind:
    """What kind of model a path names, by its ending; for a local one, by what is there.

    Raises:
        ModelError: There is nothing, or what is no model that is opened here.
    """
    suffix = PurePosixPath(path).suffix
    if has_scheme(path):
        _refuse_other_schemes(path)
        if path.endswith("/") or (suffix not in _KINDS and suffix.lower() not in _HINTS):
            return "saved_model"
    else:
        file = Path(path)
        if file.is_dir():
            return "saved_model"
        if not file.exists():
            raise ModelError(
                "the model does not exist",
                path=path,
                hint=near(file, "check the path of --model"),
            )
    if suffix not in _KINDS:
        raise ModelError(
            "not a model that is opened here",
            path=path,
            expected=_EXPECTED,
            received=f"a file ending {suffix!r}" if suffix else "a file without an ending",
            hint=_HINTS.get(suffix.lower(), "save the model with model.save('model.keras')"),
        )
    return _KINDS[suffix]


def _refuse_other_schemes(path: str) -> None:
    if is_served(path):
        return
    scheme = path.partition("://")[0]
    raise ModelError(
        f"models are not fetched from {scheme}:// addresses",
        path=path,
        expected="a path, or an address that begins with s3://, gs://, az:// or abfss://",
        received=f"an address that begins with {scheme}://",
        hint="download the model, check that it is the one you trust (--model-sha256), and "
        "name the local file",
    )


def digest_of(path: str) -> str:
    """SHA-256 of a model's file or folder.

    Raises:
        ModelError: There is no such model, it is of no kind we open, or it cannot be read.
        StorageError: The object store that holds it failed.
    """
    if kind_of(path) == "saved_model":
        return digest_of_folder(path)
    return _digest(_chunks(path))


def stored_bytes(path: str) -> int:
    """Bytes of a model's file or folder; 0 if there is none.

    Raises:
        StorageError: The object store that holds it failed.
    """
    folder, _, name = path.rstrip("/").rpartition("/")
    if has_scheme(path):
        try:
            return storage_at(folder).info(name).size
        except NotFoundError:
            return sum(info.size for info in storage_at(path).list())
    files = Path(path).rglob("*") if Path(path).is_dir() else [Path(path)]
    return sum(file.stat().st_size for file in files if file.is_file())


@contextmanager
def at_hand(path: str) -> Iterator[tuple[Path, str]]:
    """A model's file or folder on the local disk, and its SHA-256; a copy if it is stored
    elsewhere.

    Raises:
        ModelError: There is no such model, it is of no kind we open, or it cannot be read.
        StorageError: The object store that holds it failed, or the disk is full.
    """
    if not has_scheme(path):
        yield Path(path), digest_of(path)
        return
    kind = kind_of(path)
    with tempfile.TemporaryDirectory(prefix="shardscore-", dir=temporary_folder()) as folder:
        copy = Path(folder) / f"model{PurePosixPath(path).suffix}"
        if kind == "saved_model":
            copy.mkdir()
            sha256 = digest_of_folder(path, copy)
        else:
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
