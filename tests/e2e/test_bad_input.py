"""Bad input: one readable block on standard error, the right exit code, and nothing lost."""

from __future__ import annotations

import json
import os
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Finished


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that adds its named inputs a and b: what it says of a row is easily told."""
    import keras

    a, b = keras.Input((1,), name="a"), keras.Input((1,), name="b")
    path = tmp_path_factory.mktemp("model") / "sum.keras"
    keras.Model({"a": a, "b": b}, keras.layers.Add()([a, b])).save(path)
    return path


def shard(path: Path, rows: int = 10, **columns: Any) -> Path:
    """A shard with an id and the columns a and b, unless others are given."""
    table = {
        "id": list(range(rows)),
        "a": pa.array(range(rows), pa.float32()),
        "b": pa.array([1.0] * rows, pa.float32()),
        **columns,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({k: v for k, v in table.items() if v is not None}), path)
    return path


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Three good shards."""
    for name in ("1", "2", "3"):
        shard(tmp_path / "lake" / f"{name}.parquet")
    return tmp_path / "lake"


Score = "Callable[..., Finished]"


@pytest.fixture
def score(cli: Callable[..., Finished], model: Path, lake: Path, tmp_path: Path) -> Score:
    def call(*more: object, **replaced: object) -> Finished:
        chosen = {"model": model, "input": lake, "output": tmp_path / "out", **replaced}
        options = [part for name, value in chosen.items() for part in (f"--{name}", value)]
        return cli("score", *options, *more)

    return call


def published(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "out").glob("*.parquet"))


def sums(path: Path) -> list[float]:
    return pq.read_table(path)["prediction"].to_pylist()


def test_good_shards_are_scored(score: Any, tmp_path: Path) -> None:
    assert score().code == 0
    assert published(tmp_path) == ["1.parquet", "2.parquet", "3.parquet"]
    assert sums(tmp_path / "out" / "1.parquet") == [i + 1.0 for i in range(10)]


# --- no input -----------------------------------------------------------------------------------


def test_an_input_that_does_not_exist_is_66(score: Any, tmp_path: Path) -> None:
    done = score(input=tmp_path / "nowhere")
    assert done.code == 66
    assert "does not exist" in done.err
    assert str(tmp_path / "nowhere") in done.err


def test_an_empty_folder_is_66(score: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = score(input=tmp_path / "empty")
    assert done.code == 66
    assert "holds no Parquet file" in done.err


# --- shards -------------------------------------------------------------------------------------


def test_an_empty_shard_is_published_as_an_empty_file_with_the_right_schema(
    score: Any, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "0.parquet", rows=0, id=pa.array([], pa.int64()))
    assert score().code == 0
    empty = pq.read_table(tmp_path / "out" / "0.parquet")
    assert empty.num_rows == 0
    assert empty.schema.equals(pq.read_table(tmp_path / "out" / "1.parquet").schema)


def test_a_lake_of_empty_shards_alone_is_published(score: Any, tmp_path: Path) -> None:
    for name in ("1", "2"):
        shard(tmp_path / "hollow" / f"{name}.parquet", rows=0, id=pa.array([], pa.int64()))
    assert score(input=tmp_path / "hollow").code == 0
    assert published(tmp_path) == ["1.parquet", "2.parquet"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def garble_pages(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4:200] = os.urandom(196)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda p: p.write_bytes(b""), id="no bytes"),
        pytest.param(lambda p: p.write_text("id,a,b\n1,2,3\n" * 9), id="a CSV file"),
        pytest.param(truncate, id="truncated"),
        pytest.param(garble_pages, id="garbled pages under a sound footer"),
    ],
)
def test_a_damaged_shard_is_named_and_does_not_stop_the_others(
    damage: Any, score: Any, lake: Path, tmp_path: Path
) -> None:
    damage(lake / "2.parquet")
    done = score()
    assert done.code == 65
    assert "not a readable Parquet file" in done.err
    assert str(lake / "2.parquet") in done.err
    assert published(tmp_path) == ["1.parquet", "3.parquet"]
    shard(lake / "2.parquet")
    assert score().code == 0
    assert published(tmp_path) == ["1.parquet", "2.parquet", "3.parquet"]


@pytest.mark.parametrize(
    ("columns", "message", "named"),
    [
        ({"b": None}, "missing", "b"),
        ({"b": ["x"] * 10}, "type that its input cannot take", "b"),
        ({"prediction": [0.0] * 10}, "has the name of a prediction", "prediction"),
    ],
    ids=["missing column", "wrong type", "collision with a prediction"],
)
def test_a_shard_that_breaks_the_contract_is_named_and_does_not_stop_the_others(
    columns: dict[str, Any], message: str, named: str, score: Any, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "2.parquet", **columns)
    done = score()
    assert done.code == 65
    assert message in done.err
    assert f"column:   {named}" in done.err
    assert str(lake / "2.parquet") in done.err
    assert published(tmp_path) == ["1.parquet", "3.parquet"]


def test_the_contract_is_broken_by_the_first_shard_and_the_others_are_still_scored(
    score: Any, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "1.parquet", b=None)
    assert score().code == 65
    assert published(tmp_path) == ["2.parquet", "3.parquet"]


def test_fail_fast_ends_at_the_first_failure(score: Any, lake: Path, tmp_path: Path) -> None:
    shard(lake / "1.parquet", a=pa.array([None] * 10, pa.float32()))
    done = score("--fail-fast", "--small-shard-rows", 0)
    assert done.code == 65
    assert published(tmp_path) == []


def test_plan_finds_what_breaks_the_contract_before_a_row_is_read(
    cli: Any, model: Path, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "2.parquet", b=None)
    truncate(lake / "3.parquet")
    done = cli("plan", "--model", model, "--input", lake, "--output", tmp_path / "out", "--json")
    assert done.code == 65
    assert [broken["shard"] for broken in done.document["failed"]] == ["3.parquet", "2.parquet"]


# --- rows ---------------------------------------------------------------------------------------

HOLES = pa.array([0.0, None, 2.0, None, *map(float, range(4, 10))], pa.float32())


def test_a_null_feature_fails_its_shard_alone_and_names_the_row(
    score: Any, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "2.parquet", a=HOLES)
    done = score()
    assert done.code == 65
    assert "null in column 'a'" in done.err
    assert "row:      1" in done.err
    assert published(tmp_path) == ["1.parquet", "3.parquet"]


@pytest.mark.parametrize("small", [0, 1000], ids=["streamed", "grouped"])
def test_null_keeps_the_row_with_a_null_prediction_and_the_reason(
    small: int, score: Any, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "2.parquet", a=HOLES)
    assert score("--on-bad-row", "null", "--small-shard-rows", small, "--batch-size", 3).code == 0
    rows = pq.read_table(tmp_path / "out" / "2.parquet")
    assert rows["id"].to_pylist() == list(range(10))
    assert rows["prediction"].to_pylist() == [
        1.0,
        None,
        3.0,
        None,
        *(i + 1.0 for i in range(4, 10)),
    ]
    reasons = rows["bad_row_reason"].to_pylist()
    assert [i for i, reason in enumerate(reasons) if reason] == [1, 3]
    whole = pq.read_table(tmp_path / "out" / "1.parquet")
    assert whole.schema.equals(rows.schema)


def test_a_shard_of_bad_rows_alone_is_published_empty(
    score: Any, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "1.parquet", a=pa.array([None] * 10, pa.float32()))
    shard(lake / "2.parquet", a=pa.array([None] * 10, pa.float32()))
    for small in (0, 1000):
        output = tmp_path / f"out{small}"
        done = score("--on-bad-row", "quarantine", "--small-shard-rows", small, output=output)
        assert done.code == 0, done.err
        assert pq.read_metadata(output / "1.parquet").num_rows == 0
        dead = pq.read_table(output / "_shardscore" / "quarantine" / "1.parquet")
        assert dead.num_rows == 10


def test_more_bad_rows_than_fit_a_row_group_are_all_in_the_dead_letter_file(
    score: Any, tmp_path: Path
) -> None:
    rows = 30_000
    values = [None if i % 2 else float(i) for i in range(rows)]
    shard(
        tmp_path / "many" / "1.parquet",
        rows,
        a=pa.array(values, pa.float32()),
    )
    assert score("--on-bad-row", "quarantine", input=tmp_path / "many").code == 0
    dead = pq.read_table(tmp_path / "out" / "_shardscore" / "quarantine" / "1.parquet")
    assert dead["quarantine_row"].to_pylist() == list(range(1, rows, 2))
    assert dead["id"].to_pylist() == list(range(1, rows, 2))
    assert pq.read_table(tmp_path / "out" / "1.parquet")["id"].to_pylist() == list(
        range(0, rows, 2)
    )


def test_an_integer_that_float32_cannot_hold_is_a_bad_row(
    score: Any, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "2.parquet", a=pa.array([1, 2**24 + 1, *range(8)], pa.int64()))
    assert score("--on-bad-row", "quarantine").code == 0
    dead = pq.read_table(tmp_path / "out" / "_shardscore" / "quarantine" / "2.parquet")
    assert dead["quarantine_row"].to_pylist() == [1]
    assert "16777217" in dead["quarantine_reason"][0].as_py()


# --- the model ----------------------------------------------------------------------------------


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


# --- the output ---------------------------------------------------------------------------------


def test_an_output_that_cannot_be_created_is_74(score: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = score(output=tmp_path / "file" / "out")
    assert done.code == 74
    assert str(tmp_path / "file") in done.err


def test_an_output_of_another_job_is_73_and_says_what_differs(score: Any, tmp_path: Path) -> None:
    assert score("--batch-size", 4).code == 0
    done = score("--batch-size", 5, "--keep", "none")
    assert done.code == 73
    assert "batch_size: 4" in done.err
    assert "batch_size: 5" in done.err
    assert "keep: none" in done.err


def test_auto_continues_what_an_explicit_choice_began(score: Any, lake: Path) -> None:
    assert score("--batch-size", 4).code == 0
    shard(lake / "4.parquet")
    done = score("--json")
    assert done.code == 0
    assert done.document["batch_size"] == 4
    assert done.document["shards"]["done_before"] == 3


def test_a_foreign_file_in_our_place_is_73_and_stays(score: Any, tmp_path: Path) -> None:
    foreign = shard(tmp_path / "out" / "2.parquet")
    before = foreign.read_bytes()
    done = score()
    assert done.code == 73
    assert "shardscore did not write" in done.err
    assert foreign.read_bytes() == before


def test_a_shard_that_changed_after_it_was_scored_is_65_and_its_file_stays(
    score: Any, lake: Path, tmp_path: Path
) -> None:
    assert score().code == 0
    before = (tmp_path / "out" / "2.parquet").read_bytes()
    shard(lake / "2.parquet", rows=11, id=list(range(11)))
    shard(lake / "4.parquet")
    done = score()
    assert done.code == 65
    assert "has changed since it was scored" in done.err
    assert (tmp_path / "out" / "2.parquet").read_bytes() == before
    assert "4.parquet" in published(tmp_path)


def test_a_lost_run_json_is_made_again_from_the_same_job_alone(
    score: Any, lake: Path, tmp_path: Path
) -> None:
    assert score("--batch-size", 4).code == 0
    shard(lake / "4.parquet")
    (tmp_path / "out" / "_shardscore" / "run.json").unlink()
    assert score("--batch-size", 5).code == 73
    assert not (tmp_path / "out" / "_shardscore" / "run.json").exists()
    assert score("--batch-size", 4).code == 0
    assert len(published(tmp_path)) == 4


def test_the_output_may_not_be_the_input(score: Any, lake: Path) -> None:
    assert score(output=lake).code == 64


# --- options ------------------------------------------------------------------------------------


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
    assert "--input is missing" in done.err


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


def test_a_shard_written_again_with_the_same_footer_is_pointed_out(
    score: Any, cli: Any, model: Path, lake: Path, tmp_path: Path
) -> None:
    assert score().code == 0
    assert "written again" not in score().err
    shard(lake / "2.parquet")
    done = score()
    assert done.code == 0
    assert "1 published shards were written again since they were scored (2.parquet)" in done.err


def test_hostile_names_are_scored_and_shown_escaped(score: Any, lake: Path, tmp_path: Path) -> None:
    name = "new\nline \x1b[31mred.parquet"
    shard(lake / name)
    shard(lake / ("bad " + name), b=None)
    done = score()
    assert done.code == 65
    assert "\x1b" not in done.err
    assert np.isclose(sums(tmp_path / "out" / name), [i + 1.0 for i in range(10)]).all()


def test_the_status_of_what_is_no_output_is_66(cli: Any, tmp_path: Path) -> None:
    done = cli("status", tmp_path / "typo", "--json")
    assert done.code == 66
    assert str(tmp_path / "typo") in done.err
    assert done.out == ""


def test_two_shards_for_one_name_are_64_and_both_named(
    score: Any, lake: Path, tmp_path: Path
) -> None:
    shard(tmp_path / "other" / "1.parquet")
    done = score("--input", tmp_path / "other")
    assert done.code == 64
    assert str(lake / "1.parquet") in done.err
    assert str(tmp_path / "other" / "1.parquet") in done.err
    assert published(tmp_path) == []


def test_hive_folders_are_kept(score: Any, lake: Path, tmp_path: Path) -> None:
    shard(lake / "year=2013" / "month=1" / "part.parquet")
    assert score().code == 0
    assert (tmp_path / "out" / "year=2013" / "month=1" / "part.parquet").exists()


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view()], ids=str)
def test_strings_of_any_layout_are_carried_and_quarantined(
    kind: pa.DataType, score: Any, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "2.parquet", a=HOLES, name=pa.array(list("abcdefghij"), kind))
    assert score("--on-bad-row", "quarantine").code == 0
    kept = pq.read_table(tmp_path / "out" / "2.parquet")["name"].to_pylist()
    dead = pq.read_table(tmp_path / "out" / "_shardscore" / "quarantine" / "2.parquet")
    assert kept == list("acefghij")
    assert dead["name"].to_pylist() == ["b", "d"]


# --- odd data -----------------------------------------------------------------------------------


@pytest.fixture
def lookup(tmp_path: Path) -> Path:
    """A model that looks its input string up."""
    import keras

    word = keras.Input((1,), name="word", dtype="string")
    ids = keras.layers.StringLookup(vocabulary=["a", "b"])(word)
    path = tmp_path / "lookup.keras"
    keras.Model({"word": word}, keras.layers.Rescaling(1.0)(ids)).save(path)
    return path


def test_text_that_is_not_utf8_reaches_the_model_as_its_bytes(
    score: Any, lookup: Path, tmp_path: Path
) -> None:
    words = pa.array([b"a", b"caf\xe9", b"b"]).view(pa.string())
    columns = {"id": None, "a": None, "b": None, "word": words}
    shard(tmp_path / "words" / "1.parquet", rows=3, **columns)
    done = score(model=lookup, input=tmp_path / "words")
    assert done.code == 0, done.err
    assert sums(tmp_path / "out" / "1.parquet") == [1.0, 0.0, 2.0]


def test_a_first_shard_on_which_the_model_raises_does_not_end_the_run(
    score: Any, tmp_path: Path
) -> None:
    import keras

    number = keras.Input((1,), name="a", dtype="int32")
    flat = keras.layers.Flatten()(keras.layers.Embedding(10, 2)(number))
    keras.Model({"a": number}, keras.layers.Dense(1)(flat)).save(tmp_path / "embedding.keras")
    for name, first in (("1", 99), ("2", 0), ("3", 1)):
        shard(tmp_path / "ids" / f"{name}.parquet", a=pa.array([first, *range(9)], pa.int32()))
    done = score(model=tmp_path / "embedding.keras", input=tmp_path / "ids")
    assert done.code == 65
    assert "the model raised on rows" in done.err
    assert published(tmp_path) == ["2.parquet", "3.parquet"]


def test_a_lost_run_json_and_another_model_is_73_also_with_nothing_left_to_do(
    score: Any, model: Path, lookup: Path, tmp_path: Path
) -> None:
    assert score().code == 0
    (tmp_path / "out" / "_shardscore" / "run.json").unlink()
    assert score(model=lookup).code == 73
    assert score().code == 0


def test_nested_inputs_are_refused_and_not_a_bug(score: Any, tmp_path: Path) -> None:
    import keras

    a, b, c = (keras.Input((1,), name=name) for name in "abc")
    keras.Model([[a, b], c], keras.layers.Add()([a, b, c])).save(tmp_path / "nested.keras")
    done = score(model=tmp_path / "nested.keras")
    assert done.code == 78
    assert "inputs are nested" in done.err


def test_a_package_that_raises_on_import_is_78(score: Any, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("raise RuntimeError('no')")
    (tmp_path / "package" / "layers.py").write_text("")
    done = score("--import", tmp_path / "package" / "__init__.py")
    assert done.code == 78
    assert "failed while it was imported" in done.err


def test_long_texts_end_a_row_group_early(score: Any, tmp_path: Path) -> None:
    texts = [str(i) * 1000 for i in range(10, 99)] * 40
    columns = {"id": None, "a": pa.array([1.0] * len(texts)), "b": pa.array([1.0] * len(texts))}
    shard(tmp_path / "texts" / "1.parquet", rows=len(texts), text=texts, **columns)
    assert score("--batch-size", 100, input=tmp_path / "texts").code == 0
    metadata = pq.read_metadata(tmp_path / "out" / "1.parquet")
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert len(groups) > 1
    assert all(rows % 100 == 0 for rows in groups[:-1])
    assert pq.read_table(tmp_path / "out" / "1.parquet")["text"].to_pylist() == texts


def test_status_is_complete_again_once_the_bad_shard_is_gone(
    score: Any, cli: Any, lake: Path, tmp_path: Path
) -> None:
    truncate(lake / "2.parquet")
    assert score().code == 65
    (lake / "2.parquet").unlink()
    assert score().code == 0
    assert cli("status", tmp_path / "out", "--json").document["complete"] is True


def test_a_damaged_report_does_not_hide_the_status(score: Any, cli: Any, tmp_path: Path) -> None:
    assert score().code == 0
    (tmp_path / "out" / "_shardscore" / "reports" / "99999999.json").write_text("{")
    assert cli("status", tmp_path / "out", "--json").document["complete"] is True


# --- how columns are named ----------------------------------------------------------------------


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


def test_features_are_taken_in_the_order_in_which_they_are_named(
    score: Any, one_input: Path, tmp_path: Path
) -> None:
    for i, names in enumerate((("a", "b"), ("b", "a"))):
        options = [part for name in names for part in ("--features", name)]
        assert score(*options, model=one_input, output=tmp_path / f"out{i}").code == 0
        row = pq.read_table(tmp_path / f"out{i}" / "1.parquet")["prediction"][3].as_py()
        assert row == (13.0 if i == 0 else 31.0)


def test_a_glob_in_an_odd_order_is_pointed_out(score: Any, one_input: Path, tmp_path: Path) -> None:
    columns = {"id": None, "a": None, "b": None, "f2": [1.0], "f1": [2.0]}
    shard(tmp_path / "odd" / "1.parquet", rows=1, **columns)
    done = score("--features", "f*", model=one_input, input=tmp_path / "odd")
    assert done.code == 0
    assert "taken in the table's order: f2, f1" in done.err
    assert sums(tmp_path / "out" / "1.parquet") == [21.0]


def test_rounding_is_said_and_shown_in_the_plan_for_each_type(
    score: Any, cli: Any, model: Path, lake: Path, tmp_path: Path
) -> None:
    shard(lake / "2.parquet", a=pa.array(range(10), pa.float64()))
    plan = cli("plan", "--model", model, "--input", lake, "--output", tmp_path / "out", "--json")
    (use,) = (row for row in plan.document["binding"] if row["column"] == "a")
    assert (use["column_type"], use["conversion"]) == ("float or double", "exact or rounded")
    assert "rounded from double to the nearest float32: a" in score().err


def test_files_of_other_input_in_the_output_are_counted(
    score: Any, cli: Any, lake: Path, tmp_path: Path
) -> None:
    assert score().code == 0
    shard(tmp_path / "later" / "9.parquet")
    assert score(input=tmp_path / "later").code == 0
    status = cli("status", tmp_path / "out", "--json").document
    assert status["shards"] == {"total": 1, "published": 1}
    assert status["other_files"] == 3
    assert "3 files of earlier runs" in cli("status", tmp_path / "out").out


def test_status_names_the_shards_that_failed(
    score: Any, cli: Any, lake: Path, tmp_path: Path
) -> None:
    truncate(lake / "2.parquet")
    score()
    shown = cli("status", tmp_path / "out").out
    assert "2 of 3 published" in shown
    assert "2.parquet: not a readable Parquet file" in shown
    assert shown.splitlines()[-1].split() == ["complete:", "no"]


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


def test_a_bug_is_70_and_says_that_running_again_is_safe(
    score: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.survey.discover", lambda *_: 1 / 0)
    done = score()
    assert done.code == 70
    assert "ZeroDivisionError" in done.err
    assert "running again is safe" in done.err


def test_without_arguments_the_help_is_shown(cli: Any) -> None:
    done = cli()
    assert done.code == 0
    assert "Usage: shardscore" in done.out
