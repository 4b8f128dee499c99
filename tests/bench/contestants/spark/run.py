"""Spark: `predict_batch_udf` over Parquet, in local mode on all cores."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
from common import Clock, features, note_loaded, options, shards
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import SparkSession
from pyspark.sql.functions import array, col
from pyspark.sql.types import ArrayType, FloatType

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np


def main() -> None:
    asked, clock = options(), Clock()
    os.environ["PYSPARK_PYTHON"] = sys.executable
    spark = (
        SparkSession.builder.master(f"local[{asked.cores}]")
        .appName("score")
        .config("spark.driver.memory", "4g")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", str(asked.batch_size))
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    clock.loaded()
    columns = features(asked.input, asked.key)
    path = asked.model

    def make_predict_fn() -> Callable[[np.ndarray], np.ndarray]:
        import keras

        model = keras.models.load_model(path, compile=False)
        note_loaded()
        return model.predict_on_batch

    predict = predict_batch_udf(
        make_predict_fn,
        return_type=ArrayType(FloatType()),
        batch_size=asked.batch_size,
        input_tensor_shapes=[[len(columns)]],
    )
    frame = spark.read.parquet(asked.input)
    scored = frame.select(
        asked.key, predict(array(*[col(name) for name in columns])).alias("prediction")
    )
    scored.write.mode("overwrite").parquet(asked.output)
    rows = sum(pq.read_metadata(part).num_rows for part in shards(asked.output))
    clock.done(rows, asked.cores)
    spark.stop()


if __name__ == "__main__":
    main()
