"""The rows that `compare` measures on, taken once, in a process of its own, and kept in a file.

They are good rows of the job's first shards, read as a run reads them, less those that do not reach
the model. With them come the facts of the model, and whether `score` would refuse it.
"""

from __future__ import annotations

import base64
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.array_file import write_arrays
from pipeline.contract import contracts
from pipeline.discover import discover
from pipeline.errors import DataError, ModelError, NoInputError
from pipeline.feed import options_of
from pipeline.halving import Search, TogetherOnlyError
from pipeline.job import Job
from pipeline.model import load
from pipeline.prepare import columns_for, program_for, reading_of
from pipeline.probe import PROBE_ROWS, probe
from pipeline.rows import read_batches
from pipeline.unbegun import unbegun

if TYPE_CHECKING:
    from pipeline.contract import Contract
    from pipeline.predictions import Array
    from pipeline.program import Program
    from pipeline.records import Shard
    from pipeline.survey import Survey

SAMPLE_BYTES = 256 << 20
"""What a sample may weigh, and what one batch may, as the model takes it."""

_READ_ROWS = 1024


def take_sample(order: dict[str, Any]) -> dict[str, Any]:
    """Reads good rows of a job's first shards into a file, as they are fed.

    Args:
        order: `job`, `model_sha256`, `code_sha256`; `rows`: how many at most; `sample`: the file.

    Returns:
        The facts of the model and the sample; `schemas` is for the orders to `measure`.

    Raises:
        ShardscoreError: What would keep `score` from beginning.
    """
    job = Job.model_validate(order["job"])
    found = discover(job.input, job.output, follow_links=job.follow_links)
    survey = unbegun(job, found, order["model_sha256"], order["code_sha256"])
    program = load_program(survey)
    chosen = columns_for(survey, program.feed)
    reading = reading_of(survey, program.feed)
    bound, failed = contracts(program.feed, chosen, job, found.shards, None, reading)
    if not bound:
        raise (failed or found.failed)[0].error
    taken = _Taken(order["rows"])
    for shard in found.shards:
        if shard.name in bound and not taken.full:
            taken.read(shard, bound[shard.name])
    arrays = _that_reach_the_model(program, taken.arrays())
    taken.bad += taken.rows - len(arrays[0])
    write_arrays(Path(order["sample"]), {str(i): array for i, array in enumerate(arrays)})
    signature = program.model.signature
    return {
        "inputs": [str(spec) for spec in signature.inputs],
        "parameters": _parameters(program),
        "custom_step": signature.custom_step,
        "row_bytes": sum(spec.row_bytes for spec in signature.inputs),
        "auto_batch_size": signature.batch_size(),
        "shards": len(found.shards),
        "shards_read": taken.shards,
        "rows": len(arrays[0]),
        "bad_rows": taken.bad,
        "refused": _refused(program, arrays),
        "schemas": [
            base64.b64encode(schema.serialize().to_pybytes()).decode()
            for schema in {id(shard.schema): shard.schema for shard in found.shards}.values()
        ],
    }


def _that_reach_the_model(program: Program, arrays: list[Array]) -> list[Array]:
    """The rows without those that are bad ones in a run: images that cannot be decoded, say.

    Raises:
        ModelError: None of them can be made what the model takes.
    """
    rows = len(arrays[0])

    def attempt(start: int, stop: int) -> Exception | None:
        try:
            program.element([array[start:stop] for array in arrays])
        # A hook of the user's raises whatever it likes.
        except Exception as error:
            return error.with_traceback(None)
        return None

    if attempt(0, rows) is None:
        return arrays
    search = Search(rows, attempt)
    if search.hopeless() is not None:
        return arrays  # the probe says what is wrong
    kept = np.ones(rows, bool)
    with suppress(TogetherOnlyError):
        kept[[row for row, _ in search.culprits()]] = False
    return [array[kept] for array in arrays] if kept.any() else arrays


def _parameters(program: Program) -> int | None:
    count = getattr(program.model.keras, "count_params", None)
    return None if count is None else int(count())


class _Taken:
    """Good rows, as far as they are wanted.

    Args:
        wanted: How many.
    """

    def __init__(self, wanted: int) -> None:
        self.bad = self.shards = self.rows = self._rows = self._bytes = 0
        self._wanted = wanted
        self._parts: list[tuple[Array, ...]] = []

    @property
    def full(self) -> bool:
        return self._rows >= self._wanted or self._bytes >= SAMPLE_BYTES

    def read(self, shard: Shard, contract: Contract) -> None:
        """Takes rows of a shard. A shard that turns out to be damaged gives what it gave so far."""
        self.shards += 1
        batches = read_batches(shard, contract.binding, (), _READ_ROWS, fail_on_bad=False)
        with closing(batches), suppress(DataError):
            for batch in batches:
                self.bad += len(batch.bad)
                if batch.good_rows:
                    self._parts.append(batch.features)
                    self._rows += batch.good_rows
                    self._bytes += sum(map(_weight, batch.features))
                if self.full:
                    break

    def arrays(self) -> list[Array]:
        """The rows: (rows, …) for each input.

        Raises:
            NoInputError: There is none.
        """
        if not self._rows:
            raise NoInputError(
                "there is no row to measure with",
                received=f"{self.bad:,} bad rows" if self.bad else "shards without rows",
                hint="`score --on-bad-row quarantine` tells what is wrong with each row",
            )
        whole = [np.concatenate(arrays) for arrays in zip(*self._parts, strict=True)]
        arrays = [array[: self._wanted] for array in whole]
        self.rows = len(arrays[0])
        return arrays


def _weight(array: Array) -> int:
    return sum(map(len, array.ravel())) if array.dtype.kind == "O" else array.nbytes


def _refused(program: Program, arrays: list[Array]) -> str | None:
    """Why `score` would refuse the model on these rows, or None."""
    try:
        probe(program, [array[:PROBE_ROWS] for array in arrays], "auto")
    except ModelError as error:
        received = f" ({error.received})" if error.received else ""
        return error.message + received
    return None


def load_program(survey: Survey) -> Program:
    """The model with what the job puts around it, as `prepare` loads it."""
    job = survey.job
    return program_for(
        survey, load(job.model, job.imports, survey.model_sha256, said=options_of(job, None))
    )
