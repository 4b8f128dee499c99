"""What `compare` has done in fresh processes: taking a sample of the rows, and measuring one method
at one batch size on it.

Orders and results are plain values, since they come from and go to another process (see `fresh`).
The model is called as the scorers call it, so that what is measured is what is run. Every method is
fed by one tf.data pipeline, as a run feeds it: what differs is the method alone.
"""

from __future__ import annotations

import base64
import gc
import time
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.agreement import agreement, worst
from pipeline.array_file import read_arrays, write_arrays
from pipeline.contract import contracts
from pipeline.discover import Discovery, discover
from pipeline.errors import DataError, ModelError, NoInputError
from pipeline.feed import options_of
from pipeline.halving import Search, TogetherOnlyError
from pipeline.job import Job
from pipeline.memory import peak_bytes, reset_peak, resident_bytes
from pipeline.model import load
from pipeline.prepare import columns_for, program_for, reading_of
from pipeline.probe import PROBE_ROWS, probe
from pipeline.records import Shard
from pipeline.rows import read_batches
from pipeline.runtime import tensorflow
from pipeline.scorers import call_predict, call_step
from pipeline.unbegun import unbegun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pipeline.agreement import Agreement
    from pipeline.contract import Contract
    from pipeline.predictions import Array
    from pipeline.program import Program
    from pipeline.recommend import Compared
    from pipeline.survey import Survey

SAMPLE_BYTES = 256 << 20
"""What a sample may weigh, and what one batch may, as the model takes it."""

_READ_ROWS = 1024
_COMPARED_ROWS = 4096
_WARM = 2
"""Calls after the first that are not timed: memory is still being asked for."""

_FEWEST = 3
"""Batches that are timed at least."""


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
    program = _loaded(survey)
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


def measure(order: dict[str, Any]) -> dict[str, Any]:
    """Measures one method at one batch size.

    Args:
        order: `job`, `model_sha256`, `code_sha256`, `schemas` and `sample` as of `take_sample`;
            `method`, `batch_size`, `seconds`; `reference`: the file where `predict()` leaves what
            it gave, which the others are compared with.

    Returns:
        Fields of `recommend.Measured`.
    """
    program = _loaded(_remembered(order))
    arrays = list(read_arrays(Path(order["sample"])).values())
    size, method = order["batch_size"], order["method"]
    batches = _Batches(program, arrays, size)
    del arrays
    gc.collect()
    loaded = resident_bytes()
    reset_peak()
    if method == "predict":
        first, times = _time_predict(program, batches, order["seconds"])
    else:
        first, times = _time_calls(_call_of(program, method), batches, order["seconds"])
    memory = max(0, peak_bytes() - loaded)
    seconds = median(times)
    reference = Path(order["reference"])
    told = {
        "first_ms": first * 1e3,
        "batch_ms": seconds * 1e3,
        "rate": size / seconds,
        "memory": memory,
    }
    if method == "predict":
        # As many as others can be compared on in the time that this took.
        count = max(1, min(_COMPARED_ROWS // size, int(order["seconds"] / seconds)))
        write_arrays(reference, call_predict(program, batches.dataset(count)))
        return told | {"difference": 0.0, "agrees": True}
    if not reference.exists():
        return told | {"complaint": "predict() gave nothing to compare with"}
    found = _compared(_call_of(program, method), batches, read_arrays(reference))
    return told | {
        "complaint": found.complaint,
        "difference": None if found.complaint else found.largest,
        "unequal": found.unequal,
        "agrees": found.same,
    }


class _Batches:
    """A sample in whole batches, as tf.data hands them to the model.

    Args:
        program: The model, and how it is fed.
        arrays: The sample: (rows, …) for each input.
        size: Rows a batch.
    """

    def __init__(self, program: Program, arrays: list[Array], size: int) -> None:
        self.size, self.count = size, len(arrays[0]) // size
        tensors = program.feed.tensors(arrays)
        self._all = (
            tensorflow()
            .data.Dataset.range(self.count)
            .map(lambda i: program.feed.element([t[i * size : (i + 1) * size] for t in tensors]))
        )

    def dataset(self, count: int) -> Any:
        """The first batches, one of them read ahead."""
        return self._all.take(count).prefetch(1)

    def over_and_over(self) -> Iterator[Any]:
        """All batches, again and again."""
        return iter(self._all.repeat().prefetch(1))


def _call_of(program: Program, method: Compared) -> Callable[[Any], dict[str, Array]]:
    """One batch in, named outputs out."""
    if method != "compiled":
        return partial(call_step, program, method)
    keras_model = program.model.keras
    bare = tensorflow().function(
        lambda element: keras_model(element, training=False), reduce_retracing=True
    )
    as_list = program.model.signature.structure == "list"

    def call(element: Any) -> dict[str, Array]:
        outputs = bare(element[0] if as_list else element)
        return program.named(tensorflow().nest.map_structure(lambda t: t.numpy(), outputs))

    return call


def _time_calls(
    call: Callable[[Any], Any], batches: _Batches, seconds: float
) -> tuple[float, list[float]]:
    """Seconds of the first call, and of each batch after it, its reading included."""
    source = batches.over_and_over()
    element = next(source)
    begun = time.perf_counter()
    call(element)
    first = time.perf_counter() - begun
    for _ in range(_WARM):
        call(next(source))
    times: list[float] = []
    begun = last = time.perf_counter()
    while len(times) < _FEWEST or last - begun < seconds:
        call(next(source))
        now = time.perf_counter()
        times.append(now - last)
        last = now
    return first, times


def _time_predict(program: Program, batches: _Batches, seconds: float) -> tuple[float, list[float]]:
    """Seconds of the first call, on one batch, and a batch of calls on as many as time allows."""

    def timed(count: int) -> float:
        begun = time.perf_counter()
        call_predict(program, batches.dataset(count))
        return time.perf_counter() - begun

    first = timed(1)
    count = 1
    # The more batches, the less a call's own cost counts; a slow model is not given all of them.
    while (took := timed(count)) < seconds / 2 and count < batches.count:
        count = min(batches.count, count * 4)
    times = [took / count]
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds - took:
        times.append(timed(count) / count)
    return first, times


def _compared(
    call: Callable[[Any], dict[str, Array]], batches: _Batches, truth: Mapping[str, Array]
) -> Agreement:
    """What a method gives for the rows of the reference, held against it."""
    found = []
    for start, element in zip(
        range(0, len(next(iter(truth.values()))), batches.size),
        batches.over_and_over(),
        strict=False,
    ):
        right = {name: array[start : start + batches.size] for name, array in truth.items()}
        found.append(agreement(call(element), right))
    return worst(found)


def _remembered(order: dict[str, Any]) -> Survey:
    """The survey of a sample's shards, of which their schemas alone are known."""
    job = Job.model_validate(order["job"])
    shards = [
        Shard(
            name=str(i),
            root="",
            key=str(i),
            size=0,
            mtime_ns=0,
            rows=0,
            footer_sha256="",
            schema=pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text))),
        )
        for i, text in enumerate(order["schemas"])
    ]
    return unbegun(job, Discovery(tuple(shards), ()), order["model_sha256"], order["code_sha256"])


def _loaded(survey: Survey) -> Program:
    job = survey.job
    return program_for(
        survey, load(job.model, job.imports, survey.model_sha256, said=options_of(job, None))
    )
