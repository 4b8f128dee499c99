"""The workloads: what is scored, made once into `.bench/data/`, the same from the same seed.

    python -m tests.bench.workloads [--scale 1] [NAME …]

W1  a small model (32 float columns, 64-64-10), 8 shards of 1 M rows
W2  the same model, one shard of 1 M, 4 M and 16 M rows: memory
W3  a heavy model (1024-1024-10) on the same columns, 4 shards
W4  the sample flights, ten times over: strings, and layers that look them up; uneven shards
W5  the small model, ten thousand shards of 100 rows
W6  the data of W1, on a real S3 server

Shards are what pyarrow and pandas write unless told otherwise, but for the dictionaries that no
random float gains by: snappy, row groups of a million rows. A share of each (`part`) is for those
that would take hours for the whole; it is real rows of the workload, told apart in the table.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.runtime import tensorflow
from tests.bench.environments import HOME, ROOT

SEED = 5
FLOATS = 32
MILLION = 1_000_000
FEATURES = tuple(f"f{i:02}" for i in range(FLOATS))
SMALL, HEAVY = (64, 64), (1024, 1024)
FLIGHT_COPIES = 10


@dataclass(frozen=True)
class Kind:
    """How a workload is made.

    Attributes:
        title: What it is, in a line.
        hidden: Units of the model's two hidden layers; none: the flights.
        shards: How many shards.
        rows: Rows a shard.
        scaled: What a smaller scale makes less of.
    """

    title: str
    hidden: tuple[int, int] | None
    shards: int
    rows: int
    scaled: str = "rows"


KINDS = {
    "W1": Kind("small MLP, 8 shards", SMALL, 8, MILLION),
    "W2-1M": Kind("small MLP, one shard of 1 M rows", SMALL, 1, MILLION),
    "W2-4M": Kind("small MLP, one shard of 4 M rows", SMALL, 1, 4 * MILLION),
    "W2-16M": Kind("small MLP, one shard of 16 M rows", SMALL, 1, 16 * MILLION),
    "W3": Kind("heavy MLP, 4 shards", HEAVY, 4, MILLION // 4),
    "W4": Kind("flights ten times over, 42 uneven shards", None, 42, 0),
    "W5": Kind("small MLP, ten thousand shards of 100 rows", SMALL, 10_000, 100, "shards"),
}
"""W6 is W1 elsewhere."""


@dataclass(frozen=True)
class Workload:
    """One workload, made.

    Attributes:
        name: Its name.
        title: What it is, in a line.
        folder: Where it lies.
        rows: Rows in all.
        part_rows: Rows of the share that slow contestants are given.
        key: The column that names a row.
        features: Globs of the model's columns, as the command takes them; none: by name.
    """

    name: str
    title: str
    folder: Path
    rows: int
    part_rows: int
    key: str
    features: tuple[str, ...]

    @property
    def model(self) -> Path:
        return self.folder / "model.keras"

    @property
    def input(self) -> Path:
        return self.folder / "shards"

    @property
    def part(self) -> Path:
        return self.folder / "part"


def workload(name: str, scale: float) -> Workload:
    """A workload, made in a process of its own if it is not there yet."""
    folder = _folder(name, scale)
    facts = folder / "made.json"
    if not facts.exists():
        subprocess.run(
            [sys.executable, "-m", "tests.bench.workloads", "--scale", str(scale), name],
            check=True,
            cwd=ROOT,
        )
    made = json.loads(facts.read_text())
    flights = KINDS[name].hidden is None
    return Workload(
        name=name,
        title=KINDS[name].title,
        folder=folder,
        rows=made["rows"],
        part_rows=made["part_rows"],
        key="flight_id" if flights else "id",
        features=() if flights else ("f*",),
    )


def make(name: str, scale: float) -> None:
    """Makes a workload, whole or not at all."""
    folder = _folder(name, scale)
    if (folder / "made.json").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("shards", "part"):
        (folder / part).mkdir(parents=True)
    kind = KINDS[name]
    if kind.hidden is None:
        _flights(folder, max(1, round(FLIGHT_COPIES * scale)))
    else:
        _model(folder / "model.keras", kind.hidden)
        _shards(folder, kind, scale)
    rows = _rows_below(folder / "shards")
    made = {"rows": rows, "part_rows": _rows_below(folder / "part"), "seed": SEED}
    (folder / "made.json").write_text(json.dumps(made) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("names", nargs="*", metavar="NAME", default=list(KINDS))
    asked = parser.parse_args()
    for name in asked.names:
        make(name, asked.scale)


def _folder(name: str, scale: float) -> Path:
    return HOME / "data" / f"{scale:g}" / name


def _rows_below(folder: Path) -> int:
    return sum(pq.read_metadata(path).num_rows for path in folder.glob("*.parquet"))


def _model(path: Path, hidden: tuple[int, int]) -> None:
    tensorflow()  # quietly, before Keras does it
    import keras

    keras.utils.set_random_seed(SEED)
    layers = [keras.layers.Dense(units, "relu") for units in hidden]
    keras.Sequential([keras.Input((FLOATS,)), *layers, keras.layers.Dense(10, "softmax")]).save(
        path
    )


def _shards(folder: Path, kind: Kind, scale: float) -> None:
    shards, rows = kind.shards, kind.rows
    if kind.scaled == "shards":
        shards = max(20, round(shards * scale))
    else:
        rows = max(1_000, round(rows * scale))
    random = np.random.default_rng(SEED)
    part = max(1, shards // 32) if kind.scaled == "shards" else 0
    for number in range(shards):
        path = folder / "shards" / f"{number:05}.parquet"
        with pq.ParquetWriter(path, _SCHEMA, use_dictionary=False) as writer:
            for start in range(0, rows, 1 << 20):
                count = min(1 << 20, rows - start)
                first = number * rows + start
                columns = [pa.array(np.arange(first, first + count))]
                columns += [random.standard_normal(count, "float32") for _ in FEATURES]
                table = pa.table(columns, schema=_SCHEMA)
                writer.write_table(table, row_group_size=1 << 20)
                if not part and first == 0:
                    head = table.slice(0, max(1_000, shards * rows // 32))
                    pq.write_table(head, folder / "part" / path.name, use_dictionary=False)
        if number < part:
            (folder / "part" / path.name).hardlink_to(path)


def _flights(folder: Path, copies: int) -> None:
    """The sample's shards, each several times over, with ids of their own."""
    shutil.copy(ROOT / "sample_data" / "flights.keras", folder / "model.keras")
    for path in sorted((ROOT / "sample_data" / "flights").glob("*.parquet")):
        table = pq.read_table(path)
        place = table.column_names.index("flight_id")
        ids = table["flight_id"].to_numpy()
        tables = [
            table.set_column(place, "flight_id", pa.array(ids + copy * 1_000_000))
            for copy in range(copies)
        ]
        pq.write_table(pa.concat_tables(tables), folder / "shards" / path.name)
    (first, *_) = sorted((folder / "shards").glob("*.parquet"))
    (folder / "part" / first.name).hardlink_to(first)


_SCHEMA = pa.schema(
    [pa.field("id", pa.int64()), *(pa.field(name, pa.float32()) for name in FEATURES)]
)


if __name__ == "__main__":
    main()
