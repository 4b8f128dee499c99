"""PURE: from shards, and what is published of them, to the work that is left.

No function here touches a file, a clock or a model; each is a function from records to records.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import ChangedInputError, OutputMismatchError
from pipeline.records import FailedShard, Shard, WorkUnit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pipeline.footer import Provenance

GROUP_BATCHES = 4
"""Small shards share a call of `predict()` up to this many full batches' worth of rows: the call
keeps all its output, so this bounds memory; it costs some 100 ms, so one shard a call is slow."""

GROUP_SHARDS = 512
"""…and up to this many shards, whose columns wait in memory for the call to end."""


DEAD_LETTER_MARK = "quarantine_row"
"""The column by which a dead-letter file is known: the row's number in its shard."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How the shards of an input stand, given an output.

    Attributes:
        done: Published by this job from this very input.
        pending: Not published.
        changed: Published from a file that has changed since.
        replaced: Names of the pending shards that are published from a file that has changed
            since, and are to be scored again.
    """

    done: tuple[Shard, ...]
    pending: tuple[Shard, ...]
    changed: tuple[FailedShard, ...]
    replaced: frozenset[str] = frozenset()


def standing(
    shards: Iterable[Shard],
    published: Mapping[str, Provenance | None],
    fingerprint: str,
    output: str,
    *,
    rescore: Callable[[Shard, Provenance], bool] = lambda _shard, _note: False,
) -> Standing:
    """Compares shards with what is published.

    Args:
        shards: The input.
        published: Final name → the note in that file's footer, None if it has none.
        fingerprint: The job's.
        output: The output's address, for messages.
        rescore: Whether a shard that is published from a file that is not quite this one is to be
            scored again.

    Raises:
        OutputMismatchError: A file under a final name was written by another job or program.
    """
    done: list[Shard] = []
    pending: list[Shard] = []
    changed: list[FailedShard] = []
    replaced: set[str] = set()
    for shard in shards:
        if shard.schema is None:  # it was held against its published file when it was found
            done.append(shard)
            continue
        if shard.name not in published:
            pending.append(shard)
            continue
        note = published[shard.name]
        path = f"{output}/{shard.name}"
        if note is None or note.fingerprint != fingerprint:
            raise foreign_output(path, note, fingerprint)
        # Dead letters of a shard have its name. They are a few of its rows, and never replace it.
        partial = note.input.get("rows") != shard.rows and is_dead_letters(shard)
        if rescore(shard, note) and not partial:
            pending.append(shard)
            replaced.add(shard.name)
        elif note.input == shard.identity:
            done.append(shard)
        else:
            changed.append(FailedShard(shard.name, shard.path, changed_input(shard, note)))
    return Standing(tuple(done), tuple(pending), tuple(changed), frozenset(replaced))


def together(parts: Iterable[Standing]) -> Standing:
    """How the shards of several parts of an input stand."""
    parts = list(parts)
    return Standing(
        tuple(shard for part in parts for shard in part.done),
        tuple(shard for part in parts for shard in part.pending),
        tuple(shard for part in parts for shard in part.changed),
        frozenset(name for part in parts for name in part.replaced),
    )


def foreign_output(path: str, note: Provenance | None, fingerprint: str) -> OutputMismatchError:
    """The error for a file in our place that is not ours."""
    if note is None:
        received = "a file that shardscore did not write, or that is damaged"
    else:
        received = f"a file of the job {note.fingerprint[:12]}"
    return OutputMismatchError(
        "the output holds a file of another job",
        path=path,
        expected=f"nothing, or a file of the job {fingerprint[:12]}" if fingerprint else "nothing",
        received=received,
        hint="move that file away, or choose another --output",
    )


def changed_input(shard: Shard, note: Provenance) -> ChangedInputError:
    """The error for a shard that is no longer what its published file was made from."""
    was, now = note.input, shard.identity
    differing = [name for name in now if was.get(name) != now[name]]
    if is_dead_letters(shard) and was.get("rows") != shard.rows:
        return ChangedInputError(
            "the shard holds dead letters, and would take the place of the shard that they are of",
            path=shard.path,
            expected=f"the shard of {was.get('rows')} rows that was scored",
            received=f"{shard.rows} rows, with the column {DEAD_LETTER_MARK}",
            hint="score mended dead letters to another --output",
        )
    return ChangedInputError(
        "the shard has changed since it was scored",
        path=shard.path,
        expected=", ".join(f"{name} {was.get(name)}" for name in differing),
        received=", ".join(f"{name} {now[name]}" for name in differing),
        hint="restore the shard, or have it scored again with --rescore-changed",
    )


def is_dead_letters(shard: Shard) -> bool:
    """Whether a shard is a dead-letter file: rows that could not be scored, mended or not."""
    return DEAD_LETTER_MARK in shard.schema.names


def work_units(
    pending: Sequence[Shard], batch_size: int, small_shard_rows: int
) -> tuple[WorkUnit, ...]:
    """Cuts the pending shards into units: each big shard alone, neighbouring small ones together.

    The units are a partition of `pending` in its order. A unit's rows are bounded by
    GROUP_BATCHES batches (or by the one shard that is in it).
    """
    most_rows = GROUP_BATCHES * batch_size
    units: list[WorkUnit] = []
    group: list[Shard] = []
    rows = 0

    def close() -> None:
        nonlocal rows
        if group:
            units.append(WorkUnit(tuple(group), small=True))
            group.clear()
            rows = 0

    for shard in pending:
        if shard.rows > small_shard_rows:
            close()
            units.append(WorkUnit((shard,), small=False))
            continue
        if rows + shard.rows > most_rows or len(group) == GROUP_SHARDS:
            close()
        group.append(shard)
        rows += shard.rows
    close()
    return tuple(units)


def listing(shards: Iterable[Shard]) -> bytes:
    """The frozen listing of a plan, as it is stored: one JSON document."""
    # What json.dumps() would write at once, with the identities of all shards in memory.
    empty = json.dumps({"format": 1, "shards": []}, indent=0)
    opening, closing = empty.split("[]")
    written = io.BytesIO()
    written.write(opening.encode())
    for i, shard in enumerate(shards):
        entry = json.dumps(shard.identity, indent=0, sort_keys=True)
        written.write((",\n" if i else "[\n").encode() + entry.encode())
    written.write((("\n]" if written.tell() > len(opening) else "[]") + closing).encode())
    return written.getvalue()


def plan_id(stored_listing: bytes) -> str:
    """The name of a plan: equal listings have equal names."""
    return id_of_blocks((stored_listing,))


def id_of_blocks(blocks: Iterable[bytes]) -> str:
    """The same, of a listing that is read a part at a time."""
    digest = PlanDigest()
    for block in blocks:
        digest.update(block)
    return digest.plan_id


class PlanDigest:
    """The name of a plan, while its listing goes by."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def update(self, block: bytes) -> None:
        """Takes the next bytes of the listing."""
        self._digest.update(block)

    @property
    def plan_id(self) -> str:
        """The name of the plan that has been seen."""
        return self._digest.hexdigest()[:16]
