"""Several worker processes: what one process promises, and what happens when one of them dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from pipeline.storage import LocalStorage
from tests.conftest import ROOT, environment
from tests.faults.lake import (
    GROUP_ROWS,
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

BATCH = 8
TWO = ("--workers", 2)
BIG = {"big-1": (203, (3, 90)), "big-2": (190, ()), "big-3": (97, (96,))}
SMALL = {f"small-{i}": (3 + i, (1,)) for i in range(5)}
SIGNALS = pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)

OF_A_WHOLE = {"_SUCCESS", "_MANIFEST.json", "_shardscore/predictions.json"}
"""What is there of a complete output alone."""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Big shards and small ones, none of which is saved by the clock alone."""
    return make_lake(tmp_path_factory.mktemp("lake"), BIG | SMALL, batch_size=BATCH, every=3600.0)


@pytest.fixture(scope="module")
def reference(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process makes of it."""
    output = tmp_path_factory.mktemp("whole") / "out"
    done = ended(begin(lake.arguments(output, "--workers", 1)))
    assert done.code == 0, done.err
    return contents(LocalStorage(output))


def resume(lake: Lake, output: Path, reference: Mapping[str, bytes], **variables: str) -> None:
    assert_whole(output, reference)
    done = ended(begin(lake.arguments(output, *TWO), **variables))
    assert done.code == 0, done.err
    assert_finished(output, reference)


def workers_of(run: Popen[str]) -> list[int]:
    """The workers that a run has begun: forks of its only child."""
    return [worker for stem in children_of(run.pid) for worker in children_of(stem)]


def children_of(pid: int) -> list[int]:
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:
        return []


def is_there(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet buried does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def report_of(output: Path) -> Any:
    *_, latest = sorted((output / "_shardscore/reports").glob("*.json"))
    return json.loads(latest.read_text())


def all_score(told: Path, run: Popen[str]) -> list[int]:
    """Waits until two workers score a big shard each; returns their processes."""
    names = [f"{name}.parquet" for name in BIG]
    wait_for(lambda: sum(len(scored_rows(told, name)) >= 2 for name in names) >= 2, run)
    return workers_of(run)


def test_two_workers_write_what_one_process_writes(
    lake: Lake, reference: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    done = ended(begin(lake.arguments(output, *TWO), PRINTS="a line of the model's"))
    assert done.code == 0, done.err
    assert_finished(output, reference)
    report = report_of(output)
    assert (report["workers"], report["shards"]["published"]) == (2, len(BIG) + len(SMALL))
    assert report["rows"]["in"] == sum(rows for rows, _ in (BIG | SMALL).values())
    assert "a line of the model's" in done.err
    assert "a line of the model's" not in done.out


def test_shards_that_fail_are_reported_as_by_one_process(lake: Lake, tmp_path: Path) -> None:
    mixed = make_lake(tmp_path / "lake", {**BIG, **SMALL, "bad": (9, range(9))}, every=3600.0)
    (mixed.shards / "cut.parquet").write_bytes(b"PAR1 and nothing more")
    path = mixed.shards / "small-4.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["b"]), path)
    told: dict[int, tuple[Any, ...]] = {}
    for workers in (1, 2):
        output = tmp_path / f"out-{workers}"
        more = ("--max-bad-rows", "50%", "--workers", workers)
        done = ended(begin(mixed.arguments(output, *more)))
        report = report_of(output)
        outcomes = {
            o["shard"]: {k: v for k, v in o.items() if k != "seconds"} for o in report["outcomes"]
        }
        lines = sorted(line[26:] for line in done.err.splitlines() if "worker proc" not in line)
        told[workers] = done.code, outcomes, report["rows"], lines, contents(LocalStorage(output))
    assert told[1] == told[2]
    assert told[1][0] == 65


def test_a_worker_that_is_killed_takes_its_own_shard_alone(
    lake: Lake, reference: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    poisoned = {"DIES": "big-1.parquet", "PAUSE": "0.01"}
    done = ended(begin(lake.arguments(output, *TWO), **poisoned))
    assert done.code == 75, done.err
    assert "was killed by signal 9 while scoring big-1.parquet" in done.err
    assert "out of memory" in done.err
    assert "the last words of the model" in done.err
    assert_whole(output, reference)
    missing = {name for name in reference if not (output / name).exists()}
    assert missing == {"big-1.parquet", *OF_A_WHOLE} | {
        name for name in reference if "quarantine/big-1" in name
    }
    report = report_of(output)
    assert (report["state"], report["error"]["kind"]) == ("broken", "WorkerDiedError")
    resume(lake, output, reference)


def test_a_run_whose_workers_all_die_ends(lake: Lake, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run = begin(lake.arguments(output, *TWO), LOAD_PAUSE="30")
    wait_for(lambda: len(workers_of(run)) == 2, run)
    for pid in workers_of(run):
        os.kill(pid, signal.SIGKILL)
    done = ended(run, 20)
    assert done.code == 75, done.err
    assert contents(LocalStorage(output)) == {}


def test_a_worker_killed_while_it_prepares_is_done_without(
    lake: Lake, reference: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    run = begin(lake.arguments(output, *TWO), LOAD_PAUSE="1")
    wait_for(lambda: len(workers_of(run)) == 2, run)
    os.kill(workers_of(run)[0], signal.SIGKILL)
    done = ended(run)
    assert done.code == 75, done.err
    assert contents(LocalStorage(output)).keys() == reference.keys() - OF_A_WHOLE
    resume(lake, output, reference)


def test_a_killed_coordinator_leaves_no_process_and_resumes_to_the_same_bytes(
    lake: Lake, reference: dict[str, bytes], tmp_path: Path
) -> None:
    output, told = tmp_path / "out", tmp_path / "told"
    run = begin(lake.arguments(output, *TWO), PAUSE="0.1", SCORED=str(told))
    pids = all_score(told, run)
    assert len(pids) == 2
    run.kill()
    run.communicate()
    wait_for(lambda: not any(map(is_there, pids)))
    resume(lake, output, reference)


@SIGNALS
def test_a_signal_has_each_worker_save_what_it_has_scored(
    signum: int, code: int, lake: Lake, reference: dict[str, bytes], tmp_path: Path
) -> None:
    output, told, pause = tmp_path / "out", tmp_path / "told", 0.3
    run = begin(lake.arguments(output, *TWO), PAUSE=str(pause), SCORED=str(told))
    all_score(told, run)
    sent = time.monotonic()
    run.send_signal(signum)
    done = ended(run)
    took = time.monotonic() - sent
    assert done.code == code, done.err
    assert "stopped before all shards were scored" in done.err
    assert took < pause + 1.5, "not soon after the end of the batch"
    begun = {name: scored_rows(told, f"{name}.parquet") for name in BIG}
    assert sum(map(bool, begun.values())) == 2
    later = tmp_path / "later"
    resume(lake, output, reference, SCORED=str(later))
    for name, batches in begun.items():
        if batches:
            first = scored_rows(later, f"{name}.parquet")[0][0]
            assert first == batches[-1][1], "rows were scored twice, or passed over"


def test_ctrl_c_of_the_foreground_group_is_the_coordinators_to_hear(
    lake: Lake, reference: dict[str, bytes], tmp_path: Path
) -> None:
    output, told = tmp_path / "out", tmp_path / "told"
    run = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.arithmetic", *lake.arguments(output, *TWO)],
        cwd=ROOT,
        env=environment(GROUP_ROWS=str(GROUP_ROWS), PAUSE="0.2", SCORED=str(told)),
        text=True,
        stderr=subprocess.PIPE,
        process_group=0,
    )
    all_score(told, run)
    os.killpg(run.pid, signal.SIGINT)
    done = ended(run)
    assert done.code == 130, done.err
    assert "died" not in done.err
    assert "killed" not in done.err
    resume(lake, output, reference)


def test_a_second_signal_ends_all_processes_at_once(
    lake: Lake, reference: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    run = begin(lake.arguments(output, *TWO), PAUSE="20")
    wait_for(lambda: (output / "_shardscore/run.json").exists(), run)
    pids = workers_of(run)
    sent = time.monotonic()
    run.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    run.send_signal(signal.SIGTERM)
    assert ended(run).code == -signal.SIGTERM
    wait_for(lambda: not any(map(is_there, pids)))
    assert time.monotonic() - sent < 10, "it waited for the batch"
    resume(lake, output, reference)


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        ("storage", 74, "the disk is on fire"),
        ("bug", 70, "ValueError: nobody expects this"),
        ("exit", 78, "ends the process"),
    ],
)
def test_what_ends_a_worker_ends_the_run_as_with_one_process(
    raised: str, code: int, told: str, lake: Lake, reference: dict[str, bytes], tmp_path: Path
) -> None:
    scored = tmp_path / "scored"
    variables = {"RAISES": "big-1.parquet", "RAISED": raised, "SCORED": str(scored)}
    for workers in (1, 2):
        output = tmp_path / f"out-{workers}"
        more = ("--workers", workers)
        done = ended(begin(lake.arguments(output, *more), PAUSE="0.1", **variables))
        assert done.code == code, done.err
        assert told in done.err
    scored_of_other = scored_rows(scored, "big-2.parquet")
    later = tmp_path / "later"
    resume(lake, output, reference, SCORED=str(later))
    if raised == "storage":
        first = scored_rows(later, "big-2.parquet")[0][0]
        assert first == scored_of_other[-1][1], "the other worker has not saved"


def test_a_run_takes_the_threads_of_the_one_whose_work_it_continues(
    lake: Lake, tmp_path: Path
) -> None:
    own = make_lake(tmp_path / "lake", {**BIG, **SMALL}, batch_size=BATCH)
    output = tmp_path / "out"
    fails = {"RAISES": "big-1.parquet", "RAISED": "storage"}
    assert ended(begin(own.arguments(output, "--threads", 7), **fails)).code == 74
    assert report_of(output)["threads"] == 7
    assert ended(begin(own.arguments(output), **fails)).code == 74
    assert report_of(output)["threads"] == 7
    assert ended(begin(own.arguments(output, "--threads", 5), **fails)).code == 74
    assert report_of(output)["threads"] == 5
    make_lake(tmp_path / "more", {"one-more": (5, ())})
    (tmp_path / "more/lake/one-more.parquet").rename(own.shards / "one-more.parquet")
    assert ended(begin(own.arguments(output))).code == 0
    assert report_of(output)["threads"] != 5


def test_fail_fast_stops_the_others_where_they_can_go_on(tmp_path: Path) -> None:
    shards = {"fails": (203, (170,)), "other": (200, ())}
    failing = make_lake(tmp_path / "lake", shards, batch_size=BATCH, every=3600.0)
    output = tmp_path / "out"
    more = (*TWO, "--fail-fast", "--max-bad-rows", 0)
    done = ended(begin(failing.arguments(output, *more), PAUSE="0.1"))
    assert done.code == 65, done.err
    assert report_of(output)["state"] == "incomplete"
    assert not (output / "other.parquet").exists()
    assert [path for path in (output / "_shardscore/checkpoints").rglob("*") if path.is_file()]


def test_a_model_that_cannot_be_prepared_is_told_of_once(lake: Lake, tmp_path: Path) -> None:
    output = tmp_path / "out"
    more = (*TWO, "--features", "a", "--features", "nowhere")
    done = ended(begin(lake.arguments(output, *more)))
    one = ended(begin(lake.arguments(output, *more, "--workers", 1)))
    assert (done.code, done.err.count("error:")) == (78, 1)
    assert done.err.partition("error:")[2] == one.err.partition("error:")[2]


class _Forks:
    """An order that, where it is unpacked, begins a process that outlives its worker by far."""

    def __reduce__(self) -> tuple[Any, ...]:
        code = (
            "import os, sys, time\n"
            "helper = os.fork()\n"
            "if not helper:\n"
            "    time.sleep(600)\n"
            "    os._exit(0)\n"
            "print(helper, file=sys.stderr, flush=True)\n"
            "os.kill(os.getpid(), 9)\n"
        )
        return exec, (code,)


def test_a_dead_worker_is_heard_of_though_what_it_has_forked_lives_on() -> None:
    """A hook's own processes inherit the pipes, which then do not end with the worker."""
    from pipeline.pool import Pool

    helper, died = 0, None
    with Pool(1, 1) as pool:
        pool.tell(1, "prepare", _Forks(), None)
        while died is None:
            for _, (word, what) in pool.answers(1.0):
                if word == "said" and what.isdigit():
                    helper = int(what)
                elif word == "died":
                    died = what
    assert died.signum == signal.SIGKILL
    os.kill(helper, signal.SIGKILL)  # it is there: else this raises
