"""`compare`: Keras' prediction methods side by side, on the user's own model and rows.

Owns which measurements are made and in what order, and the document that results. Each is made by
a process of its own (`fresh`, `measure`), `predict()` first at each batch size, since the others
are compared with what it gave. One that fails or is killed is a line of the table; the rest go on.
Nothing of an output is read or written, and TensorFlow is not imported in this process.
"""

from __future__ import annotations

import os
import platform
import signal
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError, StoppedError
from pipeline.fresh import Died, Fresh, Raised
from pipeline.model import digest_model
from pipeline.model_file import at_hand
from pipeline.recommend import METHODS, Compared, Measured, rate_text, recommend
from pipeline.runtime import versions
from pipeline.temporary import temporary_folder
from pipeline.user_code import digest_imports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.job import Job
    from pipeline.progress import Observer
    from pipeline.stop import Stop

ROWS = 32_768
SECONDS = 1.0
SIZES = (32, 128, 512, 2048, 8192, 32_768)

_BATCH_BYTES = 256 << 20
"""What a batch may weigh, as the model takes it: beyond, nothing is won, and memory runs out."""

_PATIENCE = 5.0
"""Where a batch of `predict()` takes this many times what a measurement is to take, bigger batches
are left out."""


def compare(
    job: Job,
    observer: Observer,
    stop: Stop,
    *,
    sizes: tuple[int, ...] = SIZES,
    rows: int = ROWS,
    seconds: float = SECONDS,
) -> dict[str, Any]:
    """Measures each method at each batch size.

    Args:
        job: The job; its output, batch size and method do not matter.
        observer: Is told of each measurement.
        stop: May end it between or during measurements.
        sizes: The batch sizes, as far as the sample has rows for them.
        rows: Rows of the sample, at most.
        seconds: What each measurement takes, about, beside loading the model and its first call.

    Returns:
        All facts as a JSON document.

    Raises:
        ShardscoreError: What would keep `score` from beginning.
        StoppedError: A stop was asked for.
    """
    digests = {
        "model_sha256": digest_model(job.model, job.model_sha256),
        "code_sha256": digest_imports(job.modules),
    }
    try:
        with (
            tempfile.TemporaryDirectory(prefix="shardscore-", dir=temporary_folder()) as folder,
            at_hand(job.model) as (
                model,
                _,
            ),
        ):
            local = job.model_copy(update={"model": str(model)})
            order = {
                **digests,
                "job": local.model_dump(mode="json"),
                "sample": str(Path(folder) / "sample"),
                "rows": rows,
                "seconds": seconds,
            }
            with Fresh(Path(folder), stop, ["pipeline.measure"]) as fresh:
                return _compared(job, order, sizes, fresh, observer)
    except StoppedError as error:
        raise StoppedError(
            "stopped before all was measured",
            signum=error.signum,
            hint="nothing was written; run the same command again",
        ) from error


def _compared(
    job: Job,
    order: dict[str, Any],
    sizes: tuple[int, ...],
    fresh: Fresh,
    observer: Observer,
) -> dict[str, Any]:
    observer.event("loading", "loading TensorFlow and the model")
    sample = fresh.run("pipeline.compare_sample:take_sample", order)
    if isinstance(sample, Died):
        raise ModelError(
            "the process that loads the model and reads a sample of the rows ended",
            path=job.model,
            received="\n".join([_how(sample), *sample.said.splitlines()[-5:]]),
        )
    if isinstance(sample, Raised):
        raise RuntimeError(f"taking a sample failed:\n{sample.trace}")  # noqa: TRY004 - a bug
    chosen, notes = _sizes(sizes, sample)
    order |= {"schemas": sample.pop("schemas"), "reference": str(Path(order["sample"] + ".truth"))}
    measured = list(_measurements(fresh, order, chosen, observer, notes))
    found = None if sample["refused"] else recommend(measured)
    return {
        "format": 1,
        "model": {
            "path": job.model,
            "sha256": order["model_sha256"],
            **{name: sample[name] for name in ("inputs", "parameters", "custom_step")},
            "auto_batch_size": sample["auto_batch_size"],
        },
        "sample": {
            "input": list(job.input),
            **{name: sample[name] for name in ("rows", "bad_rows", "shards_read", "shards")},
        },
        "machine": _machine(),
        "versions": versions(),
        "seconds": order["seconds"],
        "measured": [asdict(record) for record in measured],
        "recommendation": None
        if found is None
        else {
            "method": found.chosen.method,
            "batch_size": found.chosen.batch_size,
            "text": found.text,
            "reason": found.reason,
        },
        "refused": sample["refused"],
        "notes": notes,
    }


def _sizes(sizes: tuple[int, ...], sample: dict[str, Any]) -> tuple[list[int], list[str]]:
    """The batch sizes to measure, and a note on those that are left out."""
    rows, weight = sample["rows"], max(1, sample["row_bytes"])
    few = [size for size in sizes if size > rows]
    heavy = [size for size in sizes if size <= rows and size * weight > _BATCH_BYTES]
    chosen = [size for size in sizes if size not in few and size not in heavy]
    notes = []
    if heavy:
        notes.append(
            f"batch sizes from {heavy[0]:,} on are left out: such a batch weighs over "
            f"{_BATCH_BYTES >> 20} MiB"
        )
    if few:
        notes.append(
            f"batch sizes from {few[0]:,} on are left out: the sample has {rows:,} good rows"
        )
    return chosen or [min(rows, *sizes)], notes


def _measurements(
    fresh: Fresh,
    order: dict[str, Any],
    sizes: list[int],
    observer: Observer,
    notes: list[str],
) -> Iterator[Measured]:
    number = 0
    for position, size in enumerate(sizes):
        Path(order["reference"]).unlink(missing_ok=True)
        usual: Measured | None = None
        for method in METHODS:
            number += 1
            record = _measured(fresh, {**order, "method": method, "batch_size": size})
            usual = usual or record
            told = record.problem or f"{rate_text(record.rate)} rows/s"
            observer.event(
                "measured",
                f"{number} of {len(sizes) * len(METHODS)}: {method}, batches of {size:,}: {told}",
                **asdict(record),
            )
            yield record
        slow = usual is not None and usual.batch_ms > _PATIENCE * 1e3 * order["seconds"]
        if slow and usual is not None and position + 1 < len(sizes):
            notes.append(
                f"batch sizes from {sizes[position + 1]:,} on are left out: a batch of {size:,} "
                f"takes {usual.batch_ms / 1e3:,.1f} s"
            )
            return


def _measured(fresh: Fresh, order: dict[str, Any]) -> Measured:
    method: Compared = order["method"]
    told = fresh.run("pipeline.measure:measure", order)
    if isinstance(told, Died):
        return Measured(method, order["batch_size"], _how(told))
    if isinstance(told, Raised):
        return Measured(method, order["batch_size"], f"failed: {told.text}")
    return Measured(method, order["batch_size"], **told)


def _how(died: Died) -> str:
    if died.signum == signal.SIGKILL:
        return "killed (out of memory?)"
    return f"ended by signal {died.signum}" if died.signum else "ended without an answer"


def _machine() -> dict[str, Any]:
    return {
        "cpu": _line("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _line(path: str, name: str) -> str | None:
    """What a file of the kernel's says under a name."""
    try:
        for line in Path(path).read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    except OSError:
        return None
    return None
