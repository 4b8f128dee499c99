"""What the unit tests share: builders of records and of Parquet bytes, and a hypothesis profile."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings

from pipeline.footer import Provenance
from pipeline.job import Job
from pipeline.records import RowCounts, Shard

if TYPE_CHECKING:
    from pipeline.survey import Survey
    from tests.unit.outputs import Made

# One slow disk access is no failure, nor an import while examples are made; what is tested is never
# how fast an example is.
settings.register_profile("unit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")

FINGERPRINT = "f" * 64
TABLE = pa.table({"x": [1.0, 2.0, 3.0], "label": ["a", "b", "c"]})


def shard(name: str = "a.parquet", rows: int = 10, **facts: Any) -> Shard:
    """A shard that exists on paper alone."""
    known: dict[str, Any] = {
        "root": "/lake",
        "key": name,
        "size": 1000,
        "mtime_ns": 0,
        "footer_sha256": "0" * 64,
        "schema": TABLE.schema,
    }
    return Shard(name=name, rows=rows, **{**known, **facts})


def note_of(source: Shard, fingerprint: str = FINGERPRINT) -> Provenance:
    """The note of the file that was published from a shard."""
    return Provenance(
        fingerprint=fingerprint,
        model_sha256="a" * 64,
        code_sha256="c" * 64,
        input=source.identity,
        counts=RowCounts(source.rows, source.rows),
        method="predict",
        batch_size=32,
        data_xxh3="d" * 32,
    )


def parquet_bytes(table: pa.Table = TABLE, **options: Any) -> bytes:
    """A table as a Parquet file."""
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


Put = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Writes bytes, by default a small valid shard, to a path below `tmp_path`."""

    def write(name: str, data: bytes | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(parquet_bytes() if data is None else data)
        return path

    return write


@pytest.fixture
def surveyed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Survey]:
    """Surveys an output that was made without a model."""
    from pipeline import survey
    from tests.unit.outputs import IDENTITY

    monkeypatch.setattr(survey, "digest_model", lambda *_: IDENTITY.model_sha256)
    monkeypatch.setattr(survey, "digest_imports", lambda *_: IDENTITY.code_sha256)
    monkeypatch.setattr(survey, "disagreements", lambda *_: {})

    def call(
        made: Made, on_work: Callable[[int, int], None] = lambda *_: None, **job: Any
    ) -> Survey:
        at = {"model": "m.keras", "input": (str(made.lake),), "output": str(made.out)}
        return survey.survey(Job(**at, features=("x",), **job), on_work)

    return call
