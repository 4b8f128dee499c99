"""What a big lake costs before a row is read: seconds, and memory a shard.

    python -m tests.bench.planning [--shards 100000] [--folder KEEP] [--save FILE]

Makes a lake of tiny shards in hive folders and an output in which each is published, and runs the
commands that look at all of it: each in a process of its own, once. The shards are one file under
many names; the published files are one real one, with the name of its shard put into its note,
so that each of them is proven by `verify --quick`. Memory is what a process holds at its peak above
what the same command holds for the same job with a single shard.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

FOLDER_SHARDS = 1000
ROWS = 10
COLUMNS = 8
SEED = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shards", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the lake is made, and kept")
    parser.add_argument("--save", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    if options.folder is not None:
        found = measured(options.folder, options.shards)
    else:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            found = measured(Path(folder), options.shards)
    if options.save is not None:
        options.save.parent.mkdir(parents=True, exist_ok=True)
        options.save.write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.write(table(found))


def measured(folder: Path, shards: int) -> dict[str, Any]:
    """Seconds and bytes a shard of each command."""
    one = Lake(folder / "one", folder / "model.keras")
    many = Lake(folder / f"many-{shards}", folder / "model.keras")
    one.make(1)
    many.make(shards, like=one)
    figures: dict[str, dict[str, float]] = {}
    for name, arguments in many.orders.items():
        base = run(*one.orders[name])
        seconds, peak = run(*arguments)
        figures[name] = {
            "seconds": seconds,
            "peak_bytes": peak,
            "bytes_per_shard": (peak - base[1]) / shards,
        }
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "shards": shards,
        "commands": figures,
    }


class Lake:
    """A lake of tiny shards, and its output."""

    def __init__(self, folder: Path, model: Path) -> None:
        self._model = model
        self._input, self._output = folder / "lake", folder / "out"
        job = ("--model", str(model), "--input", str(self._input), "--features", "f*")
        to = (*job, "--output", str(self._output))
        self.orders = {
            # The first one completes the output, whose manifest is still to be written.
            "score, manifest missing": ("score", "--quiet", *to),
            "score, nothing to do": ("score", "--quiet", *to),
            "plan --no-model": ("plan", "--no-model", *to),
            "plan, nothing published": (
                *("plan", "--no-model", *job),
                *("--output", str(folder / "nowhere")),
            ),
            "status --json": ("status", "--json", str(self._output)),
            "verify --quick": ("verify", "--quick", "--no-input", str(self._output)),
        }

    def make(self, shards: int, *, like: Lake | None = None) -> None:
        """Makes the lake, and its output: by scoring it, or in the likeness of a scored one."""
        if self._output.exists():
            return
        names = [shard_name(i) for i in range(shards)]
        first = self._input / names[0]
        first.parent.mkdir(parents=True)
        columns = {f"f{i}": pa.array(range(ROWS), pa.float32()) for i in range(COLUMNS)}
        pq.write_table(pa.table(columns), first)
        for name in names[1:]:
            path = self._input / name
            path.parent.mkdir(exist_ok=True)
            path.hardlink_to(first)
        if like is None:
            make_model(self._model)
            run(*self.orders["score, nothing to do"])
            return
        made = (like._output / names[0]).read_bytes()
        for name in names:
            path = self._output / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(renamed(made, names[0], name))
        shutil.copytree(like._output / "_shardscore", self._output / "_shardscore")


def shard_name(number: int) -> str:
    """The name of a shard: all of one length, so that one can take the place of another."""
    return f"day={number // FOLDER_SHARDS:05}/part-{number:08}.parquet"


def renamed(published: bytes, was: str, name: str) -> bytes:
    """A published file whose note says that it is of another shard."""
    if published.count(was.encode()) != 1:
        raise SystemExit(f"{was} is not in the published file once")
    return published.replace(was.encode(), name.encode())


def make_model(path: Path) -> None:
    code = (
        f"import sys, keras; keras.utils.set_random_seed({SEED})\n"
        f"layers = [keras.Input(({COLUMNS},)), keras.layers.Dense(1)]\n"
        "keras.Sequential(layers).save(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True)


def run(*arguments: str) -> tuple[float, int]:
    """Runs the command; returns its seconds, and its resident bytes at their peak."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(said)
    return time.perf_counter() - begun, peak_of(used)


def peak_of(used: resource.struct_rusage) -> int:
    """Resident bytes of a process at their peak."""
    return used.ru_maxrss * 1024


def table(found: dict[str, Any]) -> str:
    lines = [f"{found['machine']}, {found['shards']:,} shards", ""]
    lines.append(f"{'':<26}{'seconds':>9}{'peak MB':>9}{'bytes a shard':>15}")
    lines += [
        f"{name:<26}{of['seconds']:>9.2f}{of['peak_bytes'] / 1e6:>9.0f}"
        f"{of['bytes_per_shard']:>15,.0f}"
        for name, of in found["commands"].items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
