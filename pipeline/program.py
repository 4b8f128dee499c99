"""A model with all that stands around it: from a batch's arrays to named outputs.

The probe, the scorers and `compare` call a model through this alone, so that what is proved, what
is measured and what is run are one thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.feed import Feed
from pipeline.postprocess import Finish
from pipeline.predictions import flatten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.model import LoadedModel
    from pipeline.predictions import Array


@dataclass(frozen=True, slots=True)
class Program:
    """A model, how it is fed, and what is done to its outputs."""

    model: LoadedModel
    feed: Feed
    finish: Finish

    @classmethod
    def plain(cls, model: LoadedModel) -> Program:
        """A model that takes its columns as they are, and whose outputs are written as they are."""
        return cls(model, Feed(model.signature.inputs, model.signature), Finish())

    def element(self, arrays: Sequence[Any]) -> Any:
        """What `predict(dataset)` is to be given for a batch's arrays: (rows, …) each."""
        return self.feed.element(self.feed.tensors(arrays))

    def named(self, outputs: Any) -> dict[str, Array]:
        """What Keras returned, by column: (rows, …) each."""
        return flatten(outputs, self.model.signature.output_names)
