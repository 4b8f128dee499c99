"""What the machine can do at all with a model: the same batches, in memory already, model only.

    python -m tests.bench.limit --model M --input FOLDER [--features f*] --batch-size N

Two ways to use all cores are tried, one process with all threads and a process with one thread for
each core, and the faster one is the limit. What is called is what `predict()` compiles, on tensors
that are there, and nobody looks at what it returns.

`parts` takes a run to pieces: the CPU seconds of reading alone, scoring alone and writing alone,
with the project's own functions, on the first shard. Added up and divided by the cores they are
the time that a run would take in which nothing ever waits.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from tests.bench.environments import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.prepare import Prepared
    from pipeline.records import Batch, Shard
    from pipeline.survey import Survey

BATCH_BYTES = 64 << 20
"""Batches in memory: as many as this holds, more than any cache."""


def limit(job: dict[str, Any], seconds: float) -> dict[str, float]:
    """Rows a second of the model alone, by both ways to use all cores.

    Args:
        job: Fields of the job: `model`, `input`, `features`, `batch_size`.
        seconds: How long each way is run.
    """
    cores = len(os.sched_getaffinity(0))
    return {
        "one process, all threads": _together(job, 1, cores, seconds),
        "a process a core, one thread": _together(job, cores, 1, seconds),
    }


def parts(job: dict[str, Any]) -> dict[str, float]:
    """CPU seconds a million rows of reading, scoring and writing, each alone, one thread a pool."""
    found: dict[str, float] = json.loads(_child("parts", job, 1, 0).communicate()[0])
    return found


def main() -> None:
    """A child: one of the processes that are measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("limit", "parts"))
    parser.add_argument("job")
    parser.add_argument("seconds", type=float)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        surveyed, prepared = _prepared(json.loads(asked.job), Path(folder) / "out")
        if asked.what == "limit":
            _model_alone(surveyed, prepared, asked.seconds)
        else:
            told = _parts(surveyed, prepared)
            sys.stdout.write(json.dumps(told) + "\n")


def _together(job: dict[str, Any], processes: int, threads: int, seconds: float) -> float:
    """The sum of what some processes reach that run at the same time."""
    children = [_child("limit", job, threads, seconds) for _ in range(processes)]
    for child in children:
        assert child.stdout is not None
        if child.stdout.readline() != "ready\n":
            raise RuntimeError("the limit could not be measured: a process did not get ready")
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    return sum(float(child.communicate()[0]) for child in children)


def _child(what: str, job: dict[str, Any], threads: int, seconds: float) -> subprocess.Popen[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SHARDSCORE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.bench.limit", what, json.dumps(job), str(seconds)],
        cwd=ROOT,
        env={
            **kept,
            "TF_NUM_INTRAOP_THREADS": str(threads),
            "TF_NUM_INTEROP_THREADS": str(threads),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _prepared(fields: dict[str, Any], output: Path) -> tuple[Survey, Prepared]:
    from pipeline.job import Job
    from pipeline.prepare import prepare
    from pipeline.survey import survey

    surveyed = survey(Job.model_validate({**fields, "output": str(output)}))
    prepared, failed = prepare(surveyed)
    if prepared is None:
        raise SystemExit(str(failed[0].error))
    return surveyed, prepared


def _batches(shard: Shard, prepared: Prepared) -> Iterator[Batch]:
    from pipeline.rows import read_batches

    contract = prepared.contracts[shard.name]
    return read_batches(
        shard,
        contract.binding,
        contract.carried,
        prepared.identity.batch_size,
        fail_on_bad=prepared.identity.on_bad_row == "fail",
    )


def _model_alone(surveyed: Survey, prepared: Prepared, seconds: float) -> None:
    shard = max(surveyed.standing.pending, key=lambda s: s.rows)
    keras_model = prepared.program.model.keras
    keras_model.make_predict_function()
    size = prepared.identity.batch_size
    whole: list[Batch] = []
    held = 0
    with closing(_batches(shard, prepared)) as source:
        for batch in source:
            # A short last batch would be another trace, and is none of the many.
            if batch.rows == size or not whole:
                whole.append(batch)
                held += sum(array.nbytes for array in batch.features)
            if held >= BATCH_BYTES:
                break
    elements = [[prepared.program.element(batch.features)] for batch in whole]
    for element in elements[:2]:
        keras_model.predict_function(element)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    rows, begun, now = 0, time.perf_counter(), 0.0
    while now < seconds:
        for element, batch in zip(elements, whole, strict=True):
            keras_model.predict_function(element)
            rows += batch.good_rows
        now = time.perf_counter() - begun
    sys.stdout.write(f"{rows / now}\n")


def _parts(surveyed: Survey, prepared: Prepared) -> dict[str, float]:
    from pipeline.scorers import scorer_for
    from pipeline.scoring import Scoring
    from pipeline.writer import ShardWriter

    shard = max(surveyed.standing.pending, key=lambda s: s.rows)
    method, schema = prepared.identity.method, prepared.proof.schema
    scoring = Scoring(prepared, surveyed, mock.Mock())
    spent: dict[str, float] = {}

    for _ in range(2):  # the first time graphs are traced and memory is asked for
        begun = time.process_time()
        for batch in _batches(shard, prepared):
            del batch
        spent["read"] = time.process_time() - begun

        batches = list(_batches(shard, prepared))
        begun = time.process_time()
        scorer = scorer_for(method, prepared.program, schema, scoring.policy)
        with closing(scorer.score(iter(batches), len(batches), together=False)) as scored:
            done = list(scored)
        spent["score"] = time.process_time() - begun

        begun = time.process_time()
        target = scoring.target(shard, small=False)
        with ShardWriter(surveyed.output, target) as writer:
            for batch in done:
                writer.write(batch)
            writer.commit()
        surveyed.output.delete(shard.name)
        spent["write"] = time.process_time() - begun
    return {name: seconds * 1e6 / shard.rows for name, seconds in spent.items()}


if __name__ == "__main__":
    main()
