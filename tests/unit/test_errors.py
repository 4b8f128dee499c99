"""Errors: their tree, the facts they carry, how they read, and the exit codes they end with."""

from __future__ import annotations

import json
import pickle
import re
import signal

import pytest

from jobs import exit_codes
from jobs.exit_codes import ExitCode, of_error, of_report, of_told
from pipeline import errors
from pipeline.errors import ShardscoreError, StoppedError
from pipeline.records import RowCounts, RunReport, RunState
from pipeline.report import as_json

FACTS = {
    "path": "/lake/a.parquet",
    "column": "x",
    "row": 7,
    "expected": "a float",
    "received": "a null",
    "hint": "mend it",
}

CODES = {
    errors.UsageError: 64,
    errors.NoInputError: 66,
    errors.DataError: 65,
    errors.CorruptShardError: 65,
    errors.ContractError: 65,
    errors.BadRowError: 65,
    errors.TooManyBadRowsError: 65,
    errors.ScoringError: 65,
    errors.ChangedInputError: 65,
    errors.DriftError: 65,
    errors.OutputMismatchError: 73,
    errors.StorageError: 74,
    errors.NotFoundError: 74,
    errors.AlreadyExistsError: 74,
    errors.VersionChangedError: 74,
    errors.UnavailableError: 74,
    errors.CheckpointError: 74,
    errors.IncompleteError: 75,
    errors.BusyError: 75,
    errors.StoppedError: 75,
    errors.WorkerDiedError: 75,
    errors.EngineError: 75,
    errors.ConfigError: 78,
    errors.ModelError: 78,
    errors.PredictFailedError: 78,
    errors.UnknownInputsError: 78,
}

EVERY_CLASS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ShardscoreError)
]


def drawn_tree() -> dict[str, str | None]:
    """Class → its parent, as the module's docstring draws them."""
    parents: dict[str, str | None] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        drawn = re.match(r"^([ │├└─]*)([A-Z]\w*Error)\b", line)
        if drawn is None:
            continue
        depth, name = len(drawn[1]), drawn[2]
        while above and above[-1][0] >= depth:
            above.pop()
        parents[name] = above[-1][1] if above else None
        above.append((depth, name))
    return parents


def test_the_docstring_draws_the_tree_as_it_is() -> None:
    real = {
        kind.__name__: None if kind is ShardscoreError else kind.__bases__[0].__name__
        for kind in EVERY_CLASS
    }
    assert drawn_tree() == real


@pytest.mark.parametrize("kind", EVERY_CLASS)
def test_an_error_survives_pickling_with_its_facts(kind: type[ShardscoreError]) -> None:
    error = kind("it went wrong", **FACTS)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is kind
    assert (copy.message, copy.facts, str(copy)) == (error.message, FACTS, str(error))


def test_a_stop_survives_pickling_with_its_signal() -> None:
    copy = pickle.loads(pickle.dumps(StoppedError("stopped", signum=15, hint="again")))  # noqa: S301
    assert (copy.signum, copy.hint) == (15, "again")


def test_an_error_is_one_readable_block() -> None:
    assert str(ShardscoreError("it went wrong", **FACTS)) == "\n".join(
        [
            "it went wrong",
            "  file:     /lake/a.parquet",
            "  column:   x",
            "  row:      7",
            "  expected: a float",
            "  received: a null",
            "  to do:    mend it",
        ]
    )


def test_an_unknown_fact_is_left_out_and_row_zero_is_not() -> None:
    assert str(ShardscoreError("it went wrong", row=0)) == "it went wrong\n  row:      0"


def test_a_fact_of_several_lines_stays_in_its_column() -> None:
    error = ShardscoreError("two of one name", received="/a/x\n/b/x")
    assert str(error).splitlines()[1:] == ["  received: /a/x", "            /b/x"]


HOSTILE = ["\x1b[2J", "\r", "\x07", "\x00", "\u202e", "\udcff"]


@pytest.mark.parametrize("hostile", [*HOSTILE, "\n"])
def test_control_characters_of_a_file_name_are_escaped(hostile: str) -> None:
    shown = str(ShardscoreError("it went wrong", path=f"/lake/a{hostile}b.parquet"))
    assert shown.count("\n") == 1
    assert hostile not in shown.replace("\n", "", 1)
    assert "a\\" in shown


@pytest.mark.parametrize("hostile", HOSTILE)
def test_control_characters_of_a_message_are_escaped(hostile: str) -> None:
    assert hostile not in str(ShardscoreError(f"two shards of one name: a{hostile}.parquet"))


def test_a_path_is_added_only_where_there_is_none() -> None:
    assert ShardscoreError("it went wrong").with_path("/a").path == "/a"
    assert ShardscoreError("it went wrong", path="/b").with_path("/a").path == "/b"


def test_the_documented_exit_codes_are_those_that_exist() -> None:
    documented = re.findall(r"^(\d+) ", exit_codes.__doc__ or "", re.MULTILINE)
    assert sorted(map(int, documented)) == sorted(ExitCode)


def test_each_class_of_errors_has_a_documented_exit_code() -> None:
    assert set(CODES) == set(EVERY_CLASS) - {ShardscoreError}


@pytest.mark.parametrize(("kind", "code"), CODES.items())
def test_an_error_ends_with_the_documented_code(kind: type[ShardscoreError], code: int) -> None:
    assert of_error(kind("it went wrong")) == code


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGHUP, 75)]
)
def test_a_stop_by_ctrl_c_has_a_code_of_its_own(signum: int, code: int) -> None:
    assert of_error(StoppedError("stopped", signum=signum)) == code


@pytest.mark.parametrize(
    "error", [ValueError("x"), OSError(28, "full"), MemoryError(), ShardscoreError("x")]
)
def test_what_has_no_code_of_its_own_is_a_bug(error: BaseException) -> None:
    assert of_error(error) == 70


def report(state: RunState, error: ShardscoreError | None = None) -> RunReport:
    return RunReport(
        run_id="r", state=state, started="", seconds=0, output="", plan_id="", fingerprint="",
        model_sha256="", batch_size=0, probe="", shards=1, shards_done_before=0,
        counts=RowCounts(), outcomes=(), memory_after_load=0, memory_peak=0, versions={},
        error=error,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (report("finished"), 0),
        (report("incomplete"), 65),
        (report("broken", errors.StorageError("x")), 74),
        (report("stopped", StoppedError("x", signum=signal.SIGTERM)), 75),
    ],
)
def test_a_run_ends_with_zero_only_if_all_is_published(ended: RunReport, code: int) -> None:
    assert of_report(ended) == code


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (report("finished"), 0),
        (report("incomplete"), 65),
        (report("broken", errors.StorageError("x")), 74),
        (report("broken", errors.DriftError("x")), 65),
        (report("broken", errors.ModelError("x")), 78),
        (report("stopped", StoppedError("x", signum=signal.SIGTERM)), 75),
        (report("stopped", StoppedError("x", signum=signal.SIGINT)), 130),
        (report("running"), None),
    ],
)
def test_a_report_tells_the_exit_code_that_the_run_had(run: RunReport, code: int | None) -> None:
    told = json.loads(json.dumps(as_json(run)))
    assert of_told(told) == code
    if code is not None:
        assert of_report(run) == code


def test_a_report_of_an_unknown_error_is_one_of_a_bug() -> None:
    assert of_told({"state": "broken", "error": {"kind": "os.system"}}) == 70
    assert of_told({}) is None
