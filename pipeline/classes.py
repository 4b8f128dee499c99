"""Classes: from a classifier's scores to the names of the likeliest classes.

Owns which output is meant, what is written beside it, and the order of classes. For an output
`probs` of (rows, k) floats there come

    probs_label       the likeliest class             without labels   probs_class
    probs_top_labels  the `top_k` likeliest, in order                  probs_top_classes
    probs_top_scores  their scores, of the output's type

A class is likelier if its score is higher; of equal scores the lower class comes first, as argmax
has it. NaN is no score: it comes behind every number, and a row of nothing else has the classes in
their own order. numpy alone, a whole batch at a time; each row's classes depend on its own scores.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import ConfigError, ModelError, shortened
from pipeline.outputs import Array, as_float64, is_float

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PASSES = 16
"""Up to this many classes are found by a pass over the scores each; beyond, they are sorted."""

_HALF = 0.5


@dataclass(frozen=True, slots=True)
class Classes:
    """What a job says of a classifier's classes.

    Attributes:
        labels: Their names, in order; none: classes are written as numbers from 0 on.
        top_k: How many of the likeliest are written; None: the likeliest alone.
        output: The output that this is about; None: the only one that it can be about.
    """

    labels: tuple[str, ...] = ()
    top_k: int | None = None
    output: str | None = None
    _names: Array = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _refuse_doubles(self.labels)
        if len(self.labels) == 1 or (self.top_k is not None and self.top_k < 1):
            raise ConfigError(
                "there is nothing to choose between",
                expected="two labels or more, and a top_k of 1 or more",
                received=f"{len(self.labels)} labels, top_k = {self.top_k}",
            )
        object.__setattr__(self, "_names", np.array(self.labels, object))

    def columns(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs, and behind them what is said of their classes.

        Args:
            outputs: Name → array, (rows, …).

        Returns:
            Name → array. Labels are objects, `str`, or None where the score is NaN; classes are
            int64; the top ones are (rows, top_k), the likeliest first.

        Raises:
            ModelError: No output fits, or several do; the labels are not as many as the classes;
                or a name is taken.
        """
        name = self.output if self.output is not None else self._found(outputs)
        self._refuse_unfit(name, outputs)
        scores = outputs[name]
        word = "label" if self.labels else "class"
        words = "labels" if self.labels else "classes"
        added: dict[str, Array] = {}
        if scores.ndim == 1 or scores.shape[1] == 1:
            flat = as_float64(scores).reshape(len(scores))
            added[f"{name}_{word}"] = self._named((flat >= _HALF).astype(np.int64), flat)
        else:
            best = likeliest(scores, self.top_k or 1)
            top = np.take_along_axis(scores, best, axis=1)
            added[f"{name}_{word}"] = self._named(best[:, 0], top[:, 0])
            if self.top_k is not None:
                added[f"{name}_top_{words}"] = self._named(best, top)
                added[f"{name}_top_scores"] = top
        for taken in added.keys() & outputs.keys():
            raise ModelError(
                "the model has an output of the name that a column of classes would have",
                column=taken,
                hint=f"rename that output, or {name!r}, in the model or in a postprocess hook",
            )
        return {**outputs, **added}

    def _named(self, classes: Array, scores: Array) -> Array:
        """The labels of classes, which have these scores: none of what is no number."""
        if not self.labels:
            return classes
        named: Array = self._names[classes]
        named[np.isnan(as_float64(scores))] = None
        return named

    def _found(self, outputs: Mapping[str, Array]) -> str:
        """The only output that can hold the scores of these classes."""
        wide = [name for name, array in outputs.items() if _is_wide(array)]
        fit = [name for name in wide if outputs[name].shape[1] == len(self.labels)]
        fit = fit if self.labels else wide
        # With a top_k too it is what is meant: that it has none is said next.
        if not fit and len(self.labels) == 2 and (self.top_k is None or not wide):
            fit = [name for name, array in outputs.items() if _is_narrow(array)]
        if not fit and len(wide) == 1:
            fit = wide  # it is what is meant; that the labels do not fit is said next
        if len(fit) == 1:
            return fit[0]
        what = f"{len(self.labels)} classes" if self.labels else "classes"
        raise ModelError(
            f"several outputs of the model can be the scores of {what}"
            if fit
            else f"no output of the model can be the scores of {what}",
            expected=f"one output of floats, (rows, {len(self.labels) or 'k'})",
            received=_shown({name: outputs[name] for name in fit} if fit else outputs),
            hint="say which with label_output"
            if fit
            else "correct labels or top_k, or leave them out",
        )

    def _refuse_unfit(self, name: str, outputs: Mapping[str, Array]) -> None:
        if name not in outputs:
            raise ModelError(
                "the model has no output of the name that label_output says",
                column=name,
                expected=_shown(outputs),
            )
        scores = outputs[name]
        sigmoid = _is_narrow(scores) and self.top_k is None and len(self.labels) in {0, 2}
        if not _is_wide(scores) and not sigmoid:
            narrow = _is_narrow(scores)
            raise ModelError(
                "an output of one score a row has two classes and no top_k"
                if narrow
                else "an output is not the scores of classes",
                column=name,
                expected="two labels, and no top_k" if narrow else "floats, (rows, k)",
                received=f"{len(self.labels)} labels, top_k = {self.top_k}"
                if narrow
                else _shape(scores),
                hint="correct labels and top_k, or say which output is meant with label_output",
            )
        width = 2 if sigmoid else scores.shape[1]
        if self.labels and len(self.labels) != width:
            raise ModelError(
                "the labels are not as many as the classes",
                column=name,
                expected=f"{width} labels",
                received=f"{len(self.labels)} labels",
                hint="correct labels: one for each class, in the order of the model's scores",
            )
        if self.top_k is not None and self.top_k > width:
            raise ModelError(
                "top_k is more than there are classes",
                column=name,
                expected=f"at most {width}",
                received=str(self.top_k),
                hint=f"there are {width} classes: choose a smaller top_k",
            )


def likeliest(scores: Array, count: int) -> Array:
    """The classes of the highest scores, the highest first; of equal ones the lower class.

    Args:
        scores: Floats, (rows, k).
        count: How many, at most k.

    Returns:
        Classes, (rows, count) int64.
    """
    # float32 holds the narrower floats exactly; as they are they would be slow to compare.
    scores = scores if scores.dtype.kind == "f" and scores.dtype.itemsize > 2 else _wider(scores)
    if count > _PASSES or not np.isfinite(scores).all():
        # NaN sorts behind all else, whatever its sign.
        return np.argsort(-scores, axis=1, kind="stable")[:, :count].astype(np.int64, copy=False)
    best = np.empty((len(scores), count), np.int64)
    rows = np.arange(len(scores))
    left = scores if count == 1 else scores.copy()
    for i in range(count):
        best[:, i] = left.argmax(axis=1)
        if i + 1 < count:
            left[rows, best[:, i]] = -np.inf
    return best


def _wider(scores: Array) -> Array:
    return scores.astype(np.float32)


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Labels from a text file, one a line.

    Args:
        path: UTF-8, with or without a line break at its end.

    Raises:
        ConfigError: It cannot be read, is empty, or has an empty line or a label twice.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(
            "the file of labels cannot be read",
            path=str(path),
            received=error.strerror,
            hint="give the path of a text file with a label a line; in the job file, labels may be "
            "a list",
        ) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(
            "the file of labels is not UTF-8", path=str(path), received=f"line {line}"
        ) from error
    # By line feeds alone: other characters that break lines may be part of a label.
    labels = tuple(line.removesuffix("\r") for line in text.removesuffix("\n").split("\n"))
    for number, label in enumerate(labels, 1):
        if not label.strip():
            raise ConfigError(
                "the file of labels has an empty line" if text else "the file of labels is empty",
                path=str(path),
                expected="one label a line",
                received=f"line {number}" if text else None,
            )
    _refuse_doubles(labels, str(path))
    return labels


def _refuse_doubles(labels: Sequence[str], path: str | None = None) -> None:
    """Raises ConfigError if two classes have one label."""
    first: dict[str, int] = {}
    for number, label in enumerate(labels, 1):
        if first.setdefault(label, number) != number:
            raise ConfigError(
                f"two classes have the label {label!r}",
                path=path,
                received=f"numbers {first[label]} and {number}",
                hint="a label that means two classes says nothing; make them differ",
            )


def _is_wide(array: Array) -> bool:
    return array.ndim == 2 and array.shape[1] > 1 and is_float(array.dtype)


def _is_narrow(array: Array) -> bool:
    return is_float(array.dtype) and array.shape[1:] in {(), (1,)}


def _shape(array: Array) -> str:
    return f"{array.dtype} ({', '.join(['rows', *map(str, array.shape[1:])])})"


def _shown(outputs: Mapping[str, Array]) -> str:
    return shortened([f"{name}: {_shape(array)}" for name, array in outputs.items()])
