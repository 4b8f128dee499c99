"""The command with arithmetic in the place of the model: a process that is up in half a second.

Sweeps over each system call need hundreds of processes, and TensorFlow takes seconds to come up.
So this stands in for exactly what needs TensorFlow (loading a model, the probe, and the call that
scores a batch); all else is the real command: its options, the survey, the locks, reading,
checkpoints, publishing, reports.

    python -m tests.faults.arithmetic score --model any.keras --input lake --output out …

The model takes named inputs a and b, of which neither may be null, and predicts `sum` and, for the
sake of columns of more than one value, `powers`: (n, 3). The environment may say

    PAUSE       seconds that each batch takes
    LOAD_PAUSE  seconds that loading the model takes
    SCORED      a file that gets a line a batch: its shard, its first row, the row behind its last
    PRINTS      what each batch prints
    DIES        the shard whose second batch kills the process
    RAISES      the shard whose second batch raises what `RAISED` names: storage, bug or exit
    GROUP_ROWS  most rows of a row group, so that small shards have several, and segments hold some
"""

from __future__ import annotations

import os
import signal
import sys
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import prepare, segments
from pipeline.errors import StorageError
from pipeline.model import LoadedModel, digest_model
from pipeline.predictions import PredictionSchema, schema_of
from pipeline.probe import Proof
from pipeline.program import Program
from pipeline.records import Batch, ScoredBatch
from pipeline.signature import InputSpec, Signature

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

SIGNATURE = Signature(
    inputs=(InputSpec("a", (1,), "float32"), InputSpec("b", (1,), "float32")),
    structure="dict",
    output_names=(),
    custom_step=False,
)


def predicted(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """What the model says: (n, 1) each in, (n, 1) and (n, 3) out."""
    return {"sum": a + b, "powers": np.concatenate([a, a**2, a**3], axis=1)}


def load(
    path: str, _imports: Sequence[str] = (), expected: str | None = None, **_said: object
) -> LoadedModel:
    time.sleep(float(os.environ.get("LOAD_PAUSE", "0")))
    return LoadedModel(None, SIGNATURE, digest_model(path, expected), path)


def probe(_program: Program, features: Sequence[np.ndarray[Any, Any]], *_rest: object) -> Proof:
    schema = schema_of(predicted(*features))
    return Proof("predict_on_batch", schema, "arithmetic needs no proof")


class Arithmetic:
    method = "predict_on_batch"

    def __init__(self, schema: PredictionSchema) -> None:
        self._schema = schema
        self._pause = float(os.environ.get("PAUSE", "0"))
        self._told = os.environ.get("SCORED")

    def score(
        self, source: Iterator[Batch], count: int, *, together: bool
    ) -> Generator[ScoredBatch, None, None]:
        for number, batch in enumerate(islice(source, count), start=1):
            time.sleep(self._pause)
            if number == 2:
                _misbehave(batch.shard.name)
            if text := os.environ.get("PRINTS"):
                print(text)
            outputs = predicted(*batch.features)
            arrays = self._schema.to_arrow(list(outputs.values()), batch.good_rows)
            if self._told:
                with Path(self._told).open("a") as file:
                    file.write(f"{batch.shard.name} {batch.start} {batch.start + batch.rows}\n")
            yield ScoredBatch(batch, arrays, ends_call=not together or number == count)


def _misbehave(shard: str) -> None:
    if os.environ.get("DIES") == shard:
        print("the last words of the model", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGKILL)
    if os.environ.get("RAISES") == shard:
        if os.environ["RAISED"] == "storage":
            raise StorageError("the disk is on fire", path=shard)
        if os.environ["RAISED"] == "exit":
            sys.exit("enough")
        raise ValueError("nobody expects this")


WORKER = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from tests.faults.arithmetic import stem; stem(*map(int, sys.argv[2:]))"
)


def stem(parent: int, threads: int, *ends: int) -> None:
    """What worker processes are forks of, with arithmetic in the place of TensorFlow."""
    from pipeline import runtime, worker_process

    install()
    runtime.tensorflow = lambda: None
    worker_process.stem(parent, threads, *ends)


def install(put: Callable[[object, str, Any], None] = setattr) -> None:
    """Puts the arithmetic in its place, in this process.

    Args:
        put: What sets an attribute: for a test, `monkeypatch.setattr`.
    """
    from pipeline import pool, scoring, staffing

    put(staffing, "begin_import", lambda: None)  # its thread would outlive a run that is stopped
    put(pool, "CODE", WORKER)
    put(prepare, "load", load)
    put(prepare, "probe", probe)
    put(scoring, "scorer_for", lambda _method, _program, schema, *_more: Arithmetic(schema))
    if rows := os.environ.get("GROUP_ROWS"):
        put(segments, "row_group_rows", lambda _schema: int(rows))


if __name__ == "__main__":
    from jobs.cli import run

    install()
    run()
