"""Several runs on one output at once: one set of files, the right bytes, and no one is blamed."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

import pytest

from pipeline.storage import LocalStorage, storage_at
from tests.faults.lake import (
    Lake,
    assert_finished,
    assert_whole,
    begin,
    contents,
    ended,
    kill,
    make_lake,
    scored_rows,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from subprocess import Popen

    from tests.conftest import Finished

pytestmark = pytest.mark.faults

RUNS = 8
SHARDS: dict[str, tuple[int, tuple[int, ...]]] = {
    "big-1": (61, (3, 40)),
    "big-2": (45, ()),
    **{f"small-{i}": (3 + i % 5, (1,) if i % 3 else ()) for i in range(9)},
}
BIG = "big-1.parquet"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return make_lake(tmp_path_factory.mktemp("lake"), SHARDS)


@pytest.fixture(scope="module")
def reference(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    whole = tmp_path_factory.mktemp("whole") / "out"
    done = ended(begin(lake.arguments(whole)))
    assert done.code == 0, done.err
    return contents(LocalStorage(whole))


def all_ended(runs: list[Popen[str]]) -> list[Finished]:
    done = [ended(run) for run in runs]
    for each in done:
        assert each.code in {0, 75}, each.err
    return done


def finish(lake: Lake, output: object, reference: Mapping[str, bytes], **variables: str) -> None:
    """One more run, which finds nothing to score, and all is as it should be."""
    done = ended(begin(lake.arguments(output), **variables))
    assert done.code == 0, done.err
    assert_finished(storage_at(str(output)), reference)


def in_the_middle(lake: Lake, output: object, told: Path, *more: object, **how: str) -> Popen[str]:
    """A run that has scored some batches of the first big shard, and goes on slowly."""
    run = begin(lake.arguments(output, *more), SCORED=str(told), **{"PAUSE": "0.1", **how})
    wait_for(lambda: len(scored_rows(told, BIG)) >= 2, run)
    return run


def test_eight_runs_at_once_publish_one_set_of_files(
    lake: Lake, reference: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    done = all_ended([begin(lake.arguments(output), PAUSE="0.02") for _ in range(RUNS)])
    codes = sorted(each.code for each in done)
    assert 0 in codes
    for each in done:
        assert each.code == 0 or "another run is at work on this output" in each.err
    assert_finished(output, reference)
    print(f"exit codes of {RUNS} runs at once: {codes}")


def test_eight_shares_at_once_are_the_whole(
    lake: Lake, reference: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    runs = [
        begin(lake.arguments(output, "--shard-index", i, "--shard-count", RUNS), PAUSE="0.01")
        for i in range(RUNS)
    ]
    for run in runs:
        done = ended(run)
        assert done.code == 0, done.err
    assert_finished(output, reference)


def test_a_share_that_is_at_work_turns_a_run_of_the_whole_away(
    lake: Lake, reference: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    share = in_the_middle(
        lake, output, tmp_path / "told", "--shard-index", 0, "--shard-count", 1, PAUSE="0.3"
    )
    whole = ended(begin(lake.arguments(output)))
    assert whole.code == 75
    assert "held by a run that has a share of it" in whole.err
    assert ended(share).code == 0
    assert_finished(output, reference)


def test_of_two_runs_of_one_share_the_second_is_told_who_is_at_work(
    lake: Lake, reference: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    first = in_the_middle(
        lake, output, tmp_path / "told", "--shard-index", 0, "--shard-count", 1, PAUSE="0.3"
    )
    second = ended(begin(lake.arguments(output, "--shard-index", 0, "--shard-count", 1)))
    assert second.code == 75
    assert f"held by process {first.pid} on {socket.gethostname()} since 20" in second.err
    assert ended(first).code == 0
    assert_finished(output, reference)


def test_a_killed_run_holds_nothing(
    lake: Lake, reference: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    kill(in_the_middle(lake, output, tmp_path / "told"))
    assert (output / "_shardscore/locks/run.lock").exists()
    assert_whole(output, reference)
    done = ended(begin(lake.arguments(output)))
    assert done.code == 0, done.err
    assert_finished(output, reference)


@pytest.mark.parametrize("wakes", ["after", "during"])
def test_a_zombie_that_wakes_harms_nothing(
    wakes: str, lake: Lake, reference: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    zombie = in_the_middle(lake, output, tmp_path / "told", PAUSE="0.03")
    zombie.send_signal(signal.SIGSTOP)
    # A network's disk that has forgotten the lock.
    (output / "_shardscore/locks/run.lock").unlink()
    if wakes == "after":
        done = ended(begin(lake.arguments(output)))
        assert done.code == 0, done.err
        published = inodes(output)
        zombie.send_signal(signal.SIGCONT)
        all_ended([zombie])
        assert inodes(output) == published
    else:
        told = tmp_path / "told-2"
        successor = begin(lake.arguments(output), SCORED=str(told), PAUSE="0.03")
        wait_for(lambda: bool(scored_rows(told, BIG)), successor)
        zombie.send_signal(signal.SIGCONT)
        all_ended([zombie, successor])
    finish(lake, output, reference)


def inodes(output: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in output.glob("*.parquet")}


def test_eight_runs_at_once_on_an_object_store_publish_one_set_of_files(
    lake: Lake, reference: dict[str, bytes], s3: str
) -> None:
    done = all_ended([begin(lake.arguments(s3), PAUSE="0.02") for _ in range(RUNS)])
    codes = sorted(each.code for each in done)
    assert 0 in codes
    finish(lake, s3, reference)
    print(f"exit codes of {RUNS} runs at once: {codes}")


@pytest.mark.parametrize("wakes", ["after", "during"])
def test_a_zombie_that_wakes_on_an_object_store_harms_nothing(
    wakes: str, lake: Lake, reference: dict[str, bytes], s3: str, tmp_path: Path
) -> None:
    zombie = in_the_middle(lake, s3, tmp_path / "told", PAUSE="0.03")
    zombie.send_signal(signal.SIGSTOP)
    told = tmp_path / "told-2"
    successor = begin(lake.arguments(s3), SCORED=str(told), PAUSE="0.03")
    if wakes == "after":
        all_ended([successor])
    else:
        wait_for(lambda: bool(scored_rows(told, BIG)), successor)
    zombie.send_signal(signal.SIGCONT)
    all_ended([zombie, *([successor] if wakes == "during" else [])])
    finish(lake, s3, reference)
