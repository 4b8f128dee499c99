"""Beam: `RunInference` with the TensorFlow handler, keyed by id, on as many workers as cores.

The runner is named, since the default one is a program that Beam would download when it is run.
"""

from __future__ import annotations

from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.ml.inference.base import KeyedModelHandler, PredictionResult, RunInference
from apache_beam.ml.inference.tensorflow_inference import TFModelHandlerNumpy
from apache_beam.options.pipeline_options import PipelineOptions
from common import Clock, features, note_loaded, options, shards

WIDTH = 10


class Handler(TFModelHandlerNumpy):
    """The handler, which tells when it has loaded the model."""

    def load_model(self) -> Any:
        model = super().load_model()
        note_loaded()
        return model


class ToExample(beam.DoFn):
    """A row → its key and the array of its features."""

    def __init__(self, key: str, columns: list[str]) -> None:
        self._key, self._columns = key, columns

    def process(self, row: dict[str, Any]) -> Any:
        yield row[self._key], np.array([row[name] for name in self._columns], np.float32)


class ToRow(beam.DoFn):
    """A key and what was predicted → a row."""

    def __init__(self, key: str) -> None:
        self._key = key

    def process(self, scored: tuple[int, PredictionResult]) -> Any:
        yield {self._key: scored[0], "prediction": np.asarray(scored[1].inference)}


def main() -> None:
    asked, clock = options(), Clock()
    clock.loaded()
    columns = features(asked.input, asked.key)
    handler = Handler(
        asked.model, max_batch_size=asked.batch_size, load_model_args={"compile": False}
    )
    schema = pa.schema([(asked.key, pa.int64()), ("prediction", pa.list_(pa.float32(), WIDTH))])
    how = PipelineOptions(
        runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner",
        direct_num_workers=asked.cores,
        direct_running_mode="multi_processing",
    )
    with beam.Pipeline(options=how) as pipeline:
        _ = (
            pipeline
            | beam.io.ReadFromParquet(f"{asked.input}/*.parquet")
            | beam.ParDo(ToExample(asked.key, columns))
            | RunInference(KeyedModelHandler(handler))
            | beam.ParDo(ToRow(asked.key))
            | beam.io.WriteToParquet(f"{asked.output}/part", schema, file_name_suffix=".parquet")
        )
    rows = sum(pq.read_metadata(path).num_rows for path in shards(asked.output))
    clock.done(rows, asked.cores)


if __name__ == "__main__":
    main()
