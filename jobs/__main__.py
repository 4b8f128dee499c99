"""`python -m jobs` is `shardscore`: both begin here, before anything else is imported."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

_OLDEST = (3, 11)


def run() -> NoReturn:
    """The command line; as the first process of a container, in a child of its own."""
    if sys.version_info < _OLDEST:
        version = ".".join(map(str, sys.version_info[:3]))
        print(
            "error: this Python is too old\n"
            f"  file:     {sys.executable}\n"
            "  expected: Python 3.11 or newer\n"
            f"  received: Python {version}\n"
            "  to do:    run it with another one, like python3.11 -m jobs",
            file=sys.stderr,
        )
        sys.exit(78)  # what sysexits.h calls EX_CONFIG; nothing of ours can be imported here
    if os.getpid() == 1:
        from jobs.pid_one import stand_in

        stand_in()
    from jobs.cli import run as run_command_line

    run_command_line()


if __name__ == "__main__":
    run()
