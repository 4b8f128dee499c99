"""PURE: rows that cannot be scored: how many a shard may have, how they leave a batch, and the
errors where they may not be.

Owns the meaning of `max_bad_rows`, and the step from a batch to the same batch with more bad rows
in it. It is the same whether a row is found bad when it is read, when the model raises on it, or by
its prediction.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import BadRowError, TooManyBadRowsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.records import BadRow, Batch, Shard


def most_bad_rows(limit: int | str | None, rows: int) -> int | None:
    """The most bad rows that a shard may have.

    Args:
        limit: A number, a percentage (`1.5%`), or None: any number.
        rows: Rows of the shard.
    """
    if limit is None or isinstance(limit, int):
        return limit
    # As a fraction: 1% of 300 rows is 3, whatever a float says.
    return int(Fraction(limit.removesuffix("%")) * rows / 100)


def refuse_too_many(shard: Shard, bad: int, most: int | None) -> None:
    """Raises TooManyBadRowsError if a shard has more bad rows than it may have.

    Args:
        shard: The shard.
        bad: Bad rows of it that were found so far.
        most: What `most_bad_rows` allows.
    """
    if most is not None and bad > most:
        raise TooManyBadRowsError(
            "too many bad rows",
            path=shard.path,
            expected=f"at most {most:,} of {shard.rows:,} rows (--max-bad-rows)",
            received=f"{bad:,} bad rows, and the shard was not read further",
            hint="mend the shard, or raise --max-bad-rows; nothing of it was published",
        )


def refused(shard: Shard, bad: BadRow) -> BadRowError:
    """The error for a bad row where the policy is to fail."""
    return BadRowError(
        bad.reason,
        path=shard.path,
        column=bad.column,
        row=bad.row,
        hint="mend the row, or choose --on-bad-row quarantine or null and a new --output",
    )


def places(batch: Batch) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Where in a batch its good rows are, counted from the batch's first row: (good,)."""
    if batch.good is None:
        return np.arange(batch.rows)
    return np.flatnonzero(batch.good)


def set_aside(batch: Batch, found: Mapping[int, BadRow]) -> Batch:
    """A batch in which some of its good rows are bad ones, as if that had been seen when they were
    read. It is without features.

    Args:
        batch: The batch.
        found: Which of its good rows, counted among them from 0, and what is wrong with each.
    """
    good = np.ones(batch.rows, bool) if batch.good is None else batch.good.copy()
    good[places(batch)[list(found)]] = False
    bad = sorted([*batch.bad, *found.values()], key=lambda row: row.row)
    return replace(batch, features=(), good=good, bad=tuple(bad))
