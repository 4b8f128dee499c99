"""Models: digest one, load one safely. The only place that opens a model.

Loading is the dangerous part: a model can name code to run, or be a program itself. So TensorFlow
and Keras are given local files only (`load_model` would take `hf://` addresses; ours are brought
here first), `safe_mode` is always on, nothing is unpickled, the operations of a SavedModel are
looked at first, and code of the user's is imported only where the job names its module.
"""

from __future__ import annotations

import shlex
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.class_source import source_beside
from pipeline.errors import ModelError, StorageError
from pipeline.keras_2 import in_todays_words, is_old, written_by
from pipeline.keras_file import Part, read_config, refuse_code, unknown_class
from pipeline.model_file import at_hand, digest_of, kind_of
from pipeline.runtime import tensorflow, versions
from pipeline.saved_model import load_saved_model
from pipeline.signature import Signature, signature_of
from pipeline.storage.locate import has_scheme
from pipeline.user_code import import_module

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.input_options import InputOptions


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A Keras model and what is known of it."""

    keras: Any
    signature: Signature
    sha256: str
    path: str


def digest_model(path: str, expected: str | None = None) -> str:
    """SHA-256 of a model's file or folder, without opening it as a model.

    Raises:
        ModelError: There is no such model, it is not of a kind we open, or it has another digest
            than the job demands.
    """
    found = digest_of(path)
    _refuse_other_digest(path, found, expected)
    return found


def _refuse_other_digest(path: str, found: str, expected: str | None) -> None:
    if expected is not None and found != expected:
        raise ModelError(
            "the model is not the one that the job names",
            path=path,
            expected=f"sha256 {expected}",
            received=f"sha256 {found}",
            hint="check --model and --model-sha256",
        )


def load(
    path: str,
    imports: Sequence[str] = (),
    expected: str | None = None,
    signature: str | None = None,
    said: Mapping[str, InputOptions] | None = None,
) -> LoadedModel:
    """Loads a model.

    Args:
        path: A `.keras`, `.h5` or `.hdf5` file, or the folder of a SavedModel.
        imports: Modules that register the model's own classes.
        expected: The digest that the model must have, or None.
        signature: Which signature of a SavedModel is called; None: `serving_default`, or the only
            one.
        said: What the job says of the inputs, for a model that does not say what it takes.

    Raises:
        ModelError: It cannot be loaded, or what it takes as input is unknown.
        StorageError: The object store that holds it failed.
    """
    kind = kind_of(path)
    with at_hand(path) as (file, sha256):
        _refuse_other_digest(path, sha256, expected)
        if kind == "saved_model":
            model, taken = load_saved_model(file, path, signature)
        else:
            model = _load_keras(file, path, imports)
            taken = signature_of(model, path, said)
        if digest_of(str(file)) != sha256:
            raise ModelError(
                "the model changed while it was loaded",
                path=path,
                hint="wait until it is written, then run again",
            )
    return LoadedModel(model, taken, sha256, path)


def _load_keras(file: Path, path: str, imports: Sequence[str]) -> Any:
    config = read_config(file, path)
    refuse_code(config, path)
    version = "" if file.suffix == ".keras" else written_by(file)
    tensorflow()
    import keras

    for module in imports:
        import_module(module)
    words = in_todays_words(file, config) if is_old(version) else nullcontext(file)
    try:
        with words as opened:
            model = keras.saving.load_model(str(opened), compile=False, safe_mode=True)
    except StorageError:
        raise
    # Keras raises whatever its layers raise: there is no narrower kind to catch.
    except Exception as error:
        unknown = unknown_class(
            config, lambda name: keras.saving.get_registered_object(name) is not None
        )
        raise _load_error(path, error, unknown, version) from error
    _refuse_stateful(model, path)
    return model


def _load_error(path: str, error: Exception, unknown: Part | None, version: str) -> ModelError:
    text = str(error)
    first = (text.strip().splitlines() or [type(error).__name__])[0]
    # Keras repeats a layer's whole configuration; what is wrong with it comes last.
    if " using config=" in first and "Exception encountered: " in text:
        first = f"{first.partition(' using config=')[0]}: {text.rpartition('encountered: ')[2]}"
    if "safe_mode" in text or "unsafe" in text.lower():
        return ModelError(
            "the model is refused: it holds code that would run when loaded",
            path=path,
            received=first,
            hint="replace Lambda layers by a registered layer class",
        )
    if unknown is not None and unknown.module.split(".")[0] in sys.stdlib_module_names:
        return ModelError(
            "the model is refused: it names code that is no part of a model",
            path=path,
            expected="layers of Keras, and classes registered by --import",
            received=str(unknown),
            hint="do not run this model: Keras saves none that names a module of Python's own",
        )
    # The latter is what is said of a layer in a file of Keras 2, which does not tell modules.
    if unknown is not None or "Could not locate" in text or "Unknown layer" in text:
        return ModelError(
            "the model needs a class that is not registered",
            path=path,
            expected="layers of Keras, and classes registered by --import",
            received=first.partition(". Please ensure")[0] if unknown is None else str(unknown),
            hint=_about_class(path, unknown),
        )
    if is_old(version):
        return ModelError(
            f"a model that was saved by Keras {version} cannot be loaded",
            path=path,
            expected=f"layers as Keras {versions()['keras']} knows them",
            received=f"{type(error).__name__}: {first}",
            hint="load it where it was made, or with the package tf_keras, and save it with "
            "tf.saved_model.save(model, 'folder')",
        )
    return ModelError(
        "the model cannot be loaded",
        path=path,
        received=f"{type(error).__name__}: {first}",
        hint="load it with keras.saving.load_model(path, compile=False) to see the whole error",
    )


def _about_class(path: str, unknown: Part | None) -> str:
    """What to do about a class that is not registered: which file to name, if it lies there."""
    if unknown is not None and not has_scheme(path):
        name = unknown.kind.rpartition(">")[2]
        if (source := source_beside(Path(path), name, unknown.module)) is not None:
            return (
                f"{source.name} beside the model defines {name}: if you trust that file, name it "
                f"with --import {shlex.quote(str(source))}"
            )
    return (
        "name the module that registers it (@keras.saving.register_keras_serializable) with "
        "--import MODULE or --import FILE.py"
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
