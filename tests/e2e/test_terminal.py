"""Each command at a real terminal: of 80 columns or fewer, without colours, dumb, and in a pipe."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pexpect
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from jobs.cli import app
from pipeline.screen import cells
from tests.conftest import SAMPLE, command, environment, run_command
from tests.e2e.lake import shard
from tests.unit.test_watching import keep, told

if TYPE_CHECKING:
    from pathlib import Path

ESCAPE = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>78M])")
LONG = "region=東京都港区/" + "x" * 180
NAMES = ["score", "plan", "status", "verify", "report", "compare", "init"]
TERMINALS = [("xterm-256color", 80), ("xterm-256color", 60), ("dumb", 80)]


@dataclass(frozen=True)
class Shown:
    """What a terminal was sent."""

    raw: str
    code: int

    @property
    def lines(self) -> list[str]:
        """Each line that stood there, those that were written over too."""
        return [part for line in ESCAPE.sub("", self.raw).split("\n") for part in line.split("\r")]

    def wider_than(self, width: int) -> list[str]:
        """Lines that are, but for paths, which stay whole so that they can be copied."""
        return [line for line in self.lines if cells(line) > width and "/" not in line]


def at_terminal(
    *arguments: object, term: str = "xterm-256color", width: int = 80, **more: str
) -> Shown:
    words = command(*arguments)
    kept = {
        k: v for k, v in environment(TERM=term, **more).items() if k not in {"COLUMNS", "LINES"}
    }
    terminal = pexpect.spawn(
        words[0], words[1:], env=kept, encoding="utf-8", dimensions=(24, width), timeout=150
    )
    terminal.expect(pexpect.EOF)
    terminal.close()
    return Shown(terminal.before, terminal.exitstatus)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output of 10,000 shards, most of which failed, with names of 200 characters."""
    folder = tmp_path_factory.mktemp("hostile") / "out"
    error = {"kind": "ContractError", "message": "a column is missing " * 12, "column": LONG}
    outcomes = [{"shard": f"{LONG}-{i}.parquet", "error": error} for i in range(10_000)]
    keep(folder, told("stopped", 3) | {"outcomes": outcomes, "error": error})
    return folder


@pytest.mark.parametrize(("term", "width"), TERMINALS)
def test_a_status_of_ten_thousand_shards_fits(hostile: Path, term: str, width: int) -> None:
    shown = at_terminal("status", hostile, term=term, width=width)
    assert shown.code == 0
    assert shown.wider_than(width) == []
    assert "and 9,990 more; --json shows all" in shown.lines
    assert len(shown.lines) < 400


def test_what_a_pipe_gets_has_80_columns_and_no_escapes(hostile: Path) -> None:
    done = run_command("status", hostile, TERM="xterm-256color", FORCE_COLOR="1")
    assert done.code == 0
    assert "\x1b" not in done.out + done.err
    assert [line for line in done.out.splitlines() if cells(line) > 80 and "/" not in line] == []


def test_the_variable_decides_how_wide_a_pipe_is(hostile: Path) -> None:
    done = run_command("status", hostile, COLUMNS="50")
    assert [line for line in done.out.splitlines() if cells(line) > 50 and "/" not in line] == []


def test_json_is_the_same_at_a_narrow_terminal_and_in_a_pipe(hostile: Path) -> None:
    shown = at_terminal("status", hostile, "--json", width=40)
    piped = run_command("status", hostile, "--json")
    assert shown.raw.replace("\r\n", "\n") == piped.out
    assert len(piped.document["last_run"]["outcomes"]) == 10_000


@pytest.mark.parametrize("more", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_a_watched_status_fits_and_ends_with_what_it_showed_last(
    more: dict[str, str], tmp_path: Path
) -> None:
    keep(tmp_path, told("finished", 3))
    term = more.get("TERM", "xterm-256color")
    others = {k: v for k, v in more.items() if k != "TERM"}
    shown = at_terminal("status", tmp_path, "--watch", term=term, **others)
    assert shown.code == 0
    assert shown.wider_than(80) == []
    assert [line for line in shown.lines if line][-1] == "complete: no"
    if more:
        assert not re.search(r"\x1b\[[0-9;]*m", shown.raw)


@pytest.fixture
def wide_lake(tmp_path: Path) -> Path:
    """Shards of 64 features with long names, in two scripts, and one that lacks a feature."""
    columns = {f"{'航班' if i % 2 else 'feature'}_{'n' * 60}_{i:02}": [0.5, 1.5] for i in range(64)}
    table = pa.table({name: pa.array(values, pa.float32()) for name, values in columns.items()})
    folder = tmp_path / "lake"
    folder.mkdir()
    for i in range(12):
        lacking = i > 0
        pq.write_table(
            table.drop_columns(["feature_" + "n" * 60 + "_62"]) if lacking else table,
            folder / f"{'y' * 190}{i:02}.parquet",
        )
    return folder


@pytest.fixture
def wide_model(tmp_path: Path, wide_lake: Path) -> Path:
    """A model that takes each of these features by its name."""
    import keras

    names = pq.read_schema(sorted(wide_lake.iterdir())[0]).names
    inputs = {name: keras.Input((1,), name=f"i{i}") for i, name in enumerate(names)}
    path = tmp_path / "wide.keras"
    keras.Model(inputs, keras.layers.Add()(list(inputs.values()))).save(path)
    return path


@pytest.mark.slow
def test_a_plan_of_many_long_columns_and_failing_shards_fits(
    wide_model: Path, wide_lake: Path, tmp_path: Path
) -> None:
    shown = at_terminal(
        "plan", "--model", wide_model, "--input", wide_lake, "--output", tmp_path / "out"
    )
    assert shown.code == 65
    assert shown.wider_than(80) == []
    assert "and 24 more; --json shows all" in shown.lines
    assert sum("a column that the model reads is missing" in line for line in shown.lines) == 1
    assert any(line.startswith("10 more shards failed as") for line in shown.lines)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_while_a_run_goes_on_no_line_of_the_display_is_wider_than_the_terminal(
    workers: int, tmp_path: Path
) -> None:
    shown = at_terminal(
        "score",
        "--config",
        SAMPLE / "flights.toml",
        "--input",
        SAMPLE / "flights" / "2013-0[1-3].parquet",
        "--output",
        tmp_path / "out",
        "--workers",
        workers,
        "--batch-size",
        256,
        width=70,
        NO_COLOR="1",
    )
    assert shown.code == 0
    assert shown.wider_than(70) == []
    assert any(re.search(r"░  ?\d+%  [\d,]+ of 80,789 rows", line) for line in shown.lines)
    at_work = r"[0-2] of 3 shards.*; at work: 2013-0\d.parquet"
    both = r"2013-0\d.parquet, 2013-0\d.parquet$"
    assert any(re.match(at_work, line) for line in shown.lines)
    assert any(re.search(both, line) for line in shown.lines) == (workers == 2)
    assert not re.search(r"\x1b\[[0-9;]*m", shown.raw)


@pytest.mark.slow
def test_a_dumb_terminal_gets_lines_and_no_escapes(model: Path, lake: Path, tmp_path: Path) -> None:
    options = ("--model", model, "--input", lake, "--output", tmp_path / "out")
    shown = at_terminal("score", *options, term="dumb")
    assert shown.code == 0
    assert "\x1b" not in shown.raw
    assert shown.wider_than(80) == []
    assert " loading" in shown.raw


def test_a_proof_with_faults_fits(score: Any, lake: Path, tmp_path: Path) -> None:
    assert score().code == 0
    out = tmp_path / "out"
    for i in range(40):
        shard(out / ("z" * 180 + f"{i}.parquet"))
    shown = at_terminal("verify", out)
    assert shown.code == 65
    assert shown.wider_than(80) == []
    assert "and 20 more; --json shows all" in shown.lines
    assert len(json.loads(run_command("verify", out, "--json").out)["wrong"]) >= 40


def test_an_error_at_a_terminal_is_wrapped_below_its_label(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text("batch_sise = 4\n")
    shown = at_terminal("score", "--config", tmp_path / "job.toml")
    assert shown.code == 78
    assert shown.wider_than(80) == []
    lines = [line for line in shown.lines if line]
    assert lines[-1] == "  to do:    did you mean 'batch_size'?"
    assert any(line.startswith(" " * 12) for line in lines)


@pytest.mark.parametrize(
    ("name", "width"),
    [*((name, 80) for name in [None, *NAMES]), ("score", 60), ("score", 200)],
)
def test_help_fits_and_has_an_example(name: str | None, width: int) -> None:
    shown = at_terminal(*([name] if name else []), "--help", width=width)
    assert shown.code == 0
    assert [line for line in shown.lines if cells(line) > min(width, 80)] == []
    assert "\x1b" not in shown.raw
    if name is not None:
        assert f"  Example: shardscore {name} " in shown.raw


@pytest.mark.parametrize("name", NAMES)
def test_help_says_the_default_of_each_option(name: str) -> None:
    one = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    context = typer.Context(one, info_name=name)
    told = [param.get_help_record(context) for param in one.params]
    silent = [
        record[0]
        for record in told
        if record and not re.search(r"[Dd]efault|Needed|Without it|required", record[1])
    ]
    assert silent == []


def test_options_of_a_long_help_are_grouped() -> None:
    done = run_command("score", "--help")
    groups = [line for line in done.out.splitlines() if re.match(r"\S.*:$", line)]
    assert groups == [
        "What to score:",
        "Columns and the model:",
        "Predictions:",
        "Rows and batches:",
        "Saving, and scoring again:",
        "Several processes or machines:",
        "Drift:",
        "What is shown:",
        "Other options:",
    ]
