"""`status --watch`: how an output stands, again and again, until no run is at work on it."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline import tables
from pipeline.screen import width_of
from pipeline.status import status

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_SECONDS = 2.0


def watch(output: str, sleep: Callable[[float], None] = time.sleep) -> dict[str, Any]:
    """Shows the status of an output until no run is at work on it.

    On a terminal each picture takes the place of the one before; elsewhere each that differs from
    the one before is printed. Ctrl-C ends it.

    Args:
        output: The output's address.
        sleep: Waits some seconds.

    Returns:
        The last status; one that has not been begun is not shown.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False)
    document = status(output)
    shown = ""
    with Live(console=console, auto_refresh=False) as live:
        while document["begun"]:
            text = tables.status_text(document, width_of(sys.stdout))
            if console.is_terminal:
                live.update(Text(text), refresh=True)
            elif text != shown:
                console.out(text)
            shown = text
            if not at_work(document["last_run"]):
                break
            try:
                sleep(EVERY_SECONDS)
            except KeyboardInterrupt:
                break
            document = status(output)
    return document


def at_work(run: dict[str, Any] | None) -> bool:
    """Whether a run goes on, by its report: one that has long said nothing was killed."""
    if run is None or run["state"] != "running":
        return False
    try:
        silent = datetime.now(UTC) - datetime.fromisoformat(run["updated"])
    except (KeyError, TypeError, ValueError):
        return False
    return silent.total_seconds() <= tables.SILENT_SECONDS
