"""The benchmark's own promises: wrong predictions do not count, a missed figure is shown, and a
process is measured with all that it starts."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.bench import environments, processes
from tests.bench.check import complaint
from tests.bench.contest import Run
from tests.bench.machine import machine
from tests.bench.sections import Bench
from tests.bench.tables import markdown
from tests.bench.targets import targets

MIB = 2**20
KEYS = np.arange(100)
VALUES = np.random.default_rng(1).random((100, 3), "float32")


def folder_of(path: Path, keys: Any, values: Any, *, columns: bool = False) -> Path:
    """A folder of two shards, their predictions as a list column or as a column each."""
    path.mkdir()
    for number, rows in enumerate((slice(0, 60), slice(60, None))):
        table = {"id": pa.array(keys[rows])}
        if columns:
            table |= {f"prediction_{i}": values[rows, i] for i in range(values.shape[1])}
        else:
            lists = pa.FixedSizeListArray.from_arrays(values[rows].ravel(), values.shape[1])
            table["prediction"] = lists
        pq.write_table(pa.table(table), path / f"{number}.parquet")
    return path


def test_predictions_are_compared_by_key_whatever_their_order_and_their_columns(
    tmp_path: Path,
) -> None:
    ours = folder_of(tmp_path / "ours", KEYS, VALUES)
    theirs = folder_of(tmp_path / "theirs", KEYS[::-1], VALUES[::-1], columns=True)
    assert complaint(ours, theirs, "id", 100) is None


@pytest.mark.parametrize(
    ("keys", "values", "told"),
    [
        (KEYS, VALUES + np.float32([0, 0, 1e-3]), "differ by up to 0.001"),
        (KEYS, VALUES[::-1], "differ"),
        (KEYS[:90], VALUES[:90], "90 rows, not 100"),
        (KEYS + 1, VALUES, "none of the input's"),
        (np.where(KEYS == 7, 6, KEYS), VALUES, "twice"),
        (KEYS, VALUES[:, :2], "shape"),
        (KEYS, np.where(KEYS[:, None] == 7, np.nan, VALUES), "differ"),
    ],
)
def test_a_contestant_with_other_predictions_does_not_count(
    tmp_path: Path, keys: Any, values: Any, told: str
) -> None:
    ours = folder_of(tmp_path / "ours", KEYS, VALUES)
    theirs = folder_of(tmp_path / "theirs", keys, values)
    assert told in (complaint(ours, theirs, "id", 100) or "")


def test_a_part_of_the_rows_is_held_against_the_same_rows_of_the_whole(tmp_path: Path) -> None:
    ours = folder_of(tmp_path / "ours", KEYS, VALUES)
    theirs = folder_of(tmp_path / "theirs", KEYS[10:80], VALUES[10:80])
    assert complaint(ours, theirs, "id", 70) is None


def measured(tmp_path: Path, program: str, timeout: float = 60) -> processes.Measured:
    words = [sys.executable, "-c", program]
    return processes.run(words, cwd=tmp_path, env=os.environ, timeout=timeout)


def test_memory_and_cpu_of_child_processes_are_counted(tmp_path: Path) -> None:
    child = (
        "import time; held = bytearray(64 << 20)\n"
        "while time.process_time() < 0.5: pass\n"
        "time.sleep(1)"
    )
    program = (
        "import subprocess, sys; held = bytearray(64 << 20)\n"
        f"both = [subprocess.Popen([sys.executable, '-c', {child!r}]) for _ in range(2)]\n"
        "[each.wait() for each in both]"
    )
    found = measured(tmp_path, program)
    assert found.code == 0, found.err
    assert found.processes == 3
    assert found.peak > 3 * 64 * MIB
    assert found.cpu >= 1.0


def test_a_process_that_outlives_its_command_is_measured_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.2)
    orphan = (
        "import os, time; open('pid', 'w').write(str(os.getpid()))\n"
        "while time.process_time() < 0.3: pass\n"
        "time.sleep(600)"
    )
    program = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {orphan!r}], start_new_session=True)\n"
        "time.sleep(2)"
    )
    found = measured(tmp_path, program)
    assert found.code == 0, found.err
    assert found.cpu >= 0.3
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


def test_a_command_that_takes_too_long_is_ended_and_has_failed(tmp_path: Path) -> None:
    assert measured(tmp_path, "import time; time.sleep(600)", timeout=0.5).code < 0


def test_lines_on_standard_error_carry_the_moment_they_came(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "print('early', file=sys.stderr, flush=True); time.sleep(0.5)\n"
        "print('late', file=sys.stderr, flush=True)"
    )
    (early, first), (late, second) = measured(tmp_path, program).lines
    assert (first, second) == ("early\n", "late\n")
    assert 0.4 < late - early < 30


def test_every_requirement_is_pinned_and_names_no_index() -> None:
    files = list(environments.CONTESTANTS.glob("*/requirements.txt"))
    assert {path.parent.name for path in files} == set(environments.names())
    for path in files:
        for line in path.read_text().splitlines():
            assert line.startswith("#") or re.fullmatch(r"[a-z0-9-]+==[0-9.]+", line), path


def test_spark_without_java_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "env" / "spark").mkdir(parents=True)
    (tmp_path / "env" / "spark" / ".ready").touch()
    monkeypatch.setattr(environments, "HOME", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Java 17" in (environments.missing("spark") or "")
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    assert "is 11.0.2" in (environments.missing("spark") or "")
    java.write_text("#!/bin/sh\necho 'openjdk version \"21\" 2023-09-19' >&2\n")
    assert environments.missing("spark") is None


def run_of(contestant: str, seconds: float, **more: Any) -> dict[str, Any]:
    run = Run("W1", contestant, rows=1000, wall=seconds + 5, after_loading=seconds, peak=MIB)
    return run.as_json() | more


def found_with(*runs: dict[str, Any]) -> dict[str, Any]:
    bench = Bench(scale=1, rounds=1, contestants=()).as_json()
    return {
        **bench,
        "runs": list(runs),
        "machine": machine(),
        "command": "make bench",
        "titles": {},
    }


def test_a_figure_that_is_missed_is_shown_as_missed() -> None:
    found = found_with(run_of("shardscore", 1.0), run_of("pandas_loop", 3.0), run_of("daft", 2.5))
    by_text = {target.text: target.reached for target in targets(found)}
    assert by_text["W1: times pandas_loop"] is False
    assert by_text["W1: times daft"] is True
    assert by_text["W1: times spark"] is None
    (line,) = [line for line in markdown(found).splitlines() if "W1: times pandas" in line]
    assert "3.00 x" in line
    assert "**no**" in line


def test_a_contestant_that_failed_has_no_figures_and_its_fault_is_shown() -> None:
    found = found_with(
        run_of("shardscore", 1.0), run_of("pandas_loop", 9.0, fault="it ended with 1")
    )
    assert {t.text: t.found for t in targets(found)}["W1: times pandas_loop"] is None
    assert "does not count: it ended with 1" in markdown(found)


def test_ratios_are_taken_round_by_round() -> None:
    runs = [
        run_of(name, seconds, round=number)
        for number, pair in enumerate([(1.0, 4.0), (2.0, 8.0), (1.0, 5.0)])
        for name, seconds in zip(("shardscore", "pandas_loop"), pair, strict=True)
    ]
    by_text = {target.text: target.found for target in targets(found_with(*runs))}
    assert by_text["W1: times pandas_loop"] == pytest.approx(4.0)
