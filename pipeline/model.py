"""Models: digest one, load one safely, read its signature. The only place that opens a model.

Loading is the dangerous part: a model file can name code to run. So only local files are opened
(`load_model` would take `hf://` addresses), `safe_mode` is always on, nothing is unpickled, and
code of the user's is imported only where the job names its module.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import ModelError
from pipeline.runtime import tensorflow
from pipeline.storage.locate import has_scheme

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_CHUNK = 1 << 20
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_BATCH_BYTES = 1 << 20
_LARGEST_BATCH = 8192
_SMALLEST_BATCH = 32
_STRING_BYTES = 16
"""What a string is taken to weigh when the batch size is chosen: it has no fixed width."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a model.

    Attributes:
        name: Key of a dict input, or the input's own name.
        shape: Shape of one row: () or (1,) for a scalar, (k,), (k, m) …
        dtype: numpy's name of its type, or `string`.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, as fed to the model."""
        import numpy as np

        width = _STRING_BYTES if self.dtype == "string" else np.dtype(self.dtype).itemsize
        for dimension in self.shape:
            width *= dimension or 1
        return width

    def __str__(self) -> str:
        shape = ", ".join(["n", *("?" if d is None else str(d) for d in self.shape)])
        return f"{self.name}: {self.dtype} ({shape})"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes, and what it calls its outputs.

    Attributes:
        inputs: Its inputs, in the order in which they are fed.
        structure: `tensor` if it takes one tensor, `dict` for named ones, `list` for a sequence.
        output_names: Names of its outputs in order, where it has them.
        custom_step: Whether its class overrides `predict_step`.
    """

    inputs: tuple[InputSpec, ...]
    structure: Literal["tensor", "dict", "list"]
    output_names: tuple[str, ...]
    custom_step: bool

    def pack(self, arrays: Sequence[Any]) -> Any:
        """Arranges one array or tensor per input as `predict(dataset)` wants an element.

        A list becomes a tuple inside a tuple, since Keras takes a bare tuple for (x, y).
        """
        if self.structure == "dict":
            return {spec.name: array for spec, array in zip(self.inputs, arrays, strict=True)}
        if self.structure == "list":
            return (tuple(arrays),)
        return arrays[0]

    def batch_size(self) -> int:
        """The batch size for `auto`: a power of two whose features weigh about a mebibyte.

        A pure function of the signature, so that it is the same on every machine.
        """
        rows = max(1, _BATCH_BYTES // max(1, sum(spec.row_bytes for spec in self.inputs)))
        return max(_SMALLEST_BATCH, min(_LARGEST_BATCH, 1 << (rows.bit_length() - 1)))


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
    if has_scheme(path):
        raise ModelError(
            "models are loaded from files only", path=path,
            expected="the path of a .keras, .h5 or .hdf5 file",
        )
    file = Path(path)
    if file.is_dir():
        raise ModelError(
            "the model is a folder", path=path, expected="a .keras, .h5 or .hdf5 file",
            hint="save the model with model.save('model.keras')",
        )
    if not file.exists():
        raise ModelError("the model does not exist", path=path, hint="check the path of --model")
    if file.suffix not in {".keras", ".h5", ".hdf5"}:
        raise ModelError(
            "not a model file that is opened here", path=path,
            expected="a .keras, .h5 or .hdf5 file", received=f"a file ending {file.suffix!r}",
            hint="save the model with model.save('model.keras'); pickles are never opened",
        )
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise ModelError(f"the model cannot be read: {error.strerror}", path=path) from error
    found = digest.hexdigest()
    if expected is not None and found != expected:
        raise ModelError(
            "the model is not the one that the job names", path=path,
            expected=f"sha256 {expected}", received=f"sha256 {found}",
            hint="check --model and --model-sha256",
        )
    return found


def digest_imports(modules: Iterable[str]) -> str:
    """SHA-256 over the source of the modules that a job imports, without importing them.

    Their code runs inside the model, so it decides the predictions as much as the weights do.

    Raises:
        ModelError: A module cannot be found.
    """
    digest = hashlib.sha256()
    for module in modules:
        source = _source_of(module)
        files = sorted(source.parent.rglob("*.py")) if source.name == "__init__.py" else [source]
        for file in files:
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def load(path: str, imports: Sequence[str] = (), expected: str | None = None) -> LoadedModel:
    """Loads a Keras model.

    Args:
        path: A `.keras`, `.h5` or `.hdf5` file.
        imports: Modules that register the model's own classes.
        expected: The digest that the file must have, or None.

    Raises:
        ModelError: It cannot be loaded, or what it takes as input is unknown.
    """
    sha256 = digest_model(path, expected)
    _check_container(Path(path))
    tensorflow()
    import keras

    for module in imports:
        _import(module)
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    # Keras raises whatever its layers raise: there is no narrower kind to catch.
    except Exception as error:
        raise _load_error(path, error) from error
    if digest_model(path) != sha256:
        raise ModelError("the model file changed while it was loaded", path=path,
                         hint="wait until it is written, then run again")
    _refuse_stateful(model, path)
    return LoadedModel(model, _signature(model, path), sha256, path)


def _check_container(file: Path) -> None:
    """Looks at the file from outside, where Keras' own errors would mislead."""
    with file.open("rb") as stream:
        head = stream.read(8)
    if file.suffix == ".keras":
        if not zipfile.is_zipfile(file):
            raise ModelError(
                "the model file is damaged", path=str(file),
                expected="a .keras archive (a zip file)",
                received=f"{file.stat().st_size} bytes that begin with {head!r}",
                hint="save or copy the model again",
            )
        with zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
        if "config.json" not in names:
            raise ModelError(
                "the model file is damaged", path=str(file),
                expected="an archive that holds config.json and model.weights.h5",
                received=", ".join(sorted(names)) or "an empty archive",
                hint="save the model with model.save('model.keras')",
            )
        return
    if head != _HDF5_MAGIC:
        raise ModelError(
            "the model file is damaged", path=str(file), expected="an HDF5 file",
            received=f"a file that begins with {head!r}", hint="save or copy the model again",
        )
    import h5py

    with h5py.File(file, "r") as stored:
        if "model_config" not in stored.attrs:
            raise ModelError(
                "the model file holds weights only", path=str(file),
                expected="a whole model: its structure and its weights",
                received="an HDF5 file without model_config, as save_weights() writes it",
                hint="build the model, load these weights, then model.save('model.keras')",
            )


def _load_error(path: str, error: Exception) -> ModelError:
    text = str(error)
    first = (text.strip().splitlines() or [type(error).__name__])[0]
    if "safe_mode" in text or "unsafe" in text.lower():
        return ModelError(
            "the model is refused: it holds code that would run when loaded", path=path,
            received=first, hint="replace Lambda layers by a registered layer class",
        )
    if "Could not locate" in text or "custom_objects" in text:
        return ModelError(
            "the model needs a class that is not registered", path=path, received=first,
            hint="name the module that registers it (@keras.saving.register_keras_serializable) "
            "with --import MODULE or --import FILE.py",
        )
    return ModelError(
        "the model cannot be loaded", path=path, received=f"{type(error).__name__}: {first}",
        hint="load it with keras.saving.load_model(path, compile=False) to see the whole error",
    )


def _refuse_stateful(model: Any, path: str) -> None:
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False):
            raise ModelError(
                "the model keeps state between batches, so its predictions depend on their order",
                path=path, received=f"layer {layer.name!r} with stateful=True",
                hint="rebuild that layer with stateful=False",
            )


def _signature(model: Any, path: str) -> Signature:
    import keras

    custom_step = type(model).predict_step not in {
        getattr(base, "predict_step", None) for base in (keras.Model, keras.Sequential)
    }
    try:
        struct = model.input
    except (AttributeError, ValueError):
        struct = getattr(model, "inputs", None)  # a Sequential model has these alone
    if struct is None or (isinstance(struct, list) and not struct):  # a subclassed model: it has no symbolic inputs
        inputs, structure = _built_inputs(model, path)
        names: tuple[str, ...] = ()
    else:
        inputs, structure = _symbolic_inputs(struct, path)
        names = tuple(model.output_names)
    return Signature(inputs, structure, names, custom_step)


def _symbolic_inputs(
    struct: Any, path: str
) -> tuple[tuple[InputSpec, ...], Literal["tensor", "dict", "list"]]:
    if isinstance(struct, dict):
        named = list(struct.items())
    elif isinstance(struct, (list, tuple)):
        named = [(tensor.name, tensor) for tensor in struct]
    else:
        return (_spec(struct.name, struct),), "tensor"
    if not all(hasattr(tensor, "dtype") for _, tensor in named):
        raise ModelError(
            "the model's inputs are nested", path=path, expected="a tensor, or a flat dict or list "
            "of tensors", hint="wrap the model in one whose inputs are a flat dict",
        )
    specs = tuple(_spec(name, tensor) for name, tensor in named)
    if isinstance(struct, dict):
        return specs, "dict"
    # A list of one is fed, and unpacked by Keras, like a single tensor.
    return (specs, "list") if len(specs) > 1 else (specs, "tensor")


def _spec(name: str, tensor: Any) -> InputSpec:
    return InputSpec(name, tuple(tensor.shape[1:]), str(tensor.dtype))


def _built_inputs(
    model: Any, path: str
) -> tuple[tuple[InputSpec, ...], Literal["tensor", "dict", "list"]]:
    """Inputs of a subclassed model, from the shapes that it was built with."""
    built = (model.get_build_config() or {}).get("input_shape")
    dtype = str(model.input_dtype)
    if isinstance(built, dict):
        specs = [InputSpec(name, tuple(shape[1:]), dtype) for name, shape in built.items()]
        return tuple(specs), "dict"
    if isinstance(built, (list, tuple)) and all(isinstance(d, int | None) for d in built):
        return (InputSpec("features", tuple(built[1:]), dtype),), "tensor"
    raise ModelError(
        "the model does not say what it takes as input", path=path,
        expected="a subclassed model that was built on one tensor or a dict of tensors",
        received=f"input shape {built!r}",
        hint="call the model once on a batch before model.save()",
    )


def _source_of(module: str) -> Path:
    if module.endswith(".py"):
        source = Path(module)
        if not source.is_file():
            raise ModelError("the module to import does not exist", path=module)
        return source
    with _importing_from_here():
        try:
            spec = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            spec = None
    if spec is None or spec.origin is None or not spec.has_location:
        raise ModelError(
            f"the module {module!r} cannot be found",
            hint="--import takes a module that Python can import from here, or a .py file",
        )
    return Path(spec.origin)


def _import(module: str) -> None:
    try:
        if not module.endswith(".py"):
            with _importing_from_here():
                importlib.import_module(module)
            return
        name = Path(module).stem
        if name in sys.modules and getattr(sys.modules[name], "__file__", None) == str(
            Path(module).absolute()
        ):
            return
        spec = importlib.util.spec_from_file_location(name, Path(module).absolute())
        if spec is None or spec.loader is None:
            raise ModelError("the module cannot be imported", path=module)
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[name] = loaded
        spec.loader.exec_module(loaded)
    except ModelError:
        raise
    # The module is the user's: it may raise anything.
    except Exception as error:
        raise ModelError(
            f"the module {module!r} failed while it was imported",
            received=f"{type(error).__name__}: {error}",
        ) from error


class _importing_from_here:  # noqa: N801 - reads as a statement where it is used
    """Puts the current folder on the import path, as `python -m` does."""

    def __enter__(self) -> None:
        sys.path.insert(0, str(Path.cwd()))

    def __exit__(self, *exc: object) -> None:
        sys.path.remove(str(Path.cwd()))
