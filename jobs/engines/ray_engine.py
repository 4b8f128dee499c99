"""The engine that has a run scored by actors of a Ray cluster.

This process is the driver: it surveys, holds the output's lock, hands out units and keeps the
account, as the coordinator of local workers does. It connects only when there is work.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

from jobs.engines.ray_actors import Actors
from jobs.engines.ray_cluster import Head, connected, disconnect
from pipeline.capacity import Capacity, Machine, decided
from pipeline.errors import ConfigError
from pipeline.wording import counted

if TYPE_CHECKING:
    from pipeline.capacity import Work


class RayEngine:
    """A cluster. A context manager, which leaves it if this has entered it.

    Args:
        address: Where it is; None: where Ray itself would look.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._ours = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._ours:
            disconnect(self._ray)

    @cached_property
    def _ray(self) -> Any:
        ray, self._ours = connected(self._address)
        return ray

    def capacity(
        self, workers: int | Literal["auto"], threads: int | Literal["auto"], work: Work
    ) -> Capacity:
        """As on one machine that has all the CPUs of the cluster, as it is now.

        Raises:
            ConfigError: Other machines cannot reach what is to be scored; Ray is not installed.
            EngineError: The cluster does not answer.
        """
        if not work.shared:
            raise ConfigError(
                "input or output is in the memory of this process, which no actor of Ray's reaches",
                hint="use --engine local, or an object store, or files that each node sees",
            )
        each = [
            node["Resources"].get("CPU", 0.0) for node in self._ray.nodes() if node["Alive"]
        ] or [1.0]
        chosen = decided(workers, threads, Machine(max(1.0, sum(each)), None, card=False), work)
        if threads != "auto":
            return chosen
        return replace(chosen, threads=max(1, min(chosen.threads, int(max(each)))))

    def workers(self, capacity: Capacity) -> Actors:
        """Begins actors, one a worker."""
        head = Head(self._ray.get_runtime_context().gcs_address)
        return Actors(self._ray, head, capacity.workers, capacity.threads)

    def described(self, capacity: Capacity) -> str:
        """What they are, in words."""
        nodes = sum(node["Alive"] for node in self._ray.nodes())
        return (
            f"{counted(capacity.workers, 'actor')} on a Ray cluster of {counted(nodes, 'node')}, "
            f"each with pools of {counted(capacity.threads, 'thread')}"
        )
