"""A model that is a folder: which files it has, their digest, and a private copy of a remote one.

The digest is SHA-256 over the files, sorted by name: of each the length of its name, its name, and
the SHA-256 of its content. Names are relative, with `/` between their parts, so a folder has one
digest wherever it is stored. Nothing is left out but folders without files, which an object store
does not know.

No name leads out of the folder: a link to elsewhere is refused on a disk, `..` and its like on an
object store. So what is digested is all that a loader can reach by name.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ModelError
from pipeline.storage import storage_at
from pipeline.storage.base import fault_of
from pipeline.storage.disk_errors import translated
from pipeline.storage.locate import has_scheme

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 8 << 20

SAVED_MODEL = "saved_model.pb"
"""The file that makes a folder a SavedModel."""

_FORMAT = b"shardscore model folder 1\n"


def digest_of_folder(path: str, copy: Path | None = None) -> str:
    """SHA-256 of a SavedModel's folder.

    Args:
        path: The folder, on a disk or on an object store.
        copy: An empty folder to which the files are copied on the way, or None.

    Raises:
        ModelError: There is no such folder, it holds no SavedModel, a name leads out of it, or a
            file cannot be read.
        StorageError: The object store failed, or the disk is full.
    """
    names = sorted(_remote_names(path) if has_scheme(path) else _local_names(Path(path)))
    _refuse_other_folders(path, names)
    digest = hashlib.sha256(_FORMAT)
    for name in names:
        encoded = os.fsencode(name)
        digest.update(len(encoded).to_bytes(8) + encoded)
        digest.update(_content(path, name, copy))
    return digest.hexdigest()


def _content(path: str, name: str, copy: Path | None) -> bytes:
    """SHA-256 of one file."""
    digest = hashlib.sha256()
    chunks = _remote_chunks(path, name) if has_scheme(path) else _local_chunks(Path(path) / name)
    if copy is None:
        for chunk in chunks:
            digest.update(chunk)
        return digest.digest()
    target = copy / name
    with translated(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
    return digest.digest()


def _local_chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise ModelError(f"the model cannot be read: {error.strerror}", path=str(path)) from error


def _remote_chunks(path: str, name: str) -> Iterator[bytes]:
    with storage_at(path).open_input(name) as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _local_names(root: Path) -> Iterator[str]:
    tree = Path(os.path.realpath(root))

    def refuse(error: OSError) -> None:
        raise ModelError(
            f"the model cannot be read: {error.strerror}", path=str(error.filename or root)
        ) from error

    for folder, folders, files in os.walk(tree, onerror=refuse):
        for name in [*folders, *files]:
            entry = Path(folder) / name
            inside = entry.relative_to(tree).as_posix()
            if entry.is_symlink():
                _refuse_leaving(str(root), tree, entry, inside)
            elif not entry.is_dir() and not entry.is_file():
                raise ModelError(
                    "the model's folder holds what is neither a file nor a folder",
                    path=str(root),
                    received=inside,
                    hint="remove it, or save the model again",
                )
            if not entry.is_dir():
                yield inside


def _refuse_leaving(root: str, tree: Path, entry: Path, inside: str) -> None:
    target = Path(os.path.realpath(entry))
    if target.is_file() and tree in target.parents:
        return
    raise ModelError(
        "the model's folder holds a link that is not followed",
        path=root,
        expected="files, and links to files within the folder",
        received=f"{inside} -> {entry.readlink()}",
        hint="copy the model with its links resolved: cp -rL FOLDER COPY",
    )


def _remote_names(path: str) -> Iterator[str]:
    for info in storage_at(path).list():
        fault = fault_of(info.name)
        if fault is not None or "\\" in info.name:
            raise ModelError(
                "the model's folder holds an object whose name leads out of it",
                path=path,
                expected="names that are relative paths",
                received=f"{info.name!r}: {fault or 'it holds a backslash'}",
                hint="remove that object, or save the model again",
            )
        yield info.name


def _refuse_other_folders(path: str, names: list[str]) -> None:
    """Raises ModelError unless there is a SavedModel among the files."""
    if SAVED_MODEL in names:
        return
    if not names and has_scheme(path):
        raise ModelError("the model does not exist", path=path, hint="check the address of --model")
    inner = [name for name in names if name.endswith(f"/{SAVED_MODEL}")]
    tops = sorted({name.partition("/")[0] for name in names})
    if inner:
        # Folders of versions have numbers for names: the highest is the newest.
        newest = max((str(Path(name).parent) for name in inner), key=lambda n: (len(n), n))
        hint = f"name the folder that holds it: {path.rstrip('/')}/{newest}"
    elif "config.json" in names:
        hint = "save the model as one file, with model.save('model.keras')"
    else:
        hint = "save it with model.save('model.keras'), model.export() or tf.saved_model.save()"
    listed = ", ".join(tops[:8]) + (", …" if len(tops) > 8 else "")
    raise ModelError(
        "the folder holds no SavedModel",
        path=path,
        expected=f"a folder with {SAVED_MODEL}",
        received=listed or "an empty folder",
        hint=hint,
    )
