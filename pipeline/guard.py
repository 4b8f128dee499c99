"""The guard against drift: the predictions of an output held against those of an earlier one.

It looks at an output as a whole when all of its shards are published, and refuses it the mark of
completeness if its predictions differ too much: whoever waits for `_SUCCESS` does not take them.
What it compares are sums of whole numbers, so the verdict is the same however the work was shared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pipeline import looks
from pipeline.differences import differences
from pipeline.distributions import comparable
from pipeline.drift import Drift
from pipeline.errors import ConfigError, DriftError, shortened
from pipeline.storage.locate import storage_at

if TYPE_CHECKING:
    from pipeline.distributions import Distributions
    from pipeline.drift import Difference
    from pipeline.job import Job

_TOLD = 5
"""Differences that an error names."""


class Guard:
    """Compares with a baseline.

    Args:
        address: The baseline's.
        baseline: What its predictions look like.
        limit: See `Drift`.

    Attributes:
        drift: What was found; None until something was compared.
    """

    def __init__(self, address: str, baseline: Distributions, limit: float | None) -> None:
        self._address = address
        self._baseline = baseline
        self._limit = limit
        self.drift: Drift | None = None

    @classmethod
    def of(cls, job: Job) -> Self | None:
        """The guard that a job asks for.

        Raises:
            ConfigError: There is nothing to compare with at the baseline's address.
            StorageError: It could not be read.
        """
        if job.baseline is None:
            return None
        output = storage_at(job.baseline)
        baseline = looks.of_output(output)
        if not baseline.columns:
            raise ConfigError(
                "the baseline has no predictions that can be compared with",
                path=output.url,
                expected="an output of shardscore",
                received=f"{baseline.without:,} shards, none of which says what its predictions "
                "look like"
                if baseline.without
                else "no published shard",
                hint="name the folder that an earlier run was given as --output; one that an "
                "earlier version wrote cannot be compared with",
            )
        return cls(output.url, baseline, job.max_drift)

    def accept(self, found: Distributions) -> None:
        """Compares, and accepts the predictions or raises.

        Raises:
            DriftError: They differ from the baseline's by more than is allowed.
            ConfigError: They have no column in common.
        """
        before, now = self._baseline.columns, found.columns
        if now and not all(name in now and comparable(before[name], now[name]) for name in before):
            raise ConfigError(
                "the baseline has other predictions",
                path=self._address,
                expected="predictions of the same names and kinds: " + shortened(list(now)),
                received=shortened(
                    [
                        f"{name}, of another kind" if name in now else f"{name}, not among these"
                        for name in before
                        if name not in now or not comparable(before[name], now[name])
                    ]
                ),
                hint="name an output of the same model's predictions with --baseline",
            )
        if found.without or not now:
            raise ConfigError(
                "there are shards that say nothing of what their predictions look like",
                received=f"{found.without:,} of {found.shards + found.without:,} shards",
                hint="an earlier version wrote them: score into another --output to compare, or "
                "leave --baseline out",
            )
        largest = sorted(differences(before, now), key=lambda d: (-d.psi, d.name))
        self.drift = Drift(self._address, self._limit, tuple(largest))
        if beyond := self.drift.beyond:
            raise DriftError(
                "the predictions have drifted from those of the baseline: there is no _SUCCESS",
                path=self._address,
                expected=f"a population stability index of at most {self._limit:g}",
                received="\n".join(map(_said, beyond[:_TOLD]))
                + (f"\nand {len(beyond) - _TOLD:,} more" if len(beyond) > _TOLD else ""),
                hint="look at the report; all predictions are published. To accept them, score "
                "again without --max-drift, or with another --baseline",
            )


def _said(difference: Difference) -> str:
    return f"{difference.name}: {difference.psi:.3g} (KS {difference.ks:.3g})"
