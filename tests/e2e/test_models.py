"""Models that are missing, damaged, refused, or raise: what is wrong and what to do."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.lake import published, shard

if TYPE_CHECKING:
    from pathlib import Path


def test_a_model_that_does_not_exist_is_78(score: Any, tmp_path: Path) -> None:
    done = score(model=tmp_path / "none.keras")
    assert done.code == 78
    assert "the model does not exist" in done.err


def test_a_corrupt_model_is_78(score: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.keras"
    broken.write_bytes(b"not a zip file")
    done = score(model=broken)
    assert done.code == 78
    assert "damaged" in done.err


def test_a_model_archive_with_damaged_weights_is_78(
    score: Any, model: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.keras"
    with zipfile.ZipFile(model) as sound, zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("config.json", sound.read("config.json"))
        archive.writestr("metadata.json", sound.read("metadata.json"))
        archive.writestr("model.weights.h5", b"no weights")
    done = score(model=broken)
    assert done.code == 78
    assert "cannot be loaded" in done.err


def test_a_weights_only_file_is_78_and_says_what_to_do(score: Any, tmp_path: Path) -> None:
    import keras

    weights = tmp_path / "only.weights.h5"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save_weights(weights)
    done = score(model=weights)
    assert done.code == 78
    assert "weights only" in done.err
    assert "model.save" in done.err


@pytest.mark.parametrize("name", ["hf://someone/model.keras", "model.pkl", "saved_model"])
def test_what_is_no_model_file_is_refused(name: str, score: Any, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04.")
    (tmp_path / "saved_model").mkdir()
    assert score(model=name if "://" in name else tmp_path / name).code == 78


def test_a_lambda_layer_is_refused(score: Any, tmp_path: Path) -> None:
    import keras

    x = keras.Input((1,), name="a")
    path = tmp_path / "lambda.keras"
    keras.Model(x, keras.layers.Lambda(lambda t: t + 1)(x)).save(path)
    done = score(model=path)
    assert done.code == 78
    assert "code that would run" in done.err


def test_a_model_whose_class_is_not_registered_says_how_to_import_it(
    score: Any, tmp_path: Path
) -> None:
    from tests.conftest import SAMPLE, run_command

    done = run_command(
        "score",
        "--model",
        SAMPLE / "digits_whole.keras",
        "--input",
        SAMPLE / "digits",
        "--output",
        tmp_path / "out",
    )
    assert done.code == 78
    assert "--import" in done.err


def test_another_model_than_the_digest_names_is_refused(score: Any) -> None:
    done = score("--model-sha256", "0" * 64)
    assert done.code == 78
    assert "not the one that the job names" in done.err


@pytest.fixture
def embedding(tmp_path: Path) -> Path:
    """A model that raises on ids of 10 and more."""
    import keras

    number = keras.Input((1,), name="a", dtype="int32")
    flat = keras.layers.Flatten()(keras.layers.Embedding(10, 2)(number))
    path = tmp_path / "embedding.keras"
    keras.Model({"a": number}, keras.layers.Dense(1)(flat)).save(path)
    return path


def test_a_first_shard_on_which_the_model_raises_does_not_end_the_run(
    score: Any, embedding: Path, tmp_path: Path
) -> None:
    for name, first in (("1", 99), ("2", 0), ("3", 1)):
        shard(tmp_path / "ids" / f"{name}.parquet", a=pa.array([first, *range(9)], pa.int32()))
    done = score(model=embedding, input=tmp_path / "ids")
    assert done.code == 65
    assert "indices[0,0] = 99 is not in [0, 10)" in done.err
    assert "row:      0" in done.err
    assert published(tmp_path) == ["2.parquet", "3.parquet"]


def test_a_resume_with_bad_shards_alone_ends_as_the_run_before_it(
    score: Any, embedding: Path, tmp_path: Path
) -> None:
    for name, first in (("1", 99), ("2", 0), ("3", 98)):
        shard(tmp_path / "ids" / f"{name}.parquet", a=pa.array([first, *range(9)], pa.int32()))
    for _ in range(2):
        done = score(model=embedding, input=tmp_path / "ids")
        assert done.code == 65
        assert [done.err.count(f"failed: indices[0,0] = {wrong} ") for wrong in (99, 98)] == [1, 1]


def test_a_resume_finds_the_good_shards_behind_many_bad_ones(
    score: Any, embedding: Path, tmp_path: Path
) -> None:
    lake = tmp_path / "ids"
    shard(lake / "000.parquet", a=pa.array(range(10), pa.int32()))
    assert score(model=embedding, input=lake).code == 0
    for i in range(1, 36):
        shard(lake / f"{i:03}.parquet", a=pa.array([99, *range(9)], pa.int32()))
    shard(lake / "036.parquet", a=pa.array(range(10), pa.int32()))
    assert score("--quiet", model=embedding, input=lake).code == 65
    assert published(tmp_path) == ["000.parquet", "036.parquet"]


def test_nested_inputs_are_fed_by_dotted_names(score: Any, tmp_path: Path) -> None:
    import keras

    a, b, c = (keras.Input((1,), name=name) for name in "abc")
    total = keras.layers.Add()([a, b, c])
    keras.Model({"pair": [a, b], "one": {"c": c}}, total).save(tmp_path / "nested.keras")
    columns = {"pair.0": [1.0, 2.0], "pair.1": [10.0, 20.0], "one.c": [100.0, 200.0]}
    floats = {name: pa.array(values, pa.float32()) for name, values in columns.items()}
    shard(tmp_path / "nests" / "1.parquet", 2, a=None, b=None, **floats)
    done = score(model=tmp_path / "nested.keras", input=tmp_path / "nests")
    assert done.code == 0, done.err
    found = pq.read_table(tmp_path / "out" / "1.parquet")["prediction"].to_pylist()
    assert found == [111.0, 222.0]


def test_a_saved_model_is_scored_like_any_other(score: Any, tmp_path: Path) -> None:
    import keras

    x = keras.Input((2,), name="x")
    model = keras.Model(x, keras.layers.Dense(1)(x))
    model.export(tmp_path / "exported", verbose=False)
    done = score("--features", "a", "--features", "b", model=tmp_path / "exported")
    assert done.code == 0, done.err
    found = pq.read_table(tmp_path / "out" / "1.parquet")["prediction"].to_pylist()
    rows = np.array([[i, 1.0] for i in range(10)], "float32")
    assert found == pytest.approx(model.predict(rows, verbose=0)[:, 0].tolist())


def test_a_package_that_raises_on_import_is_78(score: Any, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("raise RuntimeError('no')")
    (tmp_path / "package" / "layers.py").write_text("")
    done = score("--import", tmp_path / "package" / "__init__.py")
    assert done.code == 78
    assert "failed while it was imported" in done.err
