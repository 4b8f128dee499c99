"""The three ways to score, one for each of Keras' prediction methods.

A `Scorer` turns batches into scored batches, in order, one for one. `PredictOnBatch` and
`PredictStep` hold one batch at a time. `Predict` runs Keras' own loop, which keeps all its output
until it ends, so it is given a bounded number of batches a call.

`predict_on_batch(x)` hands the model's step the tuple `(x,)`, `predict()` hands it `x`. A step
that unpacks as Keras' own does sees no difference; one that takes its argument for the features
gives wrong shapes without an error. `PredictStep` calls the compiled step with what `predict()`
would hand it. Which one streams is decided by `pipeline.probe`.
"""

from __future__ import annotations

import warnings
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.errors import ScoringError, ShardscoreError
from pipeline.reasons import named_reason
from pipeline.records import Batch, ScoredBatch
from pipeline.stream import BatchStream

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from pipeline.predictions import Array, PredictionSchema
    from pipeline.program import Program
    from pipeline.records import Method

BATCHES_A_CALL = 16
"""Batches of a big shard that one call of `predict()` takes, where the user asked for it."""


class Scorer(Protocol):
    """One way to score.

    Attributes:
        method: Keras' method that it calls.
    """

    method: Method

    def score(
        self, source: Iterator[Batch], count: int, *, together: bool
    ) -> Generator[ScoredBatch, None, None]:
        """Scores `count` batches of `source`, in order.

        Args:
            source: The batches.
            count: How many.
            together: Whether they are few and small enough to share one call.

        Raises:
            ScoringError: The model raised, or its outputs do not fit the rows.
            ShardscoreError: What reading the batches raised.
        """


def scorer_for(method: Method, program: Program, schema: PredictionSchema) -> Scorer:
    """The scorer of a method."""
    if method == "predict":
        return Predict(program, schema)
    return Streaming(method, program, schema)


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
    if isinstance(outputs, (list, tuple)):
        return [_as_numpy(value) for value in outputs]
    return outputs if hasattr(outputs, "row_splits") else outputs.numpy()


class Streaming:
    """`predict_on_batch()`, or the compiled `predict_step`: one batch in, one batch out."""

    def __init__(self, method: Method, program: Program, schema: PredictionSchema) -> None:
        self.method = method
        self._program = program
        self._schema = schema

    def score(
        self,
        source: Iterator[Batch],
        count: int,
        *,
        together: bool,  # noqa: ARG002 - one batch is one call here
    ) -> Generator[ScoredBatch, None, None]:
        with BatchStream(source, count, self._program.feed) as stream:
            for batch, tensors in stream.scored_pairs():
                yield ScoredBatch(batch, self._predictions(batch, tensors), ends_call=True)

    def _predictions(self, batch: Batch, tensors: Any) -> tuple[Any, ...]:
        if tensors is None:
            return self._schema.empty()
        try:
            outputs = call_step(self._program, self.method, tensors)
            outputs = self._program.finish(outputs, batch.good_rows)
            return self._schema.to_arrow(list(outputs.values()), batch.good_rows)
        except ShardscoreError as error:
            raise error.with_path(batch.shard.path) from error.__cause__
        # A model, or a step of the user's, raises whatever it likes.
        except Exception as error:
            raise model_raised(error, batch.shard.path, batch.start, batch.rows) from error


class Predict:
    """`predict()`, a bounded number of batches a call."""

    method: Method = "predict"

    def __init__(self, program: Program, schema: PredictionSchema) -> None:
        self._program = program
        self._schema = schema

    def score(
        self, source: Iterator[Batch], count: int, *, together: bool
    ) -> Generator[ScoredBatch, None, None]:
        a_call = count if together else BATCHES_A_CALL
        for first in range(0, count, a_call):
            yield from self._call(source, min(a_call, count - first))

    def _call(self, source: Iterator[Batch], count: int) -> Iterator[ScoredBatch]:
        # predict() fails on a dataset that yields nothing: read up to the first good row.
        leading: list[Batch] = []
        for batch in islice(source, count):
            leading.append(batch)
            if batch.good_rows:
                break
        else:
            for batch in leading:
                yield ScoredBatch(batch, self._schema.empty(), ends_call=batch is leading[-1])
            return
        with BatchStream(chain(leading, source), count, self._program.feed) as stream:
            try:
                outputs = call_predict(self._program, stream.dataset)
            except Exception as error:
                cause = stream.reading_error(error)
                if cause is not error:
                    raise cause from None
                raise model_raised(error, leading[0].shard.path, leading[0].start, None) from error
            batches = stream.all_batches()
        yield from self._split(batches, outputs)

    def _split(self, batches: list[Batch], outputs: dict[str, Array]) -> Iterator[ScoredBatch]:
        expected = sum(batch.good_rows for batch in batches)
        for array in outputs.values():
            if len(array) != expected:
                raise ScoringError(
                    "predict() returned another number of rows than it was given",
                    path=batches[0].shard.path,
                    expected=f"{expected} rows",
                    received=f"shape {array.shape}",
                )
        start = 0
        for batch in batches:
            stop = start + batch.good_rows
            parts = {name: array[start:stop] for name, array in outputs.items()}
            finished = self._program.finish(parts, batch.good_rows)
            predictions = self._schema.to_arrow(list(finished.values()), batch.good_rows)
            yield ScoredBatch(batch, predictions, ends_call=batch is batches[-1])
            start = stop


def model_raised(error: Exception, path: str, start: int, rows: int | None) -> ScoringError:
    """The error for a model that raised, naming the rows it was given."""
    where = f"rows {start} to {start + rows - 1}" if rows else f"rows from {start} on"
    return ScoringError(
        f"the model raised on {where}",
        path=path,
        received=named_reason(error),
        hint="score these rows by hand to see the whole error; the other shards are scored",
    )
