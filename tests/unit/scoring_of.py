"""One shard on its way to its files, without a model: what `big` and `small` do with a writer."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.checkpoints import NOTHING, resume
from pipeline.footer import Provenance
from pipeline.predictions import schema_of
from pipeline.records import BadRow, Batch, RowCounts, ScoredBatch, Shard, ShardStatus
from pipeline.spans import listing
from pipeline.storage import ObjectInfo, Storage
from pipeline.target import Target, output_schema
from pipeline.writer import ShardWriter
from tests.unit.conftest import shard
from tests.unit.outputs import IDENTITY, letters, rows

NAME = "d=1/a.parquet"
BATCH = 4
VERSIONS = {"tensorflow": "2"}


@dataclass(frozen=True)
class Writing:
    """A shard, of which some rows are bad, and the output that it goes to.

    Attributes:
        output: Where it is published.
        table: Its rows.
        bad: Which of them cannot be scored.
        policy: What becomes of those.
        column: Which of their columns is at fault.
        changes: What is different of its target.
        looked: Gets an entry each time that the shard is looked at again.
    """

    output: Storage
    table: pa.Table = field(default_factory=lambda: rows(10))
    bad: Collection[int] = ()
    policy: Any = "quarantine"
    column: str | None = "x"
    changes: dict[str, Any] = field(default_factory=dict)
    looked: list[None] = field(default_factory=list)

    @property
    def shard(self) -> Shard:
        return shard(NAME, len(self.table), schema=self.table.schema, mtime_ns=7)

    def target(self, **changes: Any) -> Target:
        identity = IDENTITY.model_copy(update={"on_bad_row": self.policy})
        kept = ("id", "name")
        asked = Target(
            shard=self.shard,
            schema=output_schema(
                pa.schema([self.table.schema.field(name) for name in kept]),
                schema_of({"prediction": np.zeros((1, 1), "float32")}),
                with_reason=self.policy == "null",
            ),
            kept=kept,
            identity=identity,
            fingerprint=identity.fingerprint,
            method="predict_on_batch",
            versions=VERSIONS,
            refuse_swapped=lambda: self.looked.append(None),
        )
        return replace(asked, **{**self.changes, **changes})

    def batches(self, start: int = 0, stop: int | None = None) -> Iterator[ScoredBatch]:
        """The shard's batches, scored, from one row to before another one."""
        for first in range(start, len(self.table) if stop is None else stop, BATCH):
            yield self.batch(first, min(BATCH, len(self.table) - first))

    def batch(self, first: int, count: int) -> ScoredBatch:
        found = [row for row in range(first, first + count) if row in self.bad]
        part = self.table.slice(first, count).combine_chunks()
        good = np.array([row not in self.bad for row in range(first, first + count)])
        doubled = pa.array(2 * part["x"].to_numpy()[good], pa.float32())
        batch = Batch(
            shard=self.shard,
            start=first,
            rows=count,
            features=(),
            carried=part.to_batches()[0],
            good=None if good.all() else good,
            bad=tuple(BadRow(row, self.column, f"bad {row}") for row in found),
        )
        return ScoredBatch(batch, (doubled,), ends_call=True, nonfinite=int(first == 0))

    def writer(self, **changes: Any) -> ShardWriter:
        return ShardWriter(self.output, self.target(**changes))

    def whole(self, **changes: Any) -> tuple[ShardStatus, RowCounts]:
        """All of the shard, from its first row."""
        with self.writer(**changes) as writer:
            for scored in self.batches():
                writer.write(scored)
            return writer.commit()

    def saved(self, *ends: int, **changes: Any) -> None:
        """A run that ends after a checkpoint before each of some rows."""
        start = 0
        with self.writer(**changes) as writer:
            for end in ends:
                for scored in self.batches(start, end):
                    writer.write(scored)
                assert writer.checkpoint() == end
                start = end

    def resumed(self, **changes: Any) -> tuple[ShardStatus, RowCounts]:
        """A run that goes on where others have come."""
        there = listing(self.output).get(NAME, [])
        far = resume(self.output, there, self.target().origin) if there else NOTHING
        with self.writer(resumed=far, **changes) as writer:
            for scored in self.batches(far.rows):
                writer.write(scored)
            return writer.commit()

    @property
    def counts(self) -> RowCounts:
        nulls = self.policy == "null"
        bad = len(self.bad)
        total = len(self.table)
        return RowCounts(total, total - bad, bad if nulls else 0, 0 if nulls else bad, 1)

    @property
    def expected(self) -> pa.Table:
        """What is published."""
        doubled = [None if i in self.bad else 2.0 * i for i in range(len(self.table))]
        table = self.table.drop_columns(["x"])
        table = table.append_column("prediction", pa.array(doubled, pa.float32()))
        if self.policy == "null":
            reasons = [f"bad {i}" if i in self.bad else None for i in range(len(table))]
            return table.append_column("bad_row_reason", pa.array(reasons, pa.string()))
        return table.filter(pa.array([i not in self.bad for i in range(len(table))], pa.bool_()))

    @property
    def expected_letters(self) -> pa.Table:
        return letters(self.table, self.bad)

    def read(self, name: str) -> pa.Table:
        return pq.read_table(pa.BufferReader(self.output.read(name)))

    def note(self, name: str) -> Provenance:
        found = Provenance.of(pq.read_metadata(pa.BufferReader(self.output.read(name))))
        assert found is not None
        return found

    @property
    def names(self) -> list[str]:
        return [info.name for info in self.output.list()]

    def info(self, name: str) -> ObjectInfo:
        return self.output.info(name)
