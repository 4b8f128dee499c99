"""Errors as people and machines are told of them, on standard error: as text, or as a JSON line.

What their exit codes are is `exit_codes`' affair.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from jobs.exit_codes import ExitCode, of_error
from pipeline.errors import ShardscoreError, StoppedError, on_lines
from pipeline.screen import error_text, width_of
from pipeline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.records import FailedShard

SHOWN_FAILURES = 10


def wanted_format(argv: list[str]) -> str:
    """`--log-format`, as far as it can be told before the command line is parsed."""
    if "--log-format=json" in argv:
        return "json"
    for flag, value in pairwise(argv):
        if flag == "--log-format":
            return value
    return os.environ.get("SHARDSCORE_LOG_FORMAT", "auto")


def warn(text: str, log_format: str) -> None:
    """Tells of what is odd about the command line, and no error."""
    if log_format == "json":
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        record = {"time": moment, "level": "warning", "event": "warning", "message": text}
        print(json.dumps(record), file=sys.stderr)
    else:
        _print(f"warning: {text}")


def show(error: ShardscoreError, log_format: str) -> None:
    """Tells of an error of ours, or of a stop."""
    if log_format == "json":
        _json_line(of_error(error), error.message, type(error).__name__, error.facts)
    else:
        word = "stopped" if isinstance(error, StoppedError) else "error"
        _print(f"{word}: {error}")


def show_failed(failed: Sequence[FailedShard], log_format: str) -> None:
    """Tells of shards that cannot be scored; people are shown the first ones, and how many more."""
    shown = failed if log_format == "json" else failed[:SHOWN_FAILURES]
    for broken in shown:
        show(broken.error.with_path(broken.path), log_format)
    left = len(failed) - len(shown)
    if left:
        _print(f"and {counted(left, 'more shard')} that cannot be scored; --json shows all")


def show_bug(error: Exception, log_format: str) -> None:
    """Tells of what nobody expected, with its traceback."""
    if log_format == "json":
        _json_line(
            ExitCode.BUG,
            f"{type(error).__name__}: {error}",
            "Bug",
            {"traceback": traceback.format_exc()},
        )
        return
    print(on_lines(traceback.format_exc()), end="", file=sys.stderr)
    print(
        "error: this is a bug of shardscore; nothing half-done was published\n"
        "  to do:    report it with the lines above; running again is safe",
        file=sys.stderr,
    )


def _print(text: str) -> None:
    """Prints an error's text: on a terminal no wider than that, in a log a line for each fact."""
    if sys.stderr.isatty():
        text = error_text(text, width_of(sys.stderr))
    print(text, file=sys.stderr)


def _json_line(code: ExitCode, message: str, kind: str, facts: dict[str, Any]) -> None:
    record = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "level": "error",
        "event": "error",
        "exit_code": int(code),
        "kind": kind,
        "message": message,
        **facts,
    }
    print(json.dumps(record), file=sys.stderr)
