"""What storage shows of an output: which objects it holds, and what published files say.

Owns the two readings that `manifest` and `verify` share: the inventory, from one listing, and the
facts of a file, from its footer. It judges nothing. Of each file a few hundred bytes are kept, so
an output of a hundred thousand shards is no burden.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pipeline.errors import DataError
from pipeline.footer import Provenance, read_footer
from pipeline.layout import HOUSE, MANIFEST, REFUSED, SUCCESS
from pipeline.sketch import SKETCH_KEY
from pipeline.storage.base import is_hidden

if TYPE_CHECKING:
    from pipeline.storage import ObjectInfo, Storage

FOOTER_THREADS = 8

_PIECE = re.compile(r"(.+)/\d{12}-\d{12}\.[0-9a-f]{32}(?:\.bad)?\.parquet", re.DOTALL)
_OTHER = re.compile(
    r"(?:run|predictions)\.json|reports/.+|report\.html|frozen/[^/]+\.json|lock.*", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Inventory:
    """The objects of an output, by what they are.

    Attributes:
        files: Those that a reader of the data set sees, by name.
        letters: Dead-letter files, by the name of their shard.
        pieces: Checkpoints: shard's name → names of its pieces.
        staged: Names of staged files.
        plans: Ids of the frozen plans, sorted.
        marks: Which of the manifest, `_SUCCESS` and the word that it is refused are there.
        strays: Names in the house that nothing of ours has.
    """

    files: dict[str, ObjectInfo] = field(default_factory=dict)
    letters: dict[str, ObjectInfo] = field(default_factory=dict)
    pieces: dict[str, list[str]] = field(default_factory=dict)
    staged: list[str] = field(default_factory=list)
    plans: list[str] = field(default_factory=list)
    marks: set[str] = field(default_factory=set)
    strays: list[str] = field(default_factory=list)


def take_inventory(output: Storage) -> Inventory:
    """Lists an output. Hidden names outside of our house are another's, and passed over."""
    found = Inventory()
    for info in output.list():
        if info.name in {MANIFEST, SUCCESS, REFUSED}:
            found.marks.add(info.name)
        elif info.name.startswith(HOUSE):
            _in_house(found, info, info.name.removeprefix(HOUSE))
        elif not is_hidden(info.name):
            found.files[info.name] = info
    return found


def _in_house(found: Inventory, info: ObjectInfo, name: str) -> None:
    folder, _, rest = name.partition("/")
    if folder == "quarantine" and rest:
        found.letters[rest] = info
    elif folder == "checkpoints" and (piece := _PIECE.fullmatch(rest)):
        found.pieces.setdefault(piece[1], []).append(info.name)
    elif folder == "staging" and rest:
        found.staged.append(info.name)
    elif folder == "plans" and rest.endswith(".json"):
        found.plans.append(rest.removesuffix(".json"))
    elif not _OTHER.fullmatch(name):
        found.strays.append(info.name)


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file in an output, as its listing and its footer describe it.

    Attributes:
        name: Its name.
        size: Bytes.
        mtime_ns: Time of the last change, in nanoseconds since the epoch.
        rows: Rows, by the footer.
        footer_sha256: Digest of the footer's bytes.
        note: Our note in it, None if there is none.
        damage: Why the footer cannot be read; empty if it can.
        sketch: What its predictions look like (`pipeline.sketch`); empty if nothing says it.
    """

    name: str
    size: int
    mtime_ns: int
    rows: int = 0
    footer_sha256: str = ""
    note: Provenance | None = None
    damage: str = ""
    sketch: str = ""


def facts_of(output: Storage, info: ObjectInfo) -> FileFacts:
    """Reads a file's footer.

    Raises:
        StorageError: It could not be read.
    """
    try:
        metadata, digest = read_footer(output, info.name)
    except DataError as error:  # also what Arrow cannot read is damage: we wrote it
        damage = error.received or error.message
        return FileFacts(info.name, info.size, info.mtime_ns, damage=damage)
    note = Provenance.of(metadata)
    return FileFacts(
        info.name,
        info.size,
        info.mtime_ns,
        metadata.num_rows,
        digest,
        None if note is None else _shared(note),
        sketch=(metadata.metadata or {}).get(SKETCH_KEY, b"").decode(errors="replace"),
    )


def _shared(note: Provenance) -> Provenance:
    """The same note; what all notes of a job have in common is in memory once."""
    return replace(
        note,
        fingerprint=sys.intern(note.fingerprint),
        model_sha256=sys.intern(note.model_sha256),
        code_sha256=sys.intern(note.code_sha256),
        method=sys.intern(note.method),
    )
