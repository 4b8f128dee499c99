"""The probe: before the first shard, proof on the user's own rows that the methods agree.

The first rows are scored by `predict()`, by `predict_on_batch()` and by the compiled step.
Whatever streams must give what `predict()` gives: the same structure, leading dimensions, types
and values. Also a row's prediction must not depend on the rows beside it, or no batch size could
be right. What cannot be proved is refused.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import ModelError
from pipeline.outputs import Array, as_float64, is_float
from pipeline.predictions import PredictionSchema, schema_of
from pipeline.sample import finished, said_by_predict, that_score
from pipeline.scorers import call_step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.job import MethodChoice
    from pipeline.program import Program
    from pipeline.records import Method

PROBE_ROWS = 256

# Same rows in a batch of the same size: only the last bits may differ. Other batch sizes change
# the order of additions, and a 16-bit model rounds each step to three decimal digits.
_SAME_BATCH = 1e-5
_OTHER_BATCH = 1e-3
_OTHER_BATCH_16_BIT = 1e-1
_FEW = 0.02
"""Share of values that may differ between batch sizes: an argmax can tip over a last bit."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What the probe found.

    Attributes:
        method: How big shards are streamed.
        schema: The prediction columns.
        note: One line for people.
    """

    method: Method
    schema: PredictionSchema
    note: str


def probe(
    program: Program,
    features: Sequence[Array],
    choice: MethodChoice,
    recorded: Mapping[str, str] | None = None,
) -> Proof:
    """Scores the same rows by each method and decides which one streams.

    Args:
        program: The model, and what stands around it.
        features: One array per input, of at most PROBE_ROWS good rows.
        choice: The method that the user named, or `auto`.
        recorded: Prediction column → Arrow type, where the output has been begun.

    Raises:
        ModelError: `predict()` fails, disagrees with itself, or makes rows depend on each other;
            or the method that the user named disagrees with it.
    """
    features, truth = that_score(program, features)
    rows = len(features[0])
    _refuse_other_rows(program, truth, rows)
    schema = schema_of(finished(program, truth, rows), recorded)
    _refuse_dependent_rows(program, features, truth)
    complaint = _complaint(program, features, "predict_on_batch", truth)
    on = f"{rows:,} rows" if rows > 1 else "one row, too few to see whether rows affect each other"
    if choice == "predict":
        return Proof("predict", schema, f"predict() as asked, proved on {on}")
    if complaint is None and choice != "predict_step":
        return Proof(
            "predict_on_batch",
            schema,
            f"predict_on_batch() gives what predict() gives on {on}",
        )
    if choice == "predict_on_batch":
        raise _disagreement(program, "predict_on_batch", complaint or "")
    if (step_complaint := _complaint(program, features, "predict_step", truth)) is not None:
        _refuse_random(program, features, truth)
        raise _disagreement(program, "the compiled predict_step", step_complaint)
    if choice == "predict_step":
        return Proof("predict_step", schema, f"predict_step as asked, proved on {on}")
    return Proof(
        "predict_step",
        schema,
        f"predict_step() streams: predict_on_batch() would hand it a tuple ({complaint})",
    )


def _refuse_other_rows(program: Program, truth: dict[str, Array], rows: int) -> None:
    for name, array in truth.items():
        if array.ndim == 0 or len(array) != rows:
            raise ModelError(
                "predict() does not return one prediction a row",
                path=program.model.path,
                column=name,
                expected=f"shape ({rows}, …) for {rows} rows",
                received=f"shape {array.shape}",
            )


def without_rows(
    program: Program, choice: MethodChoice, recorded: Mapping[str, str] | None = None
) -> Proof:
    """The proof where no shard has a single good row: the types of the predictions, of no rows.

    Raises:
        ModelError: The model does not tell them.
    """
    # Some layers cannot be called on no rows; then a row of zeros shows the shapes as well.
    for rows in (0, 1):
        try:
            outputs = call_step(program, "predict_step", program.element(program.feed.sample(rows)))
            schema = schema_of(program.finish(outputs, rows), recorded)
        # A model, or a step of the user's, raises whatever it likes.
        except Exception as error:
            if rows == 0:
                continue
            raise ModelError(
                "no shard has a row to score, and the model does not say what it would return",
                path=program.model.path,
                received=f"{type(error).__name__}: {error}",
            ) from error
        break
    method: Method = "predict_step" if choice == "auto" else choice
    return Proof(method, schema, "no row to prove the methods on")


def foreseen(program: Program) -> PredictionSchema | None:
    """The prediction columns as far as they can be told before a row is read; None: it takes rows.

    Raises:
        ModelError: What the job says of classes does not fit the model's outputs, or they cannot be
            written, whatever the rows are.
    """
    # A hook that goes through the rows, given none, returns an array without a width.
    for rows in (0, 1) if program.finish.postprocess is None else (1, 0):
        outputs: dict[str, Array] = {}
        # A model, or code of the user's, raises whatever it likes; on real rows it may not.
        with suppress(Exception):
            outputs = call_step(program, "predict_step", program.element(program.feed.sample(rows)))
            outputs = program.finish.hooked(outputs, rows)
        # One without a width may be as wide as the longest of its rows is, and there is none.
        told = all(a.shape[:1] == (rows,) and 0 not in a.shape[1:] for a in outputs.values())
        if not outputs or not told:
            continue
        try:
            return schema_of(program.finish.classified(outputs))
        except ModelError as error:
            raise error.with_path(program.model.path) from error.__cause__
    return None


def _complaint(
    program: Program, features: Sequence[Array], method: Method, truth: dict[str, Array]
) -> str | None:
    """Where a method differs from `predict()` on the same batch, in words; None if nowhere."""
    try:
        outputs = call_step(program, method, program.element(features))
    # To raise is one way to disagree.
    except Exception as error:
        return f"it raises {type(error).__name__}"
    if list(outputs) != list(truth):
        return f"outputs {', '.join(outputs)} instead of {', '.join(truth)}"
    for name, array in outputs.items():
        right = truth[name]
        if array.shape != right.shape or array.dtype != right.dtype:
            return f"{name}: {array.dtype} {array.shape} instead of {right.dtype} {right.shape}"
        if not _close(array, right, _SAME_BATCH).all():
            return f"{name}: other values"
    return None


def _refuse_dependent_rows(
    program: Program, features: Sequence[Array], truth: dict[str, Array]
) -> None:
    rows = len(features[0])
    part = rows // 2
    if part == 0:
        return
    alone = said_by_predict(program, [array[:part] for array in features])
    tolerance = _OTHER_BATCH_16_BIT if _sixteen_bit(program) else _OTHER_BATCH
    if (found := _dependent(truth, alone, part, tolerance)) is not None:
        _refuse_random(program, features, truth)
        raise _dependence(program, found, rows, part, _culprits(program))
    if program.finish.postprocess is None:
        return
    truth, alone = finished(program, truth, rows), finished(program, alone, part)
    if (found := _dependent(truth, alone, part, tolerance)) is not None:
        where = f"the postprocess hook {program.finish.hook}"
        raise _dependence(program, found, rows, part, where)


def _dependent(
    truth: dict[str, Array], alone: dict[str, Array], part: int, tolerance: float
) -> tuple[str, str] | None:
    """An output that differs between the first rows alone and among the others: its name, and in
    which words; None if there is none."""
    for name, array in truth.items():
        other = alone.get(name)
        if other is None:
            return name, "no such output"
        if other.shape != array[:part].shape:
            return name, "other shapes"
        wrong = ~_close(other, array[:part], tolerance)
        if wrong.mean() > _FEW:
            return name, f"{wrong.mean():.0%} of the values differ"
    return None


def _dependence(
    program: Program, found: tuple[str, str], rows: int, part: int, where: str
) -> ModelError:
    name, received = found
    return ModelError(
        "a row's prediction depends on the rows that share its batch",
        path=program.model.path,
        column=name,
        expected=f"the first {part} rows scored alone as among {rows}",
        received=received,
        hint="look for statistics over the batch, or padding without a mask, in " + where,
    )


def _refuse_random(program: Program, features: Sequence[Array], truth: dict[str, Array]) -> None:
    again = said_by_predict(program, features)
    for name, array in truth.items():
        if again[name].shape != array.shape or not _close(again[name], array, _SAME_BATCH).all():
            raise ModelError(
                "predict() gives other values when it is called again on the same rows",
                path=program.model.path,
                column=name,
                expected="a model whose predictions are a function of its input",
                hint="look for dropout or sampling that is active outside training, in "
                + _culprits(program),
            )


def _culprits(program: Program) -> str:
    """What can make predictions other than a function of a row, for hints."""
    hook = program.feed.preprocess
    return "the model" if hook is None else f"the model and in the preprocess hook {hook.hook}"


def _close(one: Array, other: Array, tolerance: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if not is_float(one.dtype):
        return np.asarray(one == other)
    if one.dtype.itemsize <= 2:
        tolerance = max(tolerance, 1e-2)
    a, b = as_float64(one), as_float64(other)
    with np.errstate(invalid="ignore"):
        near = np.abs(a - b) <= tolerance * np.maximum(1.0, np.abs(b))
    return np.asarray(near | (a == b) | (np.isnan(a) & np.isnan(b)))


def _sixteen_bit(program: Program) -> bool:
    return any(
        str(getattr(layer, "compute_dtype", "")).endswith("float16")
        for layer in program.model.keras._flatten_layers()
    )


def _disagreement(program: Program, method: str, complaint: str) -> ModelError:
    return ModelError(
        f"{method} does not give what predict() gives",
        path=program.model.path,
        expected="the same structure, shapes and values",
        received=complaint,
        hint="choose --method auto or --method predict_step",
    )
