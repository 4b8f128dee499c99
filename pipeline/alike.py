"""Shards that fail for one reason, told of once: the first in full, the others by their names.

A contract that a column breaks is broken by each shard of a lake, and the same lines a thousand
times over hide whatever else went wrong. Machines are told of each shard; this is for people.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.errors import printable
from pipeline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.errors import ShardscoreError

_NAMED = 3
_REASONS = 64
"""So many reasons are remembered; a shard with another one is told of in full each time."""


@dataclass(slots=True)
class _Others:
    """The shards that failed as one did and have not been told of: how many, and the first ones."""

    first: str
    count: int = 0
    names: list[str] = field(default_factory=list)


class Alike:
    """Tells shards that fail for a reason that was told before from those that do not."""

    def __init__(self) -> None:
        self._seen: dict[tuple[object, ...], _Others] = {}

    def is_new(self, shard: str, error: ShardscoreError) -> bool:
        """Whether no shard failed for that reason before; if one did, this one is counted."""
        facts = tuple((name, str(fact)) for name, fact in error.facts.items() if name != "path")
        reason = (type(error), error.message, facts)
        others = self._seen.get(reason)
        if others is None:
            if len(self._seen) < _REASONS:
                self._seen[reason] = _Others(shard)
            return True
        others.count += 1
        if len(others.names) < _NAMED:
            others.names.append(shard)
        return False

    def others(self) -> Iterator[str]:
        """A line for each reason about the shards that were counted since the last call."""
        for others in self._seen.values():
            if others.count:
                yield _told(others)
                others.count = 0
                others.names.clear()


def _told(others: _Others) -> str:
    names = [printable(name) for name in others.names]
    left = others.count - len(names)
    names += [f"and {left:,} more"] if left else []
    start = f"{counted(others.count, 'more shard')} failed as {printable(others.first)} did"
    return f"{start}: {', '.join(names)}"
