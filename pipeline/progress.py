"""What is shown while a run goes on: a live display on a terminal, steady lines elsewhere.

Owns the `Observer` protocol, by which a run tells where it is, and its forms. Rows are the
unit of progress: footers say exactly how many there are, so the time left is rows left over rows
a second. What the lines say is `progress_text`'s affair.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from pipeline.alike import Alike
from pipeline.errors import on_lines, printable
from pipeline.progress_text import Pace, Standing, live_lines, shards_told
from pipeline.screen import error_text, width_of
from pipeline.wording import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.live import Live
    from rich.text import Text

    from pipeline.records import Outcome, RunReport

INTERVAL_SECONDS = 10.0
SHOWN_FAILURES = 10
"""So many shards that fail are told of on a terminal while a run goes on; a log has them all."""


class Observer(Protocol):
    """What a run tells about itself."""

    def event(self, name: str, text: str, **facts: Any) -> None:
        """Something worth a line: what it is called, in words, and its facts."""

    def begin(self, *, rows: int, shards: int) -> None:
        """Scoring begins: that much is to do."""

    def at_work(self, worker: int, shards: Sequence[str]) -> None:
        """A worker has taken these shards in hand, by their names; none: it has none in hand."""

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
    # A terminal that cannot move its cursor would show no bar, and so nothing.
    dumb = os.environ.get("TERM", "").lower() in {"", "dumb", "unknown"}
    if quiet or log_format == "text" or dumb or not out.isatty():
        return Lines(out, as_json=False, quiet=quiet)
    return Bar(out)


class Account:
    """Where a run stands, by what an observer is told."""

    def __init__(self) -> None:
        self.begin(0, 0)

    def begin(self, rows: int, shards: int) -> None:
        """Scoring begins: that much is to do."""
        self._rows, self._shards = rows, shards
        self._rows_done = self._shards_done = self._bad_rows = self._failed = 0
        self._at_work: dict[int, Sequence[str]] = {}
        self._pace = Pace()
        self._pace.look(time.monotonic(), 0)

    def at_work(self, worker: int, shards: Sequence[str]) -> None:
        """A worker has these shards in hand."""
        self._at_work[worker] = shards

    def advance(self, rows: int) -> None:
        """That many more rows are done."""
        self._rows_done += rows
        self._pace.look(time.monotonic(), self._rows_done)

    def shard(self, outcome: Outcome) -> None:
        """A shard is finished."""
        self._shards_done += 1
        self._bad_rows += outcome.counts.bad
        self._failed += outcome.error is not None

    @property
    def standing(self) -> Standing:
        """Where the run stands now."""
        return Standing(
            rows=self._rows,
            rows_done=self._rows_done,
            shards=self._shards,
            shards_done=self._shards_done,
            bad_rows=self._bad_rows,
            failed=self._failed,
            speed=self._pace.speed(time.monotonic()),
            at_work=dict(self._at_work),
        )


class Silent:
    """Shows nothing: for callers of the library, who have the report."""

    def event(self, name: str, text: str, **facts: Any) -> None:
        pass

    def begin(self, *, rows: int, shards: int) -> None:
        pass

    def at_work(self, worker: int, shards: Sequence[str]) -> None:
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
        self._account = Account()
        self._alike = Alike()
        self._last = time.monotonic()

    def event(self, name: str, text: str, **facts: Any) -> None:
        if facts.get("level", "info") in self._hidden:
            return
        self._others()
        self._line(name, text, facts)

    def begin(self, *, rows: int, shards: int) -> None:
        self._account.begin(rows, shards)
        self._last = time.monotonic()

    def at_work(self, worker: int, shards: Sequence[str]) -> None:
        self._account.at_work(worker, shards)

    def advance(self, rows: int) -> None:
        self._account.advance(rows)
        now = time.monotonic()
        if now - self._last >= INTERVAL_SECONDS:
            self._last = now
            self._progress()

    def shard(self, outcome: Outcome) -> None:
        self._account.shard(outcome)
        if outcome.error is None:
            return
        if self._as_json or self._alike.is_new(outcome.shard, outcome.error):
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
        if report.state != "running":
            self._others()

    def end(self) -> None:
        self._others()

    def _others(self) -> None:
        for line in self._alike.others():
            self._line("shards_failed", line, {"level": "error"})

    def _progress(self) -> None:
        self._others()
        if self._quiet:
            return
        at = self._account.standing
        speed, left = at.speed or 0.0, at.seconds_left
        text = (
            f"{at.rows_done:,} of {at.rows:,} rows "
            f"({at.rows_done / max(1, at.rows):.0%}), {speed:,.0f} rows/s, {shards_told(at)}"
        )
        if left is not None:
            text += f", {duration(left)} left"
        self._line(
            "progress",
            text,
            {
                "rows_done": at.rows_done,
                "rows": at.rows,
                "shards_done": at.shards_done,
                "shards": at.shards,
                "rows_per_second": round(speed, 1),
                "seconds_left": None if left is None else round(left, 1),
            },
        )

    def _line(self, name: str, text: str, facts: dict[str, Any]) -> None:
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        if self._as_json:
            level = facts.pop("level", "info")
            record = {"time": moment, "level": level, "event": name, "message": text, **facts}
            told = json.dumps(record, default=str)
        else:
            word = "warning: " if facts.get("level") == "warning" else ""
            told = f"{moment} {word}{on_lines(text)}"
            if self._out.isatty():
                told = error_text(told, width_of(self._out))
        try:
            self._out.write(told + "\n")
            self._out.flush()
        except BrokenPipeError:
            raise
        except OSError:  # a log on a full disk is no reason to score nothing
            return


class Bar:
    """A live display on a terminal, with lines above it for what is worth one."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console

        self._out = out
        self._console = Console(file=out, highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._account = Account()
        self._failed = 0
        self._alike = Alike()

    def event(self, name: str, text: str, **facts: Any) -> None:  # noqa: ARG002 - the name is for machines
        level = facts.get("level", "info")
        if level == "debug":
            return
        self._others()
        self._print(f"warning: {text}" if level == "warning" else text, level)

    def begin(self, *, rows: int, shards: int) -> None:
        from rich.live import Live

        self._account.begin(rows, shards)
        self._live = Live(
            get_renderable=self._picture,
            console=self._console,
            transient=True,
            refresh_per_second=10,
        )
        self._live.start()

    def at_work(self, worker: int, shards: Sequence[str]) -> None:
        self._account.at_work(worker, shards)

    def advance(self, rows: int) -> None:
        self._account.advance(rows)

    def shard(self, outcome: Outcome) -> None:
        self._account.shard(outcome)
        if outcome.error is None or not self._alike.is_new(outcome.shard, outcome.error):
            return
        self._failed += 1
        if self._failed <= SHOWN_FAILURES:
            self._print(f"shard {printable(outcome.shard)} failed: {outcome.error}", "error")
        elif self._failed == SHOWN_FAILURES + 1:
            self._print(
                "further shards that fail are not told of here; `status` lists them", "error"
            )

    def standing(self, report: RunReport) -> None:
        if report.state != "running":
            self._others()

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._others()

    def _others(self) -> None:
        for line in self._alike.others():
            self._print(line, "error")

    def _print(self, text: str, level: str) -> None:
        style = {"warning": "yellow", "error": "red"}.get(level)
        shown = error_text(on_lines(text), width_of(self._out))
        self._console.print(shown, style=style, markup=False)

    def _picture(self) -> Text:
        from rich.text import Text

        ascii_only = not (self._console.encoding or "").lower().startswith("utf")
        # A column is left free: some terminals begin a new line when the last one is written to.
        lines = live_lines(self._account.standing, width_of(self._out) - 1, ascii_only=ascii_only)
        return Text("\n".join(lines), no_wrap=True, overflow="crop")
