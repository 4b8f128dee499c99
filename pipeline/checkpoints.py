"""Checkpoints: how far a big shard was scored, kept in the output, so that a kill costs little.

A checkpoint holds what a shard's rows `start` to `end` became, both at batch boundaries: a segment
of the predictions (`pipeline.segments`) whose note says how things stood at `end`, and beside it,
if rows were set aside by then, one of the dead-letter file. The dead letters are written first,
the predictions' segment is the commit. Checkpoints follow one another: 0→a, a→b, b→c.

What one holds is a function of the job, the shard and its two ends alone, so those of several
writers (a zombie and its successor, two pods of one index) may be followed in any mixture. Their
names end with the digest of their footer, which holds the digests of all else: those of one name
are alike, and damage to any byte of one is found.

This module owns their notes, and taking them away; their names are `pipeline.spans`'s. It trusts
none: one that is damaged, or of another job, input or version, ends the way. The
damaged one goes; the other stays until the shard is published, since its writer may be at work.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import CorruptShardError, NotFoundError
from pipeline.footer import footer_bytes, parquet_errors
from pipeline.records import RowCounts
from pipeline.segments import WAITING_KEY, Waiting, unpacked
from pipeline.spans import FOLDER, Span, longest_way
from pipeline.stitching import Segment, footer_digest

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from pipeline.storage import Storage

_NOTE_KEY = b"shardscore.checkpoint"
_THREADS = 8


@dataclass(frozen=True, slots=True)
class Origin:
    """What a checkpoint must have in common with a run that continues from it.

    Attributes:
        fingerprint: The job's identity.
        input: The input shard's identity, and when it was changed: a version that has the size
            and the footer of another is another all the same.
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
        bad: Digest of the footer of the dead letters' segment; empty if there is none.
        sketch: See `pipeline.sketch`: of all predictions before `end`.
        format: Version of the note.
    """

    origin: Origin
    start: int
    end: int
    counts: RowCounts
    varying: int
    data_xxh3: str
    bad: str
    sketch: str
    format: Literal[2] = 2

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
        sketch: Of the predictions; empty if there are none.
    """

    rows: int = 0
    counts: RowCounts = field(default_factory=RowCounts)
    segments: tuple[Segment, ...] = ()
    waiting: Waiting = field(default_factory=Waiting)
    bad_segments: tuple[Segment, ...] = ()
    bad_waiting: Waiting | None = None
    sketch: str = ""


NOTHING = Resumed()
"""What a shard continues from that has no checkpoint."""


def resume(output: Storage, spans: Iterable[Span], origin: Origin) -> Resumed:
    """Reads how far a shard has come.

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
            steps = list(pool.map(lambda span: _step(output, span, origin, way[-1]), way))
        sound = [step for step in steps if step is not None]
        if len(sound) == len(way):
            return _resumed(sound)
        left = [span for span in left if span not in way or steps[way.index(span)] is not None]
    return NOTHING


@dataclass(frozen=True, slots=True)
class _Part:
    """One segment as it was read: where it is, its note, and the rows that wait, if asked for."""

    segment: Segment
    note: CheckpointNote
    waiting: Waiting


def _resumed(steps: Sequence[tuple[_Part, _Part | None]]) -> Resumed:
    """Where a way leads: its segments, and the rows that wait at its end."""
    scored = [step[0] for step in steps]
    bad = [step[1] for step in steps if step[1] is not None]
    end, bad_end = steps[-1]
    return Resumed(
        rows=end.note.end,
        counts=end.note.counts,
        segments=tuple(part.segment for part in scored),
        waiting=end.waiting,
        bad_segments=tuple(part.segment for part in bad),
        bad_waiting=None if bad_end is None else bad_end.waiting,
        sketch=end.note.sketch,
    )


def _step(
    output: Storage, span: Span, origin: Origin, last: Span
) -> tuple[_Part, _Part | None] | None:
    """The segments of one checkpoint, or None if it cannot be followed."""
    try:
        scored = _read(output, span, span.name, last)
        if scored.note.origin != origin or (scored.note.start, scored.note.end) != (
            span.start,
            span.end,
        ):
            return None  # of something else: its writer may be at work
        if not scored.note.bad:
            return scored, None
        bad = replace(span, digest=scored.note.bad)
        return scored, _read(output, bad, bad.bad_name, replace(last, digest=bad.digest))
    except CorruptShardError:
        output.delete(span.name)
    except NotFoundError:
        pass  # taken away meanwhile
    return None


def _read(output: Storage, span: Span, name: str, last: Span) -> _Part:
    """Reads a segment's footer. Only the last one's waiting rows are wanted: they may be many."""
    path = f"{output.url}/{name}"
    with parquet_errors(path), output.open_input(name) as file:
        # The digest covers the note, and with it all that the note says.
        if footer_digest(footer_bytes(file, path)) != span.digest:
            raise CorruptShardError("a checkpoint that is damaged", path=path)
        metadata = pq.ParquetFile(file, pre_buffer=False).metadata.metadata or {}
    try:
        note = TypeAdapter(CheckpointNote).validate_json(metadata[_NOTE_KEY])
        waiting = metadata[WAITING_KEY]
    except (KeyError, ValidationError) as error:
        raise CorruptShardError("not a checkpoint", path=path) from error
    return _Part(
        Segment(name, note.data_xxh3, span.digest),
        note,
        unpacked(waiting, note.varying) if span == last else Waiting(),
    )


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
