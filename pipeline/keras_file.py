"""Keras' own files, seen from outside before Keras opens one: `.keras` archives and `.h5` files.

Owns what their configuration tells without running any of it: that it is there, that it holds no
code, and which classes it needs. Keras refuses code as well (`safe_mode`), and its word is the
last; but it seldom says which layer it was.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

_NOT_OWN = {"keras", "tf_keras", "tensorflow", "builtins"}
"""Packages whose classes need no registration, or whose objects Keras rebuilds by itself."""


@dataclass(frozen=True, slots=True)
class Part:
    """Something that a configuration says how to build: a layer, a function, a model.

    Attributes:
        kind: Its class.
        module: Where that was defined; "" if Keras did not write it down.
        registered: Under which name it was registered; "" if it was not.
        config: What it is built of.
        layer: The name of the layer that it is, or belongs to.
    """

    kind: str
    module: str
    registered: str
    config: Any
    layer: str

    def __str__(self) -> str:
        where = f" of {self.module}" if self.module else ""
        name = f"layer {self.layer!r}, " if self.layer else ""
        return printable(f"{name}class {self.kind}{where}")


def read_config(file: Path, path: str) -> Any:
    """The configuration in a `.keras` or `.h5` file.

    Args:
        file: The file.
        path: How the job names it, for errors.

    Raises:
        ModelError: It is damaged, or holds weights only.
    """
    with file.open("rb") as stream:
        head = stream.read(8)
    text = _archived(file, path, head) if file.suffix == ".keras" else _in_hdf5(file, path, head)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            "the model file is damaged",
            path=path,
            expected="a configuration in JSON",
            received=str(error),
            hint="save or copy the model again",
        ) from error


def _archived(file: Path, path: str, head: bytes) -> bytes:
    try:
        with zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
            if "config.json" in names:
                return archive.read("config.json")
    # A damaged archive raises all of these, and an encrypted one a RuntimeError.
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError) as error:
        raise ModelError(
            "the model file is damaged",
            path=path,
            expected="a .keras archive (a zip file)",
            received=f"{file.stat().st_size:,} bytes that begin with {head!r}",
            hint="save or copy the model again",
        ) from error
    raise ModelError(
        "the model file is damaged",
        path=path,
        expected="an archive that holds config.json and model.weights.h5",
        received=", ".join(sorted(names)) or "an empty archive",
        hint="save the model with model.save('model.keras')",
    )


def _in_hdf5(file: Path, path: str, head: bytes) -> str | bytes:
    damaged = ModelError(
        "the model file is damaged",
        path=path,
        expected="an HDF5 file",
        received=f"{file.stat().st_size:,} bytes that begin with {head!r}",
        hint="save or copy the model again",
    )
    if head != _HDF5_MAGIC:
        raise damaged
    import h5py

    try:
        with h5py.File(file, "r") as stored:
            config = stored.attrs.get("model_config")
    except OSError as error:
        raise damaged from error
    if not isinstance(config, (str, bytes)):
        raise ModelError(
            "the model file holds weights only",
            path=path,
            expected="a whole model: its structure and its weights",
            received="an HDF5 file without model_config, as save_weights() writes it",
            hint="build the model, load these weights, then model.save('model.keras')",
        )
    return config


def refuse_code(config: Any, path: str) -> None:
    """Raises ModelError if a configuration holds code, or a layer that opens another model."""
    for part in _parts(config, ""):
        if part.kind == "__lambda__" or (part.kind == "Lambda" and _is_code(part.config)):
            raise ModelError(
                "the model is refused: it holds code that would run when loaded",
                path=path,
                expected="layers of Keras, and classes registered by --import",
                received=f"Python bytecode in the Lambda layer {part.layer!r}",
                hint="replace the Lambda layer by a layer class of your own, registered with "
                "@keras.saving.register_keras_serializable, and name its module with --import",
            )
        if part.kind == "TFSMLayer":
            raise ModelError(
                "the model is refused: one of its layers runs another model from elsewhere",
                path=path,
                expected="a model that is whole in its own file",
                received=str(part),
                hint="score that SavedModel itself: name its folder with --model",
            )


def _is_code(config: Any) -> bool:
    function = config.get("function") if isinstance(config, dict) else None
    # Keras 2 wrote [bytecode, defaults, closure].
    return isinstance(function, list) or (
        isinstance(config, dict) and config.get("function_type") == "lambda"
    )


def unknown_class(config: Any, is_registered: Callable[[str], bool]) -> Part | None:
    """The first part whose class is neither Keras' nor registered; None if there is none.

    Args:
        config: A configuration.
        is_registered: Whether a class or function is registered under a name.
    """
    for part in _parts(config, ""):
        known = part.module.split(".")[0] in _NOT_OWN
        own = not known and (part.module or part.registered or ">" in part.kind)
        if own and not (is_registered(part.registered) or is_registered(part.kind)):
            return part
    return None


def _parts(config: Any, layer: str) -> Iterator[Part]:
    """All parts of a configuration, the outer ones first."""
    waiting = [(config, layer)]
    while waiting:
        node, layer = waiting.pop()
        if isinstance(node, dict):
            inner = node.get("config")
            if isinstance(node.get("class_name"), str):
                kind = node["class_name"]
                name = inner.get("name") if isinstance(inner, dict) else None
                # What is inside of a part without a name (a function) belongs to what it is in.
                layer = name if isinstance(name, str) else layer
                if kind in {"function", "class"} and isinstance(inner, str):
                    kind = inner
                yield Part(
                    kind,
                    str(node.get("module") or ""),
                    str(node.get("registered_name") or ""),
                    inner,
                    layer,
                )
            waiting += [(value, layer) for value in reversed(list(node.values()))]
        elif isinstance(node, list):
            waiting += [(value, layer) for value in reversed(node)]
