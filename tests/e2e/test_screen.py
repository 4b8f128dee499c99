"""What is shown: on a terminal, elsewhere, and before anything heavy is loaded."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pexpect
import pytest

from pipeline import progress
from pipeline.errors import CorruptShardError
from pipeline.records import Outcome
from tests.conftest import SAMPLE, command, environment

if TYPE_CHECKING:
    from pathlib import Path


def test_a_terminal_gets_a_live_bar_and_a_summary(tmp_path: Path) -> None:
    arguments = command(
        "score",
        "--config",
        SAMPLE / "flights.toml",
        "--output",
        tmp_path / "out",
        "--input",
        SAMPLE / "flights" / "2013-0[1-3].parquet",
        "--batch-size",
        128,
    )
    terminal = pexpect.spawn(
        arguments[0],
        arguments[1:],
        env=environment(TERM="xterm"),
        encoding="utf-8",
        dimensions=(24, 120),
        timeout=120,
    )
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.before)
    assert re.search(r"\d+%  [\d,]+ of 80,789 rows  [\d,]+ rows/s  \d+:\d\d left", shown)
    assert re.search(r"[0-2] of 3 shards.*; at work: 2013-0[1-3]\.parquet", shown)
    summary = shown[shown.rindex("rows in:") :]
    assert re.search(r"rows in: +80,789", summary)
    assert re.search(r"shards: +3: 3 by predict_on_batch\(\)", summary)
    for fact in ("scored:", "quarantined:", "rows/s", "memory:", str(tmp_path / "out")):
        assert fact in summary


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_elsewhere_lines_come_at_a_steady_interval(
    as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    observer = progress.observer_for("json" if as_json else "auto", quiet=False, stream=out)
    observer.begin(rows=1_000, shards=2)
    for _ in range(10):
        now[0] += 3.0
        observer.advance(50)
    lines = out.getvalue().splitlines()
    # Every 10 s at the next batch: at 12 s and 24 s.
    assert len(lines) == 2
    if as_json:
        last = json.loads(lines[-1])
        assert (last["rows_done"], last["rows"], last["seconds_left"]) == (400, 1_000, 36.0)
    else:
        assert lines[-1].endswith("400 of 1,000 rows (40%), 17 rows/s, 0 of 2 shards, 36 s left")


def test_of_many_shards_that_fail_a_terminal_is_told_of_the_first_ten_and_a_log_of_all() -> None:
    def told(observer: progress.Observer, out: io.StringIO) -> str:
        for i in range(3):
            observer.shard(Outcome(f"{i}", "failed", error=CorruptShardError(f"damaged at {i}")))
        observer.begin(rows=1, shards=1)
        for i in range(3, 1_000):
            observer.shard(Outcome(f"{i}", "failed", error=CorruptShardError(f"damaged at {i}")))
        observer.end()
        return out.getvalue()

    out = io.StringIO()
    assert told(progress.Bar(out), out).count("failed: damaged at") == 10
    assert out.getvalue().count("`status` lists them") == 1
    out = io.StringIO()
    lines = progress.Lines(out, as_json=False, quiet=False)
    assert told(lines, out).count("failed: damaged at") == 1_000


def test_quiet_shows_problems_alone() -> None:
    out = io.StringIO()
    observer = progress.observer_for("auto", quiet=True, stream=out)
    observer.event("model_loading", "loading")
    observer.begin(rows=1, shards=1)
    observer.shard(Outcome("fine", "published"))
    assert out.getvalue() == ""
    observer.shard(Outcome("bad", "failed", error=CorruptShardError("damaged", path="bad")))
    assert "shard bad failed" in out.getvalue()


@pytest.mark.parametrize(
    "arguments",
    [["--help"], *([name, "--help"] for name in ("score", "plan", "status", "verify"))],
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom jobs.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print([m for m in ('tensorflow', 'keras', 'pyarrow', 'numpy')"
        " if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0
    assert "Usage: shardscore" in done.stdout
    assert done.stderr.strip() == "[]"


def test_each_commands_help_has_an_example() -> None:
    for name in ("score", "plan", "status", "verify"):
        done = subprocess.run(
            command(name, "--help"), capture_output=True, text=True, env=environment(), check=True
        )
        assert f"Example: shardscore {name}" in done.stdout
