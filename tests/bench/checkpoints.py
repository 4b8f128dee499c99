"""What checkpoints cost: one big shard, saved every 30 seconds or never, in turn.

    python -m tests.bench.checkpoints [--pairs 3] [--seconds 75] [--every 30] [--width 512]

The shard is made so that scoring it takes about `--seconds`, which with the default interval means
two checkpoints, and a joining at the end. Each run is the real command in a process of its own;
what is compared is the time that the shard took, from its first row to its published file, start-up
left out. On a machine that others share, that ratio wanders by several percent. So the seconds that
one run spends on saving and joining are told too, timed inside of it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.conftest import run_command

if TYPE_CHECKING:
    from collections.abc import Callable

COLUMNS = 32
NEVER = 10**6
SEED = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=75.0)
    parser.add_argument("--every", type=float, default=30.0)
    parser.add_argument("--width", type=int, default=512, help="units of the two hidden layers")
    parser.add_argument("--save", type=Path, default=Path("out/bench/checkpoints.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        found = measured(Path(folder), options)
    options.save.parent.mkdir(parents=True, exist_ok=True)
    options.save.write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.write(table(found))


def measured(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Runs in turn with and without checkpoints: A B A B …"""
    model = make_model(folder / "model.keras", options.width)
    lake = folder / "lake"
    make_shard(lake / "small.parquet", 200_000)
    speed = score(model, lake, folder, NEVER)["rows_per_second"]
    rows = int(speed * options.seconds)
    (lake / "small.parquet").unlink()
    make_shard(lake / "big.parquet", rows)
    runs: dict[str, list[float]] = {"saved": [], "never": []}
    saves = 0
    kinds = [("saved", options.every), ("never", NEVER)]
    for pair in range(options.pairs):
        for name, every in kinds if pair % 2 == 0 else kinds[::-1]:
            report = score(model, lake, folder, every)
            runs[name].append(report["rows_per_second"])
            saves = max(saves, report["checkpoints"])
    ratios = [a / b for a, b in zip(runs["saved"], runs["never"], strict=True)]
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "rows": rows,
        "columns": COLUMNS,
        "hidden_layers": [options.width, options.width],
        "checkpoint_every": options.every,
        "checkpoints": saves,
        "rows_per_second": runs,
        "ratios": ratios,
        "cost": 1 - statistics.median(ratios),
        "spent": spent(model, lake, folder, options.every),
    }


def spent(model: Path, lake: Path, folder: Path, every: float) -> dict[str, float]:
    """Seconds of one run in this process: in all, on saving, and on publishing what was saved."""
    from pipeline.job import Job
    from pipeline.progress import observer_for
    from pipeline.run import score as run_score
    from pipeline.stop import Stop
    from pipeline.writer import ShardWriter

    seconds = {"saving": 0.0, "publishing": 0.0}

    def timed(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            begun = time.perf_counter()
            try:
                return method(*arguments)
            finally:
                seconds[name] += time.perf_counter() - begun

        return call

    with (
        mock.patch.object(ShardWriter, "checkpoint", timed("saving", ShardWriter.checkpoint)),
        mock.patch.object(ShardWriter, "commit", timed("publishing", ShardWriter.commit)),
    ):
        job = Job(
            model=str(model),
            input=(str(lake),),
            output=str(folder / "inside"),
            features=("f*",),
            checkpoint_every=every,
        )
        report = run_score(job, observer_for("text", quiet=True), Stop())
    return {"shard": report.outcomes[0].seconds, **seconds}


def score(model: Path, lake: Path, folder: Path, every: float) -> dict[str, Any]:
    output = folder / "out"
    done = run_command(
        *("score", "--model", model, "--input", lake, "--output", output, "--features", "f*"),
        *("--checkpoint-every", every, "--log-format", "json", "--json"),
        timeout=1800,
    )
    if done.code != 0:
        raise SystemExit(done.err)
    report: dict[str, Any] = done.document
    report["checkpoints"] = done.err.count('"event": "checkpoint"')
    shutil.rmtree(output)
    return report


def make_model(path: Path, width: int) -> Path:
    import keras

    keras.utils.set_random_seed(SEED)
    layers = [keras.layers.Dense(width, "relu"), keras.layers.Dense(width, "relu")]
    keras.Sequential([keras.Input((COLUMNS,)), *layers, keras.layers.Dense(10)]).save(path)
    return path


def make_shard(path: Path, rows: int) -> None:
    """A shard of random floats, written in row groups of 100,000 rows."""
    path.parent.mkdir(exist_ok=True)
    random = np.random.default_rng(SEED)
    schema = pa.schema([pa.field(f"f{i:02}", pa.float32()) for i in range(COLUMNS)])
    with pq.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for start in range(0, rows, 100_000):
            count = min(100_000, rows - start)
            columns = [random.random(count, "float32") for _ in range(COLUMNS)]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def table(found: dict[str, Any]) -> str:
    lines = [
        f"{found['machine']}",
        f"{found['rows']:,} rows x {found['columns']} floats, hidden layers "
        f"{found['hidden_layers']}, {found['checkpoints']} checkpoints a run",
        "",
        "pair   saved rows/s   never rows/s   ratio",
    ]
    runs = found["rows_per_second"]
    lines += [
        f"{pair:>4}   {saved:>12,.0f}   {never:>12,.0f}   {saved / never:.3f}"
        for pair, (saved, never) in enumerate(zip(runs["saved"], runs["never"], strict=True), 1)
    ]
    lines.append(f"cost of checkpoints: {found['cost']:.1%} of throughput (median of the pairs)")
    inside = found["spent"]
    share = (inside["saving"] + inside["publishing"]) / inside["shard"]
    lines.append(
        f"inside of one run of {inside['shard']:.1f} s: {inside['saving']:.2f} s saving, "
        f"{inside['publishing']:.2f} s joining and publishing, together {share:.1%}"
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
