"""Standard streams that are closed, full, or know ASCII alone: a command's end is its own."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT, environment, run_command

if TYPE_CHECKING:
    from pathlib import Path


def redirected(arguments: list[object], redirection: str, **variables: str) -> tuple[int, str]:
    """A command behind a shell's redirection: its exit code, and standard error."""
    words = [sys.executable, "-m", "jobs", *map(str, arguments)]
    done = subprocess.run(
        ["sh", "-c", f"{shlex.join(words)} {redirection}"],
        cwd=ROOT,
        env=environment(**variables),
        stderr=subprocess.PIPE,
        text=True,
    )
    return done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_a_run_scores_whatever_its_streams_are(
    redirection: str, model: Path, lake: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    asked: list[object] = ["score", "--model", model, "--input", lake, "--output", output]
    assert redirected(asked, redirection)[0] == 0
    assert (output / "_SUCCESS").exists()
    assert len(list(output.glob("*.parquet"))) == 3


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_the_results_is_no_bug(unbuffered: str) -> None:
    code, told = redirected(["score", "--help"], ">/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert code == 74
    assert "the results cannot be written to standard output" in told


def test_what_ascii_cannot_say_is_spelt_out(tmp_path: Path) -> None:
    done = run_command("status", tmp_path / "schön", PYTHONIOENCODING="ascii")
    assert done.code == 66
    assert "sch\\xf6n" in done.err
