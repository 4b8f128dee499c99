"""Checkpoints by their names: whose they are, which rows they span, and the way through them.

A name says all that a listing can tell of how far a big shard has come; `pipeline.checkpoints`
reads what is behind it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.storage import Storage

FOLDER = "_shardscore/checkpoints"
_NAME = re.compile(
    r"(?P<shard>.+)/(?P<start>\d{12})-(?P<end>\d{12})\.(?P<digest>[0-9a-f]{32})", re.DOTALL
)
_SUFFIX, _BAD_SUFFIX = ".parquet", ".bad.parquet"


@dataclass(frozen=True, slots=True)
class Span:
    """The name of a checkpoint: its shard, the rows it spans, and the digest of its footer."""

    shard: str
    start: int
    end: int
    digest: str

    @property
    def name(self) -> str:
        """Name of the predictions' segment."""
        return self._stem + _SUFFIX

    @property
    def bad_name(self) -> str:
        """Name of a dead letters' segment whose footer has this digest."""
        return self._stem + _BAD_SUFFIX

    @property
    def _stem(self) -> str:
        return f"{FOLDER}/{self.shard}/{self.start:012}-{self.end:012}.{self.digest}"

    @classmethod
    def of(cls, name: str) -> Span | None:
        """The span of a predictions' segment, or None if it is not the name of one."""
        if not name.startswith(f"{FOLDER}/") or not name.endswith(_SUFFIX):
            return None
        found = _NAME.fullmatch(name[len(FOLDER) + 1 : -len(_SUFFIX)])
        if found is None:
            return None
        return cls(found["shard"], int(found["start"]), int(found["end"]), found["digest"])


def listing(output: Storage) -> dict[str, list[Span]]:
    """The checkpoints of an output by shard, from its listing alone."""
    found: defaultdict[str, list[Span]] = defaultdict(list)
    for info in output.list(FOLDER):
        if (span := Span.of(info.name)) is not None:
            found[span.shard].append(span)
    return dict(found)


def in_progress(output: Storage) -> dict[str, int]:
    """Shard → rows that its checkpoints hold, from the listing alone."""
    return {shard: reach(spans) for shard, spans in sorted(listing(output).items())}


def reach(spans: Iterable[Span]) -> int:
    """Rows of a shard that a way through its checkpoints leads to."""
    way = longest_way(spans)
    return way[-1].end if way else 0


def longest_way(spans: Iterable[Span]) -> list[Span]:
    """The checkpoints that lead from row 0 to the furthest row, as few of them as can be."""
    # By their starts: when a span's turn comes, all ways to its start are known.
    last: dict[int, tuple[int, Span | None]] = {0: (0, None)}
    for span in sorted(spans, key=lambda span: (span.start, span.end, span.digest)):
        if span.start >= span.end or span.start not in last:
            continue
        steps = last[span.start][0] + 1
        if span.end not in last or steps < last[span.end][0]:
            last[span.end] = (steps, span)
    way: list[Span] = []
    row = max(last)
    while (span_to := last[row][1]) is not None:
        way.append(span_to)
        row = span_to.start
    return way[::-1]
