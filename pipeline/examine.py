"""One published file, examined: its footer, its dead letters, its bytes, its order.

Cheap things first: what the footers say, then the digests, for which each file is read once, then
the columns that travelled along, against those of the input. Where one finds something wrong the
next is left out, since it would say the same in other words. Memory is set by the pieces in which
files are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline import findings, order
from pipeline.contract import kept_schema
from pipeline.errors import DataError
from pipeline.findings import CHANGED, RESCORE, Finding
from pipeline.footer import data_digest
from pipeline.published import FileFacts, facts_of
from pipeline.quarantine import dead_letter_name
from pipeline.storage import storage_at
from pipeline.target import REASON_COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pipeline.footer import Provenance
    from pipeline.job import JobIdentity
    from pipeline.published import Inventory
    from pipeline.records import Shard
    from pipeline.storage import Storage


@dataclass(frozen=True, slots=True)
class Case:
    """What a published file is examined against.

    Attributes:
        output: The output.
        inventory: What it holds.
        identity: The job, by run.json; None if that is lost.
        fingerprint: The job's, by run.json or by the files themselves.
        planned: Shard's name → its identity in the plan; empty where plans disagree.
        sources: Shard's name → the input as it is now, where it can be reached.
        quick: Whether to leave out all that reads more than footers.
    """

    output: Storage
    inventory: Inventory
    identity: JobIdentity | None
    fingerprint: str
    planned: Mapping[str, Mapping[str, Any]]
    sources: Mapping[str, Shard]
    quick: bool


@dataclass(frozen=True, slots=True)
class Examined:
    """What came out.

    Attributes:
        file: The file.
        letters: Its dead-letter file, None if there is none.
        wrong: What is wrong with the two.
        compared: Whether its rows were compared with the input's.
        rewritten: Whether the input was written again since, with the same footer.
    """

    file: FileFacts
    letters: FileFacts | None
    wrong: tuple[Finding, ...]
    compared: bool = False
    rewritten: bool = False


def examine(case: Case, name: str) -> Examined:
    """Examines a file that a reader of the data set sees.

    Raises:
        StorageError: Something could not be read.
    """
    file = facts_of(case.output, case.inventory.files[name])
    letters_info = case.inventory.letters.get(name)
    letters = None if letters_info is None else facts_of(case.output, letters_info)
    wrong = list(findings.of_predictions(file, case.fingerprint))
    if wrong or file.note is None:
        return Examined(file, letters, tuple(wrong))
    note, source = file.note, case.sources.get(name)
    wrong += findings.of_dead_letters(note, name, dead_letter_name(name), letters)
    if source is not None:
        wrong += findings.of_input(name, note, source.identity, "input has changed")
    else:
        wrong += findings.of_input(name, note, case.planned.get(name, {}), "input had changed")
    rewritten = source is not None and not wrong and source.mtime_ns > file.mtime_ns
    wrong += () if wrong else _dead_rows(case, name, note)
    compared = False
    if not case.quick:
        for each in (file, letters):
            wrong += () if each is None or each.note is None else _bytes(case, each, each.note)
        if source is not None and case.identity is not None and not wrong:
            wrong += _rows(case, case.identity, source, note)
            compared = True
    return Examined(file, letters, tuple(wrong), compared, rewritten)


def _dead_rows(case: Case, name: str, note: Provenance) -> Iterator[Finding]:
    if not note.counts.quarantined:
        return
    letters, rows = dead_letter_name(name), note.counts.rows_in
    try:
        found = order.misplaced_dead_row(case.output, name, rows)
    except DataError as error:
        found = error.received or error.message
    if found:
        yield Finding(letters, "row numbers", f"increasing, below {rows:,}", found, RESCORE)


def _bytes(case: Case, file: FileFacts, note: Provenance) -> Iterator[Finding]:
    try:
        found = data_digest(case.output, file.name)
    except DataError as error:
        found = error.received or error.message
    if found != note.data_xxh3:
        yield Finding(file.name, "data is damaged", f"xxh3 {note.data_xxh3}", found, RESCORE)


def _rows(case: Case, identity: JobIdentity, source: Shard, note: Provenance) -> Iterator[Finding]:
    """Whether the columns that travelled along are those of the input, row for row."""
    used = {column for columns in identity.binding.values() for column in columns}
    try:
        kept = kept_schema(identity.keep, source.schema, used).names
        wanted = kept + list(identity.predictions)
        wanted += [REASON_COLUMN] if identity.on_bad_row == "null" else []
        names = order.column_names(case.output, source.name)
        if names != wanted:
            yield Finding(source.name, "columns", ", ".join(wanted), ", ".join(names), RESCORE)
            return
        if not kept:
            return
        place = order.first_difference(
            case.output,
            storage_at(source.root),
            source,
            kept,
            quarantined=note.counts.quarantined > 0,
        )
    except DataError as error:
        found = error.received or error.message
        yield Finding(source.name, "cannot be compared", "the rows of its input", found, CHANGED)
        return
    if place is not None:
        at = f"row {place.row:,}" + (f", column {place.column}" if place.column else "")
        yield Finding(source.name, f"order or content, {at}", place.expected, place.found, RESCORE)
