"""What a big lake costs before a row is read: seconds, and memory a shard.

    python -m tests.bench.planning [--shards 100000] [--folder KEEP] [--save FILE]

Makes a lake of tiny shards in hive folders and an output in which each is published, and runs the
commands that look at all of it: each in a process of its own, once. A thousand shards are made, and
put into each folder. The published files are one real one, with the name and the footer's digest of
another shard put into its note, so that each of them is proven by `verify --quick`.

Memory is what a process holds at its peak above what the same command holds for a single shard.
Beside the wall time stand seconds of the processor, which other work on the machine does not change
as much.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import platform
import resource
import shutil
import struct
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

TELLING = """
import sys
from jobs.cli import main
try:
    main()
finally:
    from pipeline.memory import peak_bytes
    print(peak_bytes(), file=sys.stderr)
"""
"""The command, and then its peak, as its last line. The kernel's word on a child counts what its
parent held when it was begun."""


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
        base = run(*one.orders[name])["peak_bytes"]
        figures[name] = run(*arguments)
        figures[name]["bytes_per_shard"] = (figures[name]["peak_bytes"] - base) / shards
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
        contents = [shard_bytes(i) for i in range(min(shards, FOLDER_SHARDS))]
        names = [shard_name(i) for i in range(shards)]
        for i, name in enumerate(names):
            put(self._input / name, contents[i % FOLDER_SHARDS])
        if like is None:
            make_model(self._model)
            run(*self.orders["score, nothing to do"])
            return
        made = (like._output / names[0]).read_bytes()
        digests = [footer_digest(content) for content in contents]
        for i, name in enumerate(names):
            given = {names[0]: name, digests[0]: digests[i % FOLDER_SHARDS]}
            put(self._output / name, renoted(made, given))
        shutil.copytree(like._output / "_shardscore", self._output / "_shardscore")


def shard_name(number: int) -> str:
    """The name of a shard: all of one length, so that one can take the place of another."""
    return f"day={number // FOLDER_SHARDS:05}/part-{number:08}.parquet"


def shard_bytes(number: int) -> bytes:
    """A shard with values of its own; all are of one size."""
    file = io.BytesIO()
    values = [range(ROWS * (number + i), ROWS * (number + i + 1)) for i in range(COLUMNS)]
    columns = {f"f{i}": pa.array(numbers, pa.float32()) for i, numbers in enumerate(values)}
    pq.write_table(pa.table(columns), file, compression="none", use_dictionary=False)
    return file.getvalue()


def footer_digest(content: bytes) -> str:
    (length,) = struct.unpack("<I", content[-8:-4])
    return hashlib.sha256(content[-8 - length : -8]).hexdigest()


def renoted(published: bytes, given: dict[str, str]) -> bytes:
    """A published file with other texts, of the same lengths, in its note."""
    for was, now in given.items():
        if published.count(was.encode()) != 1 or len(was) != len(now):
            raise SystemExit(f"{was} cannot be replaced in the published file")
        published = published.replace(was.encode(), now.encode())
    return published


def put(path: Path, content: bytes) -> None:
    if not path.parent.exists():
        path.parent.mkdir(parents=True)
    path.write_bytes(content)


def make_model(path: Path) -> None:
    code = (
        f"import sys, keras; keras.utils.set_random_seed({SEED})\n"
        f"layers = [keras.Input(({COLUMNS},)), keras.layers.Dense(1)]\n"
        "keras.Sequential(layers).save(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True)


def run(*arguments: str) -> dict[str, float]:
    """Runs the command; returns its seconds, and its resident bytes at their peak."""
    begun, spent = time.perf_counter(), processor_seconds()
    done = subprocess.run(
        [sys.executable, "-c", TELLING, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return {
        "seconds": time.perf_counter() - begun,
        "processor_seconds": processor_seconds() - spent,
        "peak_bytes": int(done.stderr.splitlines()[-1]),
    }


def processor_seconds() -> float:
    """What the children of this process have spent."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(found: dict[str, Any]) -> str:
    lines = [f"{found['machine']}, {found['shards']:,} shards", ""]
    lines.append(f"{'':<26}{'seconds':>9}{'of CPU':>9}{'peak MB':>9}{'bytes a shard':>15}")
    for name, of in found["commands"].items():
        times = f"{of['seconds']:>9.2f}{of['processor_seconds']:>9.2f}"
        memory = f"{of['peak_bytes'] / 1e6:>9.0f}{of['bytes_per_shard']:>15,.0f}"
        lines.append(f"{name:<26}{times}{memory}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
