"""The library as its users call it: score, plan, verify and load, without the command."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from pipeline import Job, ShardscoreError, load_predictions, plan, score, verify
from tests.e2e.lake import shard, truncate


@pytest.fixture
def job(model: Path, lake: Path, tmp_path: Path) -> Job:
    return Job(model=str(model), input=(str(lake),), output=str(tmp_path / "out"), batch_size=4)


def test_an_output_is_planned_scored_verified_and_loaded(
    job: Job, capfd: pytest.CaptureFixture[str]
) -> None:
    assert plan(job)["rows"]["pending"] == 30
    report = score(job)
    assert report.counts.scored == 30
    assert score(job).nothing_to_do
    proof = verify(job.output)
    assert not proof.faults
    assert not proof.unfinished
    assert proof.compared == 3
    frame = load_predictions(job.output, inputs=True, positions=True)
    assert isinstance(frame, pd.DataFrame)
    assert list(frame) == ["shard", "row", "id", "a", "b", "prediction"]
    assert frame["prediction"].tolist() == (frame["a"] + frame["b"]).tolist()
    assert frame["row"].tolist() == frame["id"].tolist()
    assert capfd.readouterr().out == ""


def test_a_shard_that_fails_raises_and_the_others_are_scored(job: Job, lake: Path) -> None:
    truncate(lake / "2.parquet")
    with pytest.raises(ShardscoreError) as caught:
        score(job)
    assert caught.value.path == str(lake / "2.parquet")
    assert score(job, check=False).state == "incomplete"
    with pytest.raises(ShardscoreError, match="not complete"):
        load_predictions(job.output)
    frame = load_predictions(job.output, incomplete_ok=True, positions=True)
    assert frame["shard"].unique().tolist() == ["1.parquet", "3.parquet"]


@pytest.mark.parametrize("policy", ["quarantine", "null"])
def test_bad_rows_are_joined_in_their_places(job: Job, lake: Path, policy: str) -> None:
    values = pa.array([float(i) if i % 4 else None for i in range(10)], pa.float32())
    shard(lake / "2.parquet", a=values)
    score(job.model_copy(update={"on_bad_row": policy}))
    frame = load_predictions(job.output, inputs=True, bad_rows=True)
    assert len(frame) == 30
    bad = frame["bad_row_reason"].notna()
    assert bad.tolist() == frame["a"].isna().tolist()
    assert frame["prediction"].isna().tolist() == bad.tolist()
    good = frame[~bad]
    assert good["prediction"].tolist() == (good["a"] + good["b"]).tolist()


def test_an_output_on_an_object_store_is_loaded_by_its_address(job: Job, s3: str) -> None:
    score(job)
    remote = job.model_copy(update={"output": f"{s3}/out"})
    score(remote)
    pd.testing.assert_frame_equal(
        load_predictions(remote.output, inputs=True), load_predictions(job.output, inputs=True)
    )
