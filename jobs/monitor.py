"""`Monitor`: an observer that tells Prometheus how a run goes, beside the one that tells people.

It decides when figures are told and where they go: a file that a node exporter reads, a
Pushgateway, both or neither. What they are called and mean is `pipeline.metrics`' affair. Metrics
never decide how a run goes: what goes wrong with them is a warning, once a run for each place.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Protocol, Self

import typer

from jobs.exit_codes import of_ending
from jobs.pushgateway import Pushgateway
from pipeline import metrics
from pipeline.errors import BusyError, ShardscoreError, printable
from pipeline.job_file import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from pipeline.metrics import Figures, Labels
    from pipeline.progress import Observer
    from pipeline.records import Outcome, RunReport


class Place(Protocol):
    """Where figures are told."""

    @property
    def shown(self) -> str:
        """What it is called in messages."""

    def tell(self, figures: Figures, labels: Labels, *, last: bool) -> str | None:
        """Tells them, and returns what went wrong, if anything did."""


class MetricsFile:
    """A text file, replaced in one step: who reads it finds the old one or the new one, whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.shown = printable(str(path))

    def tell(
        self,
        figures: Figures,
        labels: Labels,
        *,
        last: bool,  # noqa: ARG002 - a file is written at once, also at the end
    ) -> str | None:
        """Writes the figures, and keeps what the file says besides of the same job and share."""
        try:
            before = self._before()
            if before and not before.startswith("# HELP shardscore_"):
                return "it is no metrics file of shardscore, and is left as it is"
            kept = metrics.with_kept(figures, before, labels)
            write_text(self._path, metrics.as_text(kept, labels), replace=True)
        except (OSError, ShardscoreError) as error:
            return printable(str(getattr(error, "message", error)))
        return None

    def _before(self) -> str:
        if self._path.exists() and not self._path.is_file():
            return "no file"  # nor to be read: a pipe would never answer
        try:
            with self._path.open(encoding="utf-8", errors="replace", newline="") as file:
                return file.read(1 << 20)
        except FileNotFoundError:
            return ""


class Gateway:
    """A Pushgateway, which itself keeps what is not told."""

    def __init__(self, address: str) -> None:
        self._gateway = Pushgateway(address)
        self.shown = self._gateway.shown

    def tell(self, figures: Figures, labels: Labels, *, last: bool) -> str | None:
        """Sends the figures."""
        return self._gateway.tell(metrics.as_text(figures, labels), labels, last=last)


class Monitor:
    """An observer that passes on all that it is told, and a context manager around a whole command.

    A command that finds another run at work tells nothing: the figures are the other's.

    Args:
        shown: The observer that tells people.
        places: Where figures are told.
        labels: What is on each sample.
    """

    def __init__(self, shown: Observer, places: list[Place], labels: Labels) -> None:
        self._shown = shown
        self._places = places
        self._labels = labels
        self._began, self._since = time.time(), time.monotonic()
        self._report: RunReport | None = None
        self._planned: int | None = None
        self._done = 0
        self._complained: set[str] = set()

    def is_share(self, index: int | None) -> None:
        """The job is known by now: whether it is a share of one, and which."""
        if index is not None:
            self._labels["shard_index"] = str(index)

    def event(self, name: str, text: str, **facts: Any) -> None:
        self._shown.event(name, text, **facts)

    def begin(self, *, rows: int, shards: int) -> None:
        self._planned, self._done = rows, 0
        self._shown.begin(rows=rows, shards=shards)

    def at_work(self, worker: int, shards: Sequence[str]) -> None:
        self._shown.at_work(worker, shards)

    def advance(self, rows: int) -> None:
        self._done += rows
        self._shown.advance(rows)

    def shard(self, outcome: Outcome) -> None:
        self._shown.shard(outcome)

    def standing(self, report: RunReport) -> None:
        self._report = report
        if report.state == "running":  # else the end of the command is near, which tells more
            self._tell({})
        self._shown.standing(report)

    def end(self) -> None:
        self._shown.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: object, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if not isinstance(error, BusyError):
            self._tell(metrics.of_end(time.time(), of_ending(error)), last=True)

    def _tell(self, figures: Figures, *, last: bool = False) -> None:
        told: Figures = {
            "shardscore_run_start_timestamp_seconds": metrics.one(self._began),
            "shardscore_run_duration_seconds": metrics.one(time.monotonic() - self._since),
            **figures,
        }
        if self._report is not None:
            told |= metrics.of_run(self._report, self._planned, self._done)
        for place in self._places:
            try:
                problem = place.tell(told, self._labels, last=last)
            except Exception as error:
                # Say, no thread is to be had: how the run ended is not to be hidden by that.
                problem = printable(f"{type(error).__name__}: {error}")
            if problem is not None and place.shown not in self._complained:
                self._complained.add(place.shown)
                self._shown.event(
                    "metrics_not_told",
                    f"metrics could not be told to {place.shown}: {problem}",
                    level="warning",
                    place=place.shown,
                    reason=problem,
                )


def monitor(
    shown: Observer, metrics_file: Path | None, pushgateway: str | None, name: str | None
) -> Monitor:
    """The monitor that the command line asks for.

    Raises:
        typer.BadParameter: An option is wrong.
    """
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise typer.BadParameter(
            f"{name!r} is no name of letters, digits, _, . and - (64 at most)",
            param_hint="--metrics-name",
        )
    places: list[Place] = [] if metrics_file is None else [MetricsFile(metrics_file)]
    if pushgateway is not None:
        try:
            places.append(Gateway(pushgateway))
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--pushgateway") from None
    return Monitor(shown, places, {} if name is None else {"name": name})
