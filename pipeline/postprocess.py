"""What is done to a batch's outputs before they are written: the user's hook, then classes.

Both see named arrays, (rows, …) each, and give named arrays of as many rows. They run on one batch
at a time whatever method scored it, so what they give cannot depend on the method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.user_code import load_hook

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.job import Job
    from pipeline.predictions import Array


@dataclass(frozen=True, slots=True)
class Finish:
    """From the model's outputs to those that are written.

    Attributes:
        postprocess: The hook of the user's, or None.
    """

    postprocess: Callable[[dict[str, Any]], Any] | None = None

    def __call__(self, outputs: dict[str, Array], rows: int) -> dict[str, Array]:  # noqa: ARG002
        """The outputs to write.

        Args:
            outputs: Name → array, as `predictions.flatten` gives them.
            rows: Rows of each of them.
        """
        if self.postprocess is not None:
            outputs = self.postprocess(outputs)
        return outputs


def finish_for(job: Job) -> Finish:
    """What a job wants done to its outputs.

    Raises:
        ModelError: The hook cannot be imported.
    """
    return Finish(load_hook(job.postprocess) if job.postprocess else None)
