"""PURE: which of several columns an input's is likely to be, by their names.

A guess, and never more than that: `init` proposes the likeliest first and leaves it to the user.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

ALIKE = 0.5
"""From here on two names are alike: 1 is one name, and names at random seldom come to 0.4."""


def plain(name: str) -> str:
    """A name without case and punctuation, by which dep_delay and DepDelay are one."""
    return re.sub(r"[\W_]+", "", name).casefold()


def likeness(one: str, other: str) -> float:
    """How alike two names are, from ALIKE to 1; 0 where they are not."""
    ratio = difflib.SequenceMatcher(None, plain(one), plain(other), autojunk=False).ratio()
    return ratio if ratio >= ALIKE else 0.0


def ranked(
    wanted: str, names: Iterable[str], taken: Container[str], unlikely: Container[str]
) -> list[str]:
    """Columns that may be an input's, the likeliest first.

    Args:
        wanted: The input's name.
        names: The columns, in the table's order, which they keep where nothing else tells.
        taken: Those that feed another input: they come behind the others.
        unlikely: Those that come behind all.
    """

    def place(name: str) -> tuple[bool, bool, float]:
        return name in unlikely, name in taken, -likeness(wanted, name)

    return sorted(names, key=place)
