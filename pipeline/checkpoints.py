"""Checkpoints: how far a big shard was scored, kept in the output, so that a kill costs little.

A checkpoint holds what a shard's rows `start` to `end` became, both at batch boundaries: a segment
of the predictions (`pipeline.segments`) whose note says how things stood at `end`, and beside it,
if rows were set aside by then, one of the dead-letter file. The dead letters are written first,
the predictions' segment is the commit. Checkpoints follow one another: 0→a, a→b, b→c.

What one holds is a function of the job, the shard and its two ends alone, so those of several
writers (a zombie and its successor, two pods of one index) may be followed in any mixture. Their
names end with a word of their writer's own, so that none ever overwrites another's.

This module owns their names, their notes, finding the longest way through them, and taking them
away. It trusts none: one that is of another job, input or version, or damaged, ends the way.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pyarrow.parquet as pq
import xxhash
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import CorruptShardError, NotFoundError
from pipeline.footer import parquet_errors
from pipeline.records import RowCounts
from pipeline.segments import WAITING_KEY, Segment, Waiting, unpacked

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from pipeline.storage import Storage

FOLDER = "_shardscore/checkpoints"
_NOTE_KEY = b"shardscore.checkpoint"
_NAME = re.compile(r"(?P<shard>.+)/(?P<start>\d{12})-(?P<end>\d{12})\.(?P<word>[0-9a-f]{8})")
_THREADS = 8
_SUFFIX, _BAD_SUFFIX = ".parquet", ".bad.parquet"


@dataclass(frozen=True, slots=True)
class Span:
    """The name of a checkpoint: its shard, the rows it spans, and its writer's word."""

    shard: str
    start: int
    end: int
    word: str

    @property
    def name(self) -> str:
        """Name of the predictions' segment."""
        return self._stem + _SUFFIX

    @property
    def bad_name(self) -> str:
        """Name of the dead letters' segment."""
        return self._stem + _BAD_SUFFIX

    @property
    def _stem(self) -> str:
        return f"{FOLDER}/{self.shard}/{self.start:012}-{self.end:012}.{self.word}"

    @classmethod
    def of(cls, name: str) -> Span | None:
        """The span of a predictions' segment, or None if it is not the name of one."""
        if not name.startswith(f"{FOLDER}/") or not name.endswith(_SUFFIX):
            return None
        found = _NAME.fullmatch(name[len(FOLDER) + 1 : -len(_SUFFIX)])
        if found is None:
            return None
        return cls(found["shard"], int(found["start"]), int(found["end"]), found["word"])


@dataclass(frozen=True, slots=True)
class Origin:
    """What a checkpoint must have in common with a run that continues from it.

    Attributes:
        fingerprint: The job's identity.
        input: The input shard's identity.
        versions: Of the programs that score and write: a file is never made by two of them.
    """

    fingerprint: str
    input: dict[str, Any]
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class CheckpointNote:
    """How a shard stood at the end of a checkpoint.

    Attributes:
        origin: Of what job, input and versions it is.
        start: First row of the span.
        end: Row behind its last.
        counts: Where the rows before `end` went.
        varying: See `Waiting`.
        data_xxh3: Digest of the segment's row groups.
        waiting_xxh3: Digest of the rows that wait.
        bad: Whether there is a segment of dead letters too.
        format: Version of the note.
    """

    origin: Origin
    start: int
    end: int
    counts: RowCounts
    varying: int
    data_xxh3: str
    waiting_xxh3: str
    bad: bool
    format: Literal[1] = 1

    def encoded(self) -> dict[bytes, bytes]:
        """The note as Parquet key-value metadata."""
        return {_NOTE_KEY: json.dumps(asdict(self), sort_keys=True).encode()}


@dataclass(frozen=True, slots=True)
class Resumed:
    """How far a shard has come: what its writer continues from.

    Attributes:
        rows: Rows done, a multiple of the batch size.
        counts: Where they went.
        segments: The saved segments of the predictions, in order.
        waiting: Predictions that wait for their row group.
        bad_segments: As `segments`, of the dead letters.
        bad_waiting: As `waiting`; None if no row was set aside.
    """

    rows: int = 0
    counts: RowCounts = field(default_factory=RowCounts)
    segments: tuple[Segment, ...] = ()
    waiting: Waiting = field(default_factory=Waiting)
    bad_segments: tuple[Segment, ...] = ()
    bad_waiting: Waiting | None = None


NOTHING = Resumed()
"""What a shard continues from that has no checkpoint."""


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
    for span in sorted(spans, key=lambda span: (span.start, span.end, span.word)):
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


def resume(output: Storage, spans: Iterable[Span], origin: Origin) -> Resumed:
    """Reads how far a shard has come; what cannot be followed is taken away.

    Args:
        output: The output.
        spans: The shard's checkpoints.
        origin: What they must agree with.

    Raises:
        StorageError: Reading failed.
    """
    left = list(spans)
    while way := longest_way(left):
        with ThreadPoolExecutor(_THREADS) as pool:
            steps = list(pool.map(lambda span: _step(output, span, origin), way))
        unsound = [span for span, step in zip(way, steps, strict=True) if step is None]
        if not unsound:
            return _resumed([step for step in steps if step is not None])
        for span in unsound:
            left.remove(span)
            remove(output, span)
    return NOTHING


@dataclass(frozen=True, slots=True)
class _Part:
    """One segment as it was read: where it is, and the packed rows that wait."""

    segment: Segment
    note: CheckpointNote
    waiting: bytes


def _resumed(steps: Sequence[tuple[_Part, _Part | None]]) -> Resumed:
    """Where a way leads: its segments, and the rows that wait at its end."""
    scored = [step[0] for step in steps]
    bad = [step[1] for step in steps if step[1] is not None]
    end = scored[-1].note
    return Resumed(
        rows=end.end,
        counts=end.counts,
        segments=tuple(part.segment for part in scored),
        waiting=unpacked(scored[-1].waiting, end.varying),
        bad_segments=tuple(part.segment for part in bad),
        bad_waiting=unpacked(bad[-1].waiting, bad[-1].note.varying) if bad else None,
    )


def _step(output: Storage, span: Span, origin: Origin) -> tuple[_Part, _Part | None] | None:
    """The segments of one checkpoint, or None if it cannot be followed."""
    try:
        scored = _read(output, span, span.name, origin)
        return scored, _read(output, span, span.bad_name, origin) if scored.note.bad else None
    except (CorruptShardError, NotFoundError):
        return None


def _read(output: Storage, span: Span, name: str, origin: Origin) -> _Part:
    path = f"{output.url}/{name}"
    with parquet_errors(path), output.open_input(name) as file:
        metadata = pq.ParquetFile(file, pre_buffer=False).metadata.metadata or {}
    try:
        note = TypeAdapter(CheckpointNote).validate_json(metadata[_NOTE_KEY])
        waiting = metadata[WAITING_KEY]
    except (KeyError, ValidationError) as error:
        raise CorruptShardError("not a checkpoint", path=path) from error
    sound = xxhash.xxh3_128(waiting).hexdigest() == note.waiting_xxh3
    if not sound or note.origin != origin or (note.start, note.end) != (span.start, span.end):
        raise CorruptShardError("a checkpoint of something else", path=path)
    return _Part(Segment(name, note.data_xxh3), note, waiting)


def remove(output: Storage, span: Span) -> None:
    """Takes one checkpoint away: first what makes it one."""
    output.delete(span.name)
    output.delete(span.bad_name)


def clear(output: Storage, shard: str) -> None:
    """Takes away all checkpoints of a shard, whoever wrote them."""
    for info in list(output.list(f"{FOLDER}/{shard}")):
        output.delete(info.name)


def sweep(output: Storage, published: Container[str]) -> int:
    """Takes away what late writers left of shards that are published; how many files that was."""
    removed = 0
    for info in list(output.list(FOLDER)):
        shard = info.name[len(FOLDER) + 1 :].rpartition("/")[0]
        if shard in published:
            output.delete(info.name)
            removed += 1
    return removed
