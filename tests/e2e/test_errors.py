"""Mistakes as a newcomer makes them: each is told with its place, what was found and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.lake import shard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Finished


@pytest.fixture
def house(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, shards, and things that are neither."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.keras").symlink_to(model)
    shard(tmp_path / "data" / "1.parquet")
    shard(tmp_path / "typo" / "1.parquet", a=None, aa=pa.array([1.0] * 10, pa.float32()))
    shard(tmp_path / "named" / "1.parquet", b=None, B=pa.array([1.0] * 10, pa.float32()))
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "a_file").write_text("x")
    (tmp_path / "no.toml").write_text("model = model.keras\n")
    (tmp_path / "key.toml").write_text("batch_sise = 1\n")
    (tmp_path / "input.toml").write_text("[inputs]\naa = 'a'\nb = 'b'\n")
    return tmp_path


def score(**options: object) -> list[object]:
    """The words of a `score` that is right, but for these options."""
    chosen = {"model": "model.keras", "input": "data", "output": "out", **options}
    return [
        "score",
        *(
            word
            for name, value in chosen.items()
            if value is not None
            for word in (f"--{name.replace('_', '-')}", value)
        ),
    ]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["scor"], 64, ["there is no command 'scor'", "did you mean 'score'?"]),
        (["score"], 64, ["--model, --input and --output are missing", "init"]),
        (score(output=None), 64, ["--output is missing"]),
        (score(batchsize=4), 64, ["there is no option --batchsize", "'--batch-size'"]),
        ([*score(), "--model", "other.keras"], 64, ["--model is given 2 times"]),
        ([*score(), "2.parquet"], 64, ["stand behind no option", "2.parquet", "quotes"]),
        (score(workers=0), 64, ["--workers", "a whole number from 1 to 1,024", "0"]),
        (score(workers="x"), 64, ["--workers: 'x' is neither a number nor auto"]),
        (score(top_k=0), 64, ["--top-k: the value must be at least 1"]),
        (score(engine="rey"), 64, ["there is no 'rey'", "did you mean 'ray'?"]),
        (score(max_drift=0.1), 64, ["--max-drift needs --baseline"]),
        (score(shard_count=2), 64, ["--shard-index and --shard-count go together"]),
        (score(label_output="x"), 64, ["--label-output", "--labels or --top-k"]),
        (score(model="modle.keras"), 78, ["does not exist", "did you mean 'model.keras'?"]),
        (score(model="empty"), 78, ["holds no SavedModel", "saved_model.pb", "an empty folder"]),
        (score(input="dato"), 66, ["the input does not exist", "did you mean 'data'?"]),
        (score(input="empty"), 66, ["holds no Parquet file", "check the path"]),
        (score(input="csv"), 66, ["holds no Parquet file", "a.csv", "read_csv"]),
        (score(input="csv/a.csv"), 65, ["not a readable Parquet file", "a.csv", "read_csv"]),
        (score(input="ftp://host/x"), 78, ["no storage for", "s3://", "copy what is there"]),
        (score(output="."), 66, ["lies in the output", "choose another --output"]),
        (score(output="data"), 64, ["the output is one of the inputs", "choose another"]),
        (score(output="a_file"), 74, ["a_file is a file, not a folder"]),
        (score(output="a_file/x/y"), 74, ["a_file is a file, not a folder"]),
        (score(config="no.toml"), 78, ["not TOML", "line 1", "model = model.keras", "quotes"]),
        (score(config="key.toml"), 78, ["unknown key: batch_sise", "'batch_size'"]),
        (score(config="kye.toml"), 78, ["cannot be read", "did you mean 'key.toml'?"]),
        (score(config="input.toml"), 78, ["the model has no input 'aa'", "a, b"]),
        (score(keep="idd"), 78, ["--keep names a column that no shard has", "'id'"]),
        (score(input="named"), 65, ["input 'b'", "named/1.parquet", 'the job file: b = "B"']),
        (score(baseline="empty"), 78, ["the baseline has no predictions", "no published shard"]),
        (score(top_k=2), 78, ["can be the scores of classes", "labels or top_k"]),
        (["status"], 64, ["the folder of the predictions is missing", "shardscore status out/"]),
        (["status", "data"], 66, ["no run has begun an output here", "data"]),
        (["verify", "data"], 66, ["there is no output here", "data"]),
        (["report", "nope"], 66, ["no run has begun an output here", "nope"]),
    ],
    ids=lambda value: " ".join(map(str, value[:9])) if isinstance(value, list) else None,
)
def test_a_mistake_is_told_with_what_to_do(
    words: list[object], code: int, said: list[str], house: Path, cli: Callable[..., Finished]
) -> None:
    done = cli(*words)
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    for part in said:
        assert part in done.err
    assert (
        "  to do:  " in done.err
        or "expected:" in done.err
        or "go together" in done.err
        or ("needs" in done.err or "give one of them" in done.err)
    )


def test_features_are_meant_by_their_names(house: Path, cli: Any, tmp_path: Path) -> None:
    import keras

    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "one.keras")
    table = pa.table({n: pa.array(np.zeros(3), pa.float32()) for n in ("age", "income")})
    (tmp_path / "people").mkdir()
    pq.write_table(table, tmp_path / "people" / "1.parquet")
    words = score(model="one.keras", input="people", features="age")
    done = cli(*words, "--features", "incme")
    assert done.code == 78
    assert "column:   incme" in done.err
    assert "did you mean 'income'?" in done.err
    done = cli(*words)
    assert done.code == 65
    assert "received: 1 column: age float" in done.err


def test_another_jobs_output_says_what_differs(house: Path, cli: Any) -> None:
    assert cli(*score()).code == 0
    done = cli(*score(keep="none"))
    assert done.code == 73
    assert "the output belongs to another job: not the same keep" in done.err
    assert "expected: keep: unused" in done.err


def test_a_value_of_a_variable_names_the_variable(
    house: Path, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARDSCORE_BATCH_SIZE", "four")
    done = cli(*score())
    assert done.code == 64
    assert "error: the variable SHARDSCORE_BATCH_SIZE: 'four' is neither" in done.err
    monkeypatch.setenv("SHARDSCORE_BATCH_SIZE", "0")
    done = cli(*score())
    assert done.code == 64
    assert "the variable SHARDSCORE_BATCH_SIZE: the value is wrong" in done.err


def test_a_misspelt_variable_is_a_warning_also_where_logs_are_json(
    house: Path, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARDSCORE_BATCHSIZE", "4")
    done = cli(*score(), "--log-format", "json")
    assert done.code == 0
    assert '"level": "warning"' in done.err.splitlines()[0]
    assert "did you mean SHARDSCORE_BATCH_SIZE?" in done.err.splitlines()[0]


def test_without_ray_it_is_said_how_to_install_it(
    house: Path, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    done = cli(*score(engine="ray"))
    assert done.code == 78
    assert "Ray is not installed here" in done.err
    assert "pip install 'shardscore[ray]'" in done.err


def test_an_old_python_is_told_before_anything_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    from jobs import __main__

    monkeypatch.setattr(sys, "version_info", (3, 10, 13, "final", 0))
    with pytest.raises(SystemExit) as ended:
        __main__.run()
    assert ended.value.code == 78
    told = capsys.readouterr().err
    assert "expected: Python 3.11 or newer" in told
    assert "received: Python 3.10.13" in told
