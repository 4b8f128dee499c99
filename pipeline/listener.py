"""Who is told what becomes of a unit's shards, while it is scored.

The protocol between the scoring of units and whoever keeps the account of a run: in one process
that is the run itself, in a worker process what sends it there. What is told of a unit is told in
order, and of one unit after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pipeline.records import BadRow, FailedShard, Outcome, RowCounts, Shard


class Listener(Protocol):
    """Is told what becomes of a unit's shards."""

    def batch_done(self, rows: int) -> None:
        """That many rows of the shard at hand were written to its staged file."""

    def resumed(self, shard: Shard, rows: int, expected: int) -> None:
        """A shard goes on behind its last checkpoint.

        Args:
            shard: The shard.
            rows: Rows that its checkpoints hold.
            expected: Rows that they seemed to hold, by their names alone.
        """

    def checkpoint_saved(self, shard: Shard, rows: int) -> None:
        """A checkpoint of the shard at hand holds that many of its rows."""

    def bad_rows(self, shard: Shard, counts: RowCounts, first: BadRow | None) -> None:
        """A shard was published.

        Args:
            shard: The shard.
            counts: Where its rows went.
            first: The first bad row that this run found in it.
        """

    def memory_short(self, rows: int, fitting: int) -> None:
        """A batch did not fit into memory; from now on that many rows are scored in a call."""

    def shard_done(self, outcome: Outcome) -> None:
        """A shard was published, by this run or by another meanwhile."""

    def shard_failed(self, failed: FailedShard, rows: int = 0) -> None:
        """A shard cannot be scored; `rows` are the rows that were to be."""

    def shard_dropped(self) -> None:
        """The shard at hand will be scored again from its first row."""
