"""The image at work: uid 10001, a root that cannot be written, no network, no capabilities."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import files_below
from tests.image.containers import ROOM, TMP, UID, Container, run, shell, start, writable

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import FlightsRun

pytestmark = [
    pytest.mark.image,
    pytest.mark.timeout(1800),
    pytest.mark.usefixtures("image"),
]

FLIGHTS = 336_776
SCORED = 328_521
SCORE = ("score", "--config", "/data/sample/flights.toml", "--output", "/data/out")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return writable(tmp_path / "out")


def at(out: Path) -> list[str]:
    return [f"{out}:/data/out"]


def wait_for(true: Callable[[], bool], container: Container) -> None:
    deadline = time.monotonic() + 240
    while not true():
        if container.process.poll() is not None:
            pytest.fail(f"ended too early: {container.ended().err}")
        assert time.monotonic() < deadline, "it does not get on"
        time.sleep(0.005)


# What it is


def test_without_arguments_it_says_how_it_is_used() -> None:
    done = run()
    assert done.code == 0, done.err
    assert done.out.startswith("Usage: shardscore")


def test_it_tells_its_versions() -> None:
    done = run("--version")
    assert done.code == 0, done.err
    assert {line.split()[0] for line in done.out.splitlines()} >= {"shardscore", "tensorflow"}


@pytest.mark.parametrize(
    ("arguments", "code"), [(["score", "--no-such-option"], 64), (["status", "/data/none"], 66)]
)
def test_its_exit_codes_are_those_of_the_command(arguments: list[str], code: int) -> None:
    assert run(*arguments).code == code


def test_it_is_who_it_says_it_is_and_may_write_to_tmp_and_the_output_alone(out: Path) -> None:
    done = shell(
        "id -u; id -g; id -un; echo $HOME $TMPDIR;"
        "grep -E '^(CapEff|NoNewPrivs)' /proc/self/status;"
        "find / -xdev -writable ! -type l 2>/dev/null; echo --;"
        "for f in /tmp /data/out /data /opt/shardscore / /var/tmp /data/sample; do"
        "  if touch $f/x 2>/dev/null; then echo $f; fi; done",
        mounts=at(out),
    )
    who, writable_places = done.out.split("--\n")
    lines = who.splitlines()
    assert lines[:4] == [str(UID), str(UID), "shardscore", f"{TMP} {TMP}"]
    assert lines[4:6] == ["CapEff:\t0000000000000000", "NoNewPrivs:\t1"]
    assert not [line for line in lines[6:] if line.startswith("/opt")]
    assert writable_places.split() == [TMP, "/data/out"]


# What it does


def test_the_flights_are_scored_to_the_bytes_of_a_run_outside(
    flights_run: FlightsRun, out: Path
) -> None:
    done = run(*SCORE, "--json", mounts=at(out))
    assert done.code == 0, done.err
    rows = done.document["rows"]
    assert (rows["in"], rows["scored"]) == (FLIGHTS, SCORED)
    print(f"{rows['scored']:,} rows scored as uid {UID} on a read-only root")
    ours, theirs = files_below(out), files_below(flights_run.output)
    assert ours.keys() == theirs.keys()
    # The job's identity names its code; what is told of versions and machines is no part of it.
    predictions = [name for name in theirs if name.endswith(".parquet")]
    assert len(predictions) > 42
    assert [name for name in predictions if ours[name] != theirs[name]] == []
    assert {path.stat().st_uid for path in out.rglob("*")} == {UID}
    proof = run("verify", "/data/out", "--input", "/data/sample/flights", "--json", mounts=at(out))
    assert (proof.code, proof.document["ok"]) == (0, True), proof.err


def test_what_it_leaves_is_in_the_output_and_not_in_tmp(tmp_path: Path, out: Path) -> None:
    room = writable(tmp_path / "tmp")
    done = run(
        *("score", "--config", "/data/sample/digits.toml", "--output", "/data/out"),
        mounts=at(out),
        options=[f"--volume={room}:{TMP}"],
    )
    assert done.code == 0, done.err
    left = [path for path in room.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in left) < 1 << 20, left


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_told_to_stop_it_saves_and_the_next_one_ends_in_the_same_bytes(
    signum: int, code: int, workers: str, flights_run: FlightsRun, out: Path
) -> None:
    """As an engine stops a container: a signal to process 1."""
    arguments = (*SCORE, "--workers", workers, "--threads", "2")
    stopped = start(arguments, mounts=at(out))
    wait_for(lambda: any(out.glob("*.parquet")), stopped)
    stopped.signal(signum)
    done = stopped.ended(seconds=120)
    assert done.code == code, done.err
    assert 0 < len([*out.glob("*.parquet")]) < 42
    again = run(*arguments, mounts=at(out))
    assert again.code == 0, again.err
    ours, theirs = files_below(out), files_below(flights_run.output)
    assert [
        name for name in theirs if name.endswith(".parquet") and ours[name] != theirs[name]
    ] == []
    assert run("verify", "/data/out", "--no-input", mounts=at(out)).code == 0


def test_a_signal_while_it_still_starts_up_is_not_lost(out: Path) -> None:
    container = start(SCORE, mounts=at(out))
    children = Path(f"/proc/{container.first}/task/{container.first}/children")
    wait_for(lambda: bool(children.read_text()), container)
    container.signal(signal.SIGTERM)
    assert container.ended(seconds=120).code in {75, 128 + signal.SIGTERM}
    assert not list(out.glob("*.parquet"))


def test_a_uid_of_the_clusters_own_will_do(tmp_path: Path) -> None:
    """Some clusters choose one for each namespace, which no /etc/passwd knows."""
    out = writable(tmp_path / "own", 1_000_770_000)
    done = run(
        *("score", "--config", "/data/sample/digits.toml", "--output", "/data/out"),
        mounts=at(out),
        options=[*ROOM, "--user=1000770000:0"],
    )
    assert done.code == 0, done.err


# What is not given to it


def test_without_a_tmp_it_says_what_to_mount(out: Path) -> None:
    done = run(*SCORE, "--log-format", "json", mounts=at(out), options=())
    assert done.code == 74
    last = json.loads(done.err.splitlines()[-1])
    assert "no folder for temporary files" in done.err
    assert TMP in json.dumps(last)
    assert "Traceback" not in done.err
    assert not list(out.glob("*.parquet"))


def test_an_output_that_it_may_not_write_to_is_named(out: Path) -> None:
    os.chown(out, 0, 0)
    out.chmod(0o755)
    done = run(*SCORE, mounts=at(out))
    assert done.code == 74
    assert "/data/out" in done.err
    assert "Traceback" not in done.err
    elsewhere = run(*SCORE)
    assert elsewhere.code == 74
    assert "/data/out" in elsewhere.err
    assert "Traceback" not in elsewhere.err
