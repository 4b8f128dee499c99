"""What `compare` has done in fresh processes: measuring one method at one batch size.

Orders and results are plain values, since they come from and go to another process (see `fresh`).
The model is called as the scorers call it, so that what is measured is what is run. Every method
is fed by one tf.data pipeline, as a run feeds it: what differs is the method alone. The rows that
it is measured on are `compare_sample`'s.
"""

from __future__ import annotations

import base64
import gc
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.agreement import agreement, worst
from pipeline.array_file import read_arrays, write_arrays
from pipeline.compare_sample import load_program
from pipeline.discover import Discovery
from pipeline.job import Job
from pipeline.memory import peak_bytes, reset_peak, resident_bytes
from pipeline.records import Shard
from pipeline.runtime import tensorflow
from pipeline.scorers import call_predict, call_step
from pipeline.unbegun import unbegun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pipeline.agreement import Agreement
    from pipeline.predictions import Array
    from pipeline.program import Program
    from pipeline.recommend import Compared
    from pipeline.survey import Survey

_COMPARED_ROWS = 4096
_WARM = 2
"""Calls after the first that are not timed: memory is still being asked for."""

_FEWEST = 3
"""Batches that are timed at least."""


def measure(order: dict[str, Any]) -> dict[str, Any]:
    """Measures one method at one batch size.

    Args:
        order: `job`, `model_sha256`, `code_sha256`, `schemas` and `sample` as of `take_sample`;
            `method`, `batch_size`, `seconds`; `reference`: the file where `predict()` leaves what
            it gave, which the others are compared with.

    Returns:
        Fields of `recommend.Measured`.
    """
    program = load_program(_remembered(order))
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
