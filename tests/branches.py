"""Tells how many branches of pipeline/ and jobs/ were taken; exit code 1 if those are too few.

    python -m tests.branches JSON

The figure of coverage.py's table mixes lines with branches, and most lines are easily reached. This
one is of branches alone: those that were taken, over all that the code has.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LEAST = 0.95
"""The share of all branches that must be taken."""


@dataclass(frozen=True, slots=True)
class Branches:
    """What became of the branches of a file.

    Attributes:
        name: The file, relative to the repository.
        taken: Branches that some test took.
        all: Branches that the file has.
    """

    name: str
    taken: int
    all: int


def found(report: Mapping[str, Any]) -> list[Branches]:
    """The branches of each file, from what `coverage json` wrote."""
    return [
        Branches(name, told["summary"]["covered_branches"], told["summary"]["num_branches"])
        for name, told in report["files"].items()
    ]


def share(files: Iterable[Branches]) -> float:
    """Taken branches over all branches.

    Raises:
        ValueError: There are no branches: nothing was measured.
    """
    counted = [(file.taken, file.all) for file in files]
    if not (every := sum(of_file for _, of_file in counted)):
        raise ValueError("no branch was measured")
    return sum(taken for taken, _ in counted) / every


def summary(files: Iterable[Branches]) -> str:
    """The figure, and the files of which most branches were not taken."""
    files = list(files)
    taken, every = sum(file.taken for file in files), sum(file.all for file in files)
    lines = [f"branches: {taken:,} of {every:,} taken, {share(files):.2%}; not taken, most first"]
    missed = sorted((file.taken - file.all, file.name) for file in files if file.taken < file.all)
    lines += [f"  {-less:4} {name}" for less, name in missed[:10]]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.branches")
    parser.add_argument("json", type=Path, help="what `coverage json` wrote")
    files = found(json.loads(parser.parse_args().json.read_text()))
    sys.stdout.write(summary(files) + "\n")
    if share(files) >= LEAST:
        return 0
    sys.stderr.write(f"fewer than {LEAST:.0%} of the branches were taken\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
