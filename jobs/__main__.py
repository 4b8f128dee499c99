"""`python -m jobs` is `shardscore`: both begin here, before anything else is imported."""

from __future__ import annotations

import os
from typing import NoReturn


def run() -> NoReturn:
    """The command line; as the first process of a container, in a child of its own."""
    if os.getpid() == 1:
        from jobs.pid_one import stand_in

        stand_in()
    from jobs.cli import run as run_command_line

    run_command_line()


if __name__ == "__main__":
    run()
