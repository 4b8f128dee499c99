"""The benchmark from end to end, on next to nothing: that it runs, not how fast anything is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.long  # TensorFlow is imported nine times
@pytest.mark.timeout(900)
def test_the_benchmark_runs_its_contestants_and_the_limit_and_saves_what_it_found(
    tmp_path: Path,
) -> None:
    words = ["--scale", "0.001", "--rounds", "1", "--only", "W1"]
    words += ["--contestants", "pandas_loop,tf_data"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", *words],
        cwd=ROOT,
        env={**os.environ, "BENCH_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (saved,) = (tmp_path / "results").glob("*.json")
    found = json.loads(saved.read_text())
    runs = {run["contestant"]: run for run in found["runs"]}
    assert list(runs) == ["loading", "shardscore", "pandas_loop", "tf_data"]
    for name, run in runs.items():
        assert run["fault"] is None
        assert run["peak"] > 0
        assert run["wall"] > run["after_loading"]
        if name != "loading":
            assert run["rows"] == 8_000
            assert run["after_loading"] > 0
    assert all(rate > 0 for ways in found["limits"]["W1"].values() for rate in ways)
    assert set(found["parts"]["W1"]) == {"read", "score", "write"}
    assert found["notes"] == []
    assert saved.with_suffix(".md").read_text() == done.stdout
    assert not list((tmp_path / "out").iterdir())
