"""From an error, or a report, to the exit code. The one place that knows them (sysexits.h).

0    all is published, or there was nothing to do
64   usage: the command line asks for something that cannot be
65   input data broke the contract; the other shards are scored
66   there is no input
70   a bug of ours
73   the output belongs to another job
74   storage failed: try again
75   stopped with work left, a worker died, the cluster that is to score does not answer, or another
     run is at work: run again to resume
78   the model or the configuration is wrong
130  stopped by Ctrl-C
"""

from __future__ import annotations

import signal
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import typer

from pipeline import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.records import RunReport


class ExitCode(IntEnum):
    """What the process ends with."""

    OK = 0
    USAGE = 64
    DATA = 65
    NO_INPUT = 66
    BUG = 70
    OTHER_JOB = 73
    STORAGE = 74
    STOPPED = 75
    CONFIG = 78
    INTERRUPTED = 130


_BY_ERROR: tuple[tuple[type[errors.ShardscoreError], ExitCode], ...] = (
    (errors.UsageError, ExitCode.USAGE),
    (errors.DataError, ExitCode.DATA),
    (errors.NoInputError, ExitCode.NO_INPUT),
    (errors.OutputMismatchError, ExitCode.OTHER_JOB),
    (errors.IncompleteError, ExitCode.STOPPED),
    (errors.BusyError, ExitCode.STOPPED),
    (errors.WorkerDiedError, ExitCode.STOPPED),
    (errors.EngineError, ExitCode.STOPPED),
    (errors.StorageError, ExitCode.STORAGE),
    (errors.ConfigError, ExitCode.CONFIG),
)


_BY_ENDING: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (typer.TyperException, ExitCode.USAGE),
    (typer.Abort, ExitCode.INTERRUPTED),
    (KeyboardInterrupt, ExitCode.INTERRUPTED),
    (BrokenPipeError, ExitCode.STORAGE),
    (SystemExit, ExitCode.CONFIG),
)


def of_error(error: BaseException) -> ExitCode:
    """The exit code of an error; what is not ours is a bug."""
    if isinstance(error, errors.StoppedError):
        interrupted = error.signum == signal.SIGINT
        return ExitCode.INTERRUPTED if interrupted else ExitCode.STOPPED
    for kind, code in _BY_ERROR:
        if isinstance(error, kind):
            return code
    return ExitCode.BUG


def of_ending(error: BaseException | None) -> int:
    """The exit code of a command that an exception leaves, if any does.

    That is one of ours, one of Typer's, one of whoever has gone that read our results, or one that
    code of the user's raises: SystemExit, since that must not say that all is done.
    """
    if error is None:
        return ExitCode.OK
    if isinstance(error, typer.Exit):
        return error.exit_code
    for kind, code in _BY_ENDING:
        if isinstance(error, kind):
            return code
    return of_error(error)


def of_told(run: Mapping[str, Any]) -> int | None:
    """The exit code of a run, from its report as JSON; None if it has not ended, or was killed."""
    state, error = run.get("state"), run.get("error")
    if state in {None, "running"}:
        return None
    if not error:
        return ExitCode.OK if state == "finished" else ExitCode.DATA
    kind = getattr(errors, str(error.get("kind")), None)
    if not (isinstance(kind, type) and issubclass(kind, errors.ShardscoreError)):
        return ExitCode.BUG
    if issubclass(kind, errors.StoppedError):
        return of_error(kind("", signum=error.get("signum", 0)))
    return of_error(kind(""))


def of_report(report: RunReport) -> ExitCode:
    """The exit code of a run: 0 only if every shard is published."""
    if report.error is not None:
        return of_error(report.error)
    return ExitCode.OK if report.state == "finished" else ExitCode.DATA
