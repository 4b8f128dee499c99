"""PURE: did it go well? How an output stands, in one sentence; what its drift means, in words.

The first that holds: what is wrong comes before what is left, and both before what is well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipeline.drift import Difference
from pipeline.errors import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Level = Literal["good", "waiting", "bad"]

_AGAIN = "run the same command again"

_ALIKE, _ANOTHER = 0.1, 0.25
"""What the population stability index is held against by custom: see `pipeline.distributions`."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How an output stands.

    Attributes:
        state: Of the latest run, as `run_history.state_of` has it; empty: there was none.
        error: What ended it, as its report has it; empty if nothing did.
        shards: Shards of the plan, readable or not.
        published: Those that are published.
        failed: The names of those that failed.
        success: Whether `_SUCCESS` is there.
        rows_in: Rows of the published shards.
        scored: Those of them with a prediction.
        null_scored: Those that are kept with null predictions.
        quarantined: Those in the dead-letter files.
        drifted: What the predictions differ in from those of the baseline by more than is allowed.
        baseline: The baseline's address.
    """

    state: str
    error: Mapping[str, Any]
    shards: int
    published: int
    failed: Sequence[str]
    success: bool
    rows_in: int
    scored: int
    null_scored: int = 0
    quarantined: int = 0
    drifted: Sequence[str] = ()
    baseline: str = ""


def verdict(standing: Standing) -> tuple[Level, str]:
    """How it stands: well, not finished, or wrong; and the sentence."""
    at = standing
    left = at.shards - at.published
    of_all = f"{left:,} of {_shards(at.shards)} {'is' if left == 1 else 'are'} left"
    if at.state == "running":
        return "waiting", f"Running: {at.published:,} of {_shards(at.shards)} are published."
    if at.drifted and not at.success:
        return "bad", (
            f"The predictions have drifted from those of {at.baseline}: {shortened(at.drifted)}."
        )
    if at.failed:
        others = {0: "", 1: "; the other one is published"}.get(
            at.published, f"; the other {at.published:,} are published"
        )
        return "bad", f"{_shards(len(at.failed))} failed: {shortened(at.failed)}{others}."
    if at.error and at.error.get("kind") != "StoppedError":
        what = f"Not finished: {at.error.get('message', 'an error')}"
        return "bad", f"{what}; {of_all}." if left else f"{what}."
    if left:
        why = {"killed": " The last run was killed, it seems.", "": " No run has told of itself."}
        return "waiting", f"Not finished: {of_all}; {_AGAIN}.{why.get(at.state, '')}"
    if not at.success:
        return "waiting", (
            f"All {_shards(at.shards)} are published, but the output is not marked complete: "
            f"{_AGAIN}."
        )
    known = at.scored + at.null_scored + at.quarantined
    if at.rows_in != known:
        return "bad", (
            f"{at.rows_in:,} rows went in, and {known:,} are accounted for: "
            "run verify on the output."
        )
    bad = [f"{at.quarantined:,} set aside"] if at.quarantined else []
    bad += [f"{at.null_scored:,} kept with null predictions"] if at.null_scored else []
    return "good", (
        f"All {at.rows_in:,} rows of {_shards(at.shards)} are accounted for: "
        f"{at.scored:,} scored, {', '.join(bad) or 'none set aside'}."
    )


def _shards(count: int) -> str:
    return f"{count:,} shard" + ("" if count == 1 else "s")


def beyond(drift: Mapping[str, Any] | None) -> list[str]:
    """The differences that exceed the limit, each with its index.

    Args:
        drift: What the guard found, as a run's report has it.
    """
    if not drift or drift.get("max_drift") is None:
        return []
    limit = drift["max_drift"]
    return [
        f"{told['of']} by {told['psi']:.3g} ({limit:g} is allowed)"
        for told in drift["differences"]
        if _exceeds(told, limit)
    ]


def explained(drift: Mapping[str, Any]) -> dict[str, Any]:
    """What the guard found, each difference with what it means."""
    differences = [told | {"says": _says(told, drift)} for told in drift["differences"]]
    return {**drift, "differences": differences}


def _says(told: Mapping[str, Any], drift: Mapping[str, Any]) -> str:
    limit = drift.get("max_drift")
    if limit is not None and _exceeds(told, limit):
        return "beyond"
    if _exceeds(told, _ANOTHER):
        return "another population"
    return "moved" if _exceeds(told, _ALIKE) else "alike"


def _exceeds(told: Mapping[str, Any], limit: float) -> bool:
    """Whether a difference, as a report has it, is more than a limit and than chance."""
    return Difference(told["of"], "", told["psi"], told["ks"], told["chance"]).exceeds(limit)
