"""Small shards that share a call, all the way from rows to published files.

They are over within moments, and are not saved on their way; those that are written within a second
are published together.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from pipeline.errors import DataError, ShardscoreError, TooManyBadRowsError
from pipeline.records import FailedShard, Outcome
from pipeline.writer import ShardWriter, name_all

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from pipeline.listener import Listener
    from pipeline.records import ScoredBatch, Shard
    from pipeline.scoring import Scoring
    from pipeline.stop import Stop

GRACE_SECONDS = 0.5
"""How long a stop waits for small shards that are scored already to be published."""

SHARDS_TOGETHER = 64
"""Small shards that are published together: each holds a staged file open until then…"""

SECONDS_TOGETHER = 1.0
"""…and none waits longer than that for the others to be written."""


@dataclass(frozen=True, slots=True)
class _Made:
    """A small shard whose files are written, and wait to be published.

    Attributes:
        shard: The shard.
        writer: Holds its files.
        rows: Rows that were written: all, unless it failed.
        failed: Why they are not to be published, if they are not.
    """

    shard: Shard
    writer: ShardWriter
    rows: int
    failed: TooManyBadRowsError | None


class SmallShards:
    """Scores groups of small shards, one after the other.

    Args:
        scoring: How shards of the job are scored.
        run: Is told what happens.
        stop: May ask to stop.
    """

    def __init__(self, scoring: Scoring, run: Listener, stop: Stop) -> None:
        self._scoring = scoring
        self._run = run
        self._stop = stop

    def outcomes(self, shards: tuple[Shard, ...]) -> Iterator[Outcome | FailedShard]:
        """Scores a group, and gives the outcomes of its shards in order.

        Raises:
            DataError: The next shard breaks the contract; nothing is known of those behind it.
            StoppedError: A stop was asked for.
            ShardscoreError: Storage failed, or the output is another job's.
        """
        begun = time.monotonic()
        left = deque(shards)
        with closing(self._scoring.scored(shards, small=True)) as scored:
            while left:
                with ExitStack() as files:
                    made, error = self._made(left, scored, files)
                    named = name_all(
                        self._scoring.output, [one.writer for one in made if not one.failed]
                    )
                    spent = time.monotonic() - begun
                    begun += spent
                    wrong = yield from self._told(made, iter(named), spent)
                error = wrong or error
                if error is not None:
                    try:
                        raise error
                    finally:
                        # Or the error's traceback, this frame and the error would be a circle.
                        del error, wrong, made

    def _made(
        self, left: deque[Shard], scored: Iterator[ScoredBatch], files: ExitStack
    ) -> tuple[list[_Made], ShardscoreError | None]:
        """Takes shards that are left and writes their files, until some can be published.

        Returns:
            The shards; and what was wrong with the next one, or a stop.
        """
        made: list[_Made] = []
        end = time.monotonic() + SECONDS_TOGETHER
        try:
            while left and len(made) < SHARDS_TOGETHER and time.monotonic() < end:
                shard = left[0]
                batches = islice(scored, shard.batches(self._scoring.identity.batch_size))
                target = self._scoring.target(shard, small=True)
                writer = files.enter_context(ShardWriter(self._scoring.output, target))
                rows, too_many = _write(batches, writer)
                if too_many is None:
                    writer.finish()
                made.append(_Made(left.popleft(), writer, rows, too_many))
                # The call that scored this shard has scored the others too: they are finished,
                # unless that takes long.
                self._stop.heed(GRACE_SECONDS)
        except ShardscoreError as error:
            return made, error
        return made, None

    def _told(
        self, made: list[_Made], named: Iterator[bool], seconds: float
    ) -> Generator[Outcome | FailedShard, None, ShardscoreError | None]:
        """Ends shards whose files have their names, and tells of each, whatever becomes of others.

        Returns:
            The first error that is no single shard's affair.
        """
        method = self._scoring.identity.small_method
        wrong: ShardscoreError | None = None
        for one in made:
            # Told with what became of it: until then several shards are at hand.
            self._run.batch_done(one.rows)
            if one.failed:
                yield FailedShard(one.shard.name, one.shard.path, one.failed)
                continue
            try:
                status, counts = one.writer.conclude(named=next(named))
            except DataError as error:
                yield FailedShard(one.shard.name, one.shard.path, error.detached())
                continue
            except ShardscoreError as error:
                wrong = wrong or error
                continue
            self._run.bad_rows(one.shard, counts, one.writer.first_bad)
            yield Outcome(one.shard.name, status, counts, method, seconds / len(made))
        return wrong


def _write(
    batches: Iterator[ScoredBatch], writer: ShardWriter
) -> tuple[int, TooManyBadRowsError | None]:
    """Writes a shard's batches. One that has too many bad rows is read on to its end: the call
    that scored it has scored the other shards too.

    Returns:
        Rows that were written, and the error if it has too many bad ones.
    """
    rows, too_many = 0, None
    for batch in batches:
        if too_many is not None:
            continue
        try:
            writer.write(batch)
            rows += batch.batch.rows
        except TooManyBadRowsError as error:
            too_many = error.detached()
    return rows, too_many
