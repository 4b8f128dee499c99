"""The rows to probe with: those of a sample that can be scored.

A model is proved on the user's own rows, of which some may be bad ones: an image that cannot be
decoded, a value on which the model raises. They are left out here, and found and counted when their
turn comes. Where all of them raise, it is said what `predict()` was given and what it raised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import PredictFailedError, ShardscoreError
from pipeline.halving import Search, TogetherOnlyError
from pipeline.raised import out_of_memory
from pipeline.reasons import named_reason
from pipeline.runtime import tensorflow
from pipeline.scorers import call_predict, call_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.outputs import Array
    from pipeline.program import Program

PATIENCE = 4
"""Rows that are tried alone before a sample is given up on which nothing but errors was seen."""


def that_score(
    program: Program, features: Sequence[Array]
) -> tuple[Sequence[Array], dict[str, Array]]:
    """The rows to probe with, and what `predict()` says of them.

    Those that raise alone are left out, since they will be bad rows; and where memory is short,
    fewer will do.

    Raises:
        PredictFailedError: `predict()`, or what is done to its outputs, raises all the same.
    """
    while True:
        rows = len(features[0])
        try:
            truth = said_by_predict(program, features)
            if all(len(array) == rows for array in truth.values() if array.ndim):
                finished(program, truth, rows)
        except PredictFailedError as error:
            fewer = _without_culprits(program, features, error.__cause__)
            if fewer is None:
                raise
        else:
            return features, truth
        features = fewer


def _without_culprits(
    program: Program, features: Sequence[Array], cause: BaseException | None
) -> list[Array] | None:
    """The rows that do not raise alone; None if that is no help."""
    rows = len(features[0])
    if cause is not None and out_of_memory(cause):
        return [array[: rows // 2] for array in features] if rows > 1 else None

    def attempt(start: int, stop: int) -> Exception | None:
        try:
            element = program.element([array[start:stop] for array in features])
            program.finish(call_step(program, "predict_step", element), stop - start)
        # A model, or code of the user's, raises whatever it likes.
        except Exception as error:
            return error.with_traceback(None)
        return None

    search = Search(rows, attempt)
    if rows == 1 or attempt(0, rows) is None or search.hopeless(min(rows, PATIENCE)) is not None:
        return None
    kept = np.ones(rows, bool)
    try:
        kept[[row for row, _ in search.culprits()]] = False
    except TogetherOnlyError:
        return None
    return [array[kept] for array in features] if kept.any() else None


def said_by_predict(program: Program, features: Sequence[Array]) -> dict[str, Array]:
    """What `predict()` says of some rows, in one batch: (rows, …) by column.

    Raises:
        PredictFailedError: It raises, or the rows cannot be made what the model takes.
    """
    try:
        element = program.element(features)
    # A hook of the user's raises whatever it likes.
    except Exception as error:
        raise PredictFailedError(
            "the first rows cannot be made what the model takes",
            path=program.model.path,
            expected="; ".join(str(spec) for spec in program.feed.inputs),
            received=named_reason(error),
            hint="look at these rows, and at the preprocess hook if there is one",
        ) from error
    try:
        return call_predict(program, tensorflow().data.Dataset.from_tensors(element))
    except ShardscoreError as error:
        raise error.with_path(program.model.path) from error.__cause__
    # A model, or a step of the user's, raises whatever it likes.
    except Exception as error:
        raise PredictFailedError(
            "predict() fails on the first rows",
            path=program.model.path,
            expected="; ".join(str(spec) for spec in program.feed.inputs),
            received=named_reason(error),
            hint="check with `plan` which columns feed which input",
        ) from error


def finished(program: Program, truth: dict[str, Array], rows: int) -> dict[str, Array]:
    """What is done to the outputs, done to copies: a hook may write into what it is given.

    Raises:
        PredictFailedError: A hook raises.
    """
    try:
        return program.finish({name: array.copy() for name, array in truth.items()}, rows)
    except ShardscoreError as error:
        raise error.with_path(program.model.path) from error.__cause__
    # A hook of the user's raises whatever it likes.
    except Exception as error:
        raise PredictFailedError(
            "the postprocess hook fails on the outputs of the first rows",
            path=program.model.path,
            expected="; ".join(f"{n}: {a.dtype} {a.shape}" for n, a in truth.items()),
            received=f"{named_reason(error)}, in {program.finish.hook}",
            hint="it is given NumPy arrays by name, and returns arrays of as many rows",
        ) from error
