"""The job: what a valid one is, what decides the bytes, and what contradicts an output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.input_options import ImageOptions
from pipeline.job import FedInput, Job, JobIdentity, RunRecord, disagreements, small_method

NEEDED: dict[str, Any] = {"model": "m.keras", "input": ["lake"], "output": "out"}
SHA = "a" * 64

IDENTITY = JobIdentity(
    model_sha256=SHA,
    code_sha256="",
    binding={"features": ("a", "b"), "other": ("c",)},
    keep=("unused",),
    batch_size=32,
    small_shard_rows=32,
    method="predict_on_batch",
    small_method="predict",
    on_bad_row="fail",
    predictions={"y": "float", "z": "int8"},
)


def job(**values: Any) -> Job:
    return Job(**{**NEEDED, **values})


def record(**decided: Any) -> RunRecord:
    """What run.json holds of a job that left all open, but for what is given."""
    asked = {name: decided.pop(name, empty) for name, empty in (("features", ()), ("inputs", {}))}
    return RunRecord(
        identity=IDENTITY.model_copy(update=decided),
        asked_features=asked["features"],
        asked_inputs=asked["inputs"],
        probe="they agree",
        created_with={},
    )


# Validity


def test_a_job_needs_a_model_an_input_and_an_output() -> None:
    made = job()
    assert (made.model, made.input, made.output) == ("m.keras", ("lake",), "out")
    assert (made.batch_size, made.method, made.on_bad_row) == ("auto", "auto", "fail")
    assert (made.keep, made.small_shard_rows) == (("unused",), None)


@pytest.mark.parametrize("missing", NEEDED)
def test_a_job_without_what_it_needs_does_not_exist(missing: str) -> None:
    with pytest.raises(ValidationError, match=missing):
        Job(**{name: value for name, value in NEEDED.items() if name != missing})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", ""),
        ("model", 5),
        ("model", None),
        ("model_sha256", "abc"),
        ("model_sha256", "g" * 64),
        ("model_sha256", SHA + "\n"),
        ("imports", [""]),
        ("imports", [3]),
        ("input", []),
        ("input", [""]),
        ("input", ""),
        ("input", {"a": 1}),
        ("output", ""),
        ("features", [""]),
        ("features", 3),
        ("inputs", ["a"]),
        ("inputs", {"x": 3}),
        ("inputs", {"x": [""]}),
        ("keep", []),
        ("keep", [""]),
        ("batch_size", 0),
        ("batch_size", -1),
        ("batch_size", 10_000_001),
        ("batch_size", 1.5),
        ("batch_size", "many"),
        ("batch_size", True),
        ("batch_size", None),
        ("small_shard_rows", -1),
        ("small_shard_rows", "few"),
        ("small_shard_rows", True),
        ("method", "predict_fast"),
        ("on_bad_row", "ignore"),
        ("max_bad_rows", -1),
        ("max_bad_rows", 1.5),
        ("max_bad_rows", True),
        ("max_bad_rows", "1"),
        ("max_bad_rows", "-1%"),
        ("max_bad_rows", "%"),
        ("nonfinite", "drop"),
        ("time_unit", "hours"),
        ("allow_lossy", [""]),
        ("preprocess", "hooks"),
        ("preprocess", "hooks:"),
        ("postprocess", ":after"),
        ("postprocess", "hooks:not a name"),
        ("labels", [""]),
        ("top_k", 0),
        ("top_k", True),
        ("inputs", {"x": {"unit": "hours"}}),
        ("inputs", {"x": {"length": 0}}),
        ("inputs", {"x": {"truncate": "middle"}}),
        ("inputs", {"x": {"image": {"size": [8]}}}),
        ("inputs", {"x": {"image": {"size": [0, 8]}}}),
        ("inputs", {"x": {"image": 5}}),
        ("inputs", {"x": {"unknown": 1}}),
        ("unknown", 1),
    ],
)
def test_a_wrong_value_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        job(**{field: value})
    assert {error["loc"][0] for error in caught.value.errors()} == {field}


@pytest.mark.parametrize("word", ["unused", "all", "none"])
def test_a_word_for_keep_stands_alone(word: str) -> None:
    assert job(keep=word).keep == (word,)
    with pytest.raises(ValidationError, match=f"'{word}' alone"):
        job(keep=["id", word])


def test_features_and_inputs_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="exclude each other"):
        job(features=["a"], inputs={"x": ["a"]})


@pytest.mark.parametrize("field", ["imports", "input", "features", "keep"])
def test_one_name_stands_for_a_list_of_one(field: str) -> None:
    assert getattr(job(**{field: "a"}), field) == ("a",)


def test_one_column_stands_for_a_list_of_one() -> None:
    assert job(inputs={"x": "a", "y": ["b", "c*"]}).input_columns == {"x": ("a",), "y": ("b", "c*")}


def test_a_table_without_columns_takes_the_column_of_the_inputs_name() -> None:
    made = job(inputs={"x": {"unit": "s"}, "photo": {"columns": "png", "image": True}})
    assert made.input_columns == {"x": ("x",), "photo": ("png",)}
    assert made.inputs["photo"].image == ImageOptions()


def test_the_code_of_a_job_is_its_imports_and_its_hooks() -> None:
    made = job(
        imports="layers", preprocess="hooks:before", postprocess="/a/b.py:after", model="m.keras"
    )
    assert made.modules == ("layers", "hooks", "/a/b.py")
    assert job(preprocess="hooks:before", postprocess="hooks:after").modules == ("hooks",)


def test_the_output_that_labels_are_about_needs_labels() -> None:
    with pytest.raises(ValidationError, match="labels or top_k"):
        job(label_output="y")


def test_a_path_stands_for_its_text() -> None:
    made = job(model=Path("m.keras"), input=[Path("lake"), "more"], output=Path("out"))
    assert (made.model, made.input, made.output) == ("m.keras", ("lake", "more"), "out")
    assert job(input=Path("lake")).input == ("lake",)


def test_a_job_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        job().batch_size = 5  # type: ignore[misc]


# Identity

FIRST_FINGERPRINT = "442769cbf22ffd8cd9417bd7fc8433b9b4686c6f85273b8e0c38bf7b84c792b2"

CHANGES: dict[str, list[Any]] = {
    "model_sha256": ["b" * 64],
    "code_sha256": ["c" * 64],
    "binding": [
        {"features": ("b", "a"), "other": ("c",)},
        {"features": ("a", "b")},
        {"features": ("a", "b"), "another": ("c",)},
    ],
    "keep": [("all",), ("unused", "id")],
    "batch_size": [33],
    "small_shard_rows": [0],
    "method": ["predict_step"],
    "small_method": ["predict_on_batch"],
    "on_bad_row": ["null"],
    "predictions": [{"y": "float"}, {"y": "double", "z": "int8"}],
    "fed": [(FedInput(name="a", shape=(2,), dtype="int64"),)],
    "inputs": [{"x": {"unit": "s"}}, {"x": {"length": 3}}],
    "time_unit": ["ms"],
    "allow_lossy": [("a",)],
    "preprocess": ["hooks:before"],
    "postprocess": ["hooks:after"],
    "labels": [("no", "yes")],
    "top_k": [3],
    "label_output": ["y"],
    "nonfinite": ["bad"],
}


def test_each_field_of_the_identity_is_known_here() -> None:
    assert set(CHANGES) == set(JobIdentity.model_fields) - {"format"}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field in CHANGES for value in CHANGES[field]]
)
def test_the_fingerprint_is_sensitive_to_each_field(field: str, value: Any) -> None:
    assert IDENTITY.model_copy(update={field: value}).fingerprint != IDENTITY.fingerprint


def test_the_fingerprint_survives_storage() -> None:
    stored = record().model_dump_json()
    assert RunRecord.model_validate_json(stored).identity.fingerprint == IDENTITY.fingerprint


def test_the_fingerprint_does_not_depend_on_the_order_of_the_inputs() -> None:
    turned = dict(reversed(IDENTITY.binding.items()))
    assert IDENTITY.model_copy(update={"binding": turned}).fingerprint == IDENTITY.fingerprint


def test_the_fingerprint_of_an_output_outlives_what_later_versions_can_be_told() -> None:
    # Taken with the first format, which knew none of the fields that have a default now.
    assert IDENTITY.fingerprint == FIRST_FINGERPRINT


def test_a_record_of_another_format_is_refused() -> None:
    with pytest.raises(ValidationError):
        JobIdentity.model_validate({**IDENTITY.model_dump(), "format": 2})


# Continuing an output


def differing(asked: Job, made: RunRecord, model: str = SHA, code: str = "") -> list[str]:
    return list(disagreements(asked, model, code, made))


def test_a_job_that_leaves_all_open_continues_what_it_began() -> None:
    assert differing(job(), record()) == []


@pytest.mark.parametrize(
    "made",
    [
        record(batch_size=1000, small_shard_rows=1000),
        record(method="predict_step"),
        record(method="predict_on_batch", small_method="predict_on_batch"),
        record(features=("a", "b")),
        record(inputs={"features": ("a", "b")}),
    ],
    ids=["batch size", "proved method", "chosen method", "features", "inputs"],
)
def test_what_a_job_leaves_open_contradicts_nothing(made: RunRecord) -> None:
    assert differing(job(), made) == []


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        (job(batch_size=32), record()),
        (job(small_shard_rows=32), record()),
        (job(small_shard_rows=0), record(small_shard_rows=0)),
        (job(method="predict_step"), record(method="predict_step", small_method="predict_step")),
        (job(keep=["id", "x*"]), record(keep=("id", "x*"))),
        (job(on_bad_row="null"), record(on_bad_row="null")),
        (job(features=["a*"]), record(features=("a*",))),
        (job(inputs={"features": ["a*"]}), record(inputs={"features": ("a*",)})),
    ],
)
def test_asking_again_for_what_was_asked_contradicts_nothing(asked: Job, made: RunRecord) -> None:
    assert differing(asked, made) == []


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (job(batch_size=64), ["batch_size"]),
        (job(small_shard_rows=0), ["small_shard_rows"]),
        (job(method="predict_on_batch"), ["small_method"]),
        (job(method="predict_step"), ["small_method", "method"]),
        (job(keep=["all"]), ["keep"]),
        (job(on_bad_row="quarantine"), ["on_bad_row"]),
        (job(features=["b", "a"]), ["features"]),
        (job(inputs={"features": ["b"]}), ["inputs"]),
        (job(keep=["none"], batch_size=64), ["keep", "batch_size"]),
    ],
)
def test_what_a_job_asks_otherwise_is_listed_by_name(asked: Job, named: list[str]) -> None:
    assert sorted(differing(asked, record())) == sorted(named)


def test_another_model_or_other_code_is_listed() -> None:
    assert differing(job(), record(), model="b" * 64) == ["model_sha256"]
    assert differing(job(), record(), code="c" * 64) == ["code_sha256"]


@pytest.mark.parametrize(
    ("asked", "made", "shown"),
    [
        (job(batch_size=64), record(), {"batch_size": ("32", "64")}),
        (job(keep=["id", "x*"]), record(), {"keep": ("unused", "id, x*")}),
        (job(features=["a", "b"]), record(), {"features": ("(none)", "a, b")}),
        (
            job(inputs={"x": ["a", "b"], "y": "c"}),
            record(inputs={"x": ("a",)}),
            {"inputs": ("x = a", "x = a, b; y = c")},
        ),
    ],
)
def test_a_contradiction_shows_what_was_and_what_is_asked(
    asked: Job, made: RunRecord, shown: dict[str, tuple[str, str]]
) -> None:
    assert disagreements(asked, SHA, "", made) == shown


def test_small_shards_go_to_predict_unless_a_method_is_named() -> None:
    assert small_method("auto") == "predict"
    assert small_method("predict_step") == "predict_step"


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"max_drift": 0.2}, "max_drift needs baseline"),
        ({"shard_index": 3, "shard_count": 3}, "with 3 shares the last is 2"),
        ({"shard_index": 0}, "go together"),
        ({"shard_count": 3}, "go together"),
    ],
    ids=str,
)
def test_values_that_mean_nothing_together_make_no_job(facts: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        job(**facts)
