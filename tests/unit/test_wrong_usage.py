"""What the command line asks for that cannot be: in words that name what was typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import typer

from jobs.cli import app
from jobs.wrong_usage import in_our_words, misspelt_variables, named_by_variable, refuse_repeated
from pipeline.errors import UsageError
from pipeline.spelling import closest, did_you_mean, is_text_table, near

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = typer.main.get_command(app)


def refused(*words: str) -> str:
    with pytest.raises(typer.TyperException) as caught:
        COMMAND(list(words), prog_name="shardscore", standalone_mode=False)
    return str(in_our_words(caught.value))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("score", "--batchsize", "4"),
            "there is no option --batchsize\n  to do:    did you mean '--batch-size'?",
        ),
        (
            ("score", "--gpu"),
            "there is no option --gpu\n  to do:    see shardscore score --help",
        ),
        (
            ("verfy", "out/"),
            "there is no command 'verfy'\n"
            "  expected: one of score, plan, status, verify, report, compare, init\n"
            "  to do:    did you mean 'verify'?",
        ),
        (
            ("score", "m.keras", "data/"),
            "there are words that stand behind no option\n"
            "  received: m.keras data/\n"
            "  to do:    put the option before each, as in --model m.keras --input data/\n"
            "            (a glob stands in quotes: --input 'data/*.parquet'); see shardscore score "
            "--help",
        ),
        (("score", "--model"), "--model needs a value\n  to do:    see shardscore --help"),
        (
            ("status",),
            "the folder of the predictions is missing\n  to do:    name it: shardscore status out/",
        ),
        (
            ("score", "--top-k", "0"),
            "--top-k: the value must be at least 1\n  to do:    see shardscore score --help",
        ),
        (
            ("score", "--top-k", "two"),
            "--top-k: a whole number is wanted\n  to do:    see shardscore score --help",
        ),
        (
            ("score", "--method", "predict_on_bach"),
            "--method: there is no 'predict_on_bach'\n"
            "  expected: one of auto, predict_on_batch, predict, predict_step\n"
            "  to do:    did you mean 'predict_on_batch'?",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_refused_is_named_with_what_to_do(words: tuple[str, ...], said: str) -> None:
    assert refused(*words) == said


@pytest.mark.parametrize("option", ["--model", "--output", "--config"])
@pytest.mark.parametrize("joined", [False, True])
def test_what_can_be_one_alone_is_not_taken_twice(option: str, joined: bool) -> None:
    once = [f"{option}=a"] if joined else [option, "a"]
    refuse_repeated(["score", *once])
    with pytest.raises(UsageError, match=f"{option} is given 2 times"):
        refuse_repeated(["score", *once, option, "b"])


def test_what_is_repeatable_may_be_repeated() -> None:
    refuse_repeated(["score", "--input", "a", "--input", "b", "--features", "x"])


def test_a_value_of_a_variable_is_said_to_be_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    error = UsageError("--batch-size: 'x' is neither a number nor auto")
    assert named_by_variable(error, ["score"]) is error
    monkeypatch.setenv("SHARDSCORE_BATCH_SIZE", "x")
    assert named_by_variable(error, ["score", "--batch-size", "x"]) is error
    assert named_by_variable(error, ["score", "--batch-size=x"]) is error
    assert str(named_by_variable(error, ["score"])) == (
        "the variable SHARDSCORE_BATCH_SIZE: 'x' is neither a number nor auto\n"
        "  received: SHARDSCORE_BATCH_SIZE=x"
    )


def test_a_misspelt_variable_is_noted_and_those_of_others_are_not() -> None:
    known = {"SHARDSCORE_INPUT", "SHARDSCORE_BATCH_SIZE", "JOB_COMPLETION_INDEX", "PATH"}
    # What Kubernetes sets in each container of a namespace that has a service of this name.
    service = {
        "SHARDSCORE_SERVICE_HOST",
        "SHARDSCORE_SERVICE_PORT",
        "SHARDSCORE_PORT",
        "SHARDSCORE_PORT_80_TCP",
        "SHARDSCORE_PORT_80_TCP_PROTO",
        "SHARDSCORE_PORT_80_TCP_ADDR",
    }
    assert [*misspelt_variables(dict.fromkeys(known | service, ""), COMMAND)] == []
    assert [*misspelt_variables({"SHARDSCORE_BATCHSIZE": "4"}, COMMAND)] == [
        "the variable SHARDSCORE_BATCHSIZE is not known, and not heeded; did you mean "
        "SHARDSCORE_BATCH_SIZE?"
    ]


@pytest.mark.parametrize(
    ("word", "meant"),
    [("incme", "income"), ("INCOME", "income"), ("Age", "age"), ("zip", None), ("", None)],
)
def test_which_name_was_meant(word: str, meant: str | None) -> None:
    assert closest(word, ["age", "income", "city"]) == meant


def test_where_none_is_alike_nothing_is_guessed() -> None:
    assert did_you_mean("q", ["age"], "check its spelling") == "check its spelling"


def test_a_file_that_is_nearly_named_so_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.keras").touch()
    (tmp_path / "other.keras").touch()
    assert near(tmp_path / "modle.keras", "check") == (
        f"did you mean {str(tmp_path / 'model.keras')!r}?"
    )
    # All models are alike by their endings.
    assert near(tmp_path / "q.keras", "check") == "check"
    assert near(tmp_path / "none" / "model.keras", "check") == "check"
    assert near(tmp_path / "model.keras", "check") == "check"


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("a.csv", True), ("a.CSV", True), ("a.csv.gz", True), ("a.parquet", False), ("csv", False)],
)
def test_a_table_of_text_is_known_by_its_name(name: str, is_one: bool) -> None:
    assert is_text_table(name) is is_one
