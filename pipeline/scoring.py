"""What big shards and small ones have in common: how their rows become scored batches, and what
becomes of them.

Owns the one way from a prepared job's shards to scored batches (read, fed, scored, bad rows set
aside), and each shard's `Target`. It writes nothing and tells nothing of shards: `big` and `small`
do that.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from pipeline.bad_rows import most_bad_rows
from pipeline.checkpoints import NOTHING, Resumed
from pipeline.rescue import Fit, Policy
from pipeline.rows import read_batches, refuse_swapped
from pipeline.runtime import versions
from pipeline.scorers import scorer_for
from pipeline.storage import storage_at
from pipeline.target import Target, output_schema

if TYPE_CHECKING:
    from collections.abc import Generator

    import pyarrow as pa

    from pipeline.job import JobIdentity
    from pipeline.listener import Listener
    from pipeline.prepare import Prepared
    from pipeline.records import Batch, ScoredBatch, Shard
    from pipeline.storage import Storage
    from pipeline.survey import Survey


class Scoring:
    """A prepared job, as the shards of its units need it.

    Args:
        prepared: The model and how shards are scored with it.
        surveyed: The job and its output.
        run: Is told where memory was short.

    Attributes:
        output: Where shards are published.
        identity: What decides the bytes of what is published.
        surveyed: The job and its output.
        policy: What is done about rows that cannot be scored.
    """

    def __init__(self, prepared: Prepared, surveyed: Survey, run: Listener) -> None:
        self._prepared = prepared
        self.surveyed = surveyed
        self.output: Storage = surveyed.output
        self.identity: JobIdentity = prepared.identity
        self._fingerprint = self.identity.fingerprint
        self._versions = versions()
        self._of: pa.Schema | None = None
        self._published: tuple[pa.Schema, tuple[str, ...]] = (None, ())
        self._fit = Fit(told=run.memory_short)
        self.policy = Policy(
            fail=self.identity.on_bad_row == "fail",
            nonfinite_is_bad=self.identity.nonfinite == "bad",
            most_bad=self._most_bad,
            columns=self.identity.binding,
        )

    def _most_bad(self, shard: Shard) -> int | None:
        return most_bad_rows(self.surveyed.job.max_bad_rows, shard.rows)

    def scored(
        self, shards: tuple[Shard, ...], *, small: bool, start: int = 0
    ) -> Generator[ScoredBatch, None, None]:
        """The shards' batches, scored; the first shard's from row `start` on."""
        identity, proof = self.identity, self._prepared.proof
        size = identity.batch_size

        def batches() -> Generator[Batch, None, None]:
            for shard in shards:
                contract = self._prepared.contracts[shard.name]
                yield from read_batches(
                    shard,
                    contract.binding,
                    contract.carried,
                    size,
                    fail_on_bad=identity.on_bad_row == "fail",
                    start=start,
                )

        count = sum(shard.batches(size) for shard in shards) - -(-start // size)
        method = identity.small_method if small else identity.method
        scorer = scorer_for(method, self._prepared.program, proof.schema, self.policy, self._fit)
        # Closed in this order: the scorer stops reading ahead before its source is closed.
        with (
            closing(batches()) as source,
            closing(scorer.score(source, count, together=small)) as scored,
        ):
            yield from scored

    def _columns(self, kept: pa.Schema) -> tuple[pa.Schema, tuple[str, ...]]:
        """The columns of a published file, and the names of those that travelled along; the same
        objects for shards whose contract is the same one."""
        if self._of is not kept:
            schema = output_schema(
                kept, self._prepared.proof.schema, with_reason=self.identity.on_bad_row == "null"
            )
            self._of, self._published = kept, (schema, tuple(kept.names))
        return self._published

    def target(self, shard: Shard, *, small: bool, resumed: Resumed = NOTHING) -> Target:
        """What becomes of a shard, which goes on where it was `resumed`."""
        identity = self.identity
        schema, kept = self._columns(self._prepared.contracts[shard.name].kept)
        return Target(
            shard=shard,
            schema=schema,
            kept=kept,
            identity=identity,
            fingerprint=self._fingerprint,
            method=identity.small_method if small else identity.method,
            versions=self._versions,
            refuse_swapped=partial(refuse_swapped, storage_at(shard.root), shard),
            resumed=resumed,
            replacing=self.surveyed.replaced.get(shard.name),
            most_bad=self._most_bad(shard),
        )
