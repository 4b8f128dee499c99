"""Settings: the command line before the TOML file, paths, and who is to blame for a wrong value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.settings import NOWHERE, job_from, planned_from
from pipeline.errors import ConfigError, UsageError
from pipeline.job import Job

MINIMAL = 'model = "m.keras"\ninput = "lake"\noutput = "out"\n'

FromToml = Callable[..., Job]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "job.toml"


@pytest.fixture
def from_toml(config: Path) -> FromToml:
    """Builds a job from the text of a TOML file and values of the command line."""

    def build(text: str, **given: Any) -> Job:
        config.write_text(text, encoding="utf-8")
        return job_from(given, config)

    return build


# Precedence


def test_the_command_line_alone_makes_a_job() -> None:
    made = job_from({"model": "m", "input": ["a", "b"], "output": "o", "batch_size": 7}, None)
    assert (made.model, made.input, made.output, made.batch_size) == ("m", ("a", "b"), "o", 7)


def test_the_command_line_comes_before_the_file(from_toml: FromToml) -> None:
    text = MINIMAL + 'batch_size = 5\nmethod = "predict"\nkeep = ["id"]\n'
    made = from_toml(text, batch_size=6, keep=["all"], method=None)
    assert (made.batch_size, made.keep, made.method) == (6, ("all",), "predict")


def test_the_command_line_mends_a_wrong_value_of_the_file(from_toml: FromToml) -> None:
    assert from_toml(MINIMAL + "batch_size = 0\n", batch_size=6).batch_size == 6


def test_each_value_of_the_file_reaches_the_job(from_toml: FromToml) -> None:
    made = from_toml(
        MINIMAL
        + f'model_sha256 = "{"a" * 64}"\n'
        + 'imports = ["my.layers"]\nkeep = "none"\nbatch_size = "auto"\nsmall_shard_rows = 0\n'
        + "follow_links = true\n"
        + "rescore_changed = true\ncheckpoint_every = 1.5\nshard_index = 0\nshard_count = 2\n"
        + 'plan_id = "a-1"\n'
        + 'workers = 2\nthreads = "auto"\n'
        + 'time_unit = "ms"\nallow_lossy = ["a*"]\n'
        + 'preprocess = "h:before"\npostprocess = "h:after"\n'
        + 'labels = ["no", "yes"]\ntop_k = 1\nlabel_output = "y"\nmax_bad_rows = "1.5%"\n'
        + 'nonfinite = "bad"\nbaseline = "s3://lake/before"\nmax_drift = 0.2\n'
        + 'method = "predict_step"\non_bad_row = "null"\n[inputs]\nx = ["a", "b*"]\ny = "c"\n'
        + "[inputs.z]\nlength = 5\n"
    )
    left_out = {"model", "input", "output", "features", "inputs"}
    assert {name: table.said for name, table in made.inputs.items()} == {
        "x": {},
        "y": {},
        "z": {"length": 5},
    }
    assert made.model_dump(exclude=left_out) == {
        "model_sha256": "a" * 64,
        "imports": ("my.layers",),
        "keep": ("none",),
        "time_unit": "ms",
        "allow_lossy": ("a*",),
        "preprocess": "h:before",
        "postprocess": "h:after",
        "labels": ("no", "yes"),
        "top_k": 1,
        "label_output": "y",
        "max_bad_rows": "1.5%",
        "nonfinite": "bad",
        "batch_size": "auto",
        "small_shard_rows": 0,
        "method": "predict_step",
        "on_bad_row": "null",
        "follow_links": True,
        "rescore_changed": True,
        "checkpoint_every": 1.5,
        "shard_index": 0,
        "shard_count": 2,
        "plan_id": "a-1",
        "workers": 2,
        "threads": "auto",
        "baseline": "s3://lake/before",
        "max_drift": 0.2,
    }


# Paths


def test_relative_paths_of_the_file_are_relative_to_the_file(
    from_toml: FromToml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    made = from_toml(
        'model = "m.keras"\ninput = ["lake", "more/*.parquet", "../up"]\noutput = "out"\n'
    )
    assert made.model == f"{tmp_path}/m.keras"
    assert made.output == f"{tmp_path}/out"
    assert made.input[:2] == (f"{tmp_path}/lake", f"{tmp_path}/more/*.parquet")
    assert Path(made.input[2]).resolve() == tmp_path.parent / "up"


def test_dots_lead_from_where_the_file_is_also_if_its_folder_is_a_link(tmp_path: Path) -> None:
    real = tmp_path / "releases" / "7"
    real.mkdir(parents=True)
    (tmp_path / "current").symlink_to(real)
    (real / "job.toml").write_text('model = "m"\ninput = "../lake"\noutput = "out"\n')
    made = job_from({}, tmp_path / "current" / "job.toml")
    assert Path(made.input[0]).resolve() == tmp_path / "releases" / "lake"


def test_a_file_named_by_a_relative_path_makes_absolute_ones(
    from_toml: FromToml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_toml(MINIMAL)
    monkeypatch.chdir(tmp_path)
    assert job_from({}, Path("job.toml")).model == f"{tmp_path}/m.keras"


def test_paths_of_the_command_line_and_absolute_ones_stay_as_they_are(from_toml: FromToml) -> None:
    made = from_toml('model = "/m.keras"\ninput = "/lake/*.pq"\noutput = "o"\n', output="here")
    assert (made.model, made.input, made.output) == ("/m.keras", ("/lake/*.pq",), "here")


def test_an_address_with_a_scheme_stays_as_it_is(from_toml: FromToml) -> None:
    made = from_toml('model = "m"\ninput = ["s3://bucket/lake"]\noutput = "gs://bucket/out"\n')
    assert (made.input, made.output) == (("s3://bucket/lake",), "gs://bucket/out")


@pytest.mark.parametrize("text", ['["hooks.py", "my.layers"]', '"hooks.py"'])
def test_a_module_that_is_a_file_is_relative_to_the_file_too(
    from_toml: FromToml, tmp_path: Path, text: str
) -> None:
    assert from_toml(f"{MINIMAL}imports = {text}\n").imports[0] == f"{tmp_path}/hooks.py"


def test_a_folder_that_looks_like_a_glob_does_not_become_part_of_one(tmp_path: Path) -> None:
    config = tmp_path / "job[1]" / "job.toml"
    config.parent.mkdir()
    config.write_text('model = "m"\ninput = "lake/*.parquet"\noutput = "out"\n')
    made = job_from({}, config)
    assert made.input == (f"{tmp_path}/job[[]1]/lake/*.parquet",)
    assert made.model == f"{tmp_path}/job[1]/m"


# A wrong file


@pytest.mark.parametrize("place", ["missing.toml", ".", "job.toml/below"])
def test_a_file_that_cannot_be_read_is_a_config_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "job.toml").write_text(MINIMAL)
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        job_from({}, tmp_path / place)
    assert caught.value.path == str(tmp_path / place)


@pytest.mark.parametrize(
    "data", [b"model = ", b"model: m\n", b'model = "a"\nmodel = "b"\n', b'model = "\xff"\n']
)
def test_a_file_that_is_no_toml_is_a_config_error(config: Path, data: bytes) -> None:
    config.write_bytes(data)
    with pytest.raises(ConfigError, match="not TOML") as caught:
        job_from({}, config)
    assert caught.value.path == str(config)
    assert caught.value.received


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("batchsize", "did you mean 'batch_size'?"),
        ("on-bad-row", "did you mean 'on_bad_row'?"),
        ("feature", "did you mean 'features'?"),
        ("qqqq", "remove it"),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(
    from_toml: FromToml, config: Path, key: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=f"unknown key: {key}") as caught:
        from_toml(f"{MINIMAL}{key} = 1\n")
    assert caught.value.path == str(config)
    assert caught.value.hint == hint
    assert "batch_size" in (caught.value.expected or "")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("batch_size = 0", "batch_size"),
        ("batch_size = 1.5", "batch_size"),
        ('batch_size = "many"', "batch_size"),
        ("batch_size = true", "batch_size"),
        ("small_shard_rows = -1", "small_shard_rows"),
        ('method = "fast"', "method"),
        ("features = [1]", "features"),
        ("keep = []", "keep"),
        ('keep = ["all", "id"]', "keep"),
        ("inputs = { x = 1 }", "inputs"),
        ('features = ["a"]\ninputs = { x = "a" }', "features"),
    ],
)
def test_a_wrong_value_of_the_file_is_a_config_error(
    from_toml: FromToml, config: Path, text: str, field: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        from_toml(f"{MINIMAL}{text}\n")
    assert caught.value.path == str(config)
    assert field in str(caught.value)


@pytest.mark.parametrize("field", ["model", "input", "output"])
@pytest.mark.parametrize("value", ['""', "5", "{}"])
def test_a_wrong_path_of_the_file_is_a_config_error(
    from_toml: FromToml, config: Path, field: str, value: str
) -> None:
    paths = {"model": '"m.keras"', "input": '"lake"', "output": '"out"', field: value}
    with pytest.raises(ConfigError, match=field) as caught:
        from_toml("".join(f"{name} = {path}\n" for name, path in paths.items()))
    assert caught.value.path == str(config)


# A wrong command line


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"batch_size": 0}, "--batch-size"),
        ({"small_shard_rows": -1}, "--small-shard-rows"),
        ({"method": "fast"}, "--method"),
        ({"model_sha256": "abc"}, "--model-sha256"),
        ({"imports": [""]}, "--import:"),
        ({"model": ""}, "--model"),
        ({"keep": ["all", "id"]}, "keep"),
    ],
)
def test_a_wrong_value_of_the_command_line_is_a_usage_error(
    from_toml: FromToml, given: dict[str, Any], named: str
) -> None:
    with pytest.raises(UsageError) as caught:
        from_toml(MINIMAL, **given)
    assert named in caught.value.message
    assert caught.value.path is None


def test_features_of_the_command_line_take_the_place_of_inputs_of_the_file(
    from_toml: FromToml,
) -> None:
    job = from_toml(MINIMAL + '[inputs]\nx = "a"\n', features=["a"])
    assert (job.features, job.inputs) == (("a",), {})


@pytest.mark.parametrize("missing", ["model", "input", "output"])
def test_a_missing_option_is_a_usage_error_that_tells_both_places(
    from_toml: FromToml, missing: str
) -> None:
    lines = [line for line in MINIMAL.splitlines() if not line.startswith(missing)]
    with pytest.raises(UsageError, match=f"--{missing} is missing") as caught:
        from_toml("\n".join(lines))
    assert "TOML" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="--model, --input and --output are missing"):
        job_from({}, None)


def test_a_plan_can_do_without_an_output(config: Path) -> None:
    given = {"model": "m", "input": ["i"], "shard_index": None, "shard_count": None}
    assert planned_from(given, None)[0].output == NOWHERE
    job, shares = planned_from({**given, "shard_count": 4}, None)
    assert (job.output, shares) == (NOWHERE, 4)
    config.write_text(MINIMAL)
    assert planned_from({**given, "model": None}, config)[0].output == str(config.parent / "out")


def test_labels_may_be_a_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("no\nyes\n")
    config = tmp_path / "job.toml"
    config.write_text(MINIMAL + 'labels = "labels.txt"\n')
    assert job_from({}, config).labels == ("no", "yes")
    assert job_from({"labels": str(tmp_path / "labels.txt")}, config).labels == ("no", "yes")
