"""The three ways to score, one for each of Keras' prediction methods.

A `Scorer` turns batches into scored batches, in order, one for one. `Streaming`, by
`predict_on_batch()` or by the compiled step, holds one batch at a time. `Predict` runs
Keras' own loop, which keeps all its output until it ends, so it is given a bounded number of
batches a call.

`predict_on_batch(x)` hands the model's step the tuple `(x,)`, `predict()` hands it `x`. A step
that unpacks as Keras' own does sees no difference; one that takes its argument for the features
gives wrong shapes without an error. The compiled step is called with what `predict()` would hand
it. Which one streams is decided by `pipeline.probe`.

What is done where a batch raises, or does not fit into memory, is `pipeline.rescue`'s.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.packs import call_packed, loop_of
from pipeline.raised import out_of_memory
from pipeline.rescue import Fit, Policy, Rescue
from pipeline.runtime import tensorflow
from pipeline.stream import BatchStream

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from pipeline.predictions import Array, PredictionSchema
    from pipeline.program import Program
    from pipeline.records import Batch, Method, ScoredBatch

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

        Yields:
            The batches; those rows that turn out to be bad are set aside in them.

        Raises:
            BadRowError, TooManyBadRowsError: As the policy for bad rows says.
            ScoringError: A batch cannot be scored, whichever rows are left out.
            ShardscoreError: What reading the batches raised.
        """


def scorer_for(
    method: Method,
    program: Program,
    schema: PredictionSchema,
    policy: Policy | None = None,
    fit: Fit | None = None,
) -> Scorer:
    """The scorer of a method.

    Args:
        method: The method.
        program: The model, and what stands around it.
        schema: The prediction columns.
        policy: What is done about rows that cannot be scored; by default they fail their shard.
        fit: How many rows fit into memory, as far as the run knows.
    """
    rescue = Rescue(program, schema, policy or Policy(), fit or Fit())
    return Predict(rescue) if method == "predict" else Streaming(method, rescue)


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

    def __init__(self, method: Method, rescue: Rescue) -> None:
        self.method = method
        self._program = rescue.program
        self._rescue = rescue

    def score(
        self,
        source: Iterator[Batch],
        count: int,
        *,
        together: bool,  # noqa: ARG002 - one batch is one call here
    ) -> Generator[ScoredBatch, None, None]:
        with BatchStream(source, count, self._program.feed) as stream:
            for batch, element, raised in stream.elements():
                outputs = partial(self._outputs, batch, element, raised)
                scored = self._rescue.scored(batch, outputs, self._call)
                del batch, element, raised, outputs  # or they lie there while others are read
                yield scored
                del scored

    def _outputs(self, batch: Batch, element: Any, raised: Exception | None) -> dict[str, Array]:
        rows = batch.good_rows
        if raised is None:
            return self._rescue.called_on(element, rows, self._call)
        if out_of_memory(raised):
            return self._rescue.called(batch.features, rows, self._call)
        raise raised

    def _call(self, element: Any) -> dict[str, Array]:
        return call_step(self._program, self.method, element)


class Predict:
    """`predict()`, a bounded number of batches a call."""

    method: Method = "predict"

    def __init__(self, rescue: Rescue) -> None:
        self._program = rescue.program
        self._rescue = rescue

    def score(
        self, source: Iterator[Batch], count: int, *, together: bool
    ) -> Generator[ScoredBatch, None, None]:
        a_call = count if together else BATCHES_A_CALL
        for first in range(0, count, a_call):
            batches = min(a_call, count - first)
            # Once memory was short, batches may have to be parted.
            if self._rescue.fit.rows is not None:
                yield from self._one_by_one(source, batches)
            elif together:
                yield from self._packed(source, batches)
            else:
                yield from self._one_call(source, batches)

    def _packed(self, source: Iterator[Batch], count: int) -> Iterator[ScoredBatch]:
        batches = list(islice(source, count))
        loop = loop_of(self._program) if any(batch.good_rows for batch in batches) else None
        if loop is None:
            yield from self._one_call(iter(batches), count)
            return
        outputs: dict[str, Array] = {}
        # A model, or a step of the user's, raises whatever it likes; each batch will tell.
        with suppress(Exception):
            outputs = call_packed(
                self._program, loop, [batch.features for batch in batches if batch.good_rows]
            )
        if outputs and _fit(outputs, batches):
            yield from self._split(batches, outputs)
        else:
            yield from self._one_by_one(iter(batches), count)

    def _one_call(self, source: Iterator[Batch], count: int) -> Iterator[ScoredBatch]:
        # predict() fails on a dataset that yields nothing: read up to the first good row.
        leading: list[Batch] = []
        for batch in islice(source, count):
            leading.append(batch)
            if batch.good_rows:
                break
        else:
            for batch in leading:
                scored = self._scored(batch)
                yield replace(scored, ends_call=batch is leading[-1])
            return
        source = chain(leading, source)
        stream = BatchStream(source, count, self._program.feed, for_keras=True)
        outputs = None
        with stream:
            try:
                outputs = call_predict(self._program, stream.dataset)
            # A model, or a step of the user's, raises whatever it likes.
            except Exception as error:
                cause = stream.reading_error(error)
                if cause is not error:
                    raise cause from None
        batches = stream.all_batches()
        if outputs is None or not _fit(outputs, batches):
            # Which batch it was is not known: each is scored alone, and those that raise rescued.
            yield from self._one_by_one(chain(batches, source), count)
            return
        yield from self._split(batches, outputs)

    def _one_by_one(self, source: Iterator[Batch], count: int) -> Iterator[ScoredBatch]:
        for batch in islice(source, count):
            yield self._scored(batch)

    def _split(self, batches: list[Batch], outputs: dict[str, Array]) -> Iterator[ScoredBatch]:
        start = 0
        for batch in batches:
            stop = start + batch.good_rows
            parts = {name: array[start:stop] for name, array in outputs.items()}
            scored = self._scored(batch, parts)
            yield replace(scored, ends_call=batch is batches[-1])
            start = stop

    def _scored(self, batch: Batch, known: dict[str, Array] | None = None) -> ScoredBatch:
        """A batch, scored by a call of its own unless its outputs are known."""

        def outputs() -> dict[str, Array]:
            if known is not None:
                return known
            return self._rescue.called(batch.features, batch.good_rows, self._call)

        return self._rescue.scored(batch, outputs, self._call, self._search)

    def _call(self, element: Any) -> dict[str, Array]:
        return call_predict(self._program, tensorflow().data.Dataset.from_tensors(element))

    def _search(self, element: Any) -> dict[str, Array]:
        """What `predict()` runs, without the tenth of a second that each call of it costs."""
        return call_step(self._program, "predict_step", element)


def _fit(outputs: dict[str, Array], batches: list[Batch]) -> bool:
    """Whether there is an entry for each row that the model was given."""
    rows = sum(batch.good_rows for batch in batches)
    return all(array.ndim > 0 and len(array) == rows for array in outputs.values())
