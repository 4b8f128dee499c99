"""What `init` left to the user in a job file, and still is: told where a job is refused."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DECIDE = "# DECIDE: "
_COMMENTED = re.compile(r'# ("(?:[^"\\]|\\.)*"|[\w-]+) = ')
_ENDS = (64, 130)
"""Exit codes that say nothing about what a job file leaves open."""


def undecided(
    code: int, argv: Sequence[str], environ: Mapping[str, str] = os.environ
) -> str | None:
    """A line on what is left to decide in the job file of a command that has failed; None: nothing.

    Args:
        code: What the command ends with.
        argv: The command line.
        environ: The variables.
    """
    named = _config(argv) or environ.get("SHARDSCORE_CONFIG")
    if code in {0, *_ENDS} or not named or argv[:1] == ["init"]:
        return None
    try:
        lines = Path(named).read_text().splitlines()
    except (OSError, ValueError):
        return None
    left = list(_left(lines))
    if not left:
        return None
    told = ", ".join(f"{printable(name)} (line {number:,})" for number, name in left)
    return f"{printable(named)} leaves to you, at its lines marked DECIDE: {told}"


def _config(argv: Sequence[str]) -> str | None:
    for place, word in enumerate(argv):
        if word in {"--config", "-c"}:
            return argv[place + 1] if place + 1 < len(argv) else None
        if word.startswith("--config="):
            return word.removeprefix("--config=")
    return None


def _left(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The line, from 1, and the name of each option that is still a comment below its question."""
    asked = False
    for number, line in enumerate(lines, 1):
        if line.startswith(DECIDE):
            asked = True
        elif not line.startswith("#"):
            asked = False
        elif asked and (found := _COMMENTED.match(line)):
            asked = False
            yield number, found[1]
