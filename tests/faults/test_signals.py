"""SIGTERM and SIGINT: the batch at hand is finished, what was scored is saved, and the run ends."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.storage import LocalStorage
from tests.faults.lake import (
    Lake,
    assert_finished,
    assert_whole,
    begin,
    contents,
    ended,
    make_lake,
    scored_rows,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from subprocess import Popen

pytestmark = pytest.mark.faults

BATCH = 8
ROWS = 203
SOON = 1.0
BIG = "big.parquet"
SIGNALS = pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A big shard that is never saved by the clock alone."""
    folder = tmp_path_factory.mktemp("lake")
    return make_lake(folder, {"big": (ROWS, (3, 90))}, batch_size=BATCH, every=3600.0)


@pytest.fixture(scope="module")
def reference(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return whole(lake, tmp_path_factory.mktemp("whole") / "out")


def whole(lake: Lake, output: Path) -> dict[str, bytes]:
    done = ended(begin(lake.arguments(output)))
    assert done.code == 0, done.err
    return contents(LocalStorage(output))


def resume(lake: Lake, output: Path, reference: Mapping[str, bytes], told: Path) -> None:
    assert_whole(output, reference)
    done = ended(begin(lake.arguments(output), SCORED=str(told)))
    assert done.code == 0, done.err
    assert_finished(output, reference)


def was_heeded(run: Popen[str], signum: int) -> bool:
    """Whether a run's handler has taken a signal: the next one ends it."""
    status = Path(f"/proc/{run.pid}/status").read_text()
    (caught,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return not int(caught, 16) >> (signum - 1) & 1


@SIGNALS
def test_a_signal_ends_a_big_shard_behind_the_batch_at_hand_and_loses_nothing(
    signum: int, code: int, lake: Lake, reference: dict[str, bytes], tmp_path: Path
) -> None:
    output, told = tmp_path / "out", tmp_path / "told"
    pause = 0.4
    run = begin(lake.arguments(output), PAUSE=str(pause), SCORED=str(told))
    wait_for(lambda: len(scored_rows(told, BIG)) >= 4, run)
    sent = time.monotonic()
    run.send_signal(signum)
    done = ended(run)
    took = time.monotonic() - sent
    assert done.code == code, done.err
    assert "stopped before all shards were scored" in done.err
    assert took < pause + SOON, "not within a second of the end of the batch"
    reached = scored_rows(told, BIG)[-1][1]
    later = tmp_path / "later"
    resume(lake, output, reference, later)
    assert scored_rows(later, BIG)[0][0] == reached, "rows were scored twice, or passed over"
    print(f"ended {took:.2f} s after the signal; a batch takes {pause} s")


@SIGNALS
def test_a_second_signal_ends_the_run_at_once_and_harms_nothing(
    signum: int, code: int, lake: Lake, reference: dict[str, bytes], tmp_path: Path
) -> None:
    output, told = tmp_path / "out", tmp_path / "told"
    run = begin(lake.arguments(output), PAUSE="20", SCORED=str(told))
    wait_for(lambda: (output / "_shardscore/run.json").exists(), run)
    wait_for(lambda: not was_heeded(run, signum), run)
    run.send_signal(signum)
    wait_for(lambda: was_heeded(run, signum), run)
    sent = time.monotonic()
    run.send_signal(signum)
    assert ended(run).code == -signum
    assert time.monotonic() - sent < 5, "it waited for the batch"
    resume(lake, output, reference, tmp_path / "later")


@SIGNALS
def test_a_signal_while_small_shards_are_published_leaves_whole_ones(
    signum: int, code: int, tmp_path: Path
) -> None:
    small = make_lake(tmp_path / "lake", {f"small-{i:03}": (3, (1,)) for i in range(120)})
    reference = whole(small, tmp_path / "whole")
    output = tmp_path / "out"
    run = begin(small.arguments(output), PAUSE="0.02")
    wait_for(lambda: bool(list(output.glob("*.parquet"))), run)
    run.send_signal(signum)
    done = ended(run)
    assert done.code == code, done.err
    published = list(output.glob("*.parquet"))
    assert 0 < len(published) < 120
    before = {path.name: path.stat().st_ino for path in published}
    resume(small, output, reference, tmp_path / "later")
    assert before.items() <= {p.name: p.stat().st_ino for p in output.glob("*.parquet")}.items()


@SIGNALS
def test_a_signal_while_a_shard_is_joined_ends_in_a_whole_shard_or_in_its_checkpoints(
    signum: int, code: int, lake: Lake, tmp_path: Path
) -> None:
    often = replace(lake, every=0.0)
    reference = whole(often, tmp_path / "whole")
    codes = []
    for number, later in enumerate((0.0, 0.005, 0.01, 0.02, 0.05)):
        output, told = tmp_path / f"out-{number}", tmp_path / f"told-{number}"
        run = begin(often.arguments(output), SCORED=str(told))
        wait_for(lambda told=told: any(end == ROWS for _, end in scored_rows(told, BIG)), run)
        time.sleep(later)
        run.send_signal(signum)
        done = ended(run)
        # Past its last handler, at the very end, a process dies of the signal.
        assert done.code in {0, code, -signum}, done.err
        if done.code == 0:
            assert (output / BIG).exists()
        codes.append(done.code)
        resume(often, output, reference, tmp_path / f"later-{number}")
    print(f"exit codes: {codes}")


@SIGNALS
def test_a_signal_before_the_model_is_loaded_ends_the_run_with_nothing_begun(
    signum: int, code: int, lake: Lake, reference: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    run = begin(lake.arguments(output), LOAD_PAUSE="0.5")
    assert run.stderr is not None
    assert "loading" in run.stderr.readline()
    os.kill(run.pid, signum)
    assert ended(run).code == code
    assert contents(LocalStorage(output)) == {}
    resume(lake, output, reference, tmp_path / "later")
