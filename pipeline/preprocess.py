"""The `preprocess` hook: called in tf.data's graph, and held against what the model takes.

The hook is given a dict of tensors, (rows, …) each, and returns what the model takes: a tensor, a
dict by the model's own keys, or a list in the model's order. Structure, types, ranks and sizes are
compared when the graph is made, before a row is read, and nothing is converted in silence. What a
graph cannot know, the number of rows, is compared on each batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError
from pipeline.reasons import named_reason, place_of
from pipeline.runtime import tensorflow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pipeline.signature import InputSpec, Signature


@dataclass(frozen=True)
class Preprocess:
    """A hook of the user's.

    Attributes:
        hook: How the job names it.
        function: Itself.
    """

    hook: str
    function: Callable[..., Any]

    def __call__(self, named: Mapping[str, Any], signature: Signature) -> list[Any]:
        """What the model takes, one tensor for each of its inputs, in order.

        Args:
            named: What the columns feed, by name: (rows, …).
            signature: The model's.

        Raises:
            ModelError: The hook raises while its graph is made, or gives something else.
        """
        tf = tensorflow()
        # What was wrong with what is returned; AutoGraph would wrap an error.
        amiss: list[str] = []

        def in_order(returned: Any) -> list[Any]:
            found = _matched(returned, signature)
            if found is None:
                amiss.append(_shown(returned))
            return found or []

        ours = tf.autograph.experimental.do_not_convert(in_order)

        def prepare(given: dict[str, Any]) -> list[Any]:
            return ours(self.function(given))  # type: ignore[no-any-return]

        try:
            # A function of its own, so that AutoGraph converts the user's code and not ours.
            tensors = tf.function(prepare)(dict(named))
        except (Exception, SystemExit) as error:  # the user's hook may raise anything
            place = place_of(error, but=__file__)
            raise ModelError(
                "the preprocess hook fails",
                expected="; ".join(f"{name}: {_tensor_shown(t)}" for name, t in named.items()),
                received=f"{named_reason(error)}\nin {self.hook}" + (f", {place}" if place else ""),
                hint="it is called in a graph, on tensors of any number of rows: use functions of "
                "TensorFlow's, or wrap what is not one in tf.numpy_function",
            ) from error
        if amiss:
            raise self._unfit(amiss[0], signature)
        rows = tf.shape(next(iter(named.values())))[0]
        return [
            self._checked(tensor, spec, rows)
            for tensor, spec in zip(tensors, signature.inputs, strict=True)
        ]

    def _unfit(self, received: str, signature: Signature) -> ModelError:
        return ModelError(
            "the preprocess hook does not return what the model takes",
            expected=_wanted(signature),
            received=f"{received}, from {self.hook}",
            hint="return the model's inputs: "
            + (
                "one tensor"
                if signature.structure == "tensor"
                else "a dict with exactly these names"
                if signature.structure == "dict"
                else "a list in this order, or a dict with exactly these names"
            ),
        )

    def _checked(self, tensor: Any, spec: InputSpec, rows: Any) -> Any:
        """The tensor, if it can be what the model takes; whether it has as many rows is compared
        when it is run."""
        tf = tensorflow()
        # Where the model does not declare a type, what Keras makes of any is up to Keras.
        right_type = not spec.declared or tensor.dtype.name == spec.dtype
        wanted = tf.TensorShape((None, *spec.shape))
        if not right_type or not wanted.is_compatible_with(tensor.shape):
            raise ModelError(
                "the preprocess hook returns something else than the model takes",
                expected=str(spec),
                received=f"{spec.name}: {_tensor_shown(tensor)}, from {self.hook}",
                hint=f"reshape it in the hook; {spec.dtype} ({_dimensions(wanted)}) is needed"
                if right_type
                else f"convert it in the hook: tf.cast(…, tf.{spec.dtype})",
            )
        tensor = tf.ensure_shape(tensor, wanted)
        returned = tf.shape(tensor)[0]
        same = tf.debugging.Assert(
            tf.equal(returned, rows),
            [
                f"the preprocess hook {self.hook} returns another number of rows than it is given:",
                returned,
                "instead of",
                rows,
            ],
        )
        with tf.control_dependencies([same] if same is not None else []):
            return tf.identity(tensor)


def _matched(returned: Any, signature: Signature) -> list[Any] | None:
    """The tensors of what a hook returned, in the order of the inputs; None if it does not fit."""
    tf = tensorflow()
    names = [spec.name for spec in signature.inputs]
    found: list[Any] | None
    if isinstance(returned, dict) and returned.keys() == set(names):
        found = [returned[name] for name in names]
    elif signature.nest is not None:
        places: dict[int, Any] = {}
        fits = _placed(returned, signature.nest, places)
        found = [places[i] for i in range(len(names))] if fits else None
    elif signature.structure == "dict" or isinstance(returned, dict):
        found = None
    else:
        found = list(returned) if isinstance(returned, (list, tuple)) else [returned]
        if len(found) == 1 and isinstance(found[0], (list, tuple)):  # as an element wraps a list
            found = list(found[0])
    if found is None or len(found) != len(names):
        return None
    return found if all(isinstance(tensor, tf.Tensor) for tensor in found) else None


def _placed(returned: Any, nest: Any, places: dict[int, Any]) -> bool:
    if isinstance(nest, dict):
        return (
            isinstance(returned, dict)
            and returned.keys() == nest.keys()
            and all(_placed(returned[key], inner, places) for key, inner in nest.items())
        )
    if isinstance(nest, tuple):
        return (
            isinstance(returned, (list, tuple))
            and len(returned) == len(nest)
            and all(_placed(r, inner, places) for r, inner in zip(returned, nest, strict=True))
        )
    places[nest] = returned
    return True


def _wanted(signature: Signature) -> str:
    specs = "; ".join(str(spec) for spec in signature.inputs)
    return f"a {signature.structure}: {specs}" if len(signature.inputs) > 1 else specs


def _shown(value: Any) -> str:
    """What a hook returned, for people."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return f"a dict: {_joined([f'{k}: {_shown(v)}' for k, v in value.items()])}"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__}: {_joined([_shown(v) for v in value])}"
    return _tensor_shown(value)


def _joined(parts: Sequence[str]) -> str:
    return "; ".join(parts) or "empty"


def _tensor_shown(value: Any) -> str:
    if not isinstance(value, tensorflow().Tensor):
        return type(value).__name__
    return f"{value.dtype.name} ({_dimensions(value.shape)})"


def _dimensions(shape: Any) -> str:
    """A tensor's shape, its rows called n as everywhere."""
    if shape.rank is None:
        return "any shape"
    if shape.rank == 0:
        return ""
    rows, *rest = shape.as_list()
    return ", ".join(
        ["n" if rows is None else str(rows), *("?" if d is None else str(d) for d in rest)]
    )
