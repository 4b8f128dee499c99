"""How far the predictions of an output are from those of an earlier one: the records of it."""

from __future__ import annotations

from dataclasses import dataclass

_BEYOND_CHANCE = 3
"""An index this many times what chance makes it on average is seen by chance once in thousands."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far one thing that is counted differs from the baseline's.

    Attributes:
        column: The prediction column.
        what: What of it: empty for its numbers, `[3]` for those of an element, `highest` for which
            class has the highest score, `values` for its values.
        psi: The population stability index.
        ks: The Kolmogorov-Smirnov distance; of named bins half the sum of what shares differ by.
        chance: The index that two samples as large, of one population, show on average.
    """

    column: str
    what: str
    psi: float
    ks: float
    chance: float

    @property
    def name(self) -> str:
        """What differs, in a word or two."""
        if not self.what or self.what.startswith("["):
            return f"{self.column}{self.what}"
        return f"{self.column}: {'likeliest class' if self.what == 'highest' else self.what}"

    def exceeds(self, limit: float) -> bool:
        """Whether it is more than a limit of the index, and more than chance would make it."""
        return self.psi > max(limit, _BEYOND_CHANCE * self.chance)


@dataclass(frozen=True, slots=True)
class Drift:
    """How the predictions of an output differ from those of its baseline.

    Attributes:
        baseline: The baseline's address.
        limit: The population stability index that none may exceed; None: any may be.
        differences: Each, the largest first.
    """

    baseline: str
    limit: float | None
    differences: tuple[Difference, ...]

    @property
    def beyond(self) -> tuple[Difference, ...]:
        """Those that exceed the limit."""
        if self.limit is None:
            return ()
        return tuple(d for d in self.differences if d.exceeds(self.limit))
