"""Which name was meant, of those that there are; and what a file is, by the end of its name."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

CONVERT = "only Parquet is read: convert it, as pandas.read_csv(…).to_parquet(…) does"
"""What to do with a table in a file of text."""

_TEXTS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".csv.gz", ".json.gz", ".jsonl.gz")
_ALIKE = 0.7
"""How alike two names must be, from 0 to 1."""


def closest(word: str, known: Iterable[str]) -> str | None:
    """The name that is most like a word that is none of them; None if none is much like it."""
    names = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=_ALIKE)
    return names[close[0]] if close else None


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """What to do about a name that is not known."""
    name = closest(word, known)
    return otherwise if name is None else f"did you mean {name!r}?"


def is_text_table(name: str) -> bool:
    """Whether a file is a table in a form that is not read, by its name."""
    return name.lower().endswith(_TEXTS)


def near(path: Path, otherwise: str) -> str:
    """What to do about a path that leads to nothing: its folder may have one that is like it."""
    try:
        there = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return otherwise
    # Without their endings: all models are alike by these.
    stems = {Path(name).stem: name for name in there if Path(name).suffix == path.suffix}
    stem = closest(path.stem, (stem for stem in stems if stem != path.stem))
    return otherwise if stem is None else f"did you mean {str(path.with_name(stems[stem]))!r}?"
