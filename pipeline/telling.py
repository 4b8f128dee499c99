"""What a worker says: of the unit at hand, some of it at a time, and last, of what ends it."""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING, Any

from pipeline.errors import ShardscoreError
from pipeline.memory import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.records import BadRow, FailedShard, Outcome, RowCounts, Shard
    from pipeline.workers import Answer

TELL_SECONDS = 0.1
"""How often a worker tells how far it is, at most."""


def ending(error: BaseException) -> Answer:
    """What a worker says of an error that ends it: ("failed", error) if it is one of ours, ("left",
    text) if code of the user's ends the process, else ("bug", text, traceback)."""
    if isinstance(error, ShardscoreError):
        return "failed", error.detached()
    if isinstance(error, SystemExit):
        return "left", str(error)
    trace = "".join(traceback.format_exception(error))
    return "bug", f"{type(error).__name__}: {error}", trace


class Telling:
    """A `Listener` that passes on what it is told, some of it at a time.

    Args:
        say: Takes what is said: ("told", [(name, arguments), …], resident bytes).
        seconds: How often that is, at most.
    """

    def __init__(self, say: Callable[[Answer], object], seconds: float = TELL_SECONDS) -> None:
        self._say = say
        self._seconds = seconds
        self._waiting: list[tuple[str, tuple[Any, ...]]] = []
        self._last = time.monotonic()

    def flush(self) -> None:
        """Passes on what waits."""
        if self._waiting:
            self._say(("told", self._waiting, resident_bytes()))
            self._waiting = []
        self._last = time.monotonic()

    def batch_done(self, rows: int) -> None:
        """A batch of the shard at hand was written to its staged file."""
        if self._waiting and self._waiting[-1][0] == "batch_done":
            rows += self._waiting.pop()[1][0]
        self._tell("batch_done", rows)

    def resumed(self, shard: Shard, rows: int, expected: int) -> None:
        """A shard goes on behind its last checkpoint."""
        self._tell("resumed", shard, rows, expected)

    def checkpoint_saved(self, shard: Shard, rows: int) -> None:
        """A checkpoint of the shard at hand holds that many of its rows."""
        self._tell("checkpoint_saved", shard, rows)

    def bad_rows(self, shard: Shard, counts: RowCounts, first: BadRow | None) -> None:
        """A shard was published."""
        if first is not None:
            self._tell("bad_rows", shard, counts, first)

    def memory_short(self, rows: int, fitting: int) -> None:
        """A batch did not fit into memory; from now on that many rows are scored in a call."""
        self._tell("memory_short", rows, fitting)

    def shard_done(self, outcome: Outcome) -> None:
        """A shard was published, by this run or by another meanwhile."""
        self._tell("shard_done", outcome)

    def shard_failed(self, failed: FailedShard, rows: int = 0) -> None:
        """A shard cannot be scored."""
        failed.error.detached()
        self._tell("shard_failed", failed, rows)

    def shard_dropped(self) -> None:
        """The shard at hand will be scored again from its first row."""
        self._tell("shard_dropped")

    def _tell(self, name: str, *arguments: Any) -> None:
        self._waiting.append((name, arguments))
        if time.monotonic() - self._last >= self._seconds:
            self.flush()
