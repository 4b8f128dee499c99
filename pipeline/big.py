"""A big shard, all the way from its last checkpoint to its published file.

It is saved every so often at a batch boundary, and at once when the run is to end: by a signal, or
because storage fails.
"""

from __future__ import annotations

import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from pipeline import checkpoints
from pipeline.behind import Behind
from pipeline.checkpoints import NOTHING, Resumed
from pipeline.errors import ScoringError, ShardscoreError, StoppedError, StorageError
from pipeline.records import Outcome
from pipeline.runtime import pool_threads
from pipeline.spans import listing, reach
from pipeline.target import published_by_another
from pipeline.writer import ShardWriter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.listener import Listener
    from pipeline.memory import FreedMemory
    from pipeline.records import ScoredBatch, Shard
    from pipeline.scoring import Scoring
    from pipeline.stop import Stop


class BigShards:
    """Scores big shards, one after the other.

    Args:
        scoring: How shards of the job are scored.
        run: Is told what happens.
        stop: May ask to stop.
        freed: Is told of each batch.
    """

    def __init__(self, scoring: Scoring, run: Listener, stop: Stop, freed: FreedMemory) -> None:
        self._scoring = scoring
        self._output = scoring.output
        self._run = run
        self._stop = stop
        self._freed = freed

    def outcomes(self, shard: Shard, *, again: bool = False) -> Iterator[Outcome]:
        """Scores a shard, and gives its one outcome.

        Args:
            shard: The shard.
            again: Whether another worker may have saved some of it since the survey.

        Raises:
            DataError: The shard breaks the contract.
            StoppedError: A stop was asked for; what was scored is saved.
            ShardscoreError: Storage failed, or the output is another job's.
        """
        begun = time.monotonic()
        scoring = self._scoring
        identity = scoring.identity
        counts = published_by_another(self._output, scoring.target(shard, small=False))
        if counts is not None:
            yield Outcome(shard.name, "already_published", counts, identity.method)
            return
        target = scoring.target(shard, small=False, resumed=self._resumed(shard, again=again))
        left = shard.batches(identity.batch_size)
        # The last batch may be short: what is saved up to it counts as a whole one.
        left -= -(-target.resumed.rows // identity.batch_size)
        with (
            closing(scoring.scored((shard,), small=False, start=target.resumed.rows)) as scored,
            ShardWriter(self._output, target) as writer,
        ):
            self._write(scored, left, writer, shard)
            status, counts = writer.commit()
        self._run.bad_rows(shard, counts, writer.first_bad)
        spent = time.monotonic() - begun
        yield Outcome(shard.name, status, counts, identity.method, spent, target.resumed.rows)

    def _resumed(self, shard: Shard, *, again: bool) -> Resumed:
        counted_on = spans = self._scoring.surveyed.checkpoints.get(shard.name, [])
        if again:
            spans = listing(self._output).get(shard.name, [])
        if not spans and not counted_on:
            return NOTHING
        found = checkpoints.resume(
            self._output, spans, self._scoring.target(shard, small=False).origin
        )
        self._run.resumed(shard, found.rows, reach(counted_on))
        return found

    def _write(
        self, scored: Iterator[ScoredBatch], left: int, writer: ShardWriter, shard: Shard
    ) -> None:
        every = self._scoring.surveyed.job.checkpoint_every
        saved = time.monotonic()
        with Behind(writer.write, own_thread=pool_threads() != 1) as writing:
            try:
                for number in range(1, left + 1):
                    batch = next(scored)
                    writing.take(batch)
                    self._run.batch_done(batch.batch.rows)
                    self._freed.batch_done()
                    # With its last batch written a shard is better published than saved.
                    if number == left or not batch.ends_call:
                        continue
                    self._stop.heed()
                    if time.monotonic() - saved >= every:
                        writing.finish()
                        self._save(writer, shard)
                        saved = time.monotonic()
                writing.finish()
            except StoppedError:
                writing.finish()
                self._save(writer, shard)
                raise
            except (StorageError, ScoringError):
                with suppress(ShardscoreError):  # what ended the run matters more
                    writing.finish()
                    self._save(writer, shard)
                raise

    def _save(self, writer: ShardWriter, shard: Shard) -> None:
        rows = writer.checkpoint()
        if rows is not None:
            self._run.checkpoint_saved(shard, rows)
