"""Ray Data: `map_batches` with a class whose instances are actors, each with the model loaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.parquet as pq
import ray
from common import Clock, features, note_loaded, options, shards


class Predictor:
    """An actor: loads the model once, scores batch after batch."""

    def __init__(self, model: str, key: str, columns: list[str]) -> None:
        import keras

        self._model = keras.models.load_model(model, compile=False)
        self._key, self._columns = key, columns
        note_loaded()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        x = np.column_stack([batch[name] for name in self._columns])
        return {self._key: batch[self._key], "prediction": self._model.predict_on_batch(x)}


def main() -> None:
    asked, clock = options(), Clock()
    ray.init(num_cpus=asked.cores, include_dashboard=False, log_to_driver=False)
    clock.loaded()
    columns = features(asked.input, asked.key)
    scored = ray.data.read_parquet(asked.input).map_batches(
        Predictor,
        fn_constructor_args=(asked.model, asked.key, columns),
        batch_size=asked.batch_size,
        # A core for the model, the others for reading and writing: with an actor on each core
        # nothing would be read.
        compute=ray.data.ActorPoolStrategy(size=max(1, asked.cores - 1)),
        num_cpus=1,
    )
    scored.write_parquet(asked.output)
    rows = sum(pq.read_metadata(path).num_rows for path in shards(asked.output))
    clock.done(rows, max(1, asked.cores - 1))


if __name__ == "__main__":
    main()
