"""What the READMEs show is run: on a model and a table that they do not know, in their order."""

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

README = ROOT / "README.md"
REFERENCE = ROOT / "pipeline" / "README.md"
OPERATORS = ROOT / "jobs" / "README.md"


def blocks(document: Path, language: str) -> list[str]:
    text = document.read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(document: Path) -> list[list[str]]:
    """Those for users' own files: what names a place of a machine's is a service's."""
    whole = [block.replace("\\\n", " ") for block in blocks(document, "console")]
    lines = [line[2:] for block in whole for line in block.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines if " /" not in line]
    return [parts[1:] for parts in words if parts[:1] == ["shardscore"]]


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
    assert [len(commands(document)) for document in (README, OPERATORS)] == [8, 2]
    for arguments in (*commands(README), *commands(OPERATORS)):
        done = run_command(*arguments, cwd=folder, **buckets)
        assert done.code == 0, (arguments, done.err)
    assert len(list((folder / "shares").glob("*.parquet"))) == 1
    scored = pd.read_parquet(folder / "scored")
    assert list(scored.columns) == ["id", "day", "prediction"]
    assert len(scored) == 200


def test_the_job_files_that_are_shown_are_some(folder: Path) -> None:
    from jobs.settings import job_from

    (first,), (reference,) = blocks(README, "toml"), blocks(REFERENCE, "toml")
    lines = blocks(OPERATORS, "toml")
    for text in (first, reference, *(f"{more}\n{first}" for more in lines)):
        (folder / "job.toml").write_text(text)
        job = job_from({}, folder / "job.toml")
        assert job.model == str(folder / "model.keras")
        assert set(tomllib.loads(text)) <= set(type(job).model_fields)
    assert job.max_drift == 0.25


@pytest.mark.parametrize("case", re.findall(r"`([a-z_]+) = ", README.read_text()))
def test_each_recipe_says_a_line_that_a_job_file_knows(case: str) -> None:
    from pipeline.input_options import InputOptions
    from pipeline.job import Job

    names = {field.alias or name for name, field in Job.model_fields.items()}
    assert case in names | set(Job.model_fields) | set(InputOptions.model_fields)


def test_what_the_documents_point_to_is_there() -> None:
    for document in (README, REFERENCE, OPERATORS):
        for path, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", document.read_text()):
            target = document if not path else document.parent / path
            assert target.exists(), (document, path)
            if anchor:
                heads = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
                assert anchor in {anchor_of(head) for head in heads}, (document, path, anchor)


def anchor_of(head: str) -> str:
    return re.sub(r"[^a-z0-9 _-]", "", head.lower()).replace(" ", "-")


def test_the_make_targets_of_the_readme_exist() -> None:
    targets = re.findall(r"\$ make ([a-z-]+)", README.read_text())
    assert targets == ["score", "test", "setup"]
    for target in targets:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
