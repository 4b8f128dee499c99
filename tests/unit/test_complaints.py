"""Errors and warnings as people and machines are told of them, on standard error."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from jobs.complaints import show, show_failed, wanted_format, warn
from jobs.exit_codes import ExitCode, of_ending
from pipeline.errors import CorruptShardError, StoppedError
from pipeline.records import FailedShard
from tests.conftest import Finished

BROKEN = [
    FailedShard(f"{n}.parquet", f"/lake/{n}.parquet", CorruptShardError("not a Parquet file"))
    for n in range(12)
]


@pytest.mark.parametrize(
    ("words", "variable", "format_"),
    [
        (["score", "--log-format=json"], None, "json"),
        (["score", "--log-format", "json", "--quiet"], "text", "json"),
        (["score"], "json", "json"),
        (["score", "--log-format"], None, "auto"),
        ([], None, "auto"),
    ],
)
def test_the_format_is_known_before_the_command_line_is_read(
    words: list[str], variable: str | None, format_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHARDSCORE_LOG_FORMAT", raising=False)
    if variable is not None:
        monkeypatch.setenv("SHARDSCORE_LOG_FORMAT", variable)
    assert wanted_format(words) == format_


def test_a_warning_is_a_line_or_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    warn("that is odd", "auto")
    assert capsys.readouterr().err == "warning: that is odd\n"
    warn("that is odd", "json")
    told = json.loads(capsys.readouterr().err)
    assert (told["level"], told["message"]) == ("warning", "that is odd")


def test_people_are_told_a_reason_once_and_which_shards_have_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_failed(BROKEN, "auto")
    said = capsys.readouterr().err
    assert said.count("error: not a Parquet file") == 1
    told = "11 more shards failed as 0.parquet did: 1.parquet, 2.parquet, 3.parquet, and 8 more"
    assert said.endswith(f"{told}\n")


def test_people_are_shown_the_first_reasons_and_how_many_more(
    capsys: pytest.CaptureFixture[str],
) -> None:
    odd = [
        replace(one, error=CorruptShardError(f"damaged at {n}", path=one.path))
        for n, one in enumerate(BROKEN)
    ]
    show_failed(odd, "auto")
    said = capsys.readouterr().err
    assert said.count("error: damaged at ") == 10
    assert "/lake/9.parquet" in said
    assert "/lake/10.parquet" not in said
    assert said.endswith("and 2 more reasons for others; --json shows all\n")
    show_failed(odd[:10], "auto")
    assert "more reason" not in capsys.readouterr().err


def test_machines_are_told_of_each_shard_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    show_failed(BROKEN, "json")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["path"] for line in lines] == [broken.path for broken in BROKEN]
    assert {line["exit_code"] for line in lines} == {65}


def test_a_stop_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    show(StoppedError("stopped by SIGTERM", signum=15), "auto")
    assert capsys.readouterr().err.startswith("stopped: stopped by SIGTERM")


@pytest.mark.parametrize(
    ("error", "code"),
    [(None, ExitCode.OK), (typer.Exit(65), 65), (typer.Exit(0), 0)],
    ids=["none", "an exit with 65", "an exit with 0"],
)
def test_a_command_that_says_its_code_ends_with_it(error: BaseException | None, code: int) -> None:
    assert of_ending(error) == code


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("verify", "OUT", "--repair", "--quick"), "--repair needs a whole proof"),
        (("verify", "OUT", "--no-input", "--input", "lake"), "exclude each other"),
        (("status", "OUT", "--watch", "--json"), "--watch is for people"),
    ],
    ids=" ".join,
)
def test_options_that_exclude_each_other_are_refused_before_anything_is_read(
    words: tuple[str, ...], said: str, cli: Callable[..., Finished], tmp_path: Path
) -> None:
    done = cli(*(str(tmp_path / "out") if word == "OUT" else word for word in words))
    assert (done.code, done.out) == (64, "")
    assert said in done.err


def test_a_clusters_address_is_refused_where_there_is_no_cluster(
    cli: Callable[..., Finished], tmp_path: Path
) -> None:
    words = ("--model", "m.keras", "--input", "lake", "--output", tmp_path / "out")
    done = cli("score", *words, "--ray-address", "10.0.0.1:6379")
    assert done.code == 64
    assert "--ray-address is for --engine ray" in done.err
    assert "10.0.0.1:6379" in done.err
