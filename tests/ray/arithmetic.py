"""The command with arithmetic in the place of the model, in this process and in actors of Ray's.

    python -m tests.ray.arithmetic score --engine ray --ray-address host:port …

A cluster begins actors, and knows nothing of a test's variables: they are handed on. Besides those
of `tests.faults.arithmetic` the environment may say

    STARTED  a file that gets a line an actor: its process and Ray's id of its node
    BLIND    a folder that actors see in the place of the output
    LACKS    a module that is not installed where actors are
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.faults.arithmetic import install

HANDED_ON = (
    *("PAUSE", "LOAD_PAUSE", "SCORED", "PRINTS", "DIES", "RAISES", "RAISED", "GROUP_ROWS"),
    *("STARTED", "BLIND", "LACKS"),
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
    import ray

    from pipeline import worker

    os.environ.update(variables)
    if lacks := variables.get("LACKS"):
        raise ModuleNotFoundError(f"No module named '{lacks}'")
    install()
    if started := variables.get("STARTED"):
        node = ray.get_runtime_context().get_node_id()
        with Path(started).open("a") as file:
            file.write(f"{os.getpid()} {node}\n")
    if blind := variables.get("BLIND"):
        from pipeline.storage import storage_at

        worker.storage_at = lambda _address: storage_at(blind)


if __name__ == "__main__":
    from jobs.cli import run

    install()
    stand_in()
    run()
