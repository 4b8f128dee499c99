"""One batch, scored whatever it takes: by parts where memory is short, and without the rows at
fault where anything between the arrays and the predictions raises.

A batch that raises (in the feed's graph, in the model, in a hook, or by outputs that do not fit) is
halved until the rows are found on which it raises alone. The others are scored in one call, as if
these rows had been found bad when they were read: what is predicted does not depend on the search.
Nor does the reason that is written of a row, which is what that row raises alone.

Owns what is tried in which order, the memory of how many rows fit, and what becomes of predictions
that are no number. The search is `halving`'s; which errors are about rows, and in which words, is
`raised`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.bad_rows import places, refuse_too_many, refused, set_aside
from pipeline.errors import ModelError, ScoringError, ShardscoreError
from pipeline.finite import not_finite
from pipeline.halving import Search, TogetherOnlyError, by_parts
from pipeline.raised import model_raised, no_rows_fault, out_of_memory, row_reason
from pipeline.reasons import named_reason
from pipeline.records import BadRow, ScoredBatch
from pipeline.runtime import tensorflow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pyarrow as pa

    from pipeline.outputs import Array
    from pipeline.predictions import PredictionSchema
    from pipeline.program import Program
    from pipeline.records import Batch, Shard

    Call = Callable[[Any], dict[str, Array]]
    """From what the model takes to its outputs by column, (rows, …) each."""


@dataclass(slots=True)
class Fit:
    """How many rows of a batch fit into memory at once, as far as this run knows.

    Attributes:
        rows: That many; None while each batch has fitted.
        told: Is told the rows of a batch that did not fit, and how many did.
    """

    rows: int | None = None
    told: Callable[[int, int], None] = lambda _rows, _fitting: None

    def settle(self, rows: int, fitting: int) -> None:
        """A batch was scored by so many rows at once."""
        if fitting < min(rows, self.rows or rows):
            self.rows = fitting
            self.told(rows, fitting)


@dataclass(frozen=True, slots=True)
class Policy:
    """What is done about rows that cannot be scored.

    Attributes:
        fail: Whether the first of them fails its shard.
        nonfinite_is_bad: Whether a prediction that is NaN or infinite makes its row a bad one.
        most_bad: A shard → the most bad rows that it may have; None: any number.
        columns: Input → the columns that feed it, so that an image can be named by its column.
    """

    fail: bool = True
    nonfinite_is_bad: bool = False
    most_bad: Callable[[Shard], int | None] = lambda _shard: None
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rescue:
    """Scores batches of one program.

    Attributes:
        program: The model, and what stands around it.
        schema: The prediction columns.
        policy: What is done about rows that cannot be scored.
        fit: How many rows fit; shared by all that score in a run.
    """

    program: Program
    schema: PredictionSchema
    policy: Policy = field(default_factory=Policy)
    fit: Fit = field(default_factory=Fit)

    def scored(
        self,
        batch: Batch,
        outputs: Callable[[], dict[str, Array]],
        call: Call,
        search: Call | None = None,
    ) -> ScoredBatch:
        """A batch's predictions.

        Args:
            batch: The batch.
            outputs: Gives the model's outputs for its good rows, or raises.
            call: Scores some of its rows, if `outputs` raises.
            search: A cheaper way to do it while rows at fault are searched, if there is one; it is
                taken if it raises on the batch too.

        Raises:
            BadRowError: A row cannot be scored, and the policy is to fail.
            TooManyBadRowsError: So many that the shard is given up.
            ScoringError: The batch cannot be scored, whichever rows are left out.
        """
        if batch.good_rows == 0:
            return ScoredBatch(batch, self.schema.empty(), ends_call=True)
        try:
            return self._finished(batch, outputs())
        # A model, or code of the user's, raises whatever it likes.
        except Exception as error:
            raised = self._of_rows(error, batch).with_traceback(None)
        left, features = self._without_culprits(batch, raised, call, search or call)
        if left.good_rows == 0:
            return ScoredBatch(left, self.schema.empty(), ends_call=True)
        try:
            return self._finished(left, self.called(features, left.good_rows, call))
        except Exception as error:
            again = self._of_rows(error, batch)
            bad = len(left.bad) - len(batch.bad)
            raise ScoringError(
                f"the model raises on {_span(batch)} even without the {bad:,} that it raises "
                "on alone",
                path=batch.shard.path,
                received=named_reason(again),
                hint="score these rows by hand; a row's prediction must not depend on the others",
            ) from again

    def called(self, features: Sequence[Any], rows: int, call: Call) -> dict[str, Array]:
        """The model's outputs for the arrays of some rows, by parts if memory is short."""

        def part(start: int, stop: int) -> dict[str, Array]:
            return call(self.program.element([array[start:stop] for array in features]))

        return self._by_parts(rows, part)

    def called_on(self, element: Any, rows: int, call: Call) -> dict[str, Array]:
        """The same for what `features` have become already."""

        def part(start: int, stop: int) -> dict[str, Array]:
            if (start, stop) == (0, rows):
                return call(element)
            return call(tensorflow().nest.map_structure(lambda t: t[start:stop], element))

        return self._by_parts(rows, part)

    def _by_parts(
        self, rows: int, part: Callable[[int, int], dict[str, Array]]
    ) -> dict[str, Array]:
        parts, size = by_parts(rows, min(rows, self.fit.rows or rows), part, out_of_memory)
        self.fit.settle(rows, size)
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

    def _arrow(self, outputs: dict[str, Array], rows: int) -> tuple[pa.Array, ...]:
        return self.schema.to_arrow(self.schema.in_order(outputs), rows)

    def _finished(self, batch: Batch, outputs: dict[str, Array]) -> ScoredBatch:
        """The batch with its predictions, or without those that are no number."""
        columns = self.program.finish(outputs, batch.good_rows)
        predictions = self._arrow(columns, batch.good_rows)
        wrong = not_finite(columns)
        if not wrong or not self.policy.nonfinite_is_bad:
            # Whoever writes it has no use for the features, which are the most of it.
            spent = replace(batch, features=())
            return ScoredBatch(spent, predictions, ends_call=True, nonfinite=len(wrong))
        numbers = places(batch) + batch.start
        bad = {i: BadRow(int(numbers[i]), None, reason) for i, reason in wrong.items()}
        if self.policy.fail:
            raise refused(batch.shard, next(iter(bad.values())))
        kept = np.ones(batch.good_rows, bool)
        kept[list(bad)] = False
        left = set_aside(batch, bad)
        columns = {name: array[kept] for name, array in columns.items()}
        return ScoredBatch(left, self._arrow(columns, left.good_rows), ends_call=True)

    def _without_culprits(
        self, batch: Batch, raised: Exception, call: Call, search: Call
    ) -> tuple[Batch, list[Array]]:
        """The batch without the rows that raise alone, and the arrays of the others."""
        rows, features = batch.good_rows, batch.features

        def attempt(start: int, stop: int, by: Call = search) -> Exception | None:
            try:
                some = [array[start:stop] for array in features]
                outputs = self.called(some, stop - start, by)
                self._arrow(self.program.finish(outputs, stop - start), stop - start)
            except Exception as error:
                # What it holds on to is as much as a batch.
                return self._of_rows(error, batch).with_traceback(None)
            return None

        if search is not call and attempt(0, rows) is None:
            looking = Search(rows, lambda start, stop: attempt(start, stop, call))
        else:
            looking = Search(rows, attempt)
        if not self.policy.fail and (error := looking.hopeless()) is not None:
            raise ScoringError(
                f"the model raises on every row it was tried on of {_span(batch)}",
                path=batch.shard.path,
                received=named_reason(error),
                hint=f"give row {batch.start + int(places(batch)[0])} to the model by hand to see "
                "the whole error; the other shards are scored",
            )
        bad = self._culprits(batch, looking, raised)
        kept = np.ones(rows, bool)
        kept[list(bad)] = False
        return set_aside(batch, bad), [array[kept] for array in features]

    def _culprits(self, batch: Batch, looking: Search, raised: Exception) -> dict[int, BadRow]:
        """The rows that raise alone, by their place among the good ones."""
        numbers = places(batch) + batch.start
        most = self.policy.most_bad(batch.shard)
        bad: dict[int, BadRow] = {}
        try:
            for i, error in looking.culprits():
                column = self._column([array[i : i + 1] for array in batch.features])
                bad[i] = BadRow(int(numbers[i]), column, row_reason(error))
                if self.policy.fail:
                    raise refused(batch.shard, bad[i])
                refuse_too_many(batch.shard, len(batch.bad) + len(bad), most)
        except TogetherOnlyError as error:
            known = error.raised is not None
            first, last = (error.start, error.stop - 1) if known else (0, batch.good_rows - 1)
            raise ScoringError(
                f"the model raises on rows {numbers[first]} to {numbers[last]} together, and on "
                "none of them alone",
                path=batch.shard.path,
                received=named_reason(error.raised or raised),
                hint="score these rows by hand; a row's prediction must not depend on the others",
            ) from error.raised
        return bad

    def _column(self, features: Sequence[Array]) -> str | None:
        """The column at fault for a single row, where it is an image; else no column is."""
        columns = self.policy.columns.get(self.program.feed.undecodable(features) or "", ())
        return columns[0] if columns else None

    def _of_rows(self, error: Exception, batch: Batch) -> Exception:
        """The error, if rows can be at fault; otherwise it is raised, as what it is."""
        if out_of_memory(error):
            raise ScoringError(
                "scoring runs out of memory, with a single row a call too",
                path=batch.shard.path,
                received=named_reason(error),
                hint=f"batches have {batch.rows:,} rows: choose a smaller --batch-size, and a new "
                "--output, or give the process more memory",
            ) from error
        if isinstance(error, ShardscoreError) and not isinstance(error, (ScoringError, ModelError)):
            raise error.with_path(batch.shard.path)
        if no_rows_fault(error):
            raise model_raised(error, batch.shard.path, batch.start, batch.rows) from error
        return error


def _span(batch: Batch) -> str:
    return f"rows {batch.start} to {batch.start + batch.rows - 1}"
