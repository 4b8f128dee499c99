"""The guard against drift, on real flights: January to June, other months, and a shifted set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.conftest import run_command

if TYPE_CHECKING:
    from tests.conftest import Finished

SAMPLE = Path(__file__).resolve().parents[2] / "sample_data"
HALF = [f"2013-{month:02}" for month in range(1, 7)]


def sampled(folder: Path, which: int, delay: int = 0) -> Path:
    """Every other flight of January to June, perhaps with some minutes more of delay."""
    folder.mkdir()
    for month in HALF:
        table = pq.read_table(SAMPLE / "flights" / f"{month}.parquet")
        table = table.filter(pa.array([row % 2 == which for row in range(table.num_rows)]))
        late = pc.add(table["dep_delay"], pa.scalar(delay, table["dep_delay"].type))
        place = table.column_names.index("dep_delay")
        pq.write_table(
            table.set_column(place, "dep_delay", late.cast(table["dep_delay"].type)),
            folder / f"{month}.parquet",
        )
    return folder


def scored(source: Path, output: Path, *more: object) -> Finished:
    return run_command(
        "score", "--config", SAMPLE / "flights.toml", "--input", source, "--output", output, *more
    )


def report_of(output: Path) -> dict[str, Any]:
    (*_, latest) = sorted((output / "_shardscore" / "reports").glob("*.json"))
    found: dict[str, Any] = json.loads(latest.read_text())
    return found


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
