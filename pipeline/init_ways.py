"""PURE: what `init` may have to say of how columns are read, so that they can feed an input.

The least comes first: nothing. What is said beyond that is a guess wherever another value would run
as well and predict something else; then it comes with a question, for the user to decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow.types as pt

from pipeline.columns import nesting, value_type
from pipeline.conversions import MANTISSA, is_bytes, is_time, unit_of
from pipeline.toml_text import toml_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa

    from pipeline.columns import Column
    from pipeline.signature import InputSpec

_LENGTH = 128
"""How long sequences are made where neither the model nor the table says it."""

_SIZE = [224, 224]
"""Height and width of images, likewise."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to read columns.

    Attributes:
        options: What is said of them.
        question: What the user has to decide, where that is a guess; None: it is none.
        remarks: What to know.
    """

    options: dict[str, Any]
    question: str | None = None
    remarks: tuple[str, ...] = ()


def ways(spec: InputSpec, columns: Iterable[Column]) -> Iterator[Way]:
    """What may be said of how columns are read, the least first.

    Args:
        spec: The input, as the model takes it.
        columns: The columns that are to feed it.
    """
    columns = list(columns)
    types = [column.type for column in columns]
    yield _as_they_are(spec, columns)
    kinds = [value_type(kind) for kind in types]
    if any(map(is_time, kinds)):
        unit = _unit(kinds, spec.dtype)
        yield Way(
            {"unit": unit},
            f"in what were times counted in the training? {unit} is a guess",
            ("days, s, ms, us or ns; dates and timestamps are counted from 1970 on",),
        )
    if len(spec.shape) in {2, 3} and any(map(is_bytes, kinds)):
        yield _as_images(spec)
    if spec.shape and any(nesting(kind)[0] for kind in types):
        length = spec.shape[0] or _LENGTH
        yield Way(
            {"length": length},
            f"how were lists padded in the training? With 0 at their end, to {length}, is a guess",
            (
                'lists that are longer are bad rows unless truncate = "end" or "start"; '
                'pad = "before" and pad_value say the rest',
            ),
        )


def _as_they_are(spec: InputSpec, columns: Sequence[Column]) -> Way:
    """Nothing need be said; but whether lists of any length have the right one, no schema tells."""
    width = spec.shape[0] if spec.shape else None
    if width is None or not any(nesting(column.type)[0][:1] == (None,) for column in columns):
        return Way({})
    name = columns[0].name
    filled = "" if spec.dtype == "string" else 0
    padded = {"columns": [name], "length": width, "pad": "after", "pad_value": filled}
    padded["truncate"] = "end"
    return Way(
        {},
        remarks=(
            f"lists of any length: those without {width} values are bad rows. If they are "
            f"sequences, pad and cut them as in the training: {toml_value(padded)}",
        ),
    )


def _as_images(spec: InputSpec) -> Way:
    """Encoded images for an input: what the model leaves open of them is asked for."""
    options: dict[str, Any] = {}
    remarks = []
    height, width, channels = (*spec.shape, 1)[:3]
    if height is None or width is None:
        options["size"] = _SIZE
        remarks.append("size: height and width in pixels, which the model leaves open")
    if channels is None:
        options["channels"] = 3
        remarks.append("channels: 1 is gray, 3 is colour, 4 has alpha")
    if spec.dtype in MANTISSA:
        options["scale"] = "none"
        remarks.append(
            'scale: "none" (pixels from 0 to 255), "0..1" or "-1..1"; a wrong one runs without any '
            "error, and gives plausible wrong predictions"
        )
    size = "of that size" if "size" in options else f"{height} x {width}"
    remarks.append(f'fit, for images that are not {size}: "stretch" (the default), "pad" or "crop"')
    question = f"how were images prepared in the training? {toml_value(options)} is a guess"
    return Way({"image": options or True}, question if options else None, tuple(remarks))


def _unit(kinds: Iterable[pa.DataType], dtype: str) -> str:
    """A unit in which times lose the least: whole numbers their own, floats one of few digits."""
    first = next(kind for kind in kinds if is_time(kind))
    if dtype not in MANTISSA:
        return unit_of(first) if dtype in {"int64", "uint64"} or pt.is_date32(first) else "s"
    return "days" if pt.is_date(first) or pt.is_timestamp(first) else "s"
