"""Rows on which a model or a hook raises: found, set aside, and nothing else is changed by them."""

from __future__ import annotations

import importlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from pipeline import scorers
from pipeline.errors import (
    BadRowError,
    PredictFailedError,
    ScoringError,
    TooManyBadRowsError,
)
from pipeline.progress import Silent
from pipeline.stop import Stop
from tests.conformance.raising import (
    COLUMNS,
    Crowded,
    InPython,
    Picky,
    Root,
    features,
    letters,
    predictions,
    published,
    run,
    saved,
    write,
)
from tests.conftest import files_below

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline.errors import ShardscoreError
    from pipeline.records import RunReport

METHODS = ["predict_on_batch", "predict", "predict_step"]


@pytest.fixture(scope="module")
def picky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("picky"), Picky())


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The calls of a model that scorers make, by method; the probe's are not among them."""
    for name in ("measure", "sample"):  # or they would take the names that count
        importlib.import_module(f"pipeline.{name}")
    made: list[str] = []

    def counted(name: str) -> None:
        real = getattr(scorers, name)
        monkeypatch.setattr(scorers, name, lambda *a: made.append(name) or real(*a))

    counted("call_step")
    counted("call_predict")
    counted("call_packed")
    return made


def error_of(report: RunReport) -> ShardscoreError:
    (failed,) = report.failed
    assert failed.error is not None
    return failed.error


@pytest.mark.parametrize("method", METHODS)
def test_three_rows_of_8192_cost_under_a_hundred_calls_and_nothing_else(
    method: Any, picky: Path, tmp_path: Path, calls: list[str]
) -> None:
    bad = [5, 4_095, 8_191]
    values = features(8_192, bad)
    write(tmp_path / "in" / "a.parquet", values)
    report = run(picky, tmp_path, method=method, batch_size=8_192)
    assert report.state == "finished", report.failed
    assert (report.counts.scored, report.counts.quarantined) == (8_189, 3)
    assert len(calls) < 100
    dead = letters(tmp_path)
    assert dead["quarantine_row"].to_pylist() == dead["id"].to_pylist() == bad
    assert dead["quarantine_column"].to_pylist() == [None] * 3
    assert (
        dead["quarantine_reason"][1]
        .as_py()
        .startswith("assertion failed: lengths are positive. Condition x >= 0 did not hold")
    )
    # The others are scored in one call, as a batch of just these rows.
    good = np.delete(values, bad, axis=0)
    model = keras.models.load_model(picky, compile=False)
    truth = model.predict(good, batch_size=len(good), verbose=0)
    np.testing.assert_array_equal(predictions(published(tmp_path)), truth)


@pytest.mark.parametrize("small", [0, 1_000], ids=["streamed", "grouped"])
@pytest.mark.parametrize("method", ["auto", "predict", "predict_step"])
def test_bytes_are_those_of_a_run_in_which_the_rows_were_null(
    method: Any, small: int, picky: Path, tmp_path: Path
) -> None:
    bad = [0, 1, 2, 3, 4, 5, 6, 7, 40, 99]  # with batches of 8, the first has no good row
    values = features(100, bad)
    nulls = np.isin(np.arange(100), bad)
    chosen: dict[str, Any] = {"batch_size": 8, "method": method, "small_shard_rows": small}
    write(tmp_path / "raised" / "in" / "a.parquet", values)
    null = {name: pa.array(values[:, i], mask=nulls) for i, name in enumerate(COLUMNS)}
    write(tmp_path / "null" / "in" / "a.parquet", values, **null)
    for name in ("raised", "null"):
        report = run(picky, tmp_path / name, **chosen)
        assert report.state == "finished", report.failed
        assert report.counts.quarantined == len(bad)
    raised, read = published(tmp_path / "raised"), published(tmp_path / "null")
    assert raised.equals(read)
    assert letters(tmp_path / "raised")["id"].to_pylist() == bad


def test_null_keeps_the_row_in_its_place_with_the_reason(picky: Path, tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", features(50, [7, 30]))
    assert run(picky, tmp_path, on_bad_row="null", batch_size=16).counts.null_scored == 2
    table = published(tmp_path)
    assert table["id"].to_pylist() == list(range(50))
    assert [i for i, p in enumerate(table["prediction"].to_pylist()) if p is None] == [7, 30]
    reasons = table["bad_row_reason"].to_pylist()
    assert "lengths are positive" in reasons[30]


def test_bad_when_read_and_bad_to_the_model_are_told_apart_in_one_batch(
    picky: Path, tmp_path: Path
) -> None:
    values = features(60, [20, 22])
    holes = np.isin(np.arange(60), [19, 21])
    write(tmp_path / "in" / "a.parquet", values, f2=pa.array(values[:, 2], mask=holes))
    run(picky, tmp_path, batch_size=60)
    dead = letters(tmp_path)
    assert dead["quarantine_row"].to_pylist() == [19, 20, 21, 22]
    assert dead["quarantine_column"].to_pylist() == ["f2", None, "f2", None]
    assert published(tmp_path)["id"].to_pylist() == [i for i in range(60) if not 19 <= i <= 22]


@pytest.mark.parametrize("method", METHODS)
def test_the_policy_fail_names_the_first_row_in_few_calls(
    method: Any, picky: Path, tmp_path: Path, calls: list[str]
) -> None:
    write(tmp_path / "in" / "a.parquet", features(5_000, [1_500, 4_000]))
    report = run(picky, tmp_path, method=method, on_bad_row="fail", batch_size=1_000)
    error = error_of(report)
    assert isinstance(error, BadRowError)
    assert (error.row, error.column) == (1_500, None)
    assert "lengths are positive" in error.message
    assert "--on-bad-row quarantine" in (error.hint or "")
    assert len(calls) <= 25


def test_what_python_code_in_the_graph_raises_is_the_reason_in_its_own_words(
    tmp_path: Path,
) -> None:
    write(tmp_path / "in" / "a.parquet", features(100, [64]))
    run(saved(tmp_path, InPython()), tmp_path, batch_size=50)
    assert letters(tmp_path)["quarantine_reason"].to_pylist() == ["ValueError: -65 is no length"]


def test_shards_that_share_a_call_keep_their_good_rows_and_the_call_is_made_once(
    picky: Path, tmp_path: Path, calls: list[str]
) -> None:
    for i in range(6):
        write(tmp_path / "in" / f"{i}.parquet", features(20, [3, 11] if i == 4 else []))
    report = run(picky, tmp_path, batch_size=100)
    assert (report.state, report.counts.scored) == ("finished", 118)
    # One for all, one for each shard when that raises, one for the good rows.
    assert (calls.count("call_packed"), calls.count("call_predict")) == (1, 6 + 1)


def test_a_shard_that_fails_does_not_take_those_of_its_call_along(
    picky: Path, tmp_path: Path
) -> None:
    for i in range(6):
        write(tmp_path / "in" / f"{i}.parquet", features(20, [3, 11] if i in {1, 4} else []))
    report = run(picky, tmp_path, batch_size=100, on_bad_row="fail")
    assert [outcome.shard for outcome in report.failed] == ["1.parquet", "4.parquet"]
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 4


def test_the_probe_leaves_out_the_rows_on_which_the_model_raises(
    picky: Path, tmp_path: Path
) -> None:
    bad = list(range(0, 300, 3))
    write(tmp_path / "in" / "a.parquet", features(300, bad))
    report = run(picky, tmp_path, batch_size=300)
    assert report.state == "finished", report.error
    assert letters(tmp_path)["quarantine_row"].to_pylist() == bad


@pytest.mark.parametrize("method", METHODS)
def test_a_shard_on_which_every_row_raises_fails_after_sixty_four(
    method: Any, picky: Path, tmp_path: Path, calls: list[str]
) -> None:
    write(tmp_path / "in" / "a.parquet", features(100))
    write(tmp_path / "in" / "b.parquet", features(4_000, range(4_000)))
    report = run(picky, tmp_path, method=method, batch_size=4_000, small_shard_rows=0)
    error = error_of(report)
    assert isinstance(error, ScoringError)
    assert error.message == "the model raises on every row it was tried on of rows 0 to 3999"
    assert len(calls) <= 70
    assert report.counts.scored == 100


@pytest.mark.parametrize("method", METHODS)
def test_rows_that_raise_only_together_fail_their_shard_and_are_named(
    method: Any, tmp_path: Path, calls: list[str]
) -> None:
    model = saved(tmp_path, Crowded())
    values = features(2_000)
    values[[1_200, 1_700], 0] = 77.0
    write(tmp_path / "in" / "a.parquet", features(50))
    write(tmp_path / "in" / "b.parquet", values)
    report = run(model, tmp_path, method=method, batch_size=1_000, small_shard_rows=0)
    error = error_of(report)
    assert isinstance(error, ScoringError)
    assert "together, and on none of them alone" in error.message
    assert "one seventy-seven is enough" in (error.received or "")
    assert len(calls) <= 40


class Ending(Silent):
    """Ends a run with its second batch: by a signal, or at once, as a kill would."""

    def __init__(self, stop: Stop | None) -> None:
        self.stop = stop
        self.batches = 0

    def advance(self, rows: int) -> None:
        self.batches += rows > 0
        if self.batches < 2:
            return
        if self.stop is None:
            raise SystemExit
        self.stop.request(15)


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_a_run_that_is_ended_again_and_again_leaves_the_bytes_of_one_that_was_not(
    killed: bool, picky: Path, tmp_path: Path
) -> None:
    bad = [3, 64, 65, 66, 399]
    chosen: dict[str, Any] = {"batch_size": 50, "small_shard_rows": 0, "checkpoint_every": 0}
    for name in ("once", "ended"):
        write(tmp_path / name / "in" / "a.parquet", features(400, bad))
    assert run(picky, tmp_path / "once", **chosen).state == "finished"
    state, runs = "", 0
    while state != "finished":
        stop = Stop()
        runs += 1
        with suppress(SystemExit):
            observer = Ending(None if killed else stop)
            state = run(picky, tmp_path / "ended", observer, stop=stop, **chosen).state
    assert runs > 3
    once, ended = (files_below(tmp_path / name / "out") for name in ("once", "ended"))
    parquet = [name for name in once if name.endswith(".parquet")]
    assert len(parquet) == 2
    assert all(once[name] == ended[name] for name in parquet)


@pytest.mark.parametrize("small", [0, 1_000], ids=["streamed", "grouped"])
def test_an_image_that_cannot_be_decoded_is_named_by_its_column(small: int, tmp_path: Path) -> None:
    left, right = (keras.Input((2, 2, 1), name=name) for name in ("left", "right"))
    flat = keras.layers.Flatten()(keras.layers.Concatenate()([left, right]))
    keras.Model({"left": left, "right": right}, flat).save(tmp_path / "model.keras")
    image = bytes(tf.io.encode_png(np.full((2, 2, 1), 7, "uint8")).numpy())
    images = {name: [image] * 50 for name in ("l", "r")}
    images["r"][11] = images["r"][12] = images["l"][40] = b"no image"
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"id": range(50), **images}), tmp_path / "in" / "a.parquet")
    report = run(
        tmp_path / "model.keras",
        tmp_path,
        features=(),
        inputs={
            "left": {"columns": ["l"], "image": True},
            "right": {"columns": ["r"], "image": True},
        },
        batch_size=8,
        small_shard_rows=small,
    )
    assert report.state == "finished", report.failed
    dead = letters(tmp_path)
    assert dead["quarantine_row"].to_pylist() == [11, 12, 40]
    assert dead["quarantine_column"].to_pylist() == ["r", "r", "l"]
    assert all("Unknown image file format" in r for r in dead["quarantine_reason"].to_pylist())
    assert predictions(published(tmp_path)).tolist() == [[7.0] * 8] * 47


# Hooks


HOOKS = """
import tensorflow as tf

def lengths(columns):
    x = columns["x"]
    sound = tf.debugging.assert_non_negative(x, message="lengths are positive")
    with tf.control_dependencies([sound] if sound is not None else []):
        return tf.identity(x)

def told(outputs):
    y = outputs["prediction"]
    if (y[:, 0] > 0.9).any():
        raise KeyError("too sure")
    return {"y": y}
"""


@pytest.mark.parametrize("small", [0, 1_000], ids=["streamed", "grouped"])
def test_a_preprocess_hook_that_raises_on_some_rows_costs_those_rows(
    small: int, tmp_path: Path
) -> None:
    (tmp_path / "hooks.py").write_text(HOOKS)
    bad = [0, 33, 34, 199]
    values = features(200, bad)
    write(tmp_path / "in" / "a.parquet", values)
    model = saved(tmp_path)
    report = run(
        model,
        tmp_path,
        features=(),
        inputs={"x": COLUMNS},
        preprocess=f"{tmp_path / 'hooks.py'}:lengths",
        batch_size=16,
        small_shard_rows=small,
    )
    assert report.state == "finished", report.failed
    dead = letters(tmp_path)
    assert dead["quarantine_row"].to_pylist() == bad
    assert "lengths are positive" in dead["quarantine_reason"][0].as_py()
    truth = keras.models.load_model(model, compile=False).predict(
        np.delete(values, bad, axis=0), verbose=0
    )
    np.testing.assert_allclose(predictions(published(tmp_path)), truth, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_postprocess_hook_that_raises_on_some_rows_costs_those_rows(
    method: Any, tmp_path: Path
) -> None:
    (tmp_path / "hooks.py").write_text(HOOKS)
    model = saved(tmp_path)
    values = features(300)
    values[[17, 250]] *= 50
    sure = keras.models.load_model(model, compile=False).predict(values, verbose=0)[:, 0] > 0.9
    assert 0 < sure.sum() < 100
    write(tmp_path / "in" / "a.parquet", values)
    report = run(
        model, tmp_path, method=method, postprocess=f"{tmp_path / 'hooks.py'}:told", batch_size=64
    )
    assert report.state == "finished", report.failed
    dead = letters(tmp_path)
    assert dead["quarantine_row"].to_pylist() == np.flatnonzero(sure).tolist()
    assert set(dead["quarantine_reason"].to_pylist()) == {"KeyError: 'too sure'"}


def test_a_postprocess_hook_that_always_raises_is_refused_before_a_row_is_scored(
    tmp_path: Path,
) -> None:
    hook = tmp_path / "broken_hook.py"
    hook.write_text("def told(outputs):\n    return {'y': outputs['no such output']}\n")
    write(tmp_path / "in" / "a.parquet", features(100))
    with pytest.raises(PredictFailedError) as raised:
        run(saved(tmp_path), tmp_path, postprocess=f"{hook}:told")
    assert raised.value.message == "the postprocess hook fails on the outputs of the first rows"
    assert raised.value.received == f"KeyError: 'no such output', in {hook}:told"
    assert raised.value.expected == "prediction: float32 (100, 3)"
    assert not (tmp_path / "out").exists()


# Predictions that are no number


def test_those_that_checkpoints_hold_are_counted_when_a_shard_goes_on(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", features(200, [10, 30, 150]))
    model = saved(tmp_path, Root())
    chosen: dict[str, Any] = {"batch_size": 50, "small_shard_rows": 0, "checkpoint_every": 0}
    stop = Stop()
    assert run(model, tmp_path, Ending(stop), stop=stop, **chosen).state == "stopped"
    report = run(model, tmp_path, **chosen)
    assert report.outcomes[0].resumed == 100
    assert (report.counts.scored, report.counts.nonfinite) == (200, 3)


@pytest.mark.parametrize("method", METHODS)
def test_predictions_that_are_no_number_are_counted_and_written(
    method: Any, tmp_path: Path
) -> None:
    write(tmp_path / "in" / "a.parquet", features(100, [5, 60]))
    report = run(saved(tmp_path, Root()), tmp_path, method=method, batch_size=32)
    assert (report.counts.scored, report.counts.nonfinite) == (100, 2)
    assert np.isnan(predictions(published(tmp_path))[[5, 60]]).all()


@pytest.mark.parametrize("policy", ["quarantine", "null"])
@pytest.mark.parametrize("method", METHODS)
def test_or_are_bad_rows_where_that_is_asked_for(method: Any, policy: Any, tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", features(100, [5, 60]))
    model = saved(tmp_path, Root())
    report = run(model, tmp_path, method=method, nonfinite="bad", on_bad_row=policy, batch_size=32)
    assert (report.counts.scored, report.counts.bad, report.counts.nonfinite) == (98, 2, 0)
    if policy == "quarantine":
        dead = letters(tmp_path)
        assert dead["quarantine_row"].to_pylist() == [5, 60]
        assert dead["quarantine_reason"].to_pylist() == ["NaN in the prediction 'prediction'"] * 2
        assert 5 not in published(tmp_path)["id"].to_pylist()
    else:
        assert published(tmp_path)["prediction"][60].as_py() is None


def test_a_prediction_that_is_no_number_fails_its_shard_where_bad_rows_do(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", features(100, [60]))
    report = run(
        saved(tmp_path, Root()), tmp_path, nonfinite="bad", on_bad_row="fail", batch_size=32
    )
    error = error_of(report)
    assert isinstance(error, BadRowError)
    assert (error.row, error.message) == (60, "NaN in the prediction 'prediction'")


# The limit


@pytest.mark.parametrize("limit", [2, "2%"], ids=str)
@pytest.mark.parametrize("policy", ["quarantine", "null"])
@pytest.mark.parametrize("small", [0, 1_000], ids=["streamed", "grouped"])
def test_a_shard_with_more_bad_rows_than_allowed_fails_alone(
    small: int, policy: Any, limit: Any, picky: Path, tmp_path: Path
) -> None:
    values = features(100, [50, 70])
    holes = np.isin(np.arange(100), [20])
    write(tmp_path / "in" / "a.parquet", features(100, [50, 70]))
    write(tmp_path / "in" / "b.parquet", values, f0=pa.array(values[:, 0], mask=holes))
    write(tmp_path / "in" / "c.parquet", features(100))
    chosen: dict[str, Any] = {"batch_size": 25, "small_shard_rows": small, "on_bad_row": policy}
    report = run(picky, tmp_path, max_bad_rows=limit, **chosen)
    (failed,) = report.failed
    assert failed.shard == "b.parquet"
    assert isinstance(failed.error, TooManyBadRowsError)
    assert failed.error.received == "3 bad rows, and the shard was not read further"
    assert sorted(p.name for p in (tmp_path / "out").glob("*.parquet")) == [
        "a.parquet",
        "c.parquet",
    ]
    # It is no part of what the output is: with another limit the run goes on.
    assert run(picky, tmp_path, max_bad_rows=3, **chosen).state == "finished"


def test_a_batch_with_too_many_is_given_up_before_all_of_them_are_found(
    picky: Path, tmp_path: Path, calls: list[str]
) -> None:
    write(tmp_path / "in" / "a.parquet", features(4_000, range(1, 4_000, 2)))
    report = run(picky, tmp_path, max_bad_rows=5, batch_size=4_000)
    assert isinstance(error_of(report), TooManyBadRowsError)
    assert len(calls) < 60


def test_bad_rows_that_checkpoints_hold_count_when_a_shard_goes_on(
    picky: Path, tmp_path: Path
) -> None:
    values = features(200, [10, 30, 150])
    write(tmp_path / "in" / "a.parquet", values)
    chosen: dict[str, Any] = {"batch_size": 50, "small_shard_rows": 0, "checkpoint_every": 0}
    for limit in (2, 1):  # the second run goes on behind row 150, and may not even do that
        report = run(picky, tmp_path, max_bad_rows=limit, **chosen)
        error = error_of(report)
        assert isinstance(error, TooManyBadRowsError)
        assert (error.received or "").startswith("3 bad rows" if limit == 2 else "2 bad rows")
    assert run(picky, tmp_path, max_bad_rows=3, **chosen).state == "finished"
    assert letters(tmp_path)["quarantine_row"].to_pylist() == [10, 30, 150]


# Mended


def test_a_dead_letter_file_is_a_shard_once_it_is_mended(picky: Path, tmp_path: Path) -> None:
    bad = [4, 50, 51, 130]
    write(tmp_path / "in" / "a.parquet", features(200, bad))
    run(picky, tmp_path, batch_size=64)
    dead = letters(tmp_path).to_pandas()
    sound = dead["id"] != 51
    dead.loc[sound, COLUMNS] = dead.loc[sound, COLUMNS].abs()  # one is still bad
    mended = tmp_path / "again" / "in" / "a.parquet"
    mended.parent.mkdir(parents=True)
    dead.to_parquet(mended, index=False)
    report = run(picky, tmp_path / "again")
    assert report.state == "finished", report.failed
    assert (report.counts.scored, report.counts.quarantined) == (3, 1)
    # Where a row was in the shard it came from travels along, to join it back by.
    assert published(tmp_path / "again")["quarantine_row"].to_pylist() == [4, 50, 130]
    left = letters(tmp_path / "again")
    assert left.schema.names == pq.read_schema(mended).names
    assert left["id"].to_pylist() == [51]
    assert left["quarantine_row"].to_pylist() == [2]  # of the mended file
