"""A batch that does not fit into memory is scored by parts, and its bounds stay where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pipeline import scorers
from pipeline.errors import ScoringError
from pipeline.progress import Silent
from pipeline.report import as_json
from pipeline.runtime import tensorflow
from pipeline.summary import summary_text
from tests.conformance.raising import (
    Greedy,
    Picky,
    features,
    letters,
    predictions,
    published,
    run,
    saved,
    write,
)

if TYPE_CHECKING:
    from pathlib import Path

METHODS = ["predict_on_batch", "predict", "predict_step"]


class Events(Silent):
    """Keeps what a run tells."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    def event(self, name: str, text: str, **facts: Any) -> None:  # noqa: ARG002
        self.told.append((name, facts))

    def of(self, name: str) -> list[dict[str, Any]]:
        return [facts for told, facts in self.told if told == name]


@pytest.mark.parametrize("small", [0, 10_000], ids=["big", "small"])
@pytest.mark.parametrize("method", METHODS)
def test_what_fits_is_found_by_halves_remembered_and_told_once(
    method: Any, small: int, tmp_path: Path
) -> None:
    """The probe's rows fit here; the batches of 1,000 do not."""
    model = saved(tmp_path, Greedy(300))
    values = features(4_600)
    for i, part in enumerate(np.split(values, [2_500, 3_000])):
        write(tmp_path / "in" / f"{i}.parquet", part)
    events = Events()
    Greedy.calls.clear()
    report = run(model, tmp_path, events, method=method, batch_size=1_000, small_shard_rows=small)
    assert report.state == "finished", report.failed
    assert events.of("memory_short") == [{"level": "warning", "rows": 1_000, "fitting": 250}]
    # predict() is first called for many batches, then for the one that is to blame.
    assert sum(rows > 300 for rows in Greedy.calls) == (3 if method == "predict" else 2)
    assert report.fitting_batch_rows == as_json(report)["fitting_batch_rows"] == 250
    assert "at most 250 rows a call" in summary_text(report, 200)
    got = np.concatenate([predictions(published(tmp_path, f"{i}.parquet")) for i in range(3)])
    (tmp_path / "plain").mkdir()
    truth = scored_by_hand(tmp_path / "plain", values)
    np.testing.assert_allclose(got, truth, atol=1e-6)


def scored_by_hand(folder: Path, values: np.ndarray[Any, Any]) -> Any:
    import keras

    # The same weights, without the layer that is greedy.
    return keras.models.load_model(saved(folder), compile=False).predict(values, verbose=0)


def test_where_batches_end_and_checkpoints_are_saved_does_not_move(tmp_path: Path) -> None:
    model = saved(tmp_path, Greedy(300))
    write(tmp_path / "in" / "a.parquet", features(3_500))
    events = Events()
    run(model, tmp_path, events, batch_size=1_000, small_shard_rows=0, checkpoint_every=0)
    assert [facts["rows"] for facts in events.of("checkpoint")] == [1_000, 2_000, 3_000]


def test_the_probe_makes_do_with_fewer_rows_where_its_own_do_not_fit(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", features(600))
    report = run(saved(tmp_path, Greedy(50)), tmp_path, batch_size=40)
    assert report.state == "finished", report.error
    assert report.fitting_batch_rows == 0


@pytest.mark.parametrize("method", METHODS)
def test_rows_at_fault_are_found_all_the_same(method: Any, tmp_path: Path) -> None:
    model = saved(tmp_path, Greedy(300), Picky())
    bad = [3, 700, 701, 1_999]
    write(tmp_path / "in" / "a.parquet", features(2_000, bad))
    report = run(model, tmp_path, method=method, batch_size=1_000, small_shard_rows=0)
    assert (report.state, report.counts.quarantined) == ("finished", 4)
    assert letters(tmp_path)["quarantine_row"].to_pylist() == bad


@pytest.mark.parametrize("method", METHODS)
def test_a_single_row_that_does_not_fit_fails_its_shard_and_says_how_big_batches_are(
    method: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in" / "a.parquet", features(100))
    errors = tensorflow().errors

    def exhausted(*_: Any) -> None:
        raise errors.ResourceExhaustedError(None, None, "failed to allocate memory")

    # After the probe, which has calls of its own.
    monkeypatch.setattr(scorers, "call_step", exhausted)
    monkeypatch.setattr(scorers, "call_predict", exhausted)
    report = run(saved(tmp_path), tmp_path, method=method, batch_size=64, small_shard_rows=0)
    (failed,) = report.failed
    assert isinstance(failed.error, ScoringError)
    assert failed.error.message == "scoring runs out of memory, with a single row a call too"
    assert "failed to allocate memory" in (failed.error.received or "")
    assert "batches have 64 rows: choose a smaller --batch-size" in (failed.error.hint or "")


@pytest.mark.parametrize(
    "kind", ["UnavailableError", "AbortedError", "CancelledError", "InternalError"]
)
def test_what_is_no_rows_fault_is_not_searched_for(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in" / "a.parquet", features(100))
    calls: list[int] = []

    def lost(*_: Any) -> None:
        calls.append(1)
        raise getattr(tensorflow().errors, kind)(None, None, "the device is lost")

    monkeypatch.setattr(scorers, "call_step", lost)
    report = run(saved(tmp_path), tmp_path, batch_size=64, small_shard_rows=0)
    (failed,) = report.failed
    assert isinstance(failed.error, ScoringError)
    assert failed.error.message == "the model raised on rows 0 to 63"
    assert failed.error.received == f"{kind}: the device is lost"
    assert len(calls) == 1


def test_a_keyboard_interrupt_is_no_error_of_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in" / "a.parquet", features(100))

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scorers, "call_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(saved(tmp_path), tmp_path, batch_size=64, small_shard_rows=0)


def test_what_tf_data_cannot_hold_is_made_by_parts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A preprocess hook that is greedy itself, inside of tf.data."""
    (tmp_path / "greedy_hook.py").write_text(
        "import tensorflow as tf\n"
        "def scaled(columns):\n"
        "    def taken(x):\n"
        "        if len(x) > 300:\n"
        "            raise MemoryError('no room')\n"
        "        return x\n"
        "    y = tf.numpy_function(taken, [columns['x']], tf.float32)\n"
        "    y.set_shape((None, 4))\n"
        "    return y\n"
    )
    values = features(2_000)
    write(tmp_path / "in" / "a.parquet", values)
    report = run(
        saved(tmp_path),
        tmp_path,
        features=(),
        inputs={"x": [f"f{i}" for i in range(4)]},
        preprocess=f"{tmp_path / 'greedy_hook.py'}:scaled",
        batch_size=1_000,
        small_shard_rows=0,
    )
    assert report.state == "finished", report.failed
    assert report.fitting_batch_rows == 250
    (tmp_path / "plain").mkdir()
    truth = scored_by_hand(tmp_path / "plain", values)
    np.testing.assert_allclose(predictions(published(tmp_path)), truth, atol=1e-6)
