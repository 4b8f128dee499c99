"""Where a run's workers are: on this machine, or on a cluster of Ray's.

An engine distributes the names of shards and never touches what is published. Ray is imported only
where it is asked for, and only when there is work.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.staffing import Engine

EngineName = Literal["local", "ray"]


def engine_named(
    name: EngineName, ray_address: str | None
) -> AbstractContextManager[Engine | None]:
    """The engine of that name; leaving its block lets go of what it holds.

    Args:
        name: The engine's name.
        ray_address: Where Ray's cluster is, if that was said.

    Raises:
        UsageError: An address is given that nobody would use.
    """
    if name == "ray":
        from jobs.engines.ray_engine import RayEngine

        return RayEngine(ray_address)
    if ray_address is not None:
        raise UsageError(
            "--ray-address is for --engine ray", received=ray_address, hint="give --engine ray too"
        )
    return nullcontext()
