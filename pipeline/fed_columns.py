"""PURE: how columns feed a model, a record a column: what `plan` prints and `run.json` keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.records import FedColumn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipeline.binding import Binding
    from pipeline.images import Decoder


def fed_columns(
    bindings: Iterable[Binding], decoders: Mapping[str, Decoder]
) -> tuple[FedColumn, ...]:
    """A record for each use of a column, in the order of the model's inputs.

    Args:
        bindings: Of each schema among the shards, which may differ in their types; at least one.
        decoders: Input → what decodes its images, where it takes some.
    """
    distinct = list({id(binding): binding for binding in bindings}.values())
    fed = []
    for i, bound in enumerate(distinct[0].inputs):
        shape = ", ".join(["n", *("?" if d is None else str(d) for d in bound.spec.shape)])
        decoder = decoders.get(bound.spec.name)
        for j, use in enumerate(bound.uses):
            same = [binding.inputs[i].uses[j] for binding in distinct]
            fed.append(
                FedColumn(
                    input=bound.spec.name,
                    input_type=decoder.output if decoder else f"{bound.spec.dtype} ({shape})",
                    column=use.column,
                    column_type=_each(str(use.type) for use in same),
                    conversion=decoder.described
                    if decoder
                    else _each(use.described for use in same),
                )
            )
    return tuple(fed)


def _each(words: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(words))
