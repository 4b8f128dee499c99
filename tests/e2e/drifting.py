"""Real flights that drift, and some that do not: halves of January to June, one perhaps delayed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.conftest import SAMPLE, run_command

if TYPE_CHECKING:
    from tests.conftest import Finished

HALF = [f"2013-{month:02}" for month in range(1, 7)]


def sampled(folder: Path, which: int, delay: int = 0) -> Path:
    """Every other flight of January to June, perhaps with some minutes more of delay."""
    folder.mkdir()
    for month in HALF:
        table = pq.read_table(SAMPLE / "flights" / f"{month}.parquet")
        table = table.filter(pa.array([row % 2 == which for row in range(table.num_rows)]))
        late = pc.add(table["dep_delay"], pa.scalar(delay, table["dep_delay"].type))
        place = table.column_names.index("dep_delay")
        pq.write_table(
            table.set_column(place, "dep_delay", late.cast(table["dep_delay"].type)),
            folder / f"{month}.parquet",
        )
    return folder


def scored(source: Path, output: Path, *more: object) -> Finished:
    return run_command(
        "score", "--config", SAMPLE / "flights.toml", "--input", source, "--output", output, *more
    )


def report_of(output: Path) -> dict[str, Any]:
    (*_, latest) = sorted((output / "_shardscore" / "reports").glob("*.json"))
    found: dict[str, Any] = json.loads(latest.read_text())
    return found
