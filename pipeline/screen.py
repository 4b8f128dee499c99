"""Text that fits a screen: facts in two columns, tables, and errors, none wider than it.

Widths are counted in columns of a terminal, where a Chinese character takes two. What does not
fit goes on in the next line, at a blank where there is one; nothing is lost by that. A word with a
slash in it is a path or an address: outside of tables it stays in one piece, so that it can be
copied, and may be wider than the screen.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pipeline.errors import ShardscoreError, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

WIDTH = 80
"""Columns where nothing tells: of a pipe, a file, a log."""

_NARROWEST = 40
_GAP = "  "
_ELLIPSIS = "…"
_LEAST = 6
"""So wide a column of a table stays: five of them fit the narrowest screen."""

_INDENT = 12
"""Where the facts of an error begin, below its message."""


def width_of(stream: TextIO) -> int:
    """The columns of what a stream leads to; the variable COLUMNS decides, as it does for others.

    A screen narrower than 40 columns is written to as if it had 40.
    """
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked) > 0:
        return max(_NARROWEST, int(asked))
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # no terminal; closed, or no file at all
        columns = 0
    return max(_NARROWEST, columns) if columns else WIDTH


def cells(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_cells_of, text))


def _cells_of(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in {"Cf", "Me", "Mn"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def clipped(text: str, width: int) -> str:
    """A text that takes at most so many columns: what is left out is in its middle."""
    if cells(text) <= width:
        return text
    left = (width - 1) // 2
    head = _head(text, left)
    tail = _head(text[::-1], width - 1 - cells(head))[::-1]
    return f"{head}{_ELLIPSIS}{tail}"


def cut(text: str, width: int) -> str:
    """A text that takes at most so many columns: what is left out is at its end."""
    return text if cells(text) <= width else f"{_head(text, width - 1)}{_ELLIPSIS}"


def _head(text: str, width: int) -> str:
    """As many of a text's first characters as fit."""
    taken = 0
    for i, character in enumerate(text):
        taken += _cells_of(character)
        if taken > width:
            return text[:i]
    return text


def wrapped(text: str, width: int, *, paths_whole: bool = True) -> list[str]:
    """A text as lines of at most so many columns, broken at blanks where there are any.

    Args:
        text: One line, without control characters.
        width: Columns.
        paths_whole: Whether a word with a slash in it may be wider.
    """
    if cells(text) <= width:
        return [text]
    lines: list[str] = []
    line: str | None = None
    for word in text.split(" "):
        joined = word if line is None else f"{line} {word}"
        if cells(joined) <= width:
            line = joined
            continue
        if line is not None:
            lines.append(line)
        rest = word
        while cells(rest) > width and not (paths_whole and "/" in rest):
            head = _head(rest, width) or rest[0]
            lines.append(head)
            rest = rest[len(head) :]
        line = rest
    return [*lines, line or ""]


def hanging(start: str, text: str, width: int) -> str:
    """A text behind what its first line starts with; the other lines are indented as far."""
    indent = cells(start)
    lines = wrapped(printable(text), max(1, width - indent))
    return f"\n{'':{indent}}".join([start + lines[0], *lines[1:]]) if lines else start


def aligned(facts: Mapping[str, str], width: int = WIDTH) -> str:
    """Facts, their names in a column."""
    names = max(map(len, facts)) + 2
    return "\n".join(
        hanging(f"{name + ':':<{names}}", text, width).rstrip() for name, text in facts.items()
    )


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int = WIDTH,
    *,
    right: Collection[str] = (),
) -> str:
    """A plain table with a rule below its head; its widest columns give way until it fits.

    Args:
        head: The columns' names.
        rows: A text for each column.
        width: Columns of the screen.
        right: The columns that stand at the right, as numbers do; they keep their width.
    """
    shown = [[printable(cell) for cell in row] for row in rows]
    natural = [max(cells(row[i]) for row in (head, *shown)) for i in range(len(head))]
    least = [n if name in right else min(n, _LEAST) for name, n in zip(head, natural, strict=True)]
    widths = _fitting(natural, least, width - len(_GAP) * (len(head) - 1))
    lines = []
    for row in (head, ["-" * n for n in widths], *shown):
        folded = [wrapped(c, n, paths_whole=False) for c, n in zip(row, widths, strict=True)]
        for i in range(max(map(len, folded))):
            texts = [column[i] if i < len(column) else "" for column in folded]
            padded = [
                " " * (n - cells(text)) + text if name in right else text + " " * (n - cells(text))
                for name, text, n in zip(head, texts, widths, strict=True)
            ]
            lines.append(_GAP.join(padded).rstrip())
    return "\n".join(lines)


def _fitting(natural: Sequence[int], least: Sequence[int], whole: int) -> list[int]:
    """Widths of columns that fill a screen at most: the widest give way first."""
    widths = list(natural)
    while sum(widths) > whole:
        i = max(range(len(widths)), key=lambda i: (widths[i] > least[i], widths[i]))
        if widths[i] <= least[i]:
            break
        widths[i] -= 1
    return widths


def error_text(error: ShardscoreError | str, width: int = WIDTH, start: str = "") -> str:
    """An error, its facts below its message.

    Args:
        error: It, or its text.
        width: Columns of the screen.
        start: What stands before its message.
    """
    first, *facts = str(error).split("\n")
    lines = [item(start + first, width)]
    for fact in facts:
        label, text = fact[:_INDENT], fact[_INDENT:]
        # A file's name is never broken: it may hold blanks.
        lines.append(fact if label.strip() == "file:" else hanging(label, text, width))
    return "\n".join(lines)


def item(text: str, width: int) -> str:
    """A line that may become several; those below the first are indented."""
    first, *others = wrapped(text, width - 2)
    return "\n".join([first, *(f"  {line}" for line in others)])


def on_screen(text: str, width: int) -> str:
    """A text of several lines, each of which may become more than one; indents are kept."""
    return "\n".join(
        hanging(" " * (len(line) - len(line.lstrip(" "))), line.lstrip(" "), width)
        for line in text.split("\n")
    )


def size(count: float) -> str:
    """Bytes in the unit that suits them."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            shown = count / scale
            return f"{shown:,.0f} {unit}" if shown >= 100 else f"{shown:,.1f} {unit}"
    return f"{count:,.0f} bytes"


def short_path(path: str) -> str:
    """A path relative to the current folder, if it lies below it."""
    return path.removeprefix(f"{Path.cwd()}/")
