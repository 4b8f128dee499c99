"""The guard against drift, on real flights: January to June, other months, and a shifted set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from tests.conftest import SAMPLE
from tests.e2e.drifting import report_of, sampled, scored
from tests.e2e.lake import shard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Finished

    Score = Callable[..., Finished]


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drift")
    done = scored(sampled(folder / "flights", 0), folder / "scored")
    assert done.code == 0, done.err
    return folder / "scored"


@pytest.mark.slow
def test_another_sample_of_the_same_months_is_accepted(baseline: Path, tmp_path: Path) -> None:
    output = tmp_path / "scored"
    done = scored(
        sampled(tmp_path / "flights", 1), output, "--baseline", baseline, "--max-drift", 0.1
    )
    assert done.code == 0, done.err
    assert (output / "_SUCCESS").exists()
    (largest, *_) = report_of(output)["drift"]["differences"]
    assert largest["psi"] < 0.01
    assert "drift:" in done.out


@pytest.mark.slow
def test_a_shifted_set_is_refused_by_any_number_of_workers(baseline: Path, tmp_path: Path) -> None:
    source = sampled(tmp_path / "flights", 1, delay=20)
    guarded = ("--baseline", baseline, "--max-drift", 0.25)
    verdicts = []
    for workers in (1, 4):
        output = tmp_path / f"scored-{workers}"
        done = scored(source, output, *guarded, "--workers", workers)
        assert done.code == 65, done.err
        assert "the predictions have drifted" in done.err
        assert not (output / "_SUCCESS").exists()
        assert (output / "_MANIFEST.json").exists()
        verdicts.append((report_of(output)["drift"], done.err[done.err.index("error:") :]))
    assert verdicts[0] == verdicts[1]

    # All is published: what is left is to accept it, and that takes no scoring.
    again = scored(source, output, *guarded)
    assert (again.code, (output / "_SUCCESS").exists()) == (65, False)
    assert report_of(output)["drift"] == verdicts[0][0]
    accepted = scored(source, output)
    assert (accepted.code, (output / "_SUCCESS").exists()) == (0, True)
    # A complete output is held against a baseline too, and loses its mark.
    late = scored(source, output, *guarded)
    assert (late.code, (output / "_SUCCESS").exists()) == (65, False)


def test_a_baseline_without_predictions_is_found_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = scored(SAMPLE / "flights", tmp_path / "out", "--baseline", tmp_path / "empty")
    assert done.code == 78
    assert "the baseline has no predictions" in done.err
    assert not (tmp_path / "out").exists()


def test_a_limit_needs_a_baseline(tmp_path: Path) -> None:
    done = scored(SAMPLE / "flights", tmp_path / "out", "--max-drift", 0.1)
    assert done.code == 64
    assert "baseline" in done.err


# A lake of three shards, of which a model says sums.


@pytest.fixture
def guarded(score: Score, tmp_path: Path) -> Callable[..., Finished]:
    """Scores a shifted lake into `out`, held against the lake as it was before."""
    assert score(output=tmp_path / "before").code == 0
    for name in ("1", "2", "3"):
        shard(tmp_path / "lake" / f"{name}.parquet", a=pa.array([500.0] * 10, pa.float32()))

    def call(*more: object, **replaced: object) -> Finished:
        return score("--baseline", tmp_path / "before", "--max-drift", 0.1, *more, **replaced)

    return call


def marks(tmp_path: Path) -> tuple[bool, bool]:
    """Whether there is a manifest, and whether there is the mark of completeness."""
    output = tmp_path / "out"
    return (output / "_MANIFEST.json").exists(), (output / "_SUCCESS").exists()


def test_what_was_complete_before_a_shard_went_is_refused_too(
    score: Score, guarded: Score, tmp_path: Path
) -> None:
    assert score().code == 0
    (tmp_path / "lake" / "3.parquet").unlink()
    assert guarded().code == 65
    assert marks(tmp_path) == (True, False)


def test_repair_does_not_accept_what_was_refused(
    cli: Score, score: Score, guarded: Score, tmp_path: Path
) -> None:
    assert guarded().code == 65
    done = cli("verify", tmp_path / "out", "--repair")
    assert done.code == 0, done.err
    assert "have drifted" in done.out
    assert marks(tmp_path) == (True, False)
    assert score().code == 0
    assert marks(tmp_path) == (True, True)
    assert not (tmp_path / "out" / "_shardscore" / "refused.json").exists()


def test_a_baseline_of_other_predictions_leaves_a_complete_output_as_it_is(
    score: Score, guarded: Score, tmp_path: Path
) -> None:
    assert score().code == 0
    both = tmp_path / "both.keras"
    _two_outputs(both)
    assert score(model=both, output=tmp_path / "two").code == 0
    wrong = score("--baseline", tmp_path / "two", "--max-drift", 0.1)
    assert wrong.code == 78
    assert "the baseline has other predictions" in wrong.err
    assert marks(tmp_path) == (True, True)


def _two_outputs(path: Path) -> None:
    import keras

    a, b = keras.Input((1,), name="a"), keras.Input((1,), name="b")
    keras.Model({"a": a, "b": b}, {"s": keras.layers.Add()([a, b]), "a2": a}).save(path)


def test_a_night_without_a_prediction_is_refused(guarded: Score, tmp_path: Path) -> None:
    for name in ("1", "2", "3"):
        shard(tmp_path / "lake" / f"{name}.parquet", a=pa.array([None] * 10, pa.float32()))
    done = guarded("--on-bad-row", "null")
    assert done.code != 0, done.out
    assert marks(tmp_path)[1] is False


def test_an_output_that_lost_its_marks_gets_them_though_its_input_is_younger(
    score: Score, lake: Path, tmp_path: Path
) -> None:
    assert score().code == 0
    for name in ("_SUCCESS", "_MANIFEST.json"):
        (tmp_path / "out" / name).unlink()
    for path in lake.iterdir():
        path.touch()
    assert score().code == 0
    assert marks(tmp_path) == (True, True)
