"""How a command ends that neither succeeds nor meets an error of ours: its exit code, its words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

import jobs.__main__
from tests.conftest import Finished, command, environment

Cli = Callable[..., Finished]


def _into(stdout: int, *arguments: str, **extra: str) -> Finished:
    done = subprocess.run(
        command(*arguments),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**extra),
        check=False,
    )
    return Finished(done.returncode, "", done.stderr)


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["at the end", "at once"])
@pytest.mark.parametrize("arguments", [("--version",), ("score", "--help")])
def test_results_that_nobody_reads_are_no_success_and_no_fault_of_the_users(
    arguments: tuple[str, ...], unbuffered: str
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = _into(writing, *arguments, PYTHONUNBUFFERED=unbuffered)
    os.close(writing)
    assert (done.code, done.err) == (74, "")


def test_results_that_cannot_be_written_are_an_error_of_storage() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    done = _into(full, "--version", PYTHONUNBUFFERED="")
    os.close(full)
    assert done.code == 74
    assert done.err.startswith("error: the results cannot be written to standard output\n")
    assert "No space left" in done.err


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cli: Cli) -> Cli:
    """Runs `status` where it raises an error that nobody expected."""

    def run(error: BaseException) -> Finished:
        def raises(_output: str) -> Any:
            raise error

        monkeypatch.setattr("pipeline.status.status", raises)
        return cli("status", tmp_path)

    return run


def test_what_nobody_expected_is_a_bug_and_shows_where(raising: Cli) -> None:
    done = raising(ZeroDivisionError("by\x1b[31m nought"))
    assert (done.code, done.out) == (70, "")
    assert "ZeroDivisionError" in done.err
    assert "test_endings.py" in done.err
    assert "this is a bug of shardscore" in done.err
    assert "\x1b" not in done.err


def test_a_bug_is_one_json_object_where_logs_are(
    raising: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARDSCORE_LOG_FORMAT", "json")
    told = json.loads(raising(ZeroDivisionError("by nought")).err)
    assert (told["kind"], told["exit_code"]) == ("Bug", 70)
    assert told["message"] == "ZeroDivisionError: by nought"
    assert "Traceback" in told["traceback"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), typer.Abort(), EOFError()], ids=repr)
def test_who_leaves_at_a_prompt_or_by_ctrl_c_is_told_nothing_more(
    error: BaseException, raising: Cli
) -> None:
    done = raising(error)
    assert (done.code, done.err.strip()) == (130, "")


def test_an_old_python_is_refused_before_anything_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 18, "final", 0))
    with pytest.raises(SystemExit) as ended:
        jobs.__main__.run()
    assert ended.value.code == 78
    said = capsys.readouterr().err
    assert "expected: Python 3.11 or newer" in said
    assert "received: Python 3.9.18" in said
