"""What it takes to begin: seconds until a command that has little to do has done it.

    python -m tests.bench.startup [--rounds 5] [--save FILE]

Each is the real command in a process of its own, and what is told is the median of the rounds. What
`score` adds to TensorFlow is the difference, within a round, between `score` on one shard of a few
rows and a script that imports TensorFlow and loads the same model; it predicts nothing. Beside it
stands what the script takes that predicts the same rows: nobody can do without that. Seconds of the
processor are told as well, which other processes disturb less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

COLUMNS = 32
ROWS = 200
SEED = 7

MINIMAL = """
import sys
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
import tensorflow as tf
import keras
model = keras.saving.load_model(sys.argv[1], compile=False)
if sys.argv[2:]:
    import numpy as np
    model.predict(np.load(sys.argv[2]), verbose=0)
"""

LOADS, PREDICTS, SCORE = "load the model", "load and predict", "score"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        found = measured(Path(folder), options.rounds)
    if options.save is not None:
        options.save.parent.mkdir(parents=True, exist_ok=True)
        options.save.write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.write(table(found))


def measured(folder: Path, rounds: int) -> dict[str, Any]:
    """Seconds of each command in each round, and what `score` adds to TensorFlow."""
    model, lake, rows = prepare(folder)
    job = ("--model", str(model), "--input", str(lake), "--features", "f*", "--quiet")
    done = folder / "done"
    command("score", *job, "--output", str(done))
    orders = {
        "--help": ("--help",),
        "status": ("status", str(done)),
        "plan --no-model": ("plan", *job[:-1], "--output", str(done), "--no-model"),
        "score, nothing to do": ("score", *job, "--output", str(done)),
    }
    minimal = (sys.executable, "-c", MINIMAL, str(model))
    seconds: dict[str, list[float]] = {name: [] for name in (*orders, LOADS, PREDICTS, SCORE)}
    cpu: dict[str, list[float]] = {name: [] for name in seconds}
    for _ in range(rounds):
        for name, arguments in orders.items():
            note(seconds, cpu, name, command(*arguments))
        note(seconds, cpu, LOADS, timed(*minimal))
        note(seconds, cpu, SCORE, command("score", *job, "--output", str(folder / "new")))
        note(seconds, cpu, PREDICTS, timed(*minimal, str(rows)))
        shutil.rmtree(folder / "new")
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "rounds": rounds,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "median": {name: statistics.median(each) for name, each in seconds.items()},
        "median_cpu": {name: statistics.median(each) for name, each in cpu.items()},
        "added_to_tensorflow": differences(seconds),
        "added_to_tensorflow_cpu": differences(cpu),
    }


def note(
    seconds: dict[str, list[float]],
    cpu: dict[str, list[float]],
    name: str,
    taken: tuple[float, float],
) -> None:
    seconds[name].append(taken[0])
    cpu[name].append(taken[1])


def differences(each: dict[str, list[float]]) -> list[float]:
    """What `score` takes above the script that predicts nothing, round by round."""
    return [ours - minimal for ours, minimal in zip(each[SCORE], each[LOADS], strict=True)]


def prepare(folder: Path) -> tuple[Path, Path, Path]:
    """A small model, a lake of one shard, and the shard's rows as one array."""
    code = (
        "import sys, keras; keras.utils.set_random_seed(7)\n"
        "layers = [keras.layers.Dense(64, 'relu'), keras.layers.Dense(10)]\n"
        f"keras.Sequential([keras.Input(({COLUMNS},)), *layers]).save(sys.argv[1])"
    )
    model, lake, array = folder / "model.keras", folder / "lake", folder / "rows.npy"
    timed(sys.executable, "-c", code, str(model))
    lake.mkdir()
    values = np.random.default_rng(SEED).random((ROWS, COLUMNS), "float32")
    columns = {f"f{i:02}": pa.array(np.ascontiguousarray(values[:, i])) for i in range(COLUMNS)}
    pq.write_table(pa.table(columns), lake / "a.parquet")
    np.save(array, values)
    return model, lake, array


def command(*arguments: str) -> tuple[float, float]:
    return timed(sys.executable, "-m", "jobs", *arguments)


def timed(*command: str) -> tuple[float, float]:
    """Seconds that a command takes, and seconds of the processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu


def table(found: dict[str, Any]) -> str:
    lines = [f"{found['machine']}, median of {found['rounds']} rounds", ""]
    lines += [
        f"{name:<22} {seconds:6.2f} s, {found['median_cpu'][name]:6.2f} of the processor"
        for name, seconds in found["median"].items()
    ]
    for what, key in (("", ""), (" of the processor", "_cpu")):
        added = found[f"added_to_tensorflow{key}"]
        lines.append(
            f"score adds to TensorFlow {statistics.median(added):.2f} s{what} "
            f"({min(added):.2f} to {max(added):.2f})"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
