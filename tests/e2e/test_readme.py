"""The README's commands are run, in its order, on a model and a table that it does not know."""

from __future__ import annotations

import re
import shlex
import tomllib
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from tests.conftest import ROOT, SAMPLE, run_command
from tests.services import s3_client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.services import SeaweedServer

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line[2:] for block in blocks("console") for line in block.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [parts[1:] for parts in words if parts[0] == "shardscore"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the README's reader has: a model, and shards of a table."""
    import keras

    (tmp_path / "shards").mkdir()
    inputs = {n: keras.Input((1,), name=n) for n in ("age", "income")}
    joined = keras.layers.Concatenate()(list(inputs.values()))
    keras.Model(inputs, keras.layers.Dense(1)(joined)).save(tmp_path / "model.keras")
    rng = np.random.default_rng(0)
    for day in (1, 2):
        frame = pd.DataFrame({"id": range(100), "day": day, "age": rng.integers(18, 90, 100)})
        frame["income"] = rng.normal(30_000, 9_000, 100).astype("float32")
        frame.to_parquet(tmp_path / "shards" / f"{day}.parquet")
    (tmp_path / "sample_data").symlink_to(SAMPLE)
    return tmp_path


@pytest.fixture
def buckets(folder: Path, s3_server: SeaweedServer) -> dict[str, str]:
    """The same on a server, in the README's buckets; the variables that lead there."""
    client = s3_client(s3_server.endpoint)
    for bucket in ("models", "scored"):
        client.create_bucket(Bucket=bucket)
    client.upload_file(str(folder / "model.keras"), "models", "m.keras")
    for shard in (folder / "shards").iterdir():
        client.upload_file(str(shard), "lake", f"2013-{shard.name}")
    return s3_server.environment


@pytest.mark.long
def test_each_command_of_the_readme_runs(folder: Path, buckets: dict[str, str]) -> None:
    assert len(commands()) == 11
    for arguments in commands():
        done = run_command(*arguments, cwd=folder, **buckets)
        assert done.code == 0, (arguments, done.err)
    assert len(list((folder / "shares").glob("*.parquet"))) == 1
    scored = pd.read_parquet(folder / "scored")
    assert list(scored.columns) == ["id", "day", "prediction"]
    assert len(scored) == 200


def test_the_job_file_of_the_readme_is_one_and_takes_the_lines_that_are_shown_later(
    folder: Path,
) -> None:
    from jobs.settings import job_from

    whole, *lines = blocks("toml")
    for text in (whole, *(f"{more}\n{whole}" for more in lines)):
        (folder / "job.toml").write_text(text)
        job = job_from({}, folder / "job.toml")
        assert job.model == str(folder / "model.keras")
        assert set(tomllib.loads(text)) <= set(type(job).model_fields)
    assert job.max_drift == 0.25


def test_the_make_targets_of_the_readme_exist() -> None:
    targets = re.findall(r"\$ make ([a-z-]+)", README)
    assert targets == ["score", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
