"""Memory is set by the batch, never by the shard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import run_command

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.long

COLUMNS = [f"f{i}" for i in range(32)]
GROUP = 125_000
SMALL_BATCHES = ("--batch-size", 1024)


def write_shard(path: Path, rows: int) -> None:
    schema = pa.schema([("id", pa.int64()), *((name, pa.float32()) for name in COLUMNS)])
    rng = np.random.default_rng(0)
    with pq.ParquetWriter(path, schema, use_dictionary=False, compression="none") as writer:
        for start in range(0, rows, GROUP):
            arrays = [rng.standard_normal(GROUP, dtype="float32") for _ in COLUMNS]
            ids = np.arange(start, start + GROUP)
            writer.write_table(pa.table([ids, *arrays], schema=schema))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import keras

    path = tmp_path_factory.mktemp("model") / "mlp.keras"
    layers = [keras.layers.Dense(n, activation="relu") for n in (64, 64, 10)]
    keras.Sequential([keras.Input((32,)), *layers]).save(path)
    return path


def above_the_model(rows: int, model: Path, folder: Path, *options: object) -> int:
    """Peak bytes of a run above what it held when the model was loaded and probed."""
    write_shard(folder / f"{rows}.parquet", rows)
    done = run_command(
        "score",
        "--model",
        model,
        "--input",
        folder / f"{rows}.parquet",
        "--output",
        folder / f"out{rows}",
        "--features",
        "f*",
        "--json",
        *options,
    )
    assert done.code == 0, done.err
    document: Any = done.document
    assert document["rows"]["scored"] == rows
    return int(document["memory"]["peak_bytes"] - document["memory"]["after_load_bytes"])


def test_a_shard_of_four_million_rows_takes_less_than_100_megabytes(
    model: Path, tmp_path: Path
) -> None:
    assert above_the_model(4_000_000, model, tmp_path, *SMALL_BATCHES) < 100e6


def test_predict_on_a_big_shard_is_called_in_bounded_pieces(model: Path, tmp_path: Path) -> None:
    options = (*SMALL_BATCHES, "--method", "predict")
    assert above_the_model(1_000_000, model, tmp_path, *options) < 100e6


def test_nothing_is_kept_of_the_rows_of_a_shard(model: Path, tmp_path: Path) -> None:
    few, many = (above_the_model(rows, model, tmp_path) for rows in (1_000_000, 8_000_000))
    # Holes in the heap make 15 to 25 MB of difference; the ids of the rows alone would make 56.
    assert many - few < 7_000_000 * 8 * 0.75, (few, many)
