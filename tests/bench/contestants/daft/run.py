"""Daft: a class with a batch method, whose instance has the model loaded.

In this process and with Arrow arrays both ways: of its ways the fastest here. Processes of its own
(`max_concurrency`) took three times as long, NumPy arrays for what is returned many times. Keras is
imported at the top: imported first in a thread of Daft's, it has crashed the interpreter.
"""

from __future__ import annotations

import daft
import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import Clock, features, note_loaded, options, shards
from daft import DataType

ASKED = options()
WIDTH = 10


@daft.cls(use_process=False)
class Predictor:
    """Loads the model once, scores batch after batch."""

    def __init__(self, model: str) -> None:
        self._model = keras.models.load_model(model, compile=False)
        note_loaded()

    @daft.method.batch(
        return_dtype=DataType.fixed_size_list(DataType.float32(), WIDTH),
        batch_size=ASKED.batch_size,
    )
    def predict(self, *columns: daft.Series) -> pa.Array:
        x = np.column_stack([column.to_arrow().to_numpy() for column in columns])
        predictions = self._model.predict_on_batch(x)
        return pa.FixedSizeListArray.from_arrays(predictions.ravel(), predictions.shape[1])


def main() -> None:
    clock = Clock()
    clock.loaded()
    columns = features(ASKED.input, ASKED.key)
    frame = daft.read_parquet(f"{ASKED.input}/*.parquet")
    predictor = Predictor(ASKED.model)
    prediction = predictor.predict(*[frame[name] for name in columns]).alias("prediction")
    frame.select(frame[ASKED.key], prediction).write_parquet(ASKED.output)
    rows = sum(pq.read_metadata(path).num_rows for path in shards(ASKED.output))
    clock.done(rows)


if __name__ == "__main__":
    main()
