"""The command with its input, its output and its model on a real S3 server."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.storage import storage_at
from tests.conftest import Finished, files_below, run_command
from tests.e2e.lake import shard
from tests.services import SeaweedServer


@pytest.fixture
def remote(s3: str, model: Path, tmp_path: Path) -> str:
    """A folder on the server with the model and a small lake; the same lake lies on the disk."""
    storage = storage_at(s3)
    for name in ("1", "year=2013/2 b", "year=2013/3"):
        path = shard(tmp_path / "lake" / f"{name}.parquet", rows=100)
        storage.create(f"lake/{name}.parquet", path.read_bytes())
    storage.create("models/sum.keras", model.read_bytes())
    return s3


def published(root: str) -> dict[str, bytes]:
    """What an output on the server holds, without reports."""
    storage = storage_at(root)
    return {
        info.name: storage.read(info.name)
        for info in storage.list()
        if "/reports/" not in info.name and "/staging/" not in info.name
    }


def options(model: object, lake: object, output: object) -> list[object]:
    return ["--model", model, "--input", lake, "--output", output, "--batch-size", 32]


def test_all_on_a_server_gives_the_bytes_of_a_local_run(
    remote: str, model: Path, tmp_path: Path, cli: Callable[..., Finished]
) -> None:
    there = options(f"{remote}/models/sum.keras", f"{remote}/lake/", f"{remote}/out")
    done = cli("score", *there)
    assert done.code == 0, done.err
    local = cli("score", *options(model, tmp_path / "lake", tmp_path / "out"))
    assert local.code == 0, local.err
    ours, theirs = files_below(tmp_path / "out"), published(f"{remote}/out")
    parquet = {name for name in ours if name.endswith(".parquet")}
    assert len(parquet) == 3
    assert {name: theirs[name] for name in parquet} == {name: ours[name] for name in parquet}
    assert sorted(theirs) == sorted(name for name in ours if "/locks/" not in name)
    again = cli("score", *there)
    assert again.code == 0
    assert published(f"{remote}/out") == theirs


def test_plan_status_and_verify_work_on_a_server(remote: str, cli: Callable[..., Finished]) -> None:
    there = options(f"{remote}/models/sum.keras", f"{remote}/lake/*", f"{remote}/out")
    assert cli("plan", *there, "--json").document["shards"]
    assert cli("score", *there).code == 0
    assert cli("status", f"{remote}/out").code == 0
    assert cli("verify", f"{remote}/out").code == 0


def test_a_process_of_its_own_scores_from_a_server(remote: str, s3_server: SeaweedServer) -> None:
    there = options(f"{remote}/models/sum.keras", f"{remote}/lake", f"{remote}/out")
    done = run_command("score", *there, **s3_server.environment)
    assert done.code == 0, done.err
    assert len([name for name in published(f"{remote}/out") if name.startswith(("1", "y"))]) == 3


def test_the_digest_of_a_remote_model_is_checked(
    remote: str, model: Path, tmp_path: Path, cli: Callable[..., Finished]
) -> None:
    there = f"{remote}/models/sum.keras"
    right = hashlib.sha256(model.read_bytes()).hexdigest()
    base = options(there, tmp_path / "lake", tmp_path / "out")
    wrong = cli("score", *base, "--model-sha256", "0" * 64)
    assert wrong.code == 78
    assert there in wrong.err
    assert right in wrong.err
    assert not (tmp_path / "out").exists()
    assert cli("score", *base, "--model-sha256", right).code == 0


@pytest.mark.parametrize(
    ("name", "told"), [("none.keras", "does not exist"), ("broken.keras", "damaged")]
)
def test_a_remote_model_that_is_missing_or_damaged_is_named_by_its_address(
    remote: str, tmp_path: Path, cli: Callable[..., Finished], name: str, told: str
) -> None:
    storage_at(remote).create("models/broken.keras", b"no zip at all")
    there = f"{remote}/models/{name}"
    done = cli("score", *options(there, tmp_path / "lake", tmp_path / "out"))
    assert done.code == 78
    assert told in done.err
    assert there in done.err


def test_a_remote_model_leaves_no_copy_behind(
    remote: str, tmp_path: Path, cli: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    there = options(f"{remote}/models/sum.keras", f"{remote}/lake", f"{remote}/out")
    assert cli("score", *there).code == 0
    assert [path for path in (tmp_path / "tmp").rglob("*") if path.is_file()] == []


def test_a_server_that_is_down_ends_the_run_with_74(
    remote: str, tmp_path: Path, cli: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    done = cli("score", *options(f"{remote}/models/sum.keras", tmp_path / "lake", tmp_path / "o"))
    assert done.code == 74
    assert "does not answer" in done.err
