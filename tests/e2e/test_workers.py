"""The command with several worker processes, and with TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import Job, score
from pipeline.progress import Silent
from tests.conftest import environment, files_below, run_command
from tests.e2e.lake import shard, truncate

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Finished

FLOATS = 32


@pytest.fixture(scope="module")
def perceptron(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with one input of 32 columns."""
    import keras

    keras.utils.set_random_seed(5)
    layers = [keras.layers.Dense(n, "relu") for n in (64, 64)]
    path = tmp_path_factory.mktemp("model") / "perceptron.keras"
    keras.Sequential([keras.Input((FLOATS,)), *layers, keras.layers.Dense(10, "softmax")]).save(
        path
    )
    return path


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Big shards, small ones, bad rows, a shard that is cut off, and one that lacks a column."""
    folder = tmp_path_factory.mktemp("mixed") / "lake"
    folder.mkdir()
    random = np.random.default_rng(7)
    sizes = {"big-1": 30_000, "big-2": 21_111, "big-3": 9_000, "small-1": 700, "small-2": 1}
    for name, rows in {**sizes, "cut": 50, "narrow": 60}.items():
        values = random.normal(size=(FLOATS, rows)).astype("float32")
        table = pa.table({f"f{i:02}": column for i, column in enumerate(values)})
        if name.startswith("big"):  # a row without a value
            holed = pa.array(values[3], mask=np.arange(rows) == 5_000)
            table = table.set_column(3, "f03", holed)
        table = table.append_column("id", pa.array(range(rows)))
        pq.write_table(
            table.drop_columns(["f07"]) if name == "narrow" else table, folder / f"{name}.parquet"
        )
    truncate(folder / "cut.parquet")
    return folder


def seen(output: Path) -> dict[str, Any]:
    """What a run's report says, apart from what differs from run to run."""
    *_, path = sorted((output / "_shardscore/reports").glob("*.json"))
    report = json.loads(path.read_text())
    for outcome in report["outcomes"]:
        del outcome["seconds"]
    return {
        "outcomes": sorted(report["outcomes"], key=lambda outcome: outcome["shard"]),
        **{name: report[name] for name in ("state", "shards", "rows", "probe", "fingerprint")},
    }


@pytest.mark.slow
def test_two_workers_give_the_same_bytes_and_the_same_report_as_one(
    perceptron: Path, mixed: Path, tmp_path: Path
) -> None:
    told = []
    for workers in (1, 2):
        output = tmp_path / f"out-{workers}"
        done = run_command(
            *("score", "--model", perceptron, "--input", mixed, "--output", output),
            *("--features", "f*", "--on-bad-row", "quarantine", "--batch-size", 4096),
            *("--workers", workers, "--threads", 1),
        )
        lines = sorted(
            line[26:]
            for line in done.err.splitlines()
            if line.startswith("20") and "worker processes" not in line
        )
        told.append((done.code, lines, seen(output), files_below(output)))
    assert told[0] == told[1]
    assert told[0][0] == 65
    assert told[0][2]["rows"]["quarantined"] == 3


SCRIPT = """
import sys
from pipeline import Job, score

report = score(Job(model=sys.argv[1], input=sys.argv[2], output=sys.argv[3], workers=2))
print(report.workers, report.counts.scored, sorted({"tensorflow", "keras"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_the_process_that_hands_out_the_work_loads_no_tensorflow(
    model: Path, lake: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(model), str(lake), str(tmp_path / "out")],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split(maxsplit=2) == ["2", "30", "[]\n"], done.stderr


HOOK = """
import sys

def loud(outputs):
    print("printed by the hook")
    print("said by the hook", file=sys.stderr)
    return outputs
"""


@pytest.mark.slow
def test_what_a_hook_prints_reaches_standard_error_alone(
    model: Path, lake: Path, tmp_path: Path
) -> None:
    (tmp_path / "hook.py").write_text(HOOK)
    done = run_command(
        *("score", "--model", model, "--input", lake, "--output", tmp_path / "out", "--json"),
        *("--postprocess", f"{tmp_path / 'hook.py'}:loud", "--workers", 2),
    )
    assert done.code == 0, done.err
    assert done.document["workers"] == 2
    assert "printed by the hook" in done.err
    assert "said by the hook" in done.err


@pytest.mark.slow
def test_a_model_that_is_refused_is_refused_in_the_same_words(lake: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.keras"
    broken.write_bytes(b"no model at all")
    arguments = ("score", "--model", broken, "--input", lake, "--output", tmp_path / "out")
    one, two = (run_command(*arguments, "--workers", workers) for workers in (1, 2))
    assert one.code == two.code == 78
    assert two.err.partition("error:")[2] == one.err.partition("error:")[2] != ""
    assert not (tmp_path / "out" / "_shardscore/run.json").exists()


def test_one_process_is_enough_for_little(
    score: Callable[..., Finished], lake: Path, tmp_path: Path
) -> None:
    done = score("--json")
    assert (done.document["workers"], done.document["shards"]["published"]) == (1, 3)


def test_a_plan_tells_of_workers_and_threads(
    cli: Callable[..., Finished], model: Path, lake: Path, tmp_path: Path
) -> None:
    arguments = ("plan", "--no-model", "--model", model, "--input", lake, "-o", tmp_path / "out")
    document = cli(*arguments, "--json", "--workers", 2, "--threads", 3).document
    assert (document["workers"], document["threads"]) == (2, 3)
    assert "2, each with pools of 3 threads" in cli(*arguments, "--workers", 2, "--threads", 3).out


@pytest.mark.parametrize("value", ["0", "-1", "some", "1.5"])
@pytest.mark.parametrize("option", ["--workers", "--threads"])
def test_a_number_that_cannot_be_is_64(
    option: str, value: str, score: Callable[..., Finished]
) -> None:
    done = score(option, value)
    assert done.code == 64
    assert option in done.err


THREADS = """
import sys
from pipeline.runtime import bound_threads, tensorflow

assert bound_threads(3)
threading = tensorflow().config.threading
import pyarrow as pa

print(
    threading.get_intra_op_parallelism_threads(),
    threading.get_inter_op_parallelism_threads(),
    pa.cpu_count(),
    pa.io_thread_count(),
)
"""


@pytest.mark.slow
def test_threads_bound_each_pool_of_a_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", THREADS],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["3"] * 4, done.stderr


class Events(Silent):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.told: dict[str, str] = {}

    def event(self, name: str, text: str, **_facts: Any) -> None:
        self.told[name] = text


def test_pools_that_cannot_be_changed_any_more_are_told_of(
    model: Path, lake: Path, tmp_path: Path
) -> None:
    job = Job(model=model, input=[lake], output=tmp_path / "out", threads=5)
    events = Events()
    assert score(job, events).counts.scored == 30
    assert "TensorFlow runs in this process already" in events.told["threads"]


def test_more_workers_than_shards_are_not_begun(
    score: Callable[..., Finished], tmp_path: Path
) -> None:
    one = shard(tmp_path / "one" / "1.parquet")
    done = score("--json", "--workers", 9, input=one)
    assert done.document["workers"] == 1
