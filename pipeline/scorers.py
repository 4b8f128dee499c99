"""The three ways to score, one for each of Keras' prediction methods.

A `Scorer` turns batches into scored batches, in order, one for one. `Streaming` holds one batch at
a time. `Predict` runs Keras' own loop, which keeps all its output until it ends, so it is given a
bounded number of batches a call. Which one streams is decided by `pipeline.probe`; what becomes of
a batch that raises, by `pipeline.one_batch`.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Protocol

from pipeline.calls import call_predict
from pipeline.errors import ScoringError
from pipeline.one_batch import BatchScorer, Rules
from pipeline.stream import BatchStream

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from pipeline.outputs import Array
    from pipeline.predictions import PredictionSchema
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

        Raises:
            ScoringError: The model raised, and it is no row's fault; or its outputs do not fit the
                rows.
            BadRowError: It raised on a row, and the job wants that to end its shard.
            ShardscoreError: What reading the batches raised.
        """


def scorer_for(method: Method, program: Program, schema: PredictionSchema, rules: Rules) -> Scorer:
    """The scorer of a method."""
    if method == "predict":
        return Predict(program, schema, rules)
    return Streaming(method, program, schema, rules)


class Streaming:
    """`predict_on_batch()`, or the compiled `predict_step`: one batch in, one batch out."""

    def __init__(
        self, method: Method, program: Program, schema: PredictionSchema, rules: Rules
    ) -> None:
        self.method = method
        self._feed = program.feed
        self._one = BatchScorer(method, program, schema, rules)

    def score(
        self,
        source: Iterator[Batch],
        count: int,
        *,
        together: bool,  # noqa: ARG002 - one batch is one call here
    ) -> Generator[ScoredBatch, None, None]:
        with BatchStream(source, count, self._feed) as stream:
            for batch, fed in stream.fed_batches():
                yield self._one.score(batch, fed, ends_call=True)


class Predict:
    """`predict()`, a bounded number of batches a call."""

    method: Method = "predict"

    def __init__(self, program: Program, schema: PredictionSchema, rules: Rules) -> None:
        self._program = program
        self._fitting = rules.fitting
        self._one = BatchScorer("predict", program, schema, rules)

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
        if not leading:
            return
        if not leading[-1].good_rows or self._fitting.rows is not None:
            # Or batches do not fit into memory: then one by one, in parts.
            yield from self._alone(chain(leading, islice(source, count - len(leading))), count)
            return
        batches = chain(leading, source)
        outputs = None
        with BatchStream(batches, count, self._program.feed) as stream:
            try:
                outputs = call_predict(self._program, stream.dataset)
            # A model, a step or a hook of the user's raises whatever it likes.
            except Exception as error:
                stream.raise_reading_error(error)
        read = stream.all_batches()
        if outputs is not None:
            yield from self._split(read, outputs)
            return
        # One of them is at fault, and it is not known which: each by itself.
        yield from self._alone(chain(read, islice(batches, count - len(read))), count)

    def _alone(self, batches: Iterator[Batch], count: int) -> Iterator[ScoredBatch]:
        for number, batch in enumerate(batches, 1):
            yield self._one.score(batch, None, ends_call=number == count)

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
            yield self._one.finished(batch, parts, ends_call=batch is batches[-1])
            start = stop
