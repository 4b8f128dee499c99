"""PURE: what is wrong with a published file, by the facts that it and its dead letters tell.

Each function is from records to findings. `manifest` asks before it vouches for an output, and
`verify` shows the findings to people.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.errors import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pipeline.footer import Provenance
    from pipeline.published import FileFacts

RESCORE = "remove the predictions of the shard, and its dead-letter file if it has one; then run \
`score` again: it makes them anew"
MOVE_AWAY = "move the file out of the output"
RESUME = "run `score` again: it continues with what is left"
REPAIR = "run `verify --repair`"
CHANGED = "restore the shard, or have it scored again: remove its predictions and run `score`"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        file: The shard, or the name of the file in the output.
        what: What is wrong with it.
        expected: What would have been right.
        found: What is there.
        to_do: What the user can do about it.
    """

    file: str
    what: str
    expected: str
    found: str
    to_do: str


def of_predictions(file: FileFacts, fingerprint: str) -> Iterator[Finding]:
    """What is wrong with a published file by itself.

    Args:
        file: The file.
        fingerprint: The job's.
    """
    note = file.note
    if file.damage:
        yield Finding(file.name, "cannot be read", "a Parquet file", file.damage, RESCORE)
        return
    if note is None:
        yield Finding(file.name, "stray file", "a note of shardscore", "none", MOVE_AWAY)
        return
    if note.fingerprint != fingerprint:
        wanted, got = f"job {fingerprint[:12]}", f"job {note.fingerprint[:12]}"
        yield Finding(file.name, "file of another job", wanted, got, MOVE_AWAY)
        return
    if note.input.get("name") != file.name:
        made_from = str(note.input.get("name"))
        yield Finding(file.name, "made from another shard", file.name, made_from, MOVE_AWAY)
    yield from _of_counts(file, note)


def _of_counts(file: FileFacts, note: Provenance) -> Iterator[Finding]:
    counts = note.counts
    outcomes = counts.scored + counts.null_scored + counts.quarantined
    if not counts.balanced or min(counts.scored, counts.null_scored, counts.quarantined) < 0:
        wanted = f"{counts.rows_in:,} rows in"
        yield Finding(file.name, "rows unaccounted for", wanted, f"{outcomes:,} outcomes", RESCORE)
    if note.input.get("rows") != counts.rows_in:
        wanted = f"{note.input.get('rows')} rows of the shard"
        yield Finding(file.name, "rows left out", wanted, f"{counts.rows_in:,} rows in", RESCORE)
    if file.rows != counts.scored + counts.null_scored:
        wanted = f"{counts.scored + counts.null_scored:,} rows"
        yield Finding(file.name, "number of rows", wanted, f"{file.rows:,} rows", RESCORE)


def of_dead_letters(
    note: Provenance, shard: str, name: str, letters: FileFacts | None
) -> Iterator[Finding]:
    """What is wrong with a shard's dead-letter file.

    Args:
        note: The note of the shard's predictions.
        shard: The shard's name.
        name: Name of its dead-letter file.
        letters: The file, None if there is none.
    """
    wanted = note.counts.quarantined
    if letters is None:
        if wanted:
            yield Finding(name, "no dead-letter file", f"{wanted:,} rows", "no file", RESCORE)
        return
    if letters.damage:
        yield Finding(name, "cannot be read", "a Parquet file", letters.damage, RESCORE)
    elif not wanted:
        got = f"{letters.rows:,} rows"
        yield Finding(name, "needless dead-letter file", "no bad rows", got, MOVE_AWAY)
    elif letters.rows != wanted:
        yield Finding(name, "number of rows", f"{wanted:,} rows", f"{letters.rows:,} rows", RESCORE)
    elif letters.note is None or replace(letters.note, data_xxh3=note.data_xxh3) != note:
        yield Finding(name, "note", f"that of {shard}", _differing(note, letters.note), RESCORE)


def _differing(note: Provenance, other: Provenance | None) -> str:
    if other is None:
        return "none"
    names = ("fingerprint", "model_sha256", "code_sha256", "input", "counts", "method")
    differing = [n for n in (*names, "batch_size") if getattr(note, n) != getattr(other, n)]
    return "another " + shortened(differing)


def of_input(
    shard: str, note: Provenance, identity: Mapping[str, Any], what: str
) -> Iterator[Finding]:
    """Where a shard is not the one that its predictions were made from.

    Args:
        shard: The shard's name.
        note: The note of its predictions.
        identity: The shard's identity, as the plan has it or as it is now.
        what: What to call a difference.
    """
    differing = [name for name in identity if note.input.get(name) != identity[name]]
    if differing:
        was = ", ".join(f"{name} {_short(note.input.get(name))}" for name in differing)
        now = ", ".join(f"{name} {_short(identity[name])}" for name in differing)
        yield Finding(shard, what, was, now, CHANGED)


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text
