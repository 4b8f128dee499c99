"""PURE: which columns would be rounded on their way into a model, and the shortest way to allow it.

`init` leaves it to the user. What it proposes allows these columns and no others.
"""

from __future__ import annotations

import glob
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pipeline.binding import Reading
from pipeline.columns import value_type
from pipeline.conversions import MANTISSA, conversion_of, is_time
from pipeline.errors import shortened
from pipeline.misfits import MANY

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from pipeline.binding import ColumnUse
    from pipeline.signature import InputSpec


@dataclass(frozen=True, slots=True)
class Rounding:
    """What is to be allowed.

    Attributes:
        columns: The columns that would be rounded.
        kinds: From which type to which, and the columns, a line each.
        allowing: The value of `allow_lossy` that allows them, and what was allowed before.
    """

    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    allowing: tuple[str, ...]


def rounding(
    uses: Iterable[tuple[InputSpec, ColumnUse]], allowed: Sequence[str]
) -> Rounding | None:
    """What must be allowed before columns can be used so; None: nothing more than is.

    Times are among them where they feed floats: checked one by one, hardly one would be held.

    Args:
        uses: Each column, with the input that it feeds.
        allowed: What is allowed already.
    """
    kinds: dict[str, dict[str, None]] = {}
    lossy: dict[str, None] = {}
    spared: dict[str, None] = {}
    for spec, use in uses:
        kind = value_type(use.type)
        strict = conversion_of(kind, spec.dtype, use.unit)
        floats = spec.dtype in MANTISSA
        if strict == "rounded" or (strict == "checked" and is_time(kind) and floats):
            if not Reading({}, None, tuple(allowed)).may_lose(use.column):
                kinds.setdefault(f"{use.type} to {spec.dtype}", {})[use.column] = None
                lossy[use.column] = None
        elif strict == "checked" and floats:  # would be rounded too if it were allowed
            spared[use.column] = None
    if not lossy:
        return None
    return Rounding(
        tuple(lossy),
        tuple(f"{kind}: {shortened(list(columns))}" for kind, columns in kinds.items()),
        (*allowed, *_allowing(list(lossy), spared)),
    )


def _allowing(columns: Sequence[str], spared: Collection[str]) -> Sequence[str]:
    """Names, or one glob for many of them, that means none of those that are to be spared."""
    if len(columns) > MANY:
        first, last = min(columns), max(columns)  # what these two begin with, all between them do
        pairs = enumerate(zip(first, last, strict=False))
        begin = first[: next((i for i, (a, b) in pairs if a != b), len(first))]
        for pattern in ("*", f"{glob.escape(begin)}*"):
            if not any(fnmatchcase(name, pattern) for name in spared):
                return [pattern]
    return columns
