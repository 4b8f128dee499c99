"""Whole outputs as a run would leave them, made without a model: for tests of what proves them."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from pipeline import layout, ledger, manifest
from pipeline.discover import discover
from pipeline.footer import Provenance
from pipeline.job import JobIdentity, RunRecord
from pipeline.proof import Proof
from pipeline.records import RowCounts, Shard
from pipeline.sketch import SKETCH_KEY, PredictionSketch
from pipeline.storage import LocalStorage
from pipeline.verify import verify

IDENTITY = JobIdentity(
    model_sha256="a" * 64,
    code_sha256="c" * 64,
    binding={"x": ("x",)},
    keep=("unused",),
    batch_size=4,
    small_shard_rows=4,
    method="predict_on_batch",
    small_method="predict",
    on_bad_row="quarantine",
    predictions={"prediction": "float"},
)


def rows(count: int, start: int = 0) -> pa.Table:
    """Rows of a shard: what the model reads, and two columns that travel along."""
    numbers = range(start, start + count)
    return pa.table(
        {
            "id": pa.array(numbers, pa.int64()),
            "x": pa.array(numbers, pa.float32()),
            "name": [f"row {i}" for i in numbers],
        }
    )


def noted(table: pa.Table, note: Provenance) -> bytes:
    """A file as the writer makes it: its data, the digest of that in the note, the footer; that of
    predictions says besides what they look like."""
    file = io.BytesIO()
    writer = pq.ParquetWriter(file, table.schema, write_page_checksum=True)
    writer.write_table(table)
    digest = xxhash.xxh3_128(file.getvalue()).hexdigest()
    writer.add_key_value_metadata(replace(note, data_xxh3=digest).encoded())
    if "prediction" in table.column_names:
        column = table["prediction"].combine_chunks()
        sketch = PredictionSketch(pa.schema([table.schema.field("prediction")]), note.input["rows"])
        sketch.add(0, [column])
        writer.add_key_value_metadata({SKETCH_KEY: sketch.encoded().encode()})
    writer.close()
    return file.getvalue()


def note_for(source: Shard, bad: int = 0) -> Provenance:
    return Provenance(
        fingerprint=IDENTITY.fingerprint,
        model_sha256=IDENTITY.model_sha256,
        code_sha256=IDENTITY.code_sha256,
        input=source.identity,
        counts=RowCounts(source.rows, source.rows - bad, 0, bad),
        method="predict_on_batch",
        batch_size=IDENTITY.batch_size,
        data_xxh3="",
    )


def scored(table: pa.Table, bad: Collection[int] = ()) -> pa.Table:
    """What a model that doubles x would have published."""
    good = table.filter(pa.array([i not in bad for i in range(len(table))], pa.bool_()))
    doubled = pa.array([2 * x.as_py() for x in good["x"]], pa.float32())
    return good.drop_columns(["x"]).append_column("prediction", doubled)


def letters(table: pa.Table, bad: Collection[int]) -> pa.Table:
    left = table.take(pa.array(sorted(bad), pa.int64()))
    left = left.append_column("quarantine_row", pa.array(sorted(bad), pa.int64()))
    left = left.append_column("quarantine_column", pa.array(["x"] * len(left), pa.string()))
    return left.append_column("quarantine_reason", pa.array([f"bad {row}" for row in sorted(bad)]))


@dataclass(frozen=True)
class Made:
    """An output and its input, below one folder."""

    folder: Path
    plan_id: str

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    @property
    def storage(self) -> LocalStorage:
        return LocalStorage(self.out)

    @property
    def shards(self) -> dict[str, Shard]:
        return {s.name: s for s in discover([str(self.lake)], str(self.out)).shards}

    def verified(self, **options: Any) -> Proof:
        return verify(self.storage, **options)

    def whats(self, **options: Any) -> list[tuple[str, str]]:
        """What is wrong, and what is unfinished, as (file, what)."""
        proof = self.verified(**options)
        found = [*proof.faults, *sorted(proof.unfinished.values())]
        return [(finding.file, finding.what) for finding in found]

    def publish(self, name: str, table: pa.Table, note: Provenance) -> None:
        path = self.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noted(table, note))

    def score(self, name: str, bad: Collection[int] = ()) -> None:
        """Publishes a shard of the lake."""
        table = pq.read_table(self.lake / name)
        note = note_for(self.shards[name], len(bad))
        if bad:
            self.publish(f"_shardscore/quarantine/{name}", letters(table, bad), note)
        self.publish(name, scored(table, bad), note)

    def complete(self, *, idle: bool = False) -> bool:
        planned = tuple(self.shards.values())
        fingerprint = IDENTITY.fingerprint
        return manifest.complete(self.storage, fingerprint, self.plan_id, planned, idle=idle)


def begin(folder: Path, lake: Mapping[str, pa.Table]) -> Made:
    """A lake, and an output that a run has begun and published nothing in."""
    for name, table in lake.items():
        path = folder / "lake" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
    output = LocalStorage(folder / "out")
    record = RunRecord(
        identity=IDENTITY, asked_features=(), asked_inputs={}, probe="", created_with={}
    )
    layout.create_record(output, record)
    shards = discover([str(folder / "lake")], str(folder / "out")).shards
    made = Made(folder, ledger.freeze_plan(output, shards))
    report(made)
    return made


def report(made: Made, number: int = 1, **facts: Any) -> None:
    """The report of a run that has finished, or one that says otherwise."""
    document = {"plan_id": made.plan_id, "state": "finished", "inputs": [str(made.lake)]}
    document |= {"shards": {"total": 0}, "outcomes": [], **facts}
    made.storage.replace(f"_shardscore/reports/{number}.json", json.dumps(document).encode())


def finished(folder: Path) -> Made:
    """A complete output of three shards, one in a folder, one with bad rows."""
    made = begin(
        folder, {"a.parquet": rows(10), "b.parquet": rows(7, 100), "d=1/c.parquet": rows(3)}
    )
    made.score("a.parquet", bad=[2, 5, 9])
    made.score("b.parquet")
    made.score("d=1/c.parquet")
    assert made.complete()
    return made
