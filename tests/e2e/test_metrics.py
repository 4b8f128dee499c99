"""What a run tells Prometheus, from its beginning to its end, however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from jobs import monitor, pushgateway
from pipeline import run_state
from pipeline.storage import LocalStorage
from tests.conftest import Finished, files_below
from tests.e2e.gateways import Answering, serving
from tests.e2e.lake import truncate
from tests.faults import arithmetic
from tests.faults.lake import Lake, begin, ended, make_lake, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Score = Callable[..., Finished]

SUCCESS = "shardscore_last_success_timestamp_seconds"
EXIT = "shardscore_exit_code"
START = "shardscore_run_start_timestamp_seconds"
END = "shardscore_run_end_timestamp_seconds"
SCORED = 'shardscore_rows_total{state="scored"}'
QUARANTINED = 'shardscore_rows_total{state="quarantined"}'
SPEED = "shardscore_rows_per_second"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A big shard, and a small one with bad rows."""
    return make_lake(tmp_path, {"big": (50, ()), "small": (8, (2, 5))})


@pytest.fixture
def prom(tmp_path: Path) -> Path:
    (tmp_path / "told").mkdir()
    return tmp_path / "told" / "shardscore.prom"


@pytest.fixture
def score(
    cli: Callable[..., Finished], lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Score:
    """The command with arithmetic in the place of TensorFlow, in this process."""
    arithmetic.install(monkeypatch.setattr)
    return lambda *more: cli(*lake.arguments(tmp_path / "out", "--workers", 1, *more))


def samples(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def told(prom: Path) -> dict[str, float]:
    return samples(prom.read_text())


# The file


def test_a_run_tells_what_it_did(score: Score, prom: Path) -> None:
    before = time.time()
    assert score("--metrics-file", prom).code == 0
    figures = told(prom)
    assert figures[EXIT] == 0
    assert before <= figures[START] <= figures[END] <= time.time()
    assert figures[SUCCESS] == figures[END]
    assert (figures[SCORED], figures[QUARANTINED]) == (56, 2)
    assert figures['shardscore_shards{state="published"}'] == 2
    assert figures["shardscore_rows_planned"] == figures["shardscore_rows_done"] == 58
    assert figures[SPEED] > 0
    assert figures["shardscore_peak_memory_bytes"] > 1 << 20
    assert any(name.startswith('shardscore_info{shardscore="') for name in figures)


def test_the_output_is_the_same_with_and_without_metrics(
    score: Score, prom: Path, tmp_path: Path
) -> None:
    assert score().code == 0
    without = files_below(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "before")
    with serving(Answering()) as server:
        options = ("--metrics-file", prom, "--metrics-name", "n", "--pushgateway", server.address)
        assert score(*options).code == 0
    assert files_below(tmp_path / "out") == without
    assert list(prom.parent.iterdir()) == [prom]


def test_a_failed_run_leaves_the_last_success(score: Score, lake: Lake, prom: Path) -> None:
    assert score("--metrics-file", prom).code == 0
    success = told(prom)[SUCCESS]
    truncate(make_lake(lake.folder / "more", {"new": (9, ())}).shards / "new.parquet")
    (lake.folder / "more" / "lake" / "new.parquet").rename(lake.shards / "new.parquet")
    assert score("--metrics-file", prom).code == 65
    figures = told(prom)
    assert (figures[SUCCESS], figures[EXIT]) == (success, 65)
    assert figures[END] > success
    assert figures['shardscore_shards{state="failed"}'] == 1


def test_a_run_that_does_not_begin_tells_its_end_and_leaves_the_rest(
    score: Score, lake: Lake, prom: Path
) -> None:
    assert score("--metrics-file", prom).code == 0
    before = told(prom)
    for path in lake.shards.iterdir():
        path.unlink()
    assert score("--metrics-file", prom).code == 66
    after = told(prom)
    assert after[EXIT] == 66
    assert {n for n in after if after[n] != before[n]} == {
        EXIT, START, END, "shardscore_run_duration_seconds",
    }  # fmt: skip


def test_a_run_with_nothing_to_do_is_a_success_and_leaves_rows_and_speed(
    score: Score, prom: Path
) -> None:
    assert score("--metrics-file", prom).code == 0
    before = told(prom)
    assert score("--metrics-file", prom).code == 0
    after = told(prom)
    assert after[SUCCESS] > before[SUCCESS]
    assert after['shardscore_shards{state="done_before"}'] == 2
    for name in (SCORED, QUARANTINED, SPEED):
        assert after[name] == before[name]


def test_a_job_that_is_wrong_is_told(score: Score, prom: Path, tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text("batch_sise = 4")
    assert score("--metrics-file", prom, "--config", tmp_path / "job.toml").code == 78
    assert told(prom)[EXIT] == 78
    assert SUCCESS not in told(prom)


@pytest.mark.parametrize(("raised", "code"), [("storage", 74), ("bug", 70), ("exit", 78)])
def test_what_ends_a_run_is_told(
    raised: str, code: int, score: Score, prom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAISES", "big.parquet")
    monkeypatch.setenv("RAISED", raised)
    assert score("--metrics-file", prom).code == code
    assert told(prom)[EXIT] == code
    assert SUCCESS not in told(prom)


def test_figures_are_told_while_a_run_goes_on(
    score: Score,
    cli: Callable[..., Finished],
    lake: Lake,
    prom: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert score("--metrics-file", prom).code == 0
    success = told(prom)[SUCCESS]
    texts: list[str] = []
    write = monitor.write_text

    def written(path: Path, text: str, **how: Any) -> None:
        texts.append(text)
        write(path, text, **how)

    monkeypatch.setattr(monitor, "write_text", written)
    monkeypatch.setattr(run_state, "SNAPSHOT_SECONDS", 0.0)
    again = lake.arguments(prom.parent.parent / "again", "--workers", 1, "--metrics-file", prom)
    assert cli(*again).code == 0
    seen = [samples(text) for text in texts]
    assert len({figures[START] for figures in seen}) == 1
    assert [figures[SUCCESS] for figures in seen[:-1]] == [success] * (len(seen) - 1)
    assert seen[-1][SUCCESS] > success
    assert seen[0]["shardscore_rows_done"] == 58  # those of the run before: scoring begins later
    during = [figures["shardscore_rows_done"] for figures in seen[1:]]
    assert during == sorted(during)
    assert len(set(during)) >= 7
    assert during[-1] == 58


def test_figures_are_told_no_more_often_than_reports(score: Score, prom: Path) -> None:
    calls: list[bool] = []
    tell = monitor.MetricsFile.tell

    class Counted(monitor.MetricsFile):
        def tell(self, figures: Any, labels: Any, *, last: bool) -> str | None:
            calls.append(last)
            return tell(self, figures, labels, last=last)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitor, "MetricsFile", Counted)
        patch.setattr(run_state, "SNAPSHOT_SECONDS", 3600.0)
        assert score("--metrics-file", prom).code == 0
    assert calls == [False, True]


def test_who_finds_another_run_at_work_leaves_its_figures_alone(
    score: Score, prom: Path, tmp_path: Path
) -> None:
    holder = """
import sys
from pipeline.storage import LocalStorage
with LocalStorage(sys.argv[1]).hold("run.lock"):
    print("held", flush=True)
    sys.stdin.readline()
"""
    prom.write_text("# HELP shardscore_exit_code of the other\n")
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path / "out")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert score("--metrics-file", prom).code == 75
        process.kill()
    assert prom.read_text() == "# HELP shardscore_exit_code of the other\n"


def test_a_killed_run_has_told_its_start_and_no_end(lake: Lake, prom: Path, tmp_path: Path) -> None:
    arguments = lake.arguments(tmp_path / "out", "--workers", 1, "--metrics-file", prom)
    assert ended(begin(arguments, DIES="big.parquet")).code == -signal.SIGKILL
    assert START in told(prom)
    assert EXIT not in told(prom)
    assert ended(begin(arguments)).code == 0
    assert told(prom)[EXIT] == 0


def test_a_run_that_is_stopped_tells_75(lake: Lake, prom: Path, tmp_path: Path) -> None:
    scored = tmp_path / "scored"
    arguments = lake.arguments(tmp_path / "out", "--workers", 1, "--metrics-file", prom)
    process = begin(arguments, PAUSE="0.1", SCORED=str(scored))
    wait_for(scored.exists, process)
    process.send_signal(signal.SIGTERM)
    assert ended(process).code == 75
    assert told(prom)[EXIT] == 75
    assert SUCCESS not in told(prom)


def test_workers_memory_is_told_too(lake: Lake, prom: Path, tmp_path: Path) -> None:
    arguments = lake.arguments(tmp_path / "out", "--workers", 2, "--metrics-file", prom)
    done = ended(begin([*arguments, "--json"]))
    figures, report = told(prom), done.document
    assert report["workers"] == 2
    assert figures["shardscore_peak_memory_bytes"] == report["memory"]["peak_bytes"]
    assert (figures[SCORED], figures[EXIT]) == (56, 0)


# Names and shares


def test_a_name_is_on_each_sample_and_a_share_has_its_number(score: Score, prom: Path) -> None:
    share = ("--shard-index", 1, "--shard-count", 2)
    assert score("--metrics-file", prom, "--metrics-name", "nightly", *share).code == 0
    for name in told(prom):
        assert re.match(r'shardscore_\w+\{name="nightly",shard_index="1"[,}]', name)
        assert ".parquet" not in name


def test_the_number_of_a_share_may_be_in_the_job_file(
    score: Score, prom: Path, tmp_path: Path
) -> None:
    (tmp_path / "job.toml").write_text("shard_index = 0\nshard_count = 2\n")
    assert score("--metrics-file", prom, "--config", tmp_path / "job.toml").code == 0
    assert EXIT + '{shard_index="0"}' in told(prom)


# Metrics that cannot be told


def warned(done: Finished) -> list[str]:
    return [line for line in done.err.splitlines() if "metrics could not be told" in line]


def test_a_folder_that_is_not_there_is_a_warning(score: Score, tmp_path: Path) -> None:
    done = score("--metrics-file", tmp_path / "none" / "a.prom")
    assert done.code == 0
    assert len(warned(done)) == 1
    assert "no such file or folder" in warned(done)[0]


def test_a_file_of_something_else_is_left_as_it_is(score: Score, tmp_path: Path) -> None:
    done = score("--metrics-file", tmp_path / "model.keras")
    assert done.code == 0
    assert "no metrics file of shardscore" in warned(done)[0]
    assert (tmp_path / "model.keras").read_bytes() == b"arithmetic"


def test_what_is_no_file_is_left_as_it_is(score: Score, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        done = score("--metrics-file", path)
        assert done.code == 0
        assert "no metrics file of shardscore" in warned(done)[0]
    assert (tmp_path / "pipe").is_fifo()


def test_a_gateway_that_is_down_is_one_warning(
    score: Score, prom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_state, "SNAPSHOT_SECONDS", 0.0)
    with serving(Answering()) as server:
        pass
    done = score("--pushgateway", server.address, "--metrics-file", prom)
    assert done.code == 0
    assert len(warned(done)) == 1
    assert server.address in warned(done)[0]
    assert told(prom)[EXIT] == 0


def test_a_gateway_that_never_answers_is_waited_for_at_the_end_alone(
    score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_state, "SNAPSHOT_SECONDS", 0.0)
    monkeypatch.setattr(pushgateway, "SOCKET_SECONDS", 60.0)
    monkeypatch.setattr(pushgateway, "LAST_SECONDS", 0.1)
    with serving(Answering(silent=True)) as server:
        done = score("--pushgateway", server.address)
        assert done.code == 0
        assert "it does not answer" in warned(done)[0]
        assert len(server.told) <= 1


def test_what_nobody_expected_of_metrics_does_not_hide_how_a_run_ended(
    score: Score, lake: Lake, prom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raising(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(monitor.MetricsFile, "tell", raising)
    truncate(lake.shards / "big.parquet")
    done = score("--metrics-file", prom)
    assert done.code == 65
    assert "can't start new thread" in warned(done)[0]
    assert len(warned(done)) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--pushgateway", "gateway:9091"), "an address like http://gateway:9091 is wanted"),
        (("--pushgateway", "ftp://me:sesame@gateway"), "is wanted"),
        (("--pushgateway", "http://me:ses/ame@gateway"), "is wanted"),
        (("--metrics-name", "a/b"), "is no name"),
        (("--metrics-name", ""), "is no name"),
    ],
)
def test_a_wrong_option_is_64_and_no_password_is_shown(
    options: tuple[str, ...], said: str, score: Score
) -> None:
    done = score(*options)
    assert done.code == 64
    assert said in done.err
    assert "sesame" not in done.err
    assert "ame@" not in done.err


def test_variables_are_options_too(
    score: Score, prom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Answering()) as server:
        monkeypatch.setenv("SHARDSCORE_METRICS_FILE", str(prom))
        monkeypatch.setenv("SHARDSCORE_METRICS_NAME", "n")
        monkeypatch.setenv("SHARDSCORE_PUSHGATEWAY", server.address)
        assert score().code == 0
    assert told(prom)[EXIT + '{name="n"}'] == 0
    assert server.told[-1].path == "/metrics/job/shardscore/name/n"
    assert samples(server.told[-1].body) == told(prom)


def test_what_a_gateway_is_to_keep_is_not_said(score: Score, lake: Lake, tmp_path: Path) -> None:
    with serving(Answering()) as server:
        assert score("--pushgateway", server.address).code == 0
        assert SUCCESS in samples(server.told[-1].body)
        for path in lake.shards.iterdir():
            path.unlink()
        assert score("--pushgateway", server.address).code == 66
    assert samples(server.told[-1].body)[EXIT] == 66
    assert SUCCESS not in samples(server.told[-1].body)
    assert {one.method for one in server.told} == {"POST"}
    assert LocalStorage(tmp_path / "out").list()
