"""The runs of an output, as their reports tell: which is the latest, and what became of each shard.

A report is what a run said of itself. Any of them may be missing, or be an earlier version's, so
nothing here rests on a key that a report may lack.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline.errors import NotFoundError
from pipeline.report import REPORTS
from pipeline.tables import SILENT_SECONDS
from pipeline.threads import in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pipeline.storage import Storage

MOST_RUNS = 400
"""Reports that are read: a year of nights, and some. Each says what became of its shards."""

MOST_ERRORS = 5
_THREADS = 8

Run = dict[str, Any]
"""A run's report, as JSON."""


@dataclass(frozen=True, slots=True)
class History:
    """The runs of an output.

    Attributes:
        runs: Their reports, the latest first.
        earlier: Reports of still earlier runs, which were not read.
    """

    runs: tuple[Run, ...]
    earlier: int

    @property
    def latest(self) -> tuple[Run, ...]:
        """The run that began last; if it has a share of a plan, the last one of each share."""
        if not self.runs:
            return ()
        last = self.runs[0]
        found: dict[int, Run] = {}
        for run in self.runs:
            if (share := share_of(run)) and _same_plan(run, last):
                found.setdefault(share[0], run)
        return tuple(found[index] for index in sorted(found)) if share_of(last) else (last,)

    @property
    def shares_missing(self) -> bool:
        """Whether shares of the latest plan have not been met."""
        share = share_of(self.runs[0]) if self.runs else None
        return share is not None and len(self.latest) < share[1]


def read(output: Storage) -> History:
    """The runs of an output.

    Raises:
        StorageError: Storage failed.
    """

    def load(name: str) -> Run | None:
        try:
            document = json.loads(output.read(name))
        except (NotFoundError, ValueError, RecursionError):
            return None  # damaged, or gone meanwhile: the others say the more
        return document if isinstance(document, dict) else None

    names = [info.name for info in output.list(REPORTS) if info.name.endswith(".json")]
    names.sort(reverse=True)
    history, rest = History((), 0), names
    # Of a plan with more shares than that, each share's word counts.
    while rest and (not history.runs or history.shares_missing):
        more = in_threads(load, rest[:MOST_RUNS], _THREADS)
        rest = rest[MOST_RUNS:]
        found = tuple(run for run in more if run is not None)
        seen = len(history.latest)
        history = History((*history.runs, *found), len(rest))
        if seen == len(history.latest):
            break  # the others have not begun
    return history


def share_of(run: Run) -> tuple[int, int] | None:
    """Which share of the shards a run has, from 0, and of how many; None: all."""
    match run.get("share"):
        case [int(index), int(count)] if count > 1:
            return index, count
    return None


def _same_plan(run: Run, other: Run) -> bool:
    mine, theirs = share_of(run), share_of(other)
    if mine is None or theirs is None:
        return False
    return mine[1] == theirs[1] and run.get("plan_id") == other.get("plan_id")


def state_of(run: Run, now: datetime | None = None) -> str:
    """How a run stands: as its report says; `killed`, if it goes on and has long said nothing."""
    state = str(run.get("state", "unknown"))
    if state != "running":
        return state
    try:
        updated = datetime.fromisoformat(str(run.get("updated")))
        silent = ((now or datetime.now(UTC)) - updated).total_seconds()
    except (ValueError, TypeError):
        return "killed"
    return "killed" if silent > SILENT_SECONDS else "running"


def outcomes(runs: Iterable[Run]) -> dict[str, Run]:
    """What became of each shard at last.

    Args:
        runs: The latest first.

    Returns:
        Shard → its outcome, as the report has it.
    """
    found: dict[str, Run] = {}
    for run in runs:
        for outcome in run.get("outcomes", ()):
            known = found.setdefault(outcome["shard"], outcome)
            # Another run was first with it: that one says how long it took.
            if known["status"] == "already_published" and outcome["status"] == "published":
                found[outcome["shard"]] = outcome
    return found


def summary(run: Run) -> Run:
    """What a list of runs says of each."""
    rows = run.get("rows", {})
    return {
        "run_id": run.get("run_id", ""),
        "state": state_of(run),
        "started": run.get("started", ""),
        "seconds": run.get("seconds", 0.0),
        "share": share_of(run),
        "rows": rows.get("in", 0),
        "scored": rows.get("scored", 0),
        "bad": rows.get("null_scored", 0) + rows.get("quarantined", 0),
        "shards": run.get("shards", {}).get("published", 0),
        "failed": run.get("shards", {}).get("failed", 0),
        "rows_per_second": run.get("rows_per_second", 0.0),
        "peak_bytes": run.get("memory", {}).get("peak_bytes", 0),
        "workers": run.get("workers", 1),
        "error": (run.get("error") or {}).get("message", ""),
    }


def said(latest: Sequence[Run], key: str) -> Any:
    """What the latest runs say of something, if any of them says it."""
    return next((value for run in latest[::-1] if (value := run.get(key))), None)


def error_of(latest: Sequence[Run]) -> Mapping[str, Any]:
    """What ended the latest runs: an error before a wish to stop."""
    errors = [error for run in latest if (error := run.get("error"))]
    errors.sort(key=lambda error: error.get("kind") == "StoppedError")
    return errors[0] if errors else {}


def together(latest: Sequence[Run], exit_code: Callable[[Run], int | None]) -> Run | None:
    """The latest run; of several shares their sums, and the longest one's course.

    Args:
        latest: The run, or the last one of each share.
        exit_code: A run's exit code, by its report; None: it has none.
    """
    if not latest:
        return None
    longest = max(latest, key=lambda run: run.get("seconds", 0.0))
    newest = max(latest, key=lambda run: str(run.get("run_id", "")))
    summaries = [summary(run) for run in latest]
    errors: list[Run] = []
    for run in latest:
        # A hundred shares that one cause has ended say the same.
        if (error := run.get("error")) and error not in errors:
            errors.append(error)
    codes = [exit_code(run) for run in latest]
    return {
        **summary(newest),
        "seconds": max(told["seconds"] for told in summaries),
        "updated": newest.get("updated", ""),
        **{
            key: sum(told[key] for told in summaries)
            for key in (
                *("rows", "scored", "bad", "shards", "failed"),
                *("rows_per_second", "peak_bytes", "workers"),
            )
        },
        "after_load_bytes": sum(r.get("memory", {}).get("after_load_bytes", 0) for r in latest),
        "by_method": _added([run.get("shards", {}).get("by_method", {}) for run in latest]),
        "threads": newest.get("threads", 0),
        "fitting_batch_rows": newest.get("fitting_batch_rows", 0),
        "inputs": newest.get("inputs", []),
        "plan_id": newest.get("plan_id", ""),
        "versions": newest.get("versions", {}),
        "host": newest.get("host", ""),
        "invocation": newest.get("invocation"),
        "exit_code": next((code for code in codes if code), codes[-1]),
        "errors": errors[:MOST_ERRORS],
        "shares": [{**told, "exit_code": code} for told, code in zip(summaries, codes, strict=True)]
        if share_of(newest)
        else [],
        "timeline": longest.get("timeline", []),
        "timeline_share": share_of(longest),
    }


def _added(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    names = sorted({name for part in counts for name in part})
    return {name: sum(part.get(name, 0) for part in counts) for name in names}
