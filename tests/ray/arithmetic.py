"""The command with arithmetic in the place of the model, in this process and in actors of Ray's.

    python -m tests.ray.arithmetic score --engine ray --ray-address host:port …

An actor is begun by a cluster, which knows nothing of the test's variables: they are handed on.
"""

from __future__ import annotations

import os

from tests.faults.arithmetic import install

HANDED_ON = (
    *("PAUSE", "LOAD_PAUSE", "SCORED", "PRINTS", "DIES", "DIES_TIMES", "RAISES", "RAISED"),
    *("GROUP_ROWS", "STARTED", "BLIND"),
)


def stand_in() -> None:
    """Has actors score by arithmetic."""
    from jobs.engines import scorer

    variables = {name: os.environ[name] for name in HANDED_ON if name in os.environ}

    class Arithmetic(scorer.Scorer):
        def __init__(self, threads: int) -> None:
            from tests.ray.arithmetic import begin_actor

            begin_actor(variables)
            super().__init__(threads)

        def warm(self) -> None:
            """There is nothing to import."""

    scorer.Scorer = Arithmetic  # type: ignore[misc]


def begin_actor(variables: dict[str, str]) -> None:
    """What the process of an actor does first."""
    os.environ.update(variables)
    install()
    if started := os.environ.get("STARTED"):
        with open(started, "a") as file:
            file.write(f"{os.getpid()} {os.environ.get('PLACE', '')}\n")


if __name__ == "__main__":
    from jobs.cli import run

    install()
    stand_in()
    run()
