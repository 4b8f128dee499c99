"""`init`: what it writes is a job that `score --config` runs as it stands."""

from __future__ import annotations

import json
import tomllib
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.settings import job_from
from tests.conftest import SAMPLE
from tests.e2e.lake import shard


@pytest.fixture
def init(cli: Any, tmp_path: Path) -> Any:
    """Runs `init` into job.toml, then `score` with it; gives the text and the published table."""

    def run(*options: object) -> tuple[str, pa.Table]:
        done = cli("init", "--output", tmp_path / "job.toml", *options)
        assert done.code == 0, done.err
        scored = cli("score", "--config", tmp_path / "job.toml")
        assert scored.code == 0, scored.err
        return (tmp_path / "job.toml").read_text(), pq.read_table(tmp_path / "scored")

    return run


def test_the_flights_are_scored_as_with_their_own_job_file(
    init: Any, flights_run: Any, tmp_path: Path
) -> None:
    text, _ = init("--model", SAMPLE / "flights.keras", "--input", SAMPLE / "flights")
    for name in ("2013-01.parquet", "2013-12-31.parquet"):
        ours = pq.read_table(tmp_path / "scored" / name)
        theirs = pq.read_table(flights_run.output / name)
        assert ours.equals(theirs)
    assert 'on_bad_row = "quarantine"' in text.splitlines()
    assert "# distance: float32 (n, 1), from int32, checked" in text


def test_the_digits_are_scored_with_the_module_that_was_named(init: Any) -> None:
    _, scored = init(
        "--model",
        SAMPLE / "digits_whole.keras",
        "--import",
        SAMPLE / "digits_models.py",
        "--input",
        SAMPLE / "digits",
    )
    assert scored.num_rows == 1797
    assert {"probabilities", "digit"} <= set(scored.column_names)


def test_what_columns_leave_open_is_said_with_a_remark(init: Any, tmp_path: Path) -> None:
    import keras

    inputs = {
        "price": keras.Input((1,), name="price"),
        "booked": keras.Input((1,), name="booked"),
        "history": keras.Input((3,), name="history"),
    }
    joined = keras.layers.Concatenate()(list(inputs.values()))
    keras.Model(inputs, keras.layers.Dense(1)(joined)).save(tmp_path / "m.keras")
    begun = datetime(2024, 1, 1)
    shard(
        tmp_path / "lake" / "1.parquet",
        a=None,
        b=None,
        price=pa.array(np.linspace(0, 1, 10)),
        booked=pa.array([begun + timedelta(hours=7 * i) for i in range(10)], pa.timestamp("us")),
        history=pa.array([[1.0, 2.0, i / 3] for i in range(10)]),
    )
    text, scored = init("--model", tmp_path / "m.keras", "--input", tmp_path / "lake")
    assert scored.num_rows == 10
    said = tomllib.loads(text)
    assert sorted(said["allow_lossy"]) == ["booked", "history", "price"]
    assert said["inputs"]["booked"] == {"columns": ["booked"], "unit": "days"}
    assert said["inputs"]["price"] == "price"
    assert "counting in days is a guess" in text


def test_images_sequences_and_dates_are_read_with_the_least_that_works(
    init: Any, tmp_path: Path
) -> None:
    import keras
    import tensorflow as tf

    inputs = {
        "photo": keras.Input((4, 4, 3), name="photo"),
        "words": keras.Input((None,), name="words", dtype="int32"),
        "day": keras.Input((1,), name="day", dtype="int64"),
    }
    embedded = keras.layers.Embedding(100, 2)(inputs["words"])
    parts = [
        keras.layers.GlobalAveragePooling2D()(inputs["photo"]),
        keras.layers.GlobalAveragePooling1D()(embedded),
        keras.layers.Rescaling(1e-4)(inputs["day"]),
    ]
    joined = keras.layers.Concatenate()(parts)
    keras.Model(inputs, keras.layers.Dense(2)(joined)).save(tmp_path / "m.keras")
    png = tf.io.encode_png(np.full((6, 5, 3), 9, np.uint8)).numpy()
    shard(
        tmp_path / "lake" / "1.parquet",
        a=None,
        b=None,
        photo=[png] * 10,
        words=[list(range(i)) for i in range(10)],
        day=[date(2024, 1, 1 + i) for i in range(10)],
    )
    text, scored = init("--model", tmp_path / "m.keras", "--input", tmp_path / "lake")
    assert scored.num_rows == 10
    assert tomllib.loads(text)["inputs"] == {
        "photo": {"columns": ["photo"], "image": True},
        "words": {"columns": ["words"], "length": 128},
        "day": {"columns": ["day"], "unit": "days"},
    }
    assert "# photo: float32 (n, 4, 4, 3), from binary" in text


def test_columns_that_differ_in_case_and_punctuation_are_taken_and_pointed_out(
    init: Any, model: Path, tmp_path: Path
) -> None:
    shard(tmp_path / "lake" / "1.parquet", a=None, A_=pa.array(range(10), pa.float32()))
    text, _ = init("--model", model, "--input", tmp_path / "lake")
    assert tomllib.loads(text)["inputs"] == {"a": "A_", "b": "b"}
    assert "no column is called a; A_ is taken for it" in text


HOSTILE = ['quote " and \\', "line\nbreak", "# ü = [x]", "tab\tand\x7f", "f[0]*"]


def test_names_that_toml_would_stumble_over_survive(init: Any, tmp_path: Path) -> None:
    import keras

    width = len(HOSTILE)
    one = keras.Sequential([keras.Input((width,)), keras.layers.Dense(1, use_bias=False)])
    one.set_weights([np.array([[10.0**i] for i in range(width)])])
    one.save(tmp_path / "m.keras")
    lake = tmp_path / 'a "lake" # of ü'
    lake.mkdir()
    columns = {name: pa.array([1.0], pa.float32()) for name in [*HOSTILE, ""]}
    pq.write_table(pa.table(columns), lake / "1.parquet")
    text, scored = init("--model", tmp_path / "m.keras", "--input", lake)
    (bound,) = tomllib.loads(text)["inputs"].values()
    assert bound == HOSTILE
    assert "is it the order of the training?" in text
    assert scored["prediction"].to_pylist() == [pytest.approx(11111)]


def test_a_column_with_the_name_of_a_prediction_is_left_out(
    init: Any, model: Path, tmp_path: Path
) -> None:
    shard(tmp_path / "lake" / "1.parquet", prediction=list(range(10)))
    text, scored = init("--model", model, "--input", tmp_path / "lake")
    assert tomllib.loads(text)["keep"] == ["id"]
    assert scored.column_names == ["id", "prediction"]
    assert "all but prediction" in text


def test_features_that_are_named_stay_features(init: Any, tmp_path: Path) -> None:
    import keras

    one = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    one.set_weights([np.array([[1.0], [10.0]])])
    one.save(tmp_path / "m.keras")
    shard(tmp_path / "lake" / "1.parquet")
    options = ("--features", "b", "--features", "a")
    text, scored = init("--model", tmp_path / "m.keras", "--input", tmp_path / "lake", *options)
    assert tomllib.loads(text)["features"] == ["b", "a"]
    assert scored["prediction"].to_pylist()[3] == 31.0


def test_without_a_column_the_error_names_the_input_and_what_would_fit(
    cli: Any, model: Path, tmp_path: Path
) -> None:
    shard(tmp_path / "lake" / "1.parquet", a=None, c=pa.array(["x"] * 10))
    options = ("--model", model, "--input", tmp_path / "lake", "--output", tmp_path / "job.toml")
    done = cli("init", *options)
    assert done.code == 65
    assert "no column feeds the model's input 'a'" in done.err
    assert "columns whose types fit: id, b" in done.err
    assert not (tmp_path / "job.toml").exists()


def test_a_file_that_is_there_stays_unless_forced(
    cli: Any, model: Path, lake: Path, tmp_path: Path
) -> None:
    target = tmp_path / "job.toml"
    target.write_text("precious")
    options = ("init", "--model", model, "--input", lake, "--output", target)
    done = cli(*options)
    assert (done.code, target.read_text()) == (64, "precious")
    assert "--force" in done.err
    assert cli(*options, "--force").code == 0
    assert tomllib.loads(target.read_text())["output"] == "scored"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_dash_prints_the_file(cli: Any, model: Path, lake: Path, tmp_path: Path) -> None:
    done = cli("init", "--model", model, "--input", lake, "-o", "-")
    assert done.code == 0
    assert set(tomllib.loads(done.out)) == {"model", "input", "output", "inputs", "on_bad_row"}


def test_paths_are_relative_to_the_file_wherever_it_is(
    cli: Any, model: Path, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs").mkdir()
    monkeypatch.chdir(tmp_path)
    done = cli("init", "--model", model, "--input", "lake/*.parquet", "-o", "jobs/j.toml")
    assert done.code == 0, done.err
    assert tomllib.loads(Path("jobs/j.toml").read_text())["input"] == ["../lake/*.parquet"]
    monkeypatch.chdir("/")
    job = job_from({}, tmp_path / "jobs" / "j.toml")
    assert Path(job.model).samefile(model)
    plan = cli("plan", "--config", tmp_path / "jobs" / "j.toml", "--json")
    assert plan.document["shards"]["pending"] == 3
    assert json.loads(plan.out)["output"].endswith("jobs/scored")


def test_shards_of_other_columns_are_pointed_out(
    cli: Any, model: Path, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "9.parquet", a=None)
    done = cli("init", "--model", model, "--input", lake, "-o", tmp_path / "job.toml")
    assert done.code == 0
    assert "1 of 4 shards have other columns" in done.err
    assert "9.parquet" in done.err
