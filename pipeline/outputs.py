"""From what Keras returned to named arrays: one flat mapping, whatever the nesting.

Owns the names of prediction columns, which values count as arrays, and what numpy's and
TensorFlow's types have in common. A dict's keys and a named tuple's fields are names; nested ones
are joined by dots. Arrow is not needed here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Array = np.ndarray[Any, Any]

SINGLE = "prediction"
"""Name of the column of a model whose one output has no name of its own."""

_RAGGED = "row_splits"
_SPARSE = "dense_shape"


def flatten(outputs: Any, output_names: Sequence[str]) -> dict[str, Array]:
    """A model's outputs as one flat mapping of column name → array.

        array                        prediction
        {"a": array}                 a
        {"box": {"x": array}}        box.x
        [array, array]               the model's own names, or prediction_0, prediction_1
        {"a": (array, array)}        a.0, a.1

    Args:
        outputs: As Keras returned them: an array, or dicts, lists and tuples of arrays.
        output_names: The model's own names of its outputs, for a list or tuple of that length.

    Returns:
        Name → array, (rows, …). Strings are objects, `str` or `bytes`.

    Raises:
        ModelError: Something in there is no dense array, or has no name, or one name is two's.
    """
    flat: dict[str, Array] = {}
    places: dict[str, str] = {}
    for name, place, value in _leaves(outputs, "", "outputs", output_names):
        if name in flat:
            raise ModelError(
                "two outputs of the model have one name",
                column=name,
                received=f"{places[name]}\n{place}",
                hint="give the output layers different names, or return a dict with other keys",
            )
        flat[name] = _as_array(name, value)
        places[name] = place
    if not flat:
        raise ModelError("the model returned no output", received=repr(outputs))
    return flat


def _leaves(
    value: Any, name: str, place: str, output_names: Sequence[str] = ()
) -> Iterator[tuple[str, str, Any]]:
    """The arrays in a value: the name of each, where it is as Python spells it, and itself."""
    if isinstance(value, dict):
        for key, inner in value.items():
            label = _key(key, place)
            yield from _leaves(inner, f"{name}.{label}" if name else label, f"{place}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        fields = getattr(value, "_fields", None)
        labels = _labels(fields, value, name, output_names)
        for i, (label, inner) in enumerate(zip(labels, value, strict=True)):
            where = f"{place}.{fields[i]}" if fields else f"{place}[{i}]"
            yield from _leaves(inner, f"{name}.{label}" if name else label, where)
    else:
        yield name or SINGLE, place, value


def _key(key: Any, place: str) -> str:
    # A number is as good a name as its digits; of other objects the text may differ between runs.
    number = isinstance(key, (int, np.integer)) and not isinstance(key, bool)
    if number or (isinstance(key, str) and key):
        return str(key)
    raise ModelError(
        "an output of the model has no name that a column can have",
        expected="keys that are text, and not empty",
        received=f"the key {key!r} in {place}",
        hint="name the outputs of the model's dict by strings",
    )


def _labels(
    fields: Sequence[str] | None, value: Sequence[Any], name: str, output_names: Sequence[str]
) -> list[str]:
    if fields is not None:
        return list(fields)
    if name:
        return [str(i) for i in range(len(value))]
    if len(output_names) == len(value):
        return list(output_names)
    return [f"{SINGLE}_{i}" for i in range(len(value))]


def _as_array(name: str, value: Any) -> Array:
    ragged, sparse = hasattr(value, _RAGGED), hasattr(value, _SPARSE)
    if ragged or sparse or not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise ModelError(
            "the model returned something that is no dense array",
            column=name,
            expected="an array whose first dimension is the rows",
            received=type(value).__name__,
            hint="call .to_tensor() on it in the model, with a shape that all batches have"
            if ragged
            else "call tf.sparse.to_dense() on it in the model"
            if sparse
            else None,
        )
    array = np.asarray(value)
    # numpy's own strings have a width, which differs from batch to batch.
    return array.astype(object) if array.dtype.kind in "UST" else array


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether a type is a float's; those that TensorFlow adds to numpy's have another kind."""
    return dtype.kind == "f" or "float" in dtype.name


def as_float64(array: Array) -> Array:
    """Floats of any type as float64, exactly; (rows, …). For comparing, and for `np.isfinite`."""
    return array.astype(np.float64)
