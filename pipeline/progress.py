"""What is shown while a run goes on: a live bar on a terminal, steady lines elsewhere.

Owns the `Observer` protocol, by which a run tells where it is, and its forms. Rows are the
unit of progress: footers say exactly how many there are, so the time left is rows left over rows
a second.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from pipeline.errors import on_lines, printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from pipeline.records import Outcome, RunReport

INTERVAL_SECONDS = 10.0


class Observer(Protocol):
    """What a run tells about itself."""

    def event(self, name: str, text: str, **facts: Any) -> None:
        """Something worth a line: what it is called, in words, and its facts."""

    def begin(self, *, rows: int, shards: int) -> None:
        """Scoring begins: that much is to do."""

    def advance(self, rows: int) -> None:
        """That many more rows were scored or set aside."""

    def shard(self, outcome: Outcome) -> None:
        """A shard is finished, one way or the other."""

    def standing(self, report: RunReport) -> None:
        """How the run stands: when it has begun, now and then, and when it has ended."""

    def end(self) -> None:
        """Nothing more will be scored."""


def observer_for(log_format: str, *, quiet: bool, stream: TextIO | None = None) -> Observer:
    """The observer for `--log-format` and the kind of stream that standard error is."""
    out = stream or sys.stderr
    if log_format == "json":
        return Lines(out, as_json=True, quiet=quiet)
    if quiet or log_format == "text" or not out.isatty():
        return Lines(out, as_json=False, quiet=quiet)
    return Bar(out)


class Silent:
    """Shows nothing: for callers of the library, who have the report."""

    def event(self, name: str, text: str, **facts: Any) -> None:
        pass

    def begin(self, *, rows: int, shards: int) -> None:
        pass

    def advance(self, rows: int) -> None:
        pass

    def shard(self, outcome: Outcome) -> None:
        pass

    def standing(self, report: RunReport) -> None:
        pass

    def end(self) -> None:
        pass


class Lines:
    """Log lines at a steady interval, as text or as JSON objects. Quiet: problems alone."""

    def __init__(self, out: TextIO, *, as_json: bool, quiet: bool) -> None:
        self._out = out
        self._as_json = as_json
        self._quiet = quiet
        # Programs that read the log want more of it than people do.
        self._hidden = {"debug", "info"} if quiet else set() if as_json else {"debug"}
        self._rows = self._shards = self._done_rows = self._done_shards = 0
        self._begun = self._last = time.monotonic()

    def event(self, name: str, text: str, **facts: Any) -> None:
        if facts.get("level", "info") in self._hidden:
            return
        self._line(name, text, facts)

    def begin(self, *, rows: int, shards: int) -> None:
        self._rows, self._shards = rows, shards
        self._done_rows = self._done_shards = 0
        self._begun = self._last = time.monotonic()

    def advance(self, rows: int) -> None:
        self._done_rows += rows
        now = time.monotonic()
        if now - self._last >= INTERVAL_SECONDS:
            self._last = now
            self._progress(now)

    def shard(self, outcome: Outcome) -> None:
        self._done_shards += 1
        if outcome.error is not None:
            self._line(
                "shard_failed",
                outcome.error.message
                if self._as_json
                else f"shard {printable(outcome.shard)} failed: {outcome.error}",
                {
                    "level": "error",
                    "shard": outcome.shard,
                    **outcome.error.facts,
                },
            )

    def standing(self, report: RunReport) -> None:
        pass

    def end(self) -> None:
        pass

    def _progress(self, now: float) -> None:
        if self._quiet:
            return
        speed = self._done_rows / max(1e-9, now - self._begun)
        left = (self._rows - self._done_rows) / max(1e-9, speed)
        text = (
            f"{self._done_rows:,} of {self._rows:,} rows "
            f"({self._done_rows / max(1, self._rows):.0%}), {speed:,.0f} rows/s, "
            f"{self._done_shards} of {self._shards} shards, {left:.0f} s left"
        )
        self._line(
            "progress",
            text,
            {
                "rows_done": self._done_rows,
                "rows": self._rows,
                "shards_done": self._done_shards,
                "shards": self._shards,
                "rows_per_second": round(speed, 1),
                "seconds_left": round(left, 1),
            },
        )

    def _line(self, name: str, text: str, facts: dict[str, Any]) -> None:
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        if self._as_json:
            level = facts.pop("level", "info")
            record = {"time": moment, "level": level, "event": name, "message": text, **facts}
            self._out.write(json.dumps(record, default=str) + "\n")
        else:
            self._out.write(f"{moment} {on_lines(text)}\n")
        self._out.flush()


class Bar:
    """A live bar on a terminal, with lines above it for what is worth one."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console

        self._console = Console(file=out, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._shards = self._done_shards = 0

    def event(self, name: str, text: str, **facts: Any) -> None:  # noqa: ARG002 - the name is for machines
        level = facts.get("level", "info")
        if level == "debug":
            return
        style = {"warning": "yellow", "error": "red"}.get(level)
        self._console.print(on_lines(text), style=style, markup=False)

    def begin(self, *, rows: int, shards: int) -> None:
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self._shards, self._done_shards = shards, 0
        self._bar = Progress(
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[count]} rows"),
            TextColumn("{task.fields[speed]} rows/s"),
            TextColumn("{task.fields[shards]} shards"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
            speed_estimate_period=60,
        )
        self._task = self._bar.add_task("", total=rows, **self._fields(0, None))
        self._bar.start()

    def advance(self, rows: int) -> None:
        if self._bar is None or self._task is None:
            return
        task = self._bar.tasks[0]
        self._bar.update(
            self._task, advance=rows, **self._fields(int(task.completed) + rows, task.speed)
        )

    def shard(self, outcome: Outcome) -> None:
        self._done_shards += 1
        if outcome.error is not None:
            self.event(
                "shard_failed",
                f"shard {printable(outcome.shard)} failed\n{outcome.error}",
                level="error",
            )

    def standing(self, report: RunReport) -> None:
        pass

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _fields(self, done: int, speed: float | None) -> dict[str, Any]:
        return {
            "count": f"{done:,}",
            "speed": "…" if speed is None else f"{speed:,.0f}",
            "shards": f"{self._done_shards}/{self._shards}",
        }
