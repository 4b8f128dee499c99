"""`init`: what it writes is a job that `score --config` runs, as soon as the user has decided what
the model and the data do not tell."""

from __future__ import annotations

import json
import re
import subprocess
import sys
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
from tests.golden_texts import assert_golden

_COMMENTED = re.compile(r'# (?:"(?:[^"\\]|\\.)*"|[\w-]+) = ')


def decided(text: str, *, but: int | None = None) -> str:
    """A job file with the lines below each DECIDE as they are proposed; all but one of them."""
    lines, number, place = text.splitlines(), -1, 0
    while place < len(lines):
        if lines[place].startswith("# DECIDE: "):
            number += 1
            while not _COMMENTED.match(lines[place]):
                place += 1
            end = place if not lines[place].endswith("[") else lines.index("# ]", place)
            if number != but:
                lines[place : end + 1] = [line[2:] for line in lines[place : end + 1]]
            place = end
        place += 1
    return "\n".join(lines) + "\n"


@pytest.fixture
def draft(cli: Any, tmp_path: Path) -> Any:
    """Runs `init` into job.toml; gives its text. While a decision is left, `plan` refuses it."""

    def run(*options: object) -> str:
        path = tmp_path / "job.toml"
        done = cli("init", "--output", path, *options)
        assert done.code == 0, done.err
        text = path.read_text()
        assert text.endswith("\n")
        count = text.count("# DECIDE: ")
        assert f"{count} decision" in done.err if count else "next: " in done.err
        assert f"shardscore plan --config {path}" in done.err
        for number in range(count):
            path.write_text(decided(text, but=number))
            refused = cli("plan", "--config", path)
            assert refused.code in {65, 78}
            assert "to do:" in refused.err
        path.write_text(text)
        return text

    return run


@pytest.fixture
def init(cli: Any, draft: Any, tmp_path: Path) -> Any:
    """Runs `init`, decides as it proposes, runs `score`; gives the text and what is published."""

    def run(*options: object) -> tuple[str, pa.Table]:
        drafted = draft(*options)
        (tmp_path / "draft.toml").write_text(drafted)
        text = decided(drafted)
        (tmp_path / "job.toml").write_text(text)
        scored = cli("score", "--config", tmp_path / "job.toml")
        assert scored.code == 0, scored.err
        return text, pq.read_table(tmp_path / "scored")

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
    assert "#   double to float32: price" in text
    assert said["inputs"]["booked"] == {"columns": ["booked"], "unit": "days"}
    assert said["inputs"]["price"] == "price"
    assert "in what were times counted in the training? days is a guess" in text


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
        "photo": {"columns": ["photo"], "image": {"scale": "none"}},
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
    assert "are these its columns, in the order of the training?" in text
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


PARTS = [f"{kind} {what}" for kind in ("mean", "worst") for what in ("radius", "area", "texture")]
PARTS += [f"{what} error" for what in ("smoothness", "compactness", "concave points", "symmetry")]


def stable(path: Path) -> str:
    """The text of a job file, without what differs from run to run and its last line break."""
    return re.sub("[0-9a-f]{64}", "DIGEST", path.read_text()).removesuffix("\n")


def test_a_vector_of_many_columns_is_drafted_in_the_tables_order(init: Any, tmp_path: Path) -> None:
    import keras

    model = keras.Sequential(
        [keras.Input((10,), name="sizes"), keras.layers.Dense(1, use_bias=False)]
    )
    model.set_weights([10.0 ** np.arange(10).reshape(10, 1)])
    model.save(tmp_path / "tumour.keras")
    columns = {name: [1.0, 2.0] for name in PARTS}
    day = pa.array([datetime(2026, 1, 1)] * 2, pa.timestamp("us"))
    shard(
        tmp_path / "patients" / "1.parquet",
        **{"id": None, "a": None, "b": None, "patient": ["p", "q"], **columns, "seen_on": day},
    )
    text, scored = init("--model", tmp_path / "tumour.keras", "--input", tmp_path / "patients")
    assert tomllib.loads(text)["inputs"] == {"sizes": PARTS}
    assert tomllib.loads(text)["allow_lossy"] == ["*"]
    assert scored["prediction"].to_pylist() == [
        pytest.approx(1111111111),
        pytest.approx(2222222222),
    ]
    assert scored.column_names == ["patient", "seen_on", "prediction"]
    assert_golden("init/vector", stable(tmp_path / "draft.toml"))


def test_how_images_were_prepared_is_left_to_the_user(draft: Any, cli: Any, tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    pixels = keras.Input((8, 8, 1), name="pixels")
    scores = keras.layers.Dense(10, "softmax")(keras.layers.Flatten()(pixels))
    keras.Model(pixels, scores).save(tmp_path / "reader.keras")
    png = tf.io.encode_png(np.full((8, 8, 1), 255, np.uint8)).numpy()
    shard(tmp_path / "scans" / "1.parquet", rows=1, a=None, b=None, scan=[png])
    text = draft("--model", tmp_path / "reader.keras", "--input", tmp_path / "scans")
    assert_golden("init/images", stable(tmp_path / "job.toml"))
    for scale, shown in (("none", "0..255"), ("0..1", "0..1"), ("-1..1", "-1..1")):
        chosen = decided(text).replace('scale = "none"', f'scale = "{scale}"')
        (tmp_path / "job.toml").write_text(chosen)
        plan = cli("plan", "--config", tmp_path / "job.toml")
        assert plan.code == 0, plan.err
        assert f"decoded, {shown}; if not 8 x 8: stretch, bilinear" in " ".join(plan.out.split())


def test_two_inputs_of_other_names_are_drafted_at_once_the_likeliest_first(
    draft: Any, cli: Any, tmp_path: Path
) -> None:
    import keras

    body = keras.Input((), dtype="string", name="body")
    age = keras.Input((1,), name="age_hours")
    word = keras.layers.StringLookup(vocabulary=["help"])(body)
    word = keras.layers.Reshape((1,))(keras.layers.Rescaling(1.0)(word))
    joined = keras.layers.Concatenate()([word, age])
    team = keras.layers.Dense(4, "softmax", name="team")(joined)
    urgency = keras.layers.Dense(1, name="urgency")(joined)
    outputs = {"team": team, "urgency": urgency}
    keras.Model({"body": body, "age_hours": age}, outputs).save(tmp_path / "triage.keras")
    shard(
        tmp_path / "tickets" / "1.parquet",
        id=None,
        a=None,
        b=None,
        ticket=list(range(10)),
        opened=pa.array([datetime(2026, 1, 1)] * 10, pa.timestamp("us")),
        text=["help"] * 10,
        hours_open=list(range(10)),
        customer=["acme"] * 10,
    )
    options = ("--model", tmp_path / "triage.keras", "--input", tmp_path / "tickets")
    text = decided(draft(*options))
    # Of two columns of strings the name tells nothing: none is proposed.
    assert tomllib.loads(text)["inputs"] == {"body": "COLUMN", "age_hours": "hours_open"}
    assert_golden("init/two_inputs", stable(tmp_path / "job.toml"))
    (tmp_path / "job.toml").write_text(text)
    assert cli("plan", "--config", tmp_path / "job.toml").code == 78
    (tmp_path / "job.toml").write_text(text.replace("COLUMN", "text"))
    assert cli("score", "--config", tmp_path / "job.toml").code == 0
    told = cli("init", *options, "-o", tmp_path / "again.toml", "--json")
    assert told.code == 0
    decisions = {one["name"]: (one["value"], one["others"]) for one in told.document["decisions"]}
    assert decisions == {
        "body": (None, ["text", "customer"]),
        "age_hours": ("hours_open", ["ticket", "opened"]),
    }
    assert told.document["next"] == f"shardscore plan --config {tmp_path / 'again.toml'}"


def test_lists_of_any_length_may_be_sequences(draft: Any, cli: Any, tmp_path: Path) -> None:
    import keras

    clicks = keras.Input((3,), dtype="int32", name="clicks")
    total = keras.ops.sum(keras.ops.cast(clicks, "float32"), axis=1, keepdims=True)
    keras.Model(clicks, total).save(tmp_path / "sums.keras")
    lists = pa.array([[1, 2, 3]] * 4 + [[5]] * 6, pa.list_(pa.int64()))
    shard(tmp_path / "lake" / "1.parquet", a=None, b=None, clicked=lists)
    text = draft("--model", tmp_path / "sums.keras", "--input", tmp_path / "lake")
    text = text.replace("\n#   ", " ")
    assert "lists of any length: those without 3 values are bad rows" in text
    # As they are, most are bad rows: then it is likely the job that is wrong.
    (tmp_path / "job.toml").write_text(decided(text))
    done = cli("score", "--config", tmp_path / "job.toml", "--output", tmp_path / "none")
    assert done.code == 65
    assert "raise --max-bad-rows" in done.err
    padded = re.search(r"in the training: (\{.*\})", text)
    assert padded is not None
    chosen = decided(text).replace('clicks = "clicked"', f"clicks = {padded[1]}")
    (tmp_path / "job.toml").write_text(chosen)
    assert cli("score", "--config", tmp_path / "job.toml").code == 0
    scored = pq.read_table(tmp_path / "scored" / "1.parquet")
    assert scored["prediction"].to_pylist() == [6.0] * 4 + [5.0] * 6


def test_an_input_that_no_column_fits_has_a_line_that_is_refused(
    draft: Any, cli: Any, model: Path, tmp_path: Path
) -> None:
    shard(tmp_path / "lake" / "1.parquet", id=None, a=pa.array(["x"] * 10))
    text = draft("--model", model, "--input", tmp_path / "lake")
    assert "#   or, since" not in text
    assert "which column feeds it? b is a guess, by its type alone" in text
    assert "a column has a type that its input cannot take; column a: string" in text
    shard(tmp_path / "lake" / "1.parquet", id=None, a=None, b=None, word=["x"] * 10)
    text = decided(draft("--model", model, "--input", tmp_path / "lake", "--force"))
    assert tomllib.loads(text)["inputs"] == {"a": "COLUMN", "b": "COLUMN"}
    assert "#   columns: word (string)" in text
    (tmp_path / "job.toml").write_text(text)
    assert cli("plan", "--config", tmp_path / "job.toml").code == 78


@pytest.mark.parametrize(
    ("width", "question"),
    [
        (2, "which 2 of these 3 columns feed it, in the order of the training?"),
        (4, "which 4 columns feed it, in the order of the training? Of 3 alone the types fit"),
    ],
)
def test_all_columns_that_fit_a_vector_are_listed_where_their_number_does_not(
    width: int, question: str, draft: Any, cli: Any, tmp_path: Path
) -> None:
    import keras

    vector = keras.Input((width,), name="vector")
    keras.Model(vector, keras.layers.Dense(1)(vector)).save(tmp_path / "m.keras")
    shard(tmp_path / "lake" / "1.parquet", id=None, c=pa.array([1.0] * 10, pa.float32()))
    text = draft("--model", tmp_path / "m.keras", "--input", tmp_path / "lake")
    assert question in text
    assert '# vector = ["a", "b", "c"]' in text
    (tmp_path / "job.toml").write_text(decided(text))
    refused = cli("plan", "--config", tmp_path / "job.toml")
    assert refused.code == 65
    assert "the columns do not fit the model's input 'vector'" in refused.err


def test_a_model_that_does_not_say_what_it_takes_has_a_line_for_it(
    init: Any, tmp_path: Path
) -> None:
    module = tmp_path / "silent_models.py"
    module.write_text(SILENT)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport silent_models\n"
    saved = subprocess.run(
        [sys.executable, "-c", f"{code}silent_models.Silent().save({str(tmp_path / 'm.keras')!r})"],
        capture_output=True,
        check=False,
    )
    assert saved.returncode == 0, saved.stderr
    shard(tmp_path / "lake" / "1.parquet", id=None, word=["x"] * 10)
    options = ("--model", tmp_path / "m.keras", "--import", module, "--input", tmp_path / "lake")
    text, scored = init(*options)
    said = tomllib.loads(text)["inputs"]
    assert said == {"features": {"columns": ["a", "b"], "dtype": "float32", "shape": [2]}}
    assert "#   columns: a (float), b (float), word (string)" in text
    assert scored.num_rows == 10


SILENT = """
import keras


@keras.saving.register_keras_serializable("init")
class Silent(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(1)
        self.dense.build((None, 2))
        self.built = True

    def call(self, x):
        return self.dense(x)
"""


def test_images_of_whole_numbers_have_no_scale_to_decide(init: Any, tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    photo = keras.Input((4, 4, 3), name="photo", dtype="uint8")
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1.0)(photo))
    keras.Model(photo, pooled).save(tmp_path / "m.keras")
    png = tf.io.encode_png(np.full((4, 4, 3), 9, np.uint8)).numpy()
    shard(tmp_path / "lake" / "1.parquet", a=None, b=None, photo=[png] * 10)
    text, scored = init("--model", tmp_path / "m.keras", "--input", tmp_path / "lake")
    assert "DECIDE" not in text
    assert tomllib.loads(text)["inputs"]["photo"] == {"columns": ["photo"], "image": True}
    assert scored["prediction"].to_pylist() == [[9, 9, 9]] * 10


def test_images_of_any_size_have_a_size_to_decide(draft: Any, tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    layers = [keras.layers.GlobalAveragePooling2D()]
    keras.Sequential([keras.Input((None, None, 3)), *layers]).save(tmp_path / "m.keras")
    png = tf.io.encode_png(np.full((4, 4, 3), 9, np.uint8)).numpy()
    shard(tmp_path / "lake" / "1.parquet", a=None, b=None, photo=[png] * 10)
    text = decided(draft("--model", tmp_path / "m.keras", "--input", tmp_path / "lake"))
    (said,) = tomllib.loads(text)["inputs"].values()
    assert said["image"] == {"size": [224, 224], "scale": "none"}


def test_the_file_and_the_result_do_not_share_standard_output(
    cli: Any, model: Path, lake: Path
) -> None:
    assert cli("init", "--model", model, "--input", lake, "-o", "-", "--json").code == 64


def test_the_help_says_how_it_ends_with_decisions_left(cli: Any) -> None:
    words = " ".join(cli("init", "--help").out.split())
    assert "Ends with 0 if the file is written, whether decisions are left or not" in words


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
    assert set(tomllib.loads(done.out)) == {
        *("model", "input", "output", "inputs", "on_bad_row", "max_bad_rows"),
    }


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
