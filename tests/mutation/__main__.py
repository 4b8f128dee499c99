"""Tells what the last run of mutmut found; exit code 1 if a module's score is too low.

python -m tests.mutation [--survivors]
"""

from __future__ import annotations

import argparse
import sys

from tests.mutation.argued import ARGUED
from tests.mutation.score import complaints, found, table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("--survivors", action="store_true", help="show those that are not argued")
    asked = parser.parse_args()
    modules = found()
    if asked.survivors:
        for module in modules:
            for change in module.survivors:
                if change not in ARGUED:
                    sys.stdout.write(f"{change}\n\n")
    sys.stdout.write(table(modules, ARGUED) + "\n")
    wrong = complaints(modules, ARGUED)
    sys.stderr.write("".join(f"{line}\n" for line in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
