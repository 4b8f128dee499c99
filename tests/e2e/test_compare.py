"""`compare`: the table is right, and the recommendation right by the table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.compare_text import compare_text
from pipeline.recommend import Measured, recommend
from tests.conftest import SAMPLE, command, environment, run_command
from tests.e2e.lake import shard

pytestmark = pytest.mark.long

DIGITS = SAMPLE / "digits.toml"


def test_the_recommendation_on_the_flights_is_right_by_its_own_table(tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text('# mine\nmodel = "m"   # the model\nbatch_size = "auto" # decided\n')
    config = ("--config", SAMPLE / "flights.toml")
    done = run_command(
        "compare", *config, "--rows", 8192, "--seconds", 0.2, "--json", "--write", job
    )
    assert done.code == 0, done.err
    document = done.document
    measured = [Measured(**record) for record in document["measured"]]
    assert [m.batch_size for m in measured[::4]] == [32, 128, 512, 2048, 8192]
    assert all(m.problem is None and m.agrees for m in measured)
    assert max(m.difference for m in measured) < 1e-5  # type: ignore[type-var]
    assert all(m.rate > 0 and m.first_ms > m.batch_ms / 1e3 and m.memory > 0 for m in measured)
    for m in measured:
        assert m.rate == pytest.approx(m.batch_size / m.batch_ms * 1e3)
    # Streaming beats predict() where a batch is small: a call's own cost is what it pays.
    by = {(m.method, m.batch_size): m.rate for m in measured}
    assert by["predict_on_batch", 8192] > by["predict", 32]
    found, told = recommend(measured), document["recommendation"]
    assert found is not None
    assert (told["method"], told["batch_size"]) == (found.chosen.method, found.chosen.batch_size)
    assert told["text"] == found.text
    fastest = max(m.rate for m in measured if m.method != "compiled")
    assert found.chosen.rate >= 0.95 * fastest
    assert job.read_text() == (
        f'# mine\nmodel = "m"   # the model\nbatch_size = {told["batch_size"]} # decided\n'
        f'method = "{told["method"]}"\n'
    )
    text = compare_text(document)
    assert text.count("\n*  ") == 1
    assert all(len(line) <= 80 for line in text.splitlines() if "/" not in line)
    assert document["sample"]["rows"] == 8192
    assert "20 of 20" in done.err


def test_a_method_that_is_wrong_is_flagged_and_never_recommended(cli: Any, tmp_path: Path) -> None:
    job = tmp_path / "new.toml"
    options = ("--config", DIGITS, "--batch-sizes", "256,64", "--seconds", 0.1, "-q")
    done = cli("compare", *options, "--write", job)
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines()]
    assert sum("predict_on_batch" in line and line[-1] == "(!)" for line in lines) == 2
    flagged = [line for line in lines if "predict_on_batch," in line and "shape" in line]
    assert [" ".join(line[-3:]) for line in flagged] == ["(1, 64, 10)", "(1, 256, 10)"]
    (starred,) = (line for line in lines if line[:1] == ["*"] and line[2].startswith("predict"))
    assert starred[2] in {"predict_step", "predict"}
    assert "other outputs: prediction" in done.out  # the bare call knows no predict_step
    assert "predict_on_batch would give other outputs on this model" in done.out
    said = tomllib.loads(job.read_text())
    assert (said["method"], str(said["batch_size"])) == (starred[2], starred[1])
    assert cli("score", "--config", job).code == 0


@pytest.fixture
def killer(tmp_path: Path) -> Path:
    """A model whose step, given 16 rows, ends its process as the kernel does when memory is out."""
    import keras

    source = tmp_path / "killer.py"
    source.write_text(
        "import os, signal, keras, tensorflow as tf\n"
        "@keras.saving.register_keras_serializable('killer')\n"
        "class Killer(keras.Model):\n"
        "    def predict_step(self, data):\n"
        "        rows = tf.shape(data['a'] if isinstance(data, dict) else data[0]['a'])[0]\n"
        "        def end(n):\n"
        "            if int(n) == 16:\n"
        "                os.kill(os.getpid(), signal.SIGKILL)\n"
        "            return n\n"
        "        with tf.control_dependencies([tf.py_function(end, [rows], tf.int32)]):\n"
        "            return super().predict_step(data)\n"
    )
    from pipeline.user_code import import_module

    module = import_module(str(source))
    a, b = keras.Input((1,), name="a"), keras.Input((1,), name="b")
    module.Killer({"a": a, "b": b}, keras.layers.Add()([a, b])).save(tmp_path / "k.keras")
    return tmp_path / "k.keras"


def test_a_process_that_is_killed_is_a_line_and_the_rest_goes_on(
    cli: Any, killer: Path, tmp_path: Path
) -> None:
    shard(tmp_path / "lake" / "1.parquet", rows=70)
    options = ("--model", killer, "--import", killer.with_name("killer.py"))
    sizes = ("--batch-sizes", "16,32", "--seconds", 0.05)
    done = cli("compare", *options, "--input", tmp_path / "lake", *sizes, "--json")
    assert done.code == 0, done.err
    problems = {
        (record["method"], record["batch_size"]): record["problem"]
        for record in done.document["measured"]
    }
    assert problems["predict", 16] == "killed (out of memory?)"
    assert problems["predict_step", 16] == "killed (out of memory?)"
    assert problems["predict", 32] is None
    assert done.document["recommendation"]["batch_size"] == 32
    assert "killed (out of memory?)" in compare_text(done.document)


def test_what_score_would_refuse_is_refused_in_the_same_words(
    cli: Any, model: Path, tmp_path: Path
) -> None:
    shard(tmp_path / "lake" / "1.parquet", a=None)
    done = cli("compare", "--model", model, "--input", tmp_path / "lake")
    assert done.code == 65
    assert "no column feeds the model's input 'a'" in done.err
    shard(tmp_path / "lake" / "1.parquet", a=pa.nulls(10, pa.float32()))
    done = cli("compare", "--model", model, "--input", tmp_path / "lake")
    assert (done.code, "there is no row to measure with" in done.err) == (66, True)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--model", "none.keras"), 78, "the model does not exist"),
        (("--batch-sizes", "32;64"), 64, "no list of numbers"),
        (("--batch-sizes", "0"), 64, "no list of numbers"),
        (("--rows", "0"), 64, "--rows"),
        (("--write", "broken.toml"), 78, "not TOML"),
        (("--write", "table.toml"), 78, "set them by hand"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_measured(
    options: tuple[str, ...],
    code: int,
    said: str,
    cli: Any,
    model: Path,
    lake: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "broken.toml").write_text("a = ")
    (tmp_path / "table.toml").write_text("[method]\n")
    placed = [str(tmp_path / word) if word.endswith(".toml") else word for word in options]
    named = () if "--model" in placed else ("--model", model)
    begun = time.monotonic()
    done = cli("compare", *named, "--input", lake, *placed)
    assert (done.code, said in done.err) == (code, True), done.err
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_ends_all_processes_and_leaves_no_file(
    number: int, code: int, tmp_path: Path
) -> None:
    arguments = command("compare", "--config", DIGITS, "--seconds", 5, "--log-format", "json")
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        arguments,
        cwd=SAMPLE.parent,
        env=environment(TMPDIR=str(tmp_path / "tmp")),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if json.loads(line)["event"] == "measured":
            break
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert "stopped before all was measured" in err
    assert children
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert list((tmp_path / "tmp").iterdir()) == []
