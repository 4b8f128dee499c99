"""A small lake and what becomes of it, for the tests of the command on odd input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path


def shard(path: Path, rows: int = 10, **columns: Any) -> Path:
    """A shard with an id and the columns a and b, unless others are given."""
    table = {
        "id": list(range(rows)),
        "a": pa.array(range(rows), pa.float32()),
        "b": pa.array([1.0] * rows, pa.float32()),
        **columns,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({k: v for k, v in table.items() if v is not None}), path)
    return path


def published(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "out").glob("*.parquet"))


def sums(path: Path) -> list[float]:
    return pq.read_table(path)["prediction"].to_pylist()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])
