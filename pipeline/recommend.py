"""Which method and batch size to use, by what was measured. PURE: from records to a choice.

The rule: among the methods that a job can name and that never disagreed with `predict()`, find the
fastest measurement; of those within five percent of it, take the smallest batch size, since a small
batch costs less memory and the rest is noise; of these the plainest method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Compared = Literal["predict", "predict_on_batch", "predict_step", "compiled"]
"""Keras' methods, and the bare compiled call of the model, which a job cannot name."""

METHODS: tuple[Compared, ...] = ("predict", "predict_on_batch", "predict_step", "compiled")
CHOOSABLE: tuple[Compared, ...] = ("predict_on_batch", "predict_step", "predict")
"""Those that a job can name, the plainest first: `predict()` keeps all its output."""

NEAR = 0.95
"""Share of the highest rate that counts as just as fast."""

KERAS_BATCH = 32
"""The batch size of `predict()` where none is given."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One method at one batch size.

    Attributes:
        method: The method.
        batch_size: Rows a batch.
        problem: Why there are no figures, or None.
        first_ms: Milliseconds of the first call, which traces the model.
        batch_ms: Milliseconds a batch, the median.
        rate: Rows a second.
        memory: Bytes at the peak, above those of the loaded model and the sample.
        complaint: Why its outputs cannot be compared with those of `predict()`, or None.
        difference: The largest distance of a float from that of `predict()`; None: not compared.
        unequal: Other values that are not those of `predict()`.
        agrees: Whether it gives what `predict()` gives.
    """

    method: Compared
    batch_size: int
    problem: str | None = None
    first_ms: float = 0.0
    batch_ms: float = 0.0
    rate: float = 0.0
    memory: int = 0
    complaint: str | None = None
    difference: float | None = None
    unequal: int = 0
    agrees: bool = False


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to use, and why.

    Attributes:
        chosen: The measurement that it rests on.
        text: One line: what to use and its figures.
        reason: One line: why this and no other.
    """

    chosen: Measured
    text: str
    reason: str


def recommend(measured: Sequence[Measured]) -> Recommendation | None:
    """The method and the batch size to use; None if no method that a job can name will do."""
    wrong = {m.method for m in measured if m.problem is None and not m.agrees}
    fit = [
        m for m in measured if m.problem is None and m.method in CHOOSABLE and m.method not in wrong
    ]
    if not fit:
        return None
    fastest = max(fit, key=lambda m: m.rate)
    near = [m for m in fit if m.rate >= NEAR * fastest.rate]
    chosen = min(near, key=lambda m: (m.batch_size, CHOOSABLE.index(m.method)))
    return Recommendation(chosen, _text(chosen, measured), _reason(chosen, fastest, measured))


def _text(chosen: Measured, measured: Sequence[Measured]) -> str:
    figures = [f"{rate_text(chosen.rate)} rows/s"]
    usual = next(
        (m for m in measured if m.method == "predict" and m.batch_size == KERAS_BATCH), None
    )
    if usual is not None and usual.problem is None and usual is not chosen:
        figures.append(
            f"{times_text(chosen.rate / usual.rate)} the rate of predict() at its default batch "
            f"size {KERAS_BATCH}"
        )
    figures.append(f"{chosen.memory / 1e6:,.0f} MB above the loaded model")
    text = f"use {chosen.method} with batch size {chosen.batch_size:,}: " + ", ".join(figures)
    if chosen.method == "predict":
        return text
    if not chosen.difference:
        return f"{text}; the same values as predict()"
    return f"{text}; within {chosen.difference:.0e} of predict()"


def _reason(chosen: Measured, fastest: Measured, measured: Sequence[Measured]) -> str:
    others = [m for m in CHOOSABLE if any(r.method == m and r.problem is None for r in measured)]
    wrong = [
        m for m in others if any(r.method == m and not r.agrees and not r.problem for r in measured)
    ]
    among = "the fastest of the methods that give what predict() gives"
    if chosen.batch_size == fastest.batch_size and chosen is not fastest:
        among = f"as fast as {fastest.method}, within {1 - NEAR:.0%}, and the plainer method"
    elif chosen is not fastest:
        among = (
            f"the smallest batch size within {1 - NEAR:.0%} of the fastest "
            f"({fastest.method} with {fastest.batch_size:,}: {rate_text(fastest.rate)} rows/s)"
        )
    return among + (
        f"; {' and '.join(wrong)} would give other outputs on this model" if wrong else ""
    )


def rate_text(rate: float) -> str:
    """Rows a second in three digits: 950, 31,400, 1.94 M."""
    if rate >= 1e6:
        return f"{rate / 1e6:.3g} M"
    if rate < 1000:
        return f"{rate:.3g}"
    return f"{round(rate, 3 - len(str(int(rate)))):,.0f}"


def times_text(factor: float) -> str:
    """How many times as fast: 1.3 times, 14 times."""
    return f"{factor:.1f} times" if factor < 10 else f"{factor:,.0f} times"
