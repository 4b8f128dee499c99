"""Options, variables and job files, right and wrong; logs; how columns are named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.lake import published, shard, sums, truncate

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "options",
    [
        ("--no-such-flag",),
        ("--batch-size", "many"),
        ("--batch-size", "0"),
        ("--method", "guess"),
        ("--on-bad-row", "ignore"),
        ("--model-sha256", "abc"),
        ("--keep", "all", "--keep", "id"),
    ],
    ids=" ".join,
)
def test_a_bad_option_is_64(options: tuple[str, ...], score: Any) -> None:
    done = score(*options)
    assert done.code == 64
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err


def test_a_missing_option_is_64(cli: Any) -> None:
    done = cli("score", "--model", "m.keras")
    assert done.code == 64
    assert "--input and --output are missing" in done.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("batch_size = 'many'", "batch_size"),
        ("batch_sise = 4", "did you mean 'batch_size'?"),
        ("batch_size = ", "not TOML"),
    ],
)
def test_a_bad_configuration_is_78(text: str, said: str, score: Any, tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(text)
    done = score("--config", tmp_path / "job.toml")
    assert done.code == 78
    assert said in done.err


def test_with_json_logs_each_line_of_standard_error_is_one_object(score: Any, lake: Path) -> None:
    truncate(lake / "2.parquet")
    done = score("--log-format", "json")
    lines = [json.loads(line) for line in done.err.splitlines()]
    assert done.code == 65
    assert done.out == ""
    failed = next(line for line in lines if line["event"] == "shard_failed")
    assert failed["level"] == "error"
    assert failed["path"] == str(lake / "2.parquet")
    assert lines[-1]["report"]["rows"]["scored"] == 20


def test_with_json_logs_an_error_is_one_object_too(score: Any, tmp_path: Path) -> None:
    done = score("--log-format", "json", model=tmp_path / "none.keras")
    last = json.loads(done.err.splitlines()[-1])
    assert (done.code, last["exit_code"], last["event"]) == (78, 78, "error")


def test_variables_are_options_too_and_the_command_line_wins(
    score: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SHARDSCORE_BATCH_SIZE", "3")
    monkeypatch.setenv("SHARDSCORE_KEEP", "none")
    done = score("--json", "--keep", "id")
    assert done.document["batch_size"] == 3
    assert pq.read_schema(tmp_path / "out" / "1.parquet").names == ["id", "prediction"]


def test_a_variable_holds_an_input_a_line(
    cli: Any, model: Path, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard(tmp_path / "with a blank" / "9.parquet")
    monkeypatch.setenv("SHARDSCORE_INPUT", f"{lake}\n{tmp_path / 'with a blank'}")
    assert cli("score", "--model", model, "--output", tmp_path / "out").code == 0
    assert len(published(tmp_path)) == 4


@pytest.fixture
def one_input(tmp_path: Path) -> Path:
    """A model with a single input of two values, which it weighs 1 and 10."""
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.array([[1.0], [10.0]])])
    model.save(tmp_path / "one.keras")
    return tmp_path / "one.keras"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "which columns feed the model is not said"),
        (("--features", "z*"), "--features names a column that no shard has"),
        (("--features", "a,b"), "repeat --features for each column"),
        (("--features", "[ab],x*"), "repeat --features for each column"),
        (("--features", "a", "--features", "b", "--keep", "nope"), "--keep names a column"),
    ],
)
def test_columns_that_no_shard_has_are_the_jobs_error_and_said_once(
    options: tuple[str, ...], said: str, score: Any, one_input: Path
) -> None:
    done = score(*options, model=one_input)
    assert done.code == 78
    assert said in done.err
    assert done.err.count("error:") == 1


def test_a_plan_without_an_output_is_that_of_one_not_begun(
    cli: Any, model: Path, lake: Path
) -> None:
    done = cli("plan", "--model", model, "--input", lake)
    assert done.code == 0, done.err
    assert "not said; score wants --output" in done.out
    document = cli("plan", "--model", model, "--input", lake, "--json").document
    assert (document["output"], document["begun"]) == (None, False)
    assert document["shards"]["pending"] == 3


def test_features_are_taken_in_the_order_in_which_they_are_named(
    score: Any, one_input: Path, tmp_path: Path
) -> None:
    for i, names in enumerate((("a", "b"), ("b", "a"))):
        options = [part for name in names for part in ("--features", name)]
        assert score(*options, model=one_input, output=tmp_path / f"out{i}").code == 0
        row = pq.read_table(tmp_path / f"out{i}" / "1.parquet")["prediction"][3].as_py()
        assert row == (13.0 if i == 0 else 31.0)


def test_a_glob_in_an_odd_order_is_pointed_out(score: Any, one_input: Path, tmp_path: Path) -> None:
    columns = {
        "id": None,
        "a": None,
        "b": None,
        **{n: pa.array([v], pa.float32()) for n, v in (("f2", 1.0), ("f1", 2.0))},
    }
    shard(tmp_path / "odd" / "1.parquet", rows=1, **columns)
    done = score("--features", "f*", model=one_input, input=tmp_path / "odd")
    assert done.code == 0
    assert "taken in the table's order: f2, f1; name them one by one" in done.err
    where = {"input": tmp_path / "odd", "output": tmp_path / "two"}
    several = score("--features", "f*", "--features", "*1", model=one_input, **where)
    assert "taken pattern by pattern, each in the table's order: f2, f1" in several.err
    assert sums(tmp_path / "out" / "1.parquet") == [21.0]


def test_rounding_is_an_error_until_it_is_allowed_and_then_is_said_for_each_type(
    score: Any, cli: Any, model: Path, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "2.parquet", a=pa.array(range(10), pa.float64()))
    options = ("--model", model, "--input", lake, "--output", tmp_path / "out")
    refused = cli("plan", *options)
    assert refused.code == 65
    assert "allow it: --allow-lossy a" in refused.err
    plan = cli("plan", *options, "--allow-lossy", "a", "--json")
    assert plan.code == 0
    (use,) = (row for row in plan.document["binding"] if row["column"] == "a")
    assert (use["column_type"], use["conversion"]) == ("float or double", "exact or rounded")
    done = score("--allow-lossy", "a")
    assert done.code == 0
    assert "rounded from double to the nearest float32: a" in done.err
    another = score("--allow-lossy", "b")
    assert another.code == 73
    assert "allow_lossy" in another.err


def test_a_plan_reads_well(cli: Any, model: Path, lake: Path, tmp_path: Path) -> None:
    shard(lake / "2.parquet", b=None)
    done = cli("plan", "--model", model, "--input", lake, "--output", tmp_path / "out")
    assert done.code == 65
    lines = {line.split(":")[0]: line for line in done.out.splitlines() if ":" in line}
    assert "3: 0 published, 2 to score, 1 that cannot be scored" in lines["shards"]
    assert "20 to score of 30" in lines["rows"]
    assert "prediction (float)" in lines["predicted"]
    assert all(len(line) <= 100 for line in done.out.splitlines() if "pytest" not in line)
    table = [line.split() for line in done.out.splitlines()[-2:]]
    assert table == [[n, "float32", "(n,", "1)", n, "float", "exact"] for n in ("a", "b")]
    assert "column:   b" in done.err


@pytest.mark.parametrize("share", [(), ("--shard-index", 1)])
def test_a_plan_tells_how_even_shares_are_whether_or_not_it_is_of_one(
    cli: Any, model: Path, lake: Path, tmp_path: Path, share: tuple[object, ...]
) -> None:
    config = tmp_path / "job.toml"
    config.write_text(f"model = '{model}'\ninput = '{lake}'\noutput = '{tmp_path / 'out'}'\n")
    asked = ("plan", "--no-model", "--config", config, "--shard-count", 2, *share)
    found = cli(*asked, "--json").document
    assert found["shares"] == {
        "count": 2,
        "smallest_rows": 10,
        "biggest_rows": 20,
        "mean_rows": 15.0,
        "imbalance": 1.3333,
        "biggest_shard_rows": 10,
    }
    assert found["shards"]["total"] == (1 if share else 3)
    assert "2 of 10 to 20 rows, 15 on average\n" in cli(*asked).out


def test_to_score_a_share_its_number_is_needed(score: Any) -> None:
    done = score("--shard-count", 2)
    assert done.code == 64
    assert "go together" in done.err


def test_a_bug_is_70_and_says_that_running_again_is_safe(
    score: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.survey.listed", lambda *_, **__: 1 / 0)
    done = score()
    assert done.code == 70
    assert "ZeroDivisionError" in done.err
    assert "running again is safe" in done.err


def test_without_arguments_the_help_is_shown(cli: Any) -> None:
    done = cli()
    assert done.code == 0
    assert "Usage: shardscore" in done.out
