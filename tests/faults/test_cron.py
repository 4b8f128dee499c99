"""Night after night of cron, by the very lines that are shipped: new shards, a start too many, a
machine that loses power, disks and shards that fail."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.storage import LocalStorage
from tests.conftest import ROOT, SAMPLE, Finished
from tests.faults.cron import Crontab, Machine, read
from tests.faults.lake import (
    PASSING,
    assert_proven,
    contents,
    ended,
    left_over,
    scored_rows,
    wait_for,
    write_shard,
)

pytestmark = pytest.mark.faults

JOB = ("batch_size = 8", 'on_bad_row = "quarantine"', "checkpoint_every = 0.0")
LOCK = "_shardscore/locks/run.lock"
RUN_JSON = "_shardscore/run.json"
FACTS = ("st_ino", "st_mtime_ns", "st_ctime_ns", "st_size", "st_nlink")


def shipped(name: str) -> Crontab:
    return read(ROOT / "jobs/cron" / f"{name}.crontab")


def arrive(machine: Machine, **shards: tuple[int, tuple[int, ...]]) -> None:
    """New shards in the input, in a folder of the day, given as name → rows, and the bad ones."""
    for name, (rows, bad) in shards.items():
        write_shard(machine.shards / machine.today.split()[0] / f"{name}.parquet", rows, bad)


def kept(output: Path) -> dict[str, tuple[int, ...]]:
    """What the disk knows of each published file and dead letter, by name."""
    passing = tuple(str(output / folder) for folder in PASSING)
    stats = {
        path.relative_to(output): path.stat()
        for path in output.rglob("*.parquet")
        if not str(path).startswith(passing)
    }
    return {str(name): tuple(getattr(stat, f) for f in FACTS) for name, stat in stats.items()}


def scored(output: Path) -> dict[str, Any]:
    """What an output holds, however it came to be: each night has its own plan, and on which rows
    the methods were proved is told in words."""
    found: dict[str, Any] = dict(contents(LocalStorage(output)))
    identity = json.loads(found[RUN_JSON])["identity"]
    return {n: d for n, d in found.items() if "/plans/" not in n} | {RUN_JSON: identity}


def mail(run: Finished) -> dict[str, Any]:
    """The one error that a run which has failed prints, below its exit code."""
    headline, line = run.out.splitlines()
    assert headline.startswith(f"ended with {run.code}, see /")
    error: dict[str, Any] = json.loads(line)
    assert error["level"] == "error"
    return error


def assert_as_if_undisturbed(machine: Machine) -> None:
    """All that has arrived is there, in the bytes of one run that had it all from the beginning."""
    other = machine.folder / "lake/undisturbed"
    done = machine.run(f'shardscore score --config "$JOB" --output "{other}"')
    assert done.code == 0, done.err
    assert scored(machine.output) == scored(other)
    assert left_over(LocalStorage(machine.output)) == []
    assert_proven(LocalStorage(machine.output))


def assert_json_lines(machine: Machine) -> None:
    logs = sorted(machine.logs.iterdir())
    assert logs
    for log in logs:
        for line in log.read_text().splitlines():
            assert {"time", "level", "event", "message"} <= json.loads(line).keys()


@pytest.mark.parametrize("workers", [1, 2])
def test_night_after_night(workers: int, tmp_path: Path) -> None:
    tab = shipped("nightly")
    machine = Machine(tmp_path / "machine", tab, [*JOB, f"workers = {workers}"])

    # The first night.
    arrive(machine, big=(100, (3, 50)), small=(5, ()))
    first = machine.run(tab.nightly.command)
    assert (first.code, first.out, first.err) == (0, "", "")
    published = kept(machine.output)
    assert len(published) == 3

    # The second: somebody starts it again while it is at work.
    machine.today = "2026-01-02 02:17:00"
    arrive(machine, big=(100, ()), other=(60, (9,)), small=(5, (1,)))
    told = tmp_path / "told-2"
    running = machine.start(tab.nightly.command, PAUSE="0.05", SCORED=str(told))
    wait_for(told.exists, running)
    holder = machine.last_pid()
    os.kill(holder, signal.SIGSTOP)  # who waits for it would wait for ever
    machine.today = "2026-01-02 02:18:00"
    too_many = machine.run(tab.nightly.command, SCORED=str(tmp_path / "told-too-many"))
    os.kill(holder, signal.SIGCONT)
    assert (too_many.code, too_many.err) == (75, "")
    mailed = mail(too_many)
    assert mailed["exit_code"] == 75
    assert mailed["message"] == "another run is at work on this output"
    assert f"held by process {holder} on {socket.gethostname()} since 20" in mailed["received"]
    assert not (tmp_path / "told-too-many").exists()
    second = ended(running)
    assert (second.code, second.out, second.err) == (0, "", "")
    assert kept(machine.output).items() >= published.items()
    published = kept(machine.output)
    assert len(published) == 8

    # The third: power is lost in the middle of a shard; what was at work has no last words.
    machine.today = "2026-01-03 02:17:00"
    arrive(machine, big=(200, (20, 190)), other=(100, ()), small=(5, ()))
    told = tmp_path / "told-3"
    running = machine.start(tab.nightly.command, PAUSE="0.05", SCORED=str(told))
    big = "2026-01-03/big.parquet"
    checkpoints = machine.output / "_shardscore/checkpoints" / "2026-01-03"
    wait_for(lambda: len(scored_rows(told, big)) > 4 and checkpoints.exists(), running)
    machine.power_off(running)
    assert json.loads((machine.output / LOCK).read_text())["pid"] == machine.last_pid()
    assert not (machine.output / "_SUCCESS").exists()
    assert kept(machine.output).items() >= published.items()
    published = kept(machine.output)
    assert big not in published

    machine.today = "2026-01-03 09:00:00"
    told = tmp_path / "told-reboot"
    begun_again = machine.run(tab.after_a_reboot.command, SCORED=str(told))
    assert (begun_again.code, begun_again.out, begun_again.err) == (0, "", "")
    assert scored_rows(told, big)[0][0] > 0, "it has begun the shard again"
    assert not scored_rows(told, "2026-01-01/big.parquet")
    assert kept(machine.output).items() >= published.items()
    published = kept(machine.output)

    # The fourth: nothing has come.
    machine.today = "2026-01-04 02:17:00"
    told = tmp_path / "told-4"
    idle = machine.run(tab.nightly.command, SCORED=str(told))
    assert (idle.code, idle.out, idle.err) == (0, "", "")
    assert not told.exists()
    assert kept(machine.output) == published

    assert len(list(machine.logs.iterdir())) == 6
    assert_json_lines(machine)
    assert_as_if_undisturbed(machine)


def test_a_machine_that_shuts_down_in_order_has_its_work_saved(tmp_path: Path) -> None:
    tab = shipped("nightly")
    machine = Machine(tmp_path / "machine", tab, [*JOB[:2], "checkpoint_every = 3600.0"])
    arrive(machine, big=(200, (20,)))
    told = tmp_path / "told"
    running = machine.start(tab.nightly.command, PAUSE="0.2", SCORED=str(told))
    big = "2026-01-01/big.parquet"
    wait_for(lambda: len(scored_rows(told, big)) > 2, running)
    os.kill(machine.last_pid(), signal.SIGTERM)
    stopped = ended(running)
    assert stopped.code == 75
    assert mail(stopped)["exit_code"] == 75
    before = scored_rows(told, big)
    told.unlink()
    assert machine.run(tab.after_a_reboot.command, SCORED=str(told)).code == 0
    assert scored_rows(told, big)[0][0] == before[-1][1], "it has scored a batch twice"
    assert_as_if_undisturbed(machine)


def test_a_night_that_fails_is_mailed_and_the_next_one_makes_up_for_it(tmp_path: Path) -> None:
    tab = shipped("nightly")
    machine = Machine(tmp_path / "machine", tab, JOB)
    arrive(machine, good=(20, ()))
    half = machine.shards / "half.parquet"
    whole = (machine.shards / "2026-01-01/good.parquet").read_bytes()
    half.write_bytes(whole[:-50])  # is still being copied
    failed = machine.run(tab.nightly.command)
    assert failed.code == 65
    assert mail(failed)["shard"] == "half.parquet"
    published = kept(machine.output)
    assert len(published) == 1

    half.write_bytes(whole)
    machine.today = "2026-01-02 02:17:00"
    assert machine.run(tab.nightly.command).code == 0
    assert kept(machine.output).items() > published.items()
    assert_json_lines(machine)
    assert_as_if_undisturbed(machine)


def test_a_start_that_cannot_even_log_is_mailed_and_fails(tmp_path: Path) -> None:
    tab = shipped("nightly")
    machine = Machine(tmp_path / "machine", tab, JOB)
    arrive(machine, good=(20, ()))
    machine.logs.rmdir()
    machine.logs.write_text("no folder")
    failed = machine.run(tab.nightly.command)
    assert failed.code not in {0, 75}
    assert str(machine.logs) in failed.err
    assert kept(machine.output) == {}


def test_logs_of_more_than_a_month_go_and_nothing_else_does(tmp_path: Path) -> None:
    for name in ("nightly", "dated"):
        machine = Machine(tmp_path / name, shipped(name))
        for file in ("old.jsonl", "new.jsonl", "old.txt"):
            (machine.logs / file).touch()
            if file.startswith("old"):
                then = time.time() - 40 * 86400
                os.utime(machine.logs / file, (then, then))
        assert machine.run(machine.crontab.tidying.command).code == 0
        assert sorted(p.name for p in machine.logs.iterdir()) == ["new.jsonl", "old.txt"]


def test_dated_outputs_are_a_whole_one_a_day_each_left_alone_from_then_on(tmp_path: Path) -> None:
    tab = shipped("dated")
    machine = Machine(tmp_path / "machine", tab, JOB)
    arrive(machine, big=(100, (3, 50)), small=(5, ()))

    not_begun = machine.run(tab.after_a_reboot.command)
    assert (not_begun.code, not_begun.out, not_begun.err) == (0, "", "")
    assert list(machine.output.iterdir()) == []

    assert machine.run(tab.nightly.command).code == 0
    first = machine.output / "2026-01-01"
    assert_proven(LocalStorage(first))
    left = kept(first)

    machine.today = "2026-01-02 02:17:00"
    arrive(machine, big=(100, ()))
    told = tmp_path / "told"
    running = machine.start(tab.nightly.command, PAUSE="0.05", SCORED=str(told))
    wait_for(lambda: len(scored_rows(told, "2026-01-02/big.parquet")) > 4, running)
    machine.power_off(running)
    assert machine.run(tab.after_a_reboot.command).code == 0
    second = machine.output / "2026-01-02"
    assert_proven(LocalStorage(second))
    assert left_over(LocalStorage(second)) == []
    assert kept(first) == left
    assert len(kept(second)) == len(left) + 1
    name = "2026-01-01/big.parquet"
    assert (first / name).read_bytes() == (second / name).read_bytes()
    assert_json_lines(machine)


def real_job(machine: Machine) -> None:
    """The sample digits are what is to be scored, with their model."""
    machine.job_file.write_text(
        f'model = "{SAMPLE}/digits_whole.keras"\n'
        f'imports = ["{SAMPLE}/digits_models.py"]\n'
        'features = ["pixels"]\n'
        f'input = "{SAMPLE}/digits"\n'
        f'output = "{machine.output}"\n'
    )


def test_a_real_night_logs_nothing_but_json_and_the_next_has_nothing_to_do(tmp_path: Path) -> None:
    tab = shipped("nightly")
    machine = Machine(tmp_path / "machine", tab)
    real_job(machine)
    for night in ("2026-01-01", "2026-01-02"):
        machine.today = f"{night} 02:17:00"
        done = machine.run(tab.nightly.command, module="jobs")
        assert (done.code, done.out, done.err) == (0, "", ""), next(machine.logs.iterdir())
    assert_proven(LocalStorage(machine.output))
    assert_json_lines(machine)
    last = [log.read_text().splitlines()[-1] for log in sorted(machine.logs.iterdir())]
    assert [json.loads(line)["report"]["state"] for line in last] == ["finished", "finished"]


READ_ONLY = """
set -e
mount --make-rprivate /
mount --bind "$OUTPUT" "$OUTPUT"
mount -t tmpfs private /var/tmp
cut -d " " -f 2 /proc/self/mounts | sort -u | while read -r at; do
  case "$at" in
    "$OUTPUT" | /var/tmp | /dev | /dev/* | /proc | /proc/* | /sys | /sys/*) ;;
    *) mount -o remount,bind,ro "$at" ;;
  esac
done
if touch "$HOME/written" 2>/dev/null; then echo "it can write elsewhere" >&2; exit 1; fi
exec "$@"
"""
"""As `ProtectSystem=strict` has it: only the output and a private `TMPDIR` can be written."""


def test_a_service_that_can_write_to_its_output_alone_needs_no_more(tmp_path: Path) -> None:
    unit = (ROOT / "jobs/cron/shardscore.service").read_text().splitlines()
    (line,) = (line for line in unit if line.startswith("ExecStart="))
    assert "Environment=TMPDIR=/var/tmp" in unit
    machine = Machine(tmp_path / "machine", shipped("nightly"))
    machine.pids = Path("/dev/null")
    real_job(machine)
    (machine.folder / "read-only").write_text(READ_ONLY)
    words = [machine.at(word) for word in line.removeprefix("ExecStart=").split()]
    command = shlex.join(["unshare", "--mount", "sh", str(machine.folder / "read-only"), *words])
    said = f'export OUTPUT="{machine.output}" TMPDIR=/var/tmp; {command}'
    done = machine.run(said, module="jobs")
    assert done.code == 0, done.err
    assert_proven(LocalStorage(machine.output))
