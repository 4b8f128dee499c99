"""What the commands have in common: their parameters as a job's fields, and signals."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from types import FrameType

    from pipeline.stop import Stop


def given(values: dict[str, Any]) -> dict[str, Any]:
    """A command's parameters, by the fields of the job."""
    from pipeline.job import Job

    named = {name.rstrip("_"): value for name, value in values.items()}
    named["imports"] = named.pop("import", None)
    # Typer would split the variable at blanks, which paths may hold: here it is a line each.
    if not named.get("input"):
        named["input"] = os.environ.get("SHARDSCORE_INPUT", "").splitlines()
    for name in ("batch_size", "workers", "threads"):
        if isinstance(named.get(name), str) and named[name] != "auto":
            try:
                named[name] = int(named[name])
            except ValueError:
                raise typer.BadParameter(
                    f"{named[name]!r} is neither a number nor auto",
                    param_hint=f"--{name.replace('_', '-')}",
                ) from None
    limit = named.get("max_bad_rows")
    if isinstance(limit, str) and limit.isdecimal():
        named["max_bad_rows"] = int(limit)
    # Typer gives an empty list for a repeatable option that was not given.
    return {
        name: named[name] or None if isinstance(named[name], list) else named[name]
        for name in Job.model_fields
        if name in named
    }


def heed_signals(stop: Stop) -> None:
    """The first signal asks for a stop after the batch at hand; the second one ends at once."""

    def handle(signum: int, _frame: FrameType | None) -> None:
        signal.signal(signum, signal.SIG_DFL)
        stop.request(signum)

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
