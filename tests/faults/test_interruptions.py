"""Killed anywhere, a run that is started again ends with the same bytes."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.conftest import SAMPLE, command, environment, files_below, run_command

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Finished

pytestmark = pytest.mark.faults

FLIGHTS = SAMPLE / "flights"
SHARDS = 11
# Two big shards and nine small ones; small batches make the run long enough to be met in its
# middle, and cut the small shards into several batches too.
JOB = (
    *("score", "--config", SAMPLE / "flights.toml", "--batch-size", 64),
    *("--small-shard-rows", 1000, "--input", FLIGHTS / "2013-01.parquet"),
    *("--input", FLIGHTS / "2013-02.parquet", "--input", FLIGHTS / "2013-12-0*.parquet"),
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    done = run_command(*JOB, "--output", output)
    assert done.code == 0, done.err
    return files_below(output)


def begin(output: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*JOB, "--output", output),
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for_shards(output: Path, number: int) -> None:
    """Until that many shards are published."""
    deadline = time.monotonic() + 120
    while len(list(output.glob("*.parquet"))) < number:
        assert time.monotonic() < deadline, "the run does not get on"
        time.sleep(0.005)


def resume(output: Path) -> Finished:
    return run_command(*JOB, "--output", output, "--json")


@pytest.mark.parametrize(("published", "later"), [(0, 0.2), (1, 0.3), (2, 0.05), (6, 0.01)])
def test_a_killed_run_resumes_to_the_same_bytes(
    published: int, later: float, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    output = tmp_path / "out"
    run = begin(output)
    wait_for_shards(output, published)
    # Somewhere in the shard that follows, not at its edge.
    time.sleep(later)
    run.kill()
    run.communicate()
    assert run.returncode == -signal.SIGKILL
    before = {path.name: path.stat() for path in output.glob("*.parquet")}
    for name in before:
        assert (output / name).read_bytes() == undisturbed[name], "a final name held other bytes"

    done = resume(output)

    assert done.code == 0, done.err
    assert files_below(output) == undisturbed
    shards = done.document["shards"]
    assert shards["done_before"] == len(before)
    assert shards["published"] == SHARDS - len(before), "a published shard was scored again"
    for name, stat in before.items():
        now = (output / name).stat()
        assert (now.st_ino, now.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)
    assert list((output / "_shardscore" / "staging").iterdir()) == []


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_a_signal_stops_the_run_with_its_code_and_the_next_run_goes_on(
    signum: int, code: int, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    output = tmp_path / "out"
    run = begin(output)
    wait_for_shards(output, 1)
    run.send_signal(signum)
    out, err = run.communicate(timeout=60)
    assert run.returncode == code
    assert "stopped before all shards were scored" in err
    assert "run the same command again" in err
    left = int(json.loads((run_command("status", output, "--json")).out)["shards"]["published"])
    assert 1 <= left < SHARDS
    assert "left" in out
    assert resume(output).code == 0
    assert files_below(output) == undisturbed


def test_two_runs_at_once_publish_one_set_of_files_and_both_end_well(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    output = tmp_path / "out"
    runs = [begin(output), begin(output)]
    errors = [run.communicate(timeout=120)[1] for run in runs]
    assert sorted(run.returncode for run in runs) == [0, 75], errors
    assert files_below(output) == undisturbed


def test_a_report_that_a_dead_run_left_says_that_it_was_running(tmp_path: Path) -> None:
    output = tmp_path / "out"
    run = begin(output)
    wait_for_shards(output, 1)
    run.kill()
    run.communicate()
    status = run_command("status", output, "--json").document
    assert status["last_run"]["state"] == "running"
    assert status["complete"] is False
    assert status["shards"]["total"] == SHARDS
