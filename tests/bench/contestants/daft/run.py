"""Daft: a class with a batch method, each instance of which has the model loaded."""

from __future__ import annotations

import daft
import numpy as np
import pyarrow.parquet as pq
from common import Clock, features, note_loaded, options, shards
from daft import DataType

ASKED = options()
WIDTH = 10


@daft.cls(max_concurrency=ASKED.cores)
class Predictor:
    """Loads the model once, scores batch after batch."""

    def __init__(self, model: str) -> None:
        import keras

        self._model = keras.models.load_model(model, compile=False)
        note_loaded()

    @daft.method.batch(
        return_dtype=DataType.fixed_size_list(DataType.float32(), WIDTH),
        batch_size=ASKED.batch_size,
    )
    def predict(self, *columns: daft.Series) -> np.ndarray:
        x = np.column_stack([column.to_arrow().to_numpy() for column in columns])
        return self._model.predict_on_batch(x)


def main() -> None:
    clock = Clock()
    clock.loaded()
    columns = features(ASKED.input, ASKED.key)
    frame = daft.read_parquet(f"{ASKED.input}/*.parquet")
    predictor = Predictor(ASKED.model)
    prediction = predictor.predict(*[frame[name] for name in columns]).alias("prediction")
    frame.select(frame[ASKED.key], prediction).write_parquet(ASKED.output)
    rows = sum(pq.read_metadata(path).num_rows for path in shards(ASKED.output))
    clock.done(rows, ASKED.cores)


if __name__ == "__main__":
    main()
