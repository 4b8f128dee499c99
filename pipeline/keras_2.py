"""Files of Keras 2, in the words of Keras 3.

A `.h5` file of Keras 2 says of some layers what Keras 3 has no word for, and Keras 3 refuses it
though nothing would be different: that time is not the major axis, that there is one group of
channels, that one axis is normalized, written as a list. Only what changes nothing is left out or
rewritten; all else is for Keras to take or to refuse.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.storage.disk_errors import translated
from pipeline.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_RECURRENT = {"SimpleRNN", "LSTM", "GRU", "RNN", "CuDNNLSTM", "CuDNNGRU", "ConvLSTM2D"}
_CONVOLUTIONS = {
    f"{kind}{rank}" for kind in ("DepthwiseConv", "SeparableConv") for rank in ("1D", "2D")
} | {"Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"}

_EMPTY: dict[str, tuple[str, Any]] = {
    **dict.fromkeys(_RECURRENT, ("time_major", False)),
    **dict.fromkeys(_CONVOLUTIONS, ("groups", 1)),
}
"""Class → what Keras 2 wrote of it that says nothing: name and value."""

_INNER = {"layer", "cell", "forward_layer", "backward_layer"}
"""What a layer calls the layers that it is made of."""


def written_by(file: Path) -> str:
    """The version of Keras that wrote a `.h5` file; empty if it does not say so."""
    import h5py

    with h5py.File(file, "r") as stored:
        version = stored.attrs.get("keras_version", "")
    return version.decode() if isinstance(version, bytes) else str(version)


def is_old(version: str) -> bool:
    """Whether a version is Keras 2 or 1."""
    return version.startswith(("1.", "2."))


@contextmanager
def in_todays_words(file: Path, config: Any) -> Iterator[Path]:
    """A `.h5` file whose configuration Keras 3 takes: the file itself, or a copy if it differs.

    Args:
        file: The file.
        config: Its configuration.

    Raises:
        StorageError: The disk is full.
    """
    import h5py
    import keras

    today = translation(config, lambda name: hasattr(keras.layers, name))
    if today == config:
        yield file
        return

    with tempfile.TemporaryDirectory(prefix="shardscore-", dir=temporary_folder()) as folder:
        copy = Path(folder) / f"model{file.suffix}"
        with translated(copy):
            shutil.copyfile(file, copy)
            with h5py.File(copy, "r+") as stored:
                stored.attrs["model_config"] = json.dumps(today).encode()
        yield copy


def translation(config: Any, is_layer: Callable[[str], bool]) -> Any:
    """PURE: a configuration in today's words.

    Args:
        config: The configuration.
        is_layer: Whether Keras has a layer of that name.
    """
    if isinstance(config, list):
        return [translation(inner, is_layer) for inner in config]
    if not isinstance(config, dict):
        return config
    today = {key: translation(value, is_layer) for key, value in config.items()}
    kind, own = today.get("class_name"), today.get("config")
    if not isinstance(kind, str) or not isinstance(own, dict):
        return today
    if kind == "Policy":
        return own.get("name", today)
    axis = own.get("axis")
    if kind == "BatchNormalization" and isinstance(axis, list) and len(axis) == 1:
        own["axis"] = axis[0]
    name, value = _EMPTY.get(kind, ("", None))
    if name in own and own[name] == value:
        del own[name]
    for inner in [own[key] for key in _INNER & own.keys()]:
        # Keras 3 finds a layer inside of another by its module alone, which was not written down.
        if isinstance(inner, dict) and is_layer(str(inner.get("class_name"))):
            inner.setdefault("module", "keras.layers")
            inner.setdefault("registered_name", None)
    return today
