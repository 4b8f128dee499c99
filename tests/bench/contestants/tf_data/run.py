"""A `tf.data` pipeline for each shard, handed to `predict()` as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from common import Clock, features, options, shards

if TYPE_CHECKING:
    from collections.abc import Iterator


def main() -> None:
    asked, clock = options(), Clock()
    model = keras.models.load_model(asked.model, compile=False)
    clock.loaded()
    columns = features(asked.input, asked.key)
    rows = 0
    for path in shards(asked.input):

        def batches(path: Path = path) -> Iterator[np.ndarray]:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(asked.batch_size, columns=columns):
                    yield np.column_stack([column.to_numpy() for column in batch.columns])

        dataset = tf.data.Dataset.from_generator(
            batches, output_signature=tf.TensorSpec((None, len(columns)), tf.float32)
        ).prefetch(tf.data.AUTOTUNE)
        predictions = model.predict(dataset, verbose=0)
        table = pq.read_table(path, columns=[asked.key])
        values = pa.FixedSizeListArray.from_arrays(predictions.ravel(), predictions.shape[1])
        pq.write_table(table.append_column("prediction", values), Path(asked.output) / path.name)
        rows += table.num_rows
    clock.done(rows)


if __name__ == "__main__":
    main()
