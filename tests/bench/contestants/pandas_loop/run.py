"""The loop that one writes by hand: read a shard, predict, write it."""

from __future__ import annotations

from pathlib import Path

import keras
import pandas as pd
from common import Clock, features, options, shards


def main() -> None:
    asked, clock = options(), Clock()
    model = keras.models.load_model(asked.model, compile=False)
    clock.loaded()
    rows = 0
    columns = features(asked.input, asked.key)
    for path in shards(asked.input):
        frame = pd.read_parquet(path)
        if len(model.inputs) > 1:
            # What else is in the shard is not the model's; a row without a value has no score.
            columns = [tensor.name for tensor in model.inputs]
            frame = frame.dropna(subset=columns)
            x = {name: _array(frame[name]) for name in columns}
        else:
            x = frame[columns].to_numpy()
        predictions = model.predict(x, batch_size=asked.batch_size, verbose=0)
        scored = frame.drop(columns=columns)
        names = [f"prediction_{i}" for i in range(predictions.shape[1])]
        scored[names] = predictions
        scored.to_parquet(Path(asked.output) / path.name, index=False)
        rows += len(frame)
    clock.done(rows)


def _array(column: pd.Series) -> object:
    """What Keras takes for an input: strings as tensors, since it knows no array of them."""
    import tensorflow as tf

    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy()
    return tf.constant(column.to_list())


if __name__ == "__main__":
    main()
