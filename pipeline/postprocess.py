"""What is done to a batch's outputs before they are written: the user's hook, then classes.

Both see named arrays, (rows, …) each, and give named arrays of as many rows. They run on one batch
at a time whatever method scored it, so what they give cannot depend on the method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.classes import Classes
from pipeline.errors import ModelError
from pipeline.outputs import flatten
from pipeline.user_code import load_hook

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.job import Job
    from pipeline.outputs import Array


@dataclass(frozen=True, slots=True)
class Finish:
    """From the model's outputs to those that are written.

    Attributes:
        postprocess: The hook of the user's, or None.
        classes: What is said of a classifier's classes, or None.
        hook: The hook's name, for messages.
    """

    postprocess: Callable[[dict[str, Any]], Any] | None = None
    classes: Classes | None = None
    hook: str = ""

    def __call__(self, outputs: dict[str, Array], rows: int) -> dict[str, Array]:
        """The outputs to write.

        Args:
            outputs: Name → array, as `outputs.flatten` gives them.
            rows: Rows of each of them.

        Raises:
            ModelError: The hook gives something that is no column of as many rows, or the classes
                do not fit.
            Exception: Whatever the hook raises.
        """
        return self.classified(self.hooked(outputs, rows))

    def hooked(self, outputs: dict[str, Array], rows: int) -> dict[str, Array]:
        """What the hook makes of the outputs; without one, these. Raises as a call does."""
        if self.postprocess is None:
            return outputs
        return self._columns(self._called(self.postprocess, outputs), rows)

    def classified(self, outputs: dict[str, Array]) -> dict[str, Array]:
        """The outputs, and what is said of their classes.

        Raises:
            ModelError: The classes do not fit.
        """
        return outputs if self.classes is None else self.classes.columns(outputs)

    def _called(self, hook: Callable[[dict[str, Any]], Any], outputs: dict[str, Array]) -> Any:
        """What the hook returns. One that leaves the process must not end the run as if all were
        done."""
        try:
            return hook(dict(outputs))
        except SystemExit as error:
            raise ModelError(
                "the postprocess hook ends the process",
                received=f"SystemExit: {error}, from {self.hook}",
                hint="raise an error instead of calling sys.exit()",
            ) from error

    def _columns(self, given: Any, rows: int) -> dict[str, Array]:
        if given is None:
            raise ModelError(
                "the postprocess hook returns nothing",
                received=self.hook,
                hint="it returns the outputs to write: an array, or a dict of arrays by name",
            )
        try:
            columns = flatten(_arrays(given), ())
        except ModelError as error:
            raise ModelError(
                error.message.replace("the model", "the postprocess hook"),
                column=error.column,
                expected=error.expected,
                received=f"{error.received}, from {self.hook}",
            ) from error
        for name, array in columns.items():
            if array.ndim == 0 or len(array) != rows:
                raise ModelError(
                    "the postprocess hook does not return one entry a row",
                    column=name,
                    expected=f"shape ({rows}, …) for {rows} rows",
                    received=f"shape {array.shape} from {self.hook}",
                )
        return columns


def finish_for(job: Job) -> Finish:
    """What a job wants done to its outputs.

    Raises:
        ModelError: The hook cannot be imported.
        ConfigError: The labels are none.
    """
    classes = Classes(job.labels, job.top_k, job.label_output) if job.labels or job.top_k else None
    if job.postprocess is None:
        return Finish(None, classes)
    return Finish(load_hook(job.postprocess), classes, job.postprocess)


def _arrays(value: Any) -> Any:
    """What a hook returned, lists of values as arrays: a hook may well build them by hand."""
    import numpy as np

    if isinstance(value, dict):
        return {name: _arrays(inner) for name, inner in value.items()}
    if isinstance(value, list) and not any(hasattr(inner, "dtype") for inner in value):
        texts = value and isinstance(value[0], (str, bytes))
        return np.array(value, object if texts else None)
    return value
