"""PURE: what `init` says of a job beyond its inputs: why rows may be bad, where classes are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.columns import nesting
from pipeline.outputs import is_float

if TYPE_CHECKING:
    from collections.abc import Collection

    import pyarrow as pa

    from pipeline.binding import ColumnUse
    from pipeline.predictions import PredictionSchema


def about_classes(predicted: PredictionSchema) -> tuple[dict[str, str], dict[str, Any]]:
    """What to say of labels where outputs look like the scores of classes: remarks, examples."""
    wide = {
        output.name: output.shape[0]
        for output in predicted.outputs
        if len(output.shape) == 1 and output.shape[0] > 1 and is_float(output.dtype)
    }
    if not wide:
        return {}, {}
    name, width = next(iter(wide.items()))
    told = {
        "labels": f"{name} looks like the scores of {width:,} classes: their names in order, or a "
        "file with one a line"
    }
    if len(predicted.outputs) == 1:
        return told, {"top_k": min(3, width)}
    told["label_output"] = "the output that labels and top_k are about"
    if len(wide) > 1:
        told["label_output"] += f": {' or '.join(wide)}"
    return told, {"top_k": min(3, width), "label_output": name}


def bad_row_reasons(uses: Collection[ColumnUse], schemas: Collection[pa.Schema]) -> list[str]:
    """Why a row may be bad, as far as types tell it.

    Args:
        uses: The columns that feed the model.
        schemas: Those of the shards.
    """
    read = {use.path[0] for use in uses}
    reasons = {
        "nulls": any(
            column not in schema.names or schema.field(column).nullable
            for schema in schemas
            for column in read
        ),
        "images that cannot be decoded": any(use.encoded for use in uses),
        "values that an input cannot hold": any(use.conversion == "checked" for use in uses),
        "lists of another length": any(
            use.dims is not None
            and None in nesting(use.type)[0]
            and (use.sequence is None or use.sequence.truncate == "never")
            for use in uses
        ),
    }
    return [reason for reason, holds in reasons.items() if holds]
