"""The main job on real input: a year of flights, scored by the command of the README."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.conftest import SAMPLE, environment, files_below, run_command

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import FlightsRun

INPUTS = ("carrier", "origin", "dest", "month", "weekday", "hour", "distance", "dep_delay")
SHARDS = sorted((SAMPLE / "flights").glob("*.parquet"))


@pytest.fixture(scope="module")
def model() -> Any:
    from pipeline.model import load

    return load(str(SAMPLE / "flights.keras")).keras


def by_hand(model: Any, rows: pa.Table) -> np.ndarray[Any, Any]:
    """What a user's own loop would predict: model.predict() on a dict of numpy arrays."""
    import tensorflow as tf

    features = {
        spec.name: tf.constant(rows[spec.name].to_pylist())
        if spec.dtype == "string"
        else rows[spec.name].to_numpy().astype(spec.dtype)
        for spec in model.inputs
    }
    return np.asarray(model.predict(features, batch_size=512, verbose=0)).reshape(-1)


def test_every_shard_is_published_under_its_own_name(flights_run: FlightsRun) -> None:
    published = sorted(path.name for path in flights_run.output.glob("*.parquet"))
    assert published == [path.name for path in SHARDS]
    assert len(published) == 42


def test_every_row_is_scored_or_quarantined(flights_run: FlightsRun) -> None:
    scored = sum(pq.read_metadata(p).num_rows for p in flights_run.output.glob("*.parquet"))
    dead = ds.dataset(flights_run.output / "_shardscore" / "quarantine").to_table()
    assert (scored, dead.num_rows) == (328_521, 8_255)
    assert scored + dead.num_rows == sum(pq.read_metadata(path).num_rows for path in SHARDS)


def test_dead_letters_hold_the_original_row_its_number_and_the_reason(
    flights_run: FlightsRun,
) -> None:
    shard = SHARDS[0]
    original = pq.read_table(shard)
    dead = pq.read_table(flights_run.output / "_shardscore" / "quarantine" / shard.name)
    places = dead["quarantine_row"].to_pylist()
    assert places == [i for i, v in enumerate(original["dep_delay"].to_pylist()) if v is None]
    assert dead.select(original.schema.names).equals(original.take(places))
    assert set(dead["quarantine_column"].to_pylist()) == {"dep_delay"}
    assert all("null in column 'dep_delay'" in r for r in dead["quarantine_reason"].to_pylist())


def test_predictions_equal_model_predict_on_the_same_rows_in_the_same_order(
    flights_run: FlightsRun, model: Any
) -> None:
    for shard in SHARDS:
        rows = pq.read_table(shard)
        rows = rows.filter(rows["dep_delay"].is_valid())
        published = pq.read_table(flights_run.output / shard.name)
        assert published["flight_id"].equals(rows["flight_id"]), shard.name
        np.testing.assert_allclose(
            published["prediction"].to_numpy(),
            by_hand(model, rows),
            rtol=0,
            atol=1e-6,
            err_msg=shard.name,
        )


def test_unused_columns_are_carried_along_unchanged(flights_run: FlightsRun) -> None:
    shard = SHARDS[-1]
    rows = pq.read_table(shard)
    rows = rows.filter(rows["dep_delay"].is_valid())
    published = pq.read_table(flights_run.output / shard.name)
    kept = [name for name in rows.schema.names if name not in INPUTS]
    assert published.schema.names == [*kept, "prediction"]
    assert published.select(kept).equals(rows.select(kept))
    assert published.schema.field("prediction").type == pa.float32()


def test_small_shards_went_through_predict_and_big_ones_through_predict_on_batch(
    flights_run: FlightsRun,
) -> None:
    methods = {o["shard"]: o["method"] for o in flights_run.report["outcomes"]}
    small = {name for name, method in methods.items() if method == "predict"}
    assert small == {path.name for path in SHARDS if path.name.startswith("2013-12-")}
    assert flights_run.report["shards"]["by_method"] == {"predict": 31, "predict_on_batch": 11}


def test_each_published_file_proves_whose_it_is(flights_run: FlightsRun) -> None:
    record = json.loads((flights_run.output / "_shardscore" / "run.json").read_text())
    for shard in SHARDS:
        note = json.loads(pq.read_metadata(flights_run.output / shard.name).metadata[b"shardscore"])
        rows = pq.read_metadata(shard).num_rows
        counts = note["counts"]
        assert note["model_sha256"] == record["identity"]["model_sha256"]
        assert note["input"]["name"] == shard.name
        assert note["input"]["rows"] == counts["rows_in"] == rows
        assert counts["scored"] + counts["quarantined"] == rows


def test_the_summary_says_what_was_done(flights_run: FlightsRun) -> None:
    out = flights_run.finished.out
    for fact in ("336,776", "328,521", "8,255", "31 by predict()", "11 by predict_on_batch()"):
        assert fact in out
    assert str(flights_run.output) in out


def test_an_output_is_a_dataset_of_whole_shards_for_other_readers(flights_run: FlightsRun) -> None:
    import pandas as pd

    frame = pd.read_parquet(flights_run.output)
    assert len(frame) == 328_521
    assert frame["prediction"].between(0, 1).all()


def test_a_second_run_has_nothing_to_do_and_never_imports_tensorflow(
    flights_run: FlightsRun,
) -> None:
    before = files_below(flights_run.output)
    code = (
        "import sys\nfrom jobs.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print('tensorflow' in sys.modules, file=sys.stderr)"
    )
    begun = time.monotonic()
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            "score",
            "--config",
            str(SAMPLE / "flights.toml"),
            "--output",
            str(flights_run.output),
        ],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    nothing = time.monotonic() - begun
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", "import tensorflow"], check=True, capture_output=True)
    importing = time.monotonic() - begun
    assert done.returncode == 0
    assert done.stdout.startswith("nothing to do")
    assert done.stderr.split() == ["False"]
    assert nothing < importing
    assert files_below(flights_run.output) == before


def test_status_tells_from_storage_alone_that_all_is_done(flights_run: FlightsRun) -> None:
    finished = run_command("status", flights_run.output, "--json")
    assert finished.code == 0
    status = finished.document
    assert status["shards"] == {"total": 42, "published": 42}
    assert status["rows"] == {"total": 336_776, "published": 336_776}
    assert status["complete"] is True
    assert status["last_run"]["state"] == "finished"


def test_plan_says_what_score_would_do(tmp_path: Path, cli: Any) -> None:
    finished = cli(
        "plan", "--config", SAMPLE / "flights.toml", "--output", tmp_path / "out", "--json"
    )
    assert finished.code == 0, finished.err
    plan = finished.document
    assert plan["shards"] == {
        "total": 42,
        "done": 0,
        "pending": 42,
        "replaced": 0,
        "failed": 0,
    }
    assert plan["rows"] == {"total": 336_776, "pending": 336_776}
    assert (plan["small_shards"], plan["big_shards"]) == (31, 11)
    assert {row["input"]: row["column"] for row in plan["binding"]} == {n: n for n in INPUTS}
    assert plan["predictions"] == {"prediction": "float"}
    assert not (tmp_path / "out").exists(), "a plan writes nothing"
