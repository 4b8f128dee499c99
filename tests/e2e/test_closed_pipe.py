"""Whoever reads the results goes away, as `head` does: the command ends quietly, and not with 0."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from jobs.exit_codes import ExitCode
from tests import conftest
from tests.e2e.lake import shard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PIPE_BYTES = 4096
"""What a pipe of the smallest size holds: a command that prints more waits for its reader."""

SHARDS = 120


@contextmanager
def standard_output_that_closes(taken: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard output is a pipe whose reader goes away after so many bytes."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def read() -> None:
        left = taken
        while left:
            left -= len(os.read(reading, left))
        os.close(reading)

    reader = threading.Thread(target=read)
    reader.start()
    if not taken:
        reader.join()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", os.fdopen(writing, "w"))
        yield
    reader.join()


@pytest.fixture
def job(cli: Any, model: Path, tmp_path: Path) -> Path:
    """A job file; its output is complete but for one more shard."""
    for number in range(SHARDS):
        shard(tmp_path / "lake" / f"{number}.parquet")
    path = tmp_path / "job.toml"
    values = {"model": model, "input": tmp_path / "lake", "output": tmp_path / "out"}
    path.write_text("".join(f"{name} = '{value}'\n" for name, value in values.items()))
    assert cli("score", "-c", path).code == 0
    shard(tmp_path / "lake" / "more.parquet", rows=300)
    return path


def test_what_no_one_reads_ends_every_command_quietly(
    job: Path, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = job.with_name("out")
    told: list[tuple[object, ...]] = [("plan", "-c", job)]
    told += [(name, output) for name in ("status", "verify", "report")]
    few = ("--rows", 8, "--seconds", 0.01, "--batch-sizes", 4, "--quiet")
    commands = [("--help",), *told, *((*one, "--json") for one in told)]
    commands += [("compare", "-c", job, *few)]
    for command in commands:
        with standard_output_that_closes(0, monkeypatch):
            done = cli(*command)
        assert (done.code, done.err) == (ExitCode.STORAGE, ""), command


def test_a_reader_that_goes_away_in_the_middle_ends_a_command_quietly(
    job: Path, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = ("report", job.with_name("out"), "--json")
    assert len(cli(*told).out) > 3 * _PIPE_BYTES
    for taken in (1, 1000, 2 * _PIPE_BYTES):
        with standard_output_that_closes(taken, monkeypatch):
            done = cli(*told)
        assert (done.code, done.err) == (ExitCode.STORAGE, ""), taken


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_python_has_nothing_to_add_when_it_closes_a_stream_that_no_one_reads(
    unbuffered: str, job: Path
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        conftest.command("status", job.with_name("out")),
        cwd=conftest.ROOT,
        env=conftest.environment(PYTHONUNBUFFERED=unbuffered),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (ExitCode.STORAGE, "")


def test_with_both_streams_in_a_pipe_that_no_one_reads_the_code_is_the_errors(job: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        conftest.command("status", job.with_name("nothing")),
        cwd=conftest.ROOT,
        env=conftest.environment(),
        stdout=writing,
        stderr=writing,
        timeout=120,
        check=False,
    )
    os.close(writing)
    assert done.returncode == ExitCode.NO_INPUT
