"""Models: digest one, load one safely. The only place that opens a model.

Loading is the dangerous part: a model file can name code to run. So Keras is given local files only
(`load_model` would take `hf://` addresses; ours are brought here first), `safe_mode` is always on,
nothing is unpickled, and code of the user's is imported only where the job names its module.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError
from pipeline.model_file import at_hand, digest_of
from pipeline.runtime import tensorflow
from pipeline.signature import Signature, signature_of
from pipeline.storage.locate import has_scheme
from pipeline.user_code import import_module

if TYPE_CHECKING:
    from collections.abc import Sequence

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A Keras model and what is known of it."""

    keras: Any
    signature: Signature
    sha256: str
    path: str


def digest_model(path: str, expected: str | None = None) -> str:
    """SHA-256 of a model file, without opening it as a model.

    Raises:
        ModelError: There is no such file, it is not of a kind we open, or it has another digest
            than the job demands.
    """
    _refuse_other_files(path)
    found = digest_of(path)
    _refuse_other_digest(path, found, expected)
    return found


def _refuse_other_files(path: str) -> None:
    """Raises ModelError unless a path is that of a file of a kind that we open."""
    file = PurePosixPath(path)
    if not has_scheme(path):
        _refuse_missing(path)
    if file.suffix not in {".keras", ".h5", ".hdf5"}:
        raise ModelError(
            "not a model file that is opened here",
            path=path,
            expected="a .keras, .h5 or .hdf5 file",
            received=f"a file ending {file.suffix!r}",
            hint="save the model with model.save('model.keras'); pickles are never opened",
        )


def _refuse_missing(path: str) -> None:
    file = Path(path)
    if file.is_dir():
        raise ModelError(
            "the model is a folder",
            path=path,
            expected="a .keras, .h5 or .hdf5 file",
            hint="save the model with model.save('model.keras')",
        )
    if not file.exists():
        raise ModelError("the model does not exist", path=path, hint="check the path of --model")


def _refuse_other_digest(path: str, found: str, expected: str | None) -> None:
    if expected is not None and found != expected:
        raise ModelError(
            "the model is not the one that the job names",
            path=path,
            expected=f"sha256 {expected}",
            received=f"sha256 {found}",
            hint="check --model and --model-sha256",
        )


def load(path: str, imports: Sequence[str] = (), expected: str | None = None) -> LoadedModel:
    """Loads a Keras model.

    Args:
        path: A `.keras`, `.h5` or `.hdf5` file.
        imports: Modules that register the model's own classes.
        expected: The digest that the file must have, or None.

    Raises:
        ModelError: It cannot be loaded, or what it takes as input is unknown.
    """
    _refuse_other_files(path)
    with at_hand(path) as (file, sha256):
        _refuse_other_digest(path, sha256, expected)
        _check_container(file, path)
        tensorflow()
        import keras

        for module in imports:
            import_module(module)
        try:
            model = keras.saving.load_model(str(file), compile=False, safe_mode=True)
        # Keras raises whatever its layers raise: there is no narrower kind to catch.
        except Exception as error:
            raise _load_error(path, error) from error
        if digest_of(str(file)) != sha256:
            raise ModelError(
                "the model file changed while it was loaded",
                path=path,
                hint="wait until it is written, then run again",
            )
    _refuse_stateful(model, path)
    return LoadedModel(model, signature_of(model, path), sha256, path)


def _check_container(file: Path, path: str) -> None:
    """Looks at the file from outside, where Keras' own errors would mislead."""
    with file.open("rb") as stream:
        head = stream.read(8)
    if file.suffix == ".keras":
        if not zipfile.is_zipfile(file):
            raise ModelError(
                "the model file is damaged",
                path=path,
                expected="a .keras archive (a zip file)",
                received=f"{file.stat().st_size} bytes that begin with {head!r}",
                hint="save or copy the model again",
            )
        with zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
        if "config.json" not in names:
            raise ModelError(
                "the model file is damaged",
                path=path,
                expected="an archive that holds config.json and model.weights.h5",
                received=", ".join(sorted(names)) or "an empty archive",
                hint="save the model with model.save('model.keras')",
            )
        return
    if head != _HDF5_MAGIC:
        raise ModelError(
            "the model file is damaged",
            path=path,
            expected="an HDF5 file",
            received=f"a file that begins with {head!r}",
            hint="save or copy the model again",
        )
    import h5py

    with h5py.File(file, "r") as stored:
        if "model_config" not in stored.attrs:
            raise ModelError(
                "the model file holds weights only",
                path=path,
                expected="a whole model: its structure and its weights",
                received="an HDF5 file without model_config, as save_weights() writes it",
                hint="build the model, load these weights, then model.save('model.keras')",
            )


def _load_error(path: str, error: Exception) -> ModelError:
    text = str(error)
    first = (text.strip().splitlines() or [type(error).__name__])[0]
    if "safe_mode" in text or "unsafe" in text.lower():
        return ModelError(
            "the model is refused: it holds code that would run when loaded",
            path=path,
            received=first,
            hint="replace Lambda layers by a registered layer class",
        )
    if "Could not locate" in text or "custom_objects" in text:
        return ModelError(
            "the model needs a class that is not registered",
            path=path,
            received=first,
            hint="name the module that registers it (@keras.saving.register_keras_serializable) "
            "with --import MODULE or --import FILE.py",
        )
    return ModelError(
        "the model cannot be loaded",
        path=path,
        received=f"{type(error).__name__}: {first}",
        hint="load it with keras.saving.load_model(path, compile=False) to see the whole error",
    )


def _refuse_stateful(model: Any, path: str) -> None:
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False):
            raise ModelError(
                "the model keeps state between batches, so its predictions depend on their order",
                path=path,
                received=f"layer {layer.name!r} with stateful=True",
                hint="rebuild that layer with stateful=False",
            )
