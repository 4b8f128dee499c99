"""Subclassed models that override predict_step, in the two styles that people write."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import SAMPLE, run_command

if TYPE_CHECKING:
    from pathlib import Path

DIGITS = SAMPLE / "digits" / "digits.parquet"


def score_digits(cli: Any, model: str, output: Path, *more: object) -> Any:
    return cli(
        "score",
        "--model",
        SAMPLE / f"{model}.keras",
        "--import",
        SAMPLE / "digits_models.py",
        "--input",
        DIGITS,
        "--output",
        output,
        *more,
    )


def truth(model: str) -> dict[str, np.ndarray[Any, Any]]:
    from pipeline.model import load

    keras_model = load(str(SAMPLE / f"{model}.keras"), [str(SAMPLE / "digits_models.py")]).keras
    pixels = np.stack(pq.read_table(DIGITS)["pixels"].to_pylist()).astype("float32")
    return dict(keras_model.predict(pixels, batch_size=256, verbose=0))


@pytest.mark.parametrize(
    ("model", "streams_by"),
    [("digits_whole", "predict_step"), ("digits_unpacked", "predict_on_batch")],
)
@pytest.mark.parametrize("small_shard_rows", [0, 5000], ids=["streamed", "one predict call"])
def test_a_custom_predict_step_gives_what_model_predict_gives(
    model: str, streams_by: str, small_shard_rows: int, tmp_path: Path, cli: Any
) -> None:
    done = score_digits(
        cli, model, tmp_path / "out", "--small-shard-rows", small_shard_rows, "--batch-size", 256
    )
    assert done.code == 0, done.err
    published = pq.read_table(tmp_path / "out" / "digits.parquet")
    expected = truth(model)
    probabilities = np.stack(published["probabilities"].to_pylist())
    digit = published["digit"].to_numpy()
    assert probabilities.shape == (1797, 10)
    assert digit.shape == (1797,)
    assert published.schema.field("probabilities").type == pa.list_(pa.float32(), 10)
    np.testing.assert_allclose(probabilities, expected["probabilities"], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(digit, expected["digit"])
    record = json.loads((tmp_path / "out" / "_shardscore" / "run.json").read_text())
    assert record["identity"]["method"] == streams_by


def test_the_step_that_predict_on_batch_would_break_is_said_once(tmp_path: Path, cli: Any) -> None:
    said = "predict_on_batch() would hand it a tuple"
    small = score_digits(cli, "digits_whole", tmp_path / "small")
    assert said not in small.err  # nothing streams
    done = score_digits(cli, "digits_whole", tmp_path / "out", "--small-shard-rows", 0)
    assert done.err.count(said) == 1
    assert "(1, 256, 10)" in done.err


def test_asking_for_the_method_that_would_be_wrong_is_refused(tmp_path: Path, cli: Any) -> None:
    done = score_digits(cli, "digits_whole", tmp_path / "out", "--method", "predict_on_batch")
    assert done.code == 78
    assert "does not give what predict() gives" in done.err
    assert not (tmp_path / "out" / "digits.parquet").exists()


@pytest.mark.parametrize("method", ["predict", "predict_step"])
def test_a_method_asked_for_scores_small_and_big_shards_alike(
    method: str, tmp_path: Path, cli: Any
) -> None:
    done = score_digits(
        cli, "digits_whole", tmp_path / "out", "--method", method, "--batch-size", 100, "--json"
    )
    assert done.code == 0, done.err
    assert done.document["shards"]["by_method"] == {method: 1}
    published = pq.read_table(tmp_path / "out" / "digits.parquet")
    np.testing.assert_allclose(
        np.stack(published["probabilities"].to_pylist()),
        truth("digits_whole")["probabilities"],
        rtol=0,
        atol=1e-6,
    )


def test_other_code_behind_the_same_model_file_is_another_job(tmp_path: Path, cli: Any) -> None:
    module = tmp_path / "digits_models.py"
    module.write_text((SAMPLE / "digits_models.py").read_text())
    arguments = [
        "score",
        "--model",
        SAMPLE / "digits_whole.keras",
        "--import",
        module,
        "--input",
        DIGITS,
        "--output",
        tmp_path / "out",
    ]
    assert cli(*arguments).code == 0
    module.write_text(module.read_text() + "\n# changed\n")
    done = cli(*arguments)
    assert done.code == 73
    assert "not the same code of the imported modules" in done.err


def test_a_module_of_the_current_folder_is_imported_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "my_models.py").write_text((SAMPLE / "digits_models.py").read_text())
    arguments = ["score", "--model", SAMPLE / "digits_whole.keras", "--input", DIGITS]
    arguments += ["--output", tmp_path / "out", "--import"]
    missing = run_command(*arguments, "your_models", cwd=tmp_path)
    assert missing.code == 78
    assert "cannot be found" in missing.err
    done = run_command(*arguments, "my_models", cwd=tmp_path)
    assert done.code == 0, done.err


def test_another_backend_of_keras_is_refused(tmp_path: Path) -> None:
    done = run_command(
        "score",
        "--config",
        SAMPLE / "digits.toml",
        "--output",
        tmp_path / "out",
        KERAS_BACKEND="jax",
    )
    assert done.code == 78
    assert "KERAS_BACKEND=jax" in done.err
