"""One batch, scored whatever comes: rows that make the model raise, predictions that are no
numbers, a machine whose memory is too small.

Owns what becomes of a batch between the stream and the writer. It never decides what is in a
batch: rows that turn out to be bad here are taken out as if they had been found when they were
read, and the good ones are scored in one call, so that predictions do not depend on how the bad
rows were found. A batch that does not fit into memory is scored in parts, and stays one batch for
all else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.calls import call, model_raised, of_the_machine, out_of_memory
from pipeline.errors import BadRowError, ScoringError, ShardscoreError
from pipeline.outputs import is_float
from pipeline.reasons import named_reason
from pipeline.records import BadRow, Batch, ScoredBatch
from pipeline.rescue import at_fault
from pipeline.runtime import tensorflow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.outputs import Array
    from pipeline.predictions import PredictionSchema
    from pipeline.program import Program
    from pipeline.records import Method

MENDING = "mend the row, or choose --on-bad-row quarantine or null and a new --output"


@dataclass(slots=True)
class Fitting:
    """How many rows fit into memory; learned when a batch does not, and remembered for the run.

    Attributes:
        rows: The most rows that a call is given; None: there was no need to find out.
        told: Is called with `rows` whenever it changes.
    """

    rows: int | None = None
    told: Callable[[int], None] | None = None

    def learn(self, rows: int) -> None:
        """Remembers how many rows are to be tried from here on."""
        self.rows = rows
        if self.told is not None:
            self.told(rows)


@dataclass(frozen=True, slots=True)
class Rules:
    """What makes a row a bad one here, and what becomes of it.

    Attributes:
        fail_on_bad: Whether the first bad row ends the scoring.
        finite: Whether a prediction that is NaN or infinite makes its row a bad one.
        fitting: How many rows fit into memory.
    """

    fail_on_bad: bool = False
    finite: bool = False
    fitting: Fitting = field(default_factory=Fitting)


class BatchScorer:
    """Scores one batch at a time by one method.

    Args:
        method: Keras' method.
        program: The model.
        schema: The prediction columns.
        rules: What makes a row a bad one.
    """

    def __init__(
        self, method: Method, program: Program, schema: PredictionSchema, rules: Rules
    ) -> None:
        self._method = method
        self._program = program
        self._schema = schema
        self._rules = rules
        self._compiled: Any = None

    def score(self, batch: Batch, fed: Any, *, ends_call: bool) -> ScoredBatch:
        """Scores a batch.

        Args:
            batch: The batch.
            fed: What the stream made of it for the model; the exception, if that raised; None, to
                make it anew from the batch's arrays.
            ends_call: See `ScoredBatch`.

        Raises:
            ScoringError: The model raises, and it is no row's fault; or its outputs do not fit.
            BadRowError: A row is bad, and the job wants that to end its shard.
        """
        if batch.good_rows == 0:
            return ScoredBatch(batch, self._schema.empty(), ends_call)
        error = fed if isinstance(fed, Exception) else None
        if error is None:
            try:
                element = self._element(batch.features) if fed is None else fed
                outputs = self._outputs(element, batch.good_rows)
                columns = self._columns(outputs, batch.good_rows)
            # A model, a step or a hook of the user's raises whatever it likes.
            except Exception as raised:
                error = raised
        if error is not None:
            if out_of_memory(error) or of_the_machine(error):
                raise self._failed(error, batch) from error
            batch, outputs, columns = self._rescued(batch, error)
        return self._checked(batch, outputs, columns, ends_call=ends_call)

    def finished(self, batch: Batch, outputs: dict[str, Array], *, ends_call: bool) -> ScoredBatch:
        """A batch whose outputs are known already, from a call that it shared with others.

        Raises:
            As `score` does.
        """
        if batch.good_rows == 0:
            return ScoredBatch(batch, self._schema.empty(), ends_call)
        try:
            done = self._program.finish(outputs, batch.good_rows)
            columns = self._columns(done, batch.good_rows)
        # A hook of the user's raises whatever it likes.
        except Exception:
            return self.score(batch, None, ends_call=ends_call)
        return self._checked(batch, done, columns, ends_call=ends_call)

    # Scoring

    def _outputs(self, element: Any, rows: int) -> dict[str, Array]:
        """The finished outputs of an element, in as few calls as memory allows."""
        return self._program.finish(self._called(element, rows), rows)

    def _called(self, element: Any, rows: int) -> dict[str, Array]:
        fitting = self._rules.fitting
        if fitting.rows is None or rows <= fitting.rows:
            try:
                return call(self._program, self._method, element)
            except Exception as error:
                if not out_of_memory(error) or rows == 1:
                    raise
                fitting.learn(-(-rows // 2))
        parts: list[dict[str, Array]] = []
        start = 0
        while start < rows:
            # What fits may be found to be less on the way.
            stop = min(rows, start + (fitting.rows or rows))
            part = tensorflow().nest.map_structure(_slicer(start, stop), element)
            parts.append(self._called(part, stop - start))
            start = stop
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _columns(self, outputs: dict[str, Array], rows: int) -> tuple[pa.Array, ...]:
        return self._schema.to_arrow(list(outputs.values()), rows)

    def _element(self, arrays: Sequence[Any]) -> Any:
        """What the model is to be given for arrays, made by a graph as it is in the stream."""
        feed = self._program.feed
        if self._compiled is None:
            self._compiled = tensorflow().function(
                lambda *tensors: feed.element(tensors), reduce_retracing=True
            )
        return self._compiled(*feed.tensors(arrays))

    # Rows at fault

    def _rescued(
        self, batch: Batch, error: Exception
    ) -> tuple[Batch, dict[str, Array], tuple[pa.Array, ...]]:
        """The batch without the rows that raise, and the outputs of the others."""

        def attempt(first: int, end: int) -> Exception | None:
            try:
                self._scored([array[first:end] for array in batch.features])
            except Exception as raised:
                if out_of_memory(raised) or of_the_machine(raised):
                    raise
                return raised
            return None

        most = 1 if self._rules.fail_on_bad else batch.good_rows
        try:
            search = at_fault(batch.good_rows, attempt, error, most=most)
        except Exception as raised:
            raise self._failed(raised, batch) from raised
        # What our own checks refuse on each row is the structure of the outputs, not a row.
        ours = isinstance(error, ShardscoreError) and len(search.faults) == batch.good_rows
        if search.hopeless or ours or not search.faults:
            raise self._no_rows_fault(error, batch, hopeless=search.hopeless) from error
        reasons = {row: named_reason(raised) for row, raised in search.faults.items()}
        batch, kept = self._without(batch, reasons)
        if batch.good_rows == 0:
            return batch, {}, self._schema.empty()
        try:
            outputs = self._scored([array[kept] for array in batch.features])
            return batch, outputs, self._columns(outputs, batch.good_rows)
        except Exception as raised:
            raise self._failed(raised, batch) from raised

    def _scored(self, arrays: Sequence[Any]) -> dict[str, Array]:
        outputs = self._outputs(self._element(arrays), len(arrays[0]))
        self._columns(outputs, len(arrays[0]))
        return outputs

    def _without(
        self, batch: Batch, reasons: dict[int, str]
    ) -> tuple[Batch, np.ndarray[Any, np.dtype[np.bool_]]]:
        """A batch with more bad rows, and which of its good rows remain.

        Args:
            batch: The batch.
            reasons: Number among its good rows → what is wrong with the row.

        Raises:
            BadRowError: The job wants the first bad row to end its shard.
        """
        places = np.flatnonzero(batch.good) if batch.good is not None else np.arange(batch.rows)
        found = [
            BadRow(batch.start + int(places[row]), "", reason) for row, reason in reasons.items()
        ]
        if self._rules.fail_on_bad:
            raise BadRowError(
                found[0].reason, path=batch.shard.path, row=found[0].row, hint=MENDING
            )
        kept = np.ones(batch.good_rows, bool)
        kept[list(reasons)] = False
        good = np.zeros(batch.rows, bool)
        good[places[kept]] = True
        bad = tuple(sorted((*batch.bad, *found), key=lambda row: row.row))
        return replace(batch, good=good, bad=bad), kept

    def _checked(
        self,
        batch: Batch,
        outputs: dict[str, Array],
        columns: tuple[pa.Array, ...],
        *,
        ends_call: bool,
    ) -> ScoredBatch:
        """Looks for predictions that are no numbers: counted, or bad rows if the job wants so."""
        odd = {name: array for name, array in outputs.items() if _is_odd(array)}
        if not odd:
            return ScoredBatch(batch, columns, ends_call)
        reasons = _reasons(odd)
        if not self._rules.finite:
            return ScoredBatch(batch, columns, ends_call, nonfinite=len(reasons))
        batch, kept = self._without(batch, reasons)
        return ScoredBatch(batch, tuple(_filtered(c, kept) for c in columns), ends_call)

    # Errors

    def _no_rows_fault(self, error: Exception, batch: Batch, *, hopeless: bool) -> ShardscoreError:
        if isinstance(error, ShardscoreError):
            return error.with_path(batch.shard.path)
        raised = model_raised(error, batch.shard.path, batch.start, batch.rows)
        if hopeless:
            return ScoringError(
                f"{raised.message}: on each row that it was tried on",
                **{**raised.facts, "hint": "it is not a few rows' fault; " + (raised.hint or "")},
            )
        return ScoringError(
            f"{raised.message}, but on none of them alone",
            **{
                **raised.facts,
                "hint": "do rows of a batch affect each other? " + (raised.hint or ""),
            },
        )

    def _failed(self, error: Exception, batch: Batch) -> ShardscoreError:
        if isinstance(error, ShardscoreError):
            return error.with_path(batch.shard.path)
        raised = model_raised(error, batch.shard.path, batch.start, batch.rows)
        if out_of_memory(error):
            return ScoringError(
                "a single row does not fit into memory",
                path=batch.shard.path,
                received=raised.received,
                hint="use a machine with more memory; a smaller --batch-size does not help",
            )
        return raised


def _slicer(start: int, stop: int) -> Callable[[Any], Any]:
    return lambda tensor: tensor[start:stop]


def _is_odd(array: Array) -> bool:
    return is_float(array.dtype) and not np.isfinite(array).all()


def _reasons(odd: dict[str, Array]) -> dict[int, str]:
    """What is wrong with each row whose prediction is no number: the first output's word."""
    reasons: dict[int, str] = {}
    for name, array in odd.items():
        flat = array.reshape(len(array), -1)
        nan = np.logical_or.reduce(np.isnan(flat), axis=1)
        for row in np.flatnonzero(~np.isfinite(flat).all(axis=1)).tolist():
            what = "NaN in the" if nan[row] else "infinite"
            reasons.setdefault(row, f"{what} prediction {name!r}")
    return dict(sorted(reasons.items()))


def _filtered(column: pa.Array, kept: np.ndarray[Any, np.dtype[np.bool_]]) -> pa.Array:
    mask = pa.array(kept)
    if isinstance(column.type, pa.ExtensionType):
        return pa.ExtensionArray.from_storage(column.type, column.storage.filter(mask))
    return column.filter(mask)
