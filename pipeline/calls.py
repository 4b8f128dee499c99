"""How a model is called: the three methods of Keras, each given what it wants.

`predict_on_batch(x)` hands the model's step the tuple `(x,)`, `predict()` hands it `x`. A step
that unpacks as Keras' own does sees no difference; one that takes its argument for the features
gives wrong shapes without an error. The compiled step is called with what `predict()` would hand
it.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from pipeline.errors import ScoringError
from pipeline.reasons import named_reason
from pipeline.runtime import tensorflow

if TYPE_CHECKING:
    from pipeline.outputs import Array
    from pipeline.program import Program
    from pipeline.records import Method


def call(program: Program, method: Method, element: Any) -> dict[str, Array]:
    """Scores one batch by a method, whichever.

    Args:
        program: The model.
        method: Keras' method.
        element: What `predict(dataset)` is to be given for the batch.

    Returns:
        Column → array, (rows, …).
    """
    if method == "predict":
        return call_predict(program, tensorflow().data.Dataset.from_tensors(element))
    return call_step(program, method, element)


def call_step(program: Program, method: Method, tensors: Any) -> dict[str, Array]:
    """Scores one batch by `predict_on_batch` or by the compiled step.

    Returns:
        Column → array, (rows, …).
    """
    keras_model = program.model.keras
    if method == "predict_on_batch":
        outputs = keras_model.predict_on_batch(_as_array_argument(program, tensors))
    else:
        keras_model.make_predict_function()
        outputs = _as_numpy(keras_model.predict_function([tensors]))
    return program.named(outputs)


def call_predict(program: Program, dataset: Any) -> dict[str, Array]:
    """Scores a dataset by `predict()`, which must not be empty."""
    with warnings.catch_warnings():
        # How many batches have a good row is known at the end alone; Keras finds that odd.
        warnings.filterwarnings("ignore", message="Your input ran out of data")
        outputs = program.model.keras.predict(dataset, verbose=0)
    return program.named(outputs)


def _as_array_argument(program: Program, tensors: Any) -> Any:
    # A dataset's element wraps a list of inputs once; the method's argument is the bare list.
    return tensors[0] if program.model.signature.structure == "list" else tensors


def _as_numpy(outputs: Any) -> Any:
    if isinstance(outputs, dict):
        return {name: _as_numpy(value) for name, value in outputs.items()}
    if isinstance(outputs, tuple) and hasattr(outputs, "_fields"):
        return type(outputs)(*map(_as_numpy, outputs))
    if isinstance(outputs, (list, tuple)):
        return [_as_numpy(value) for value in outputs]
    return outputs if hasattr(outputs, "row_splits") else outputs.numpy()


def model_raised(error: Exception, path: str, start: int, rows: int | None) -> ScoringError:
    """The error for a model that raised, naming the rows it was given."""
    where = f"rows {start} to {start + rows - 1}" if rows else f"rows from {start} on"
    return ScoringError(
        f"the model raised on {where}",
        path=path,
        received=named_reason(error),
        hint="score these rows by hand to see the whole error; the other shards are scored",
    )


def out_of_memory(error: BaseException) -> bool:
    """Whether a batch was too big for the memory of the machine or of its card."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, tensorflow().errors.ResourceExhaustedError)


def of_the_machine(error: BaseException) -> bool:
    """Whether an error says that the machine failed, whatever the rows."""
    errors = tensorflow().errors
    return isinstance(
        error,
        (
            errors.UnavailableError,
            errors.AbortedError,
            errors.CancelledError,
            errors.DataLossError,
            errors.InternalError,
        ),
    )
