"""Arrays in a file, for processes that hand them on to each other: numbers as bytes, texts with
their lengths.

NumPy's own format keeps objects as pickles and forgets the names of types that it does not know
(bfloat16), so here each array is its bytes and a line of description. Nothing is unpickled.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    Array = np.ndarray[Any, np.dtype[Any]]


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Writes arrays, by name and in order: numbers, booleans, and objects that are bytes or str."""
    described: list[dict[str, Any]] = []
    parts: dict[str, Array] = {}
    for number, (name, array) in enumerate(arrays.items()):
        kind = array.dtype.name if array.dtype.kind not in "OSU" else "text"
        described.append({"name": name, "dtype": kind, "shape": array.shape})
        if kind != "text":
            parts[f"{number}.values"] = np.frombuffer(np.ascontiguousarray(array), np.uint8)
            continue
        texts = array.ravel().tolist()
        encoded = [text.encode() if isinstance(text, str) else bytes(text) for text in texts]
        parts[f"{number}.values"] = np.frombuffer(b"".join(encoded), np.uint8)
        parts[f"{number}.lengths"] = np.array([len(text) for text in encoded], np.int64)
        # Which of them were str: a model gives bytes, a hook may give either.
        parts[f"{number}.str"] = np.array([isinstance(text, str) for text in texts], np.bool_)
    head = np.frombuffer(json.dumps(described).encode(), np.uint8)
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, head=head, **parts)


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of a file that `write_arrays` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        arrays: dict[str, Array] = {}
        for number, told in enumerate(json.loads(stored["head"].tobytes())):
            values = stored[f"{number}.values"]
            if told["dtype"] == "text":
                array = _texts(
                    values.tobytes(), stored[f"{number}.lengths"], stored[f"{number}.str"]
                )
            else:
                array = np.frombuffer(values, np.dtype(told["dtype"]))
            arrays[told["name"]] = array.reshape(told["shape"])
        return arrays


def _texts(joined: bytes, lengths: Array, strings: Array) -> Array:
    array = np.empty(len(lengths), object)
    start = 0
    for i, (length, is_str) in enumerate(zip(lengths.tolist(), strings.tolist(), strict=True)):
        text = joined[start : start + length]
        array[i] = text.decode() if is_str else text
        start += length
    return array
