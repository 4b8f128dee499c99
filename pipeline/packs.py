"""Batches that share a call of `predict()`, one after the other inside the graph.

Keras' loop goes through Python for each batch: a millisecond for a model of three layers, however
few rows. Here a call is given a single element, the pack, which holds the arrays of all batches end
to end; and the compiled step, which is the very function that `predict()` calls, is called on each
batch in a loop of the graph, a twentieth of that. A batch stays a batch: its rows alone, in its own
shape, so its predictions are the same to the last bit, whatever else is in the pack.

Owns what a pack is, and which models can be given one.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.runtime import pool_threads, tensorflow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.feed import Feed
    from pipeline.outputs import Array
    from pipeline.program import Program

    Loop = Callable[..., Any]
    """A compiled function from a pack to what `predict()` returns of its batches."""

KEPT = 4
"""Models whose loop is kept for the next call."""


def loop_of(program: Program) -> Loop | None:
    """The loop of a model; None where it cannot be given a pack.

    That is one that has a `predict()` of its own, that runs eagerly, or whose outputs could not be
    laid end to end.
    """
    return _loop(program.model.keras, program.feed)


def call_packed(
    program: Program, loop: Loop, batches: Sequence[Sequence[Array]]
) -> dict[str, Array]:
    """Scores batches by one call of `predict()`.

    Args:
        program: The model.
        loop: Its loop.
        batches: The arrays of each, (rows, …), one for each of the feed's inputs; with rows.

    Returns:
        Column → array, the batches' rows end to end.

    Raises:
        InvalidArgumentError: TensorFlow's; the model gives a batch another number of rows.
    """
    keras_model = program.model.keras
    dataset = tensorflow().data.Dataset.from_tensors(_pack(program.feed, batches))
    own = keras_model.predict_function
    keras_model.predict_function = lambda data: loop(*data[0])
    try:
        outputs = keras_model.predict(dataset.with_options(_options()), verbose=0)
    finally:
        keras_model.predict_function = own
    return program.named(outputs)


def _pack(feed: Feed, batches: Sequence[Sequence[Array]]) -> tuple[tuple[Any, ...], ...]:
    """The values of each input end to end, (values,); and its shapes, (batches, rank)."""
    tf = tensorflow()
    inputs = list(zip(*batches, strict=True))
    values = tuple(
        tf.convert_to_tensor(np.concatenate([a.reshape(-1) for a in arrays]), dtype=spec.dtype)
        for arrays, spec in zip(inputs, feed.inputs, strict=True)
    )
    return values, tuple(tf.constant([a.shape for a in arrays], tf.int64) for arrays in inputs)


@functools.lru_cache(maxsize=KEPT)
def _loop(keras_model: Any, feed: Feed) -> Loop | None:
    if not _all_of_keras(keras_model):
        return None
    keras_model.make_predict_function()
    function = keras_model.predict_function
    if not hasattr(function, "get_concrete_function"):
        return None
    tf = tensorflow()
    wanted = [tf.TensorSpec((None, *spec.shape), spec.dtype) for spec in feed.inputs]

    def step(*tensors: Any) -> Any:
        return function([feed.element(tensors)])

    # Whatever is wrong with it, Keras' own loop is to say.
    try:
        traced = tf.function(step, input_signature=wanted, autograph=False).get_concrete_function()
    except Exception:
        return None
    outputs = tf.nest.flatten(traced.structured_outputs)
    if not outputs or not all(_stackable(output) for output in outputs):
        return None

    def whole(values: Sequence[Any], shapes: Sequence[Any]) -> Any:
        sizes = [tf.reduce_prod(of_one, axis=1) for of_one in shapes]
        starts = [tf.cumsum(of_one, exclusive=True) for of_one in sizes]
        count = tf.shape(sizes[0])[0]

        def batch(i: Any) -> list[Any]:
            tensors = []
            for flat, start, size, shape, spec in zip(
                values, starts, sizes, shapes, wanted, strict=True
            ):
                tensor = tf.reshape(tf.slice(flat, [start[i]], [size[i]]), shape[i])
                tensors.append(tf.ensure_shape(tensor, spec.shape))
            return tensors

        def body(i: Any, *kept: Any) -> tuple[Any, ...]:
            scored = tf.nest.flatten(traced(*batch(i)))
            rows = tf.cast(shapes[0][i, 0], tf.int32)
            # Or one batch's rows could become another's.
            as_many = [tf.debugging.assert_equal(tf.shape(output)[0], rows) for output in scored]
            with tf.control_dependencies(as_many):
                return (i + 1, *(k.write(i, o) for k, o in zip(kept, scored, strict=True)))

        kept = [
            tf.TensorArray(o.dtype, count, infer_shape=False, element_shape=o.shape)
            for o in outputs
        ]
        _, *kept = tf.while_loop(
            lambda i, *_: i < count, body, (tf.constant(0), *kept), parallel_iterations=1
        )
        return tf.nest.pack_sequence_as(traced.structured_outputs, [k.concat() for k in kept])

    taken = (
        tuple(tf.TensorSpec((None,), spec.dtype) for spec in wanted),
        tuple(tf.TensorSpec((None, len(spec.shape)), tf.int64) for spec in wanted),
    )
    return tf.function(whole, input_signature=taken, autograph=False)  # type: ignore[no-any-return]


def _all_of_keras(keras_model: Any) -> bool:
    """Whether Keras' own loop goes through batches, and calls a step that Keras made."""
    kind = type(keras_model)
    methods = (kind.predict, kind.make_predict_function)
    return not keras_model.run_eagerly and all(
        method.__module__.startswith("keras.") for method in methods
    )


def _stackable(output: Any) -> bool:
    """Whether it is a plain tensor whose rows have one shape, whatever is fed."""
    if hasattr(output, "row_splits") or hasattr(output, "dense_shape"):
        return False
    return bool(output.shape.rank) and output.shape[1:].is_fully_defined()


@functools.cache
def _options() -> Any:
    options = tensorflow().data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    if pool_threads():
        options.threading.private_threadpool_size = pool_threads()
    return options
