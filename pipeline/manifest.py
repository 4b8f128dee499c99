"""`_MANIFEST.json` and `_SUCCESS`: an output's word that it is complete.

The manifest lists what the published files say of themselves. It is a function of their footers
alone, so that any number of writers write the same bytes, and it can be made anew at any time.
`_SUCCESS` names the plan that is complete, and vouches for the manifest by its digest. The order
of writes is

    _SUCCESS away → _MANIFEST.json away → shards published … → _MANIFEST.json → _SUCCESS

so neither is there while work is left. What the predictions look like together is added up from
the same footers, and written ahead of the manifest (`pipeline.looks`). A footer that is damaged
after the manifest was written is found by its digest: the manifest is the one witness outside of
the file.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline import findings, looks
from pipeline.distributions import Distributions
from pipeline.entries import Cursor, entries
from pipeline.errors import CorruptShardError, DriftError, NotFoundError
from pipeline.layout import MANIFEST, REFUSED, SUCCESS, visible
from pipeline.published import (
    FOOTER_THREADS,
    FileFacts,
    Inventory,
    facts_of,
    take_inventory,
)
from pipeline.quarantine import dead_letter_name
from pipeline.records import RowCounts
from pipeline.storage.at_hand import is_at_hand_in
from pipeline.threads import in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pipeline.records import Shard
    from pipeline.storage import Storage

_HEAD = 4096
"""Bytes in which all that precedes the shards of a manifest has room."""

NOT_LISTED = "not listed"
"""What a manifest says of a shard that it does not know."""


def complete(
    output: Storage,
    fingerprint: str,
    plan_id: str,
    planned: Sequence[Shard],
    *,
    idle: bool = False,
    shared: bool = False,
    accept: Callable[[Distributions], None] | None = None,
) -> bool:
    """Writes the manifest and `_SUCCESS`, if each planned shard is published.

    Args:
        output: The output.
        fingerprint: The job's.
        plan_id: Id of the frozen plan.
        planned: Its shards, sorted by name.
        idle: Whether nothing was published since the marks were last written, as far as the
            caller knows. Then marks that fit the listing are believed, and nothing is written.
        shared: Whether other runs have shares of the plan: then some are likely to be left, which
            is found out before anything is kept of the listing.
        accept: Is told what the predictions look like, and may raise: then there is a manifest,
            and no `_SUCCESS`.

    Returns:
        Whether the output is complete. It is not while another run still has shards of the plan.

    Raises:
        CorruptShardError: A published file is not what it should be; nothing was written.
        StorageError: Storage failed.
    """
    if shared and not _all_visible(output, planned):
        return False
    inventory = take_inventory(output)
    if idle and vouched(output) == plan_id and _fits(entries(output, MANIFEST), inventory):
        if accept is not None:
            _judge(output, accept, looks.of_output(output), output.read(MANIFEST))
        return True
    if not all(shard.name in inventory.files for shard in planned):
        return False
    wanted = Cursor(shard.identity for shard in planned)
    manifest, seen = Manifest(), Distributions()
    for file, letters in pairs(output, inventory):
        planned_as = wanted.at(file.name)
        if planned_as is None and (file.note is None or file.note.fingerprint != fingerprint):
            continue  # not ours to vouch for; `verify` points it out
        if planned_as is not None and file.note is not None and file.note.input != planned_as:
            return False  # published from what the shard was before: another share replaces it
        _refuse_wrong(output, file, letters, fingerprint, planned_as)
        manifest.add(file, letters)
        seen.add(file.sketch)
    whole = manifest.encoded()
    looks.save(output, seen, whole)
    if accept is not None:
        _judge(output, accept, seen, whole)
    output.replace(MANIFEST, whole)
    if REFUSED in inventory.marks:
        output.delete(REFUSED)
    output.replace(SUCCESS, success(plan_id, whole))
    return True


def _all_visible(output: Storage, planned: Sequence[Shard]) -> bool:
    """Whether each planned shard is published, by a listing that is sorted as they are."""
    there = (info.name for info in visible(output))
    return all(any(name == shard.name for name in there) for shard in planned)


def _judge(
    output: Storage,
    accept: Callable[[Distributions], None],
    seen: Distributions,
    manifest: bytes,
) -> None:
    """Has predictions accepted; of those that are not, there is a manifest, and no `_SUCCESS`."""
    try:
        accept(seen)
    except DriftError:
        told = {"manifest_sha256": hashlib.sha256(manifest).hexdigest()}
        output.replace(REFUSED, json.dumps(told).encode() + b"\n")
        output.delete(SUCCESS)
        output.replace(MANIFEST, manifest)
        raise


def is_refused(output: Storage, manifest: bytes) -> bool:
    """Whether the predictions of a manifest have been refused, and not been accepted since."""
    try:
        told = json.loads(output.read(REFUSED))
        return bool(told["manifest_sha256"] == hashlib.sha256(manifest).hexdigest())
    except (NotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return False


def withdraw(output: Storage) -> None:
    """Takes both away, since there is work to do."""
    output.delete(SUCCESS)
    output.delete(MANIFEST)


def write(output: Storage, plan_id: str, manifest: bytes) -> None:
    """Writes the manifest, and then `_SUCCESS`."""
    output.replace(MANIFEST, manifest)
    output.replace(SUCCESS, success(plan_id, manifest))


def success(plan_id: str, manifest: bytes) -> bytes:
    """What `_SUCCESS` holds: one line of JSON."""
    line = {"plan_id": plan_id, "manifest_sha256": hashlib.sha256(manifest).hexdigest()}
    return json.dumps(line).encode() + b"\n"


def vouched(output: Storage, fingerprint: str = "") -> str | None:
    """The plan that `_SUCCESS` names, if the manifest is the one that it vouches for.

    Args:
        output: The output.
        fingerprint: The job that the manifest must be of; empty: of whichever.
    """
    try:
        line, manifest = output.read(SUCCESS), output.read(MANIFEST)
        plan_id = str(json.loads(line)["plan_id"])
        if fingerprint and f'\n "fingerprint": "{fingerprint}",\n'.encode() not in manifest[:_HEAD]:
            return None
    except (NotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return plan_id if line == success(plan_id, manifest) else None


def _fits(listed: Iterable[Mapping[str, Any]], inventory: Inventory) -> bool:
    """Whether the files that a manifest lists are there, with the sizes that it lists."""
    files, letters = inventory.files, inventory.letters
    for entry in listed:
        name, bad = entry["name"], entry.get("quarantine")
        if name not in files or files[name].size != entry["size"]:
            return False
        if (bad is None) != (name not in letters):
            return False
        if bad is not None and letters[name].size != bad["size"]:
            return False
    return True


def pairs(output: Storage, inventory: Inventory) -> Iterator[tuple[FileFacts, FileFacts | None]]:
    """Each visible file with its dead-letter file, sorted by name."""

    def read(name: str) -> tuple[FileFacts, FileFacts | None]:
        letters = inventory.letters.get(name)
        return (
            facts_of(output, inventory.files[name]),
            None if letters is None else facts_of(output, letters),
        )

    at_hand = partial(is_at_hand_in, output)
    return in_threads(read, sorted(inventory.files), FOOTER_THREADS, at_once=at_hand)


class Manifest:
    """The manifest, while published files are added to it in the order of their names."""

    def __init__(self) -> None:
        self._head: dict[str, str] = {}
        self._lines: list[bytes] = []
        self._totals = RowCounts()

    def add(self, file: FileFacts, letters: FileFacts | None) -> None:
        """Adds a published file, which has a note, and its dead-letter file if it has one."""
        note = file.note
        if note is None:
            raise ValueError(f"{file.name} has no note")
        self._head = self._head or {
            "fingerprint": note.fingerprint,
            "model_sha256": note.model_sha256,
            "code_sha256": note.code_sha256,
        }
        counts = note.counts
        self._totals += counts
        entry: dict[str, Any] = {
            "name": file.name,
            "size": file.size,
            **_counted(counts),
            "data_xxh3": note.data_xxh3,
            "footer_sha256": file.footer_sha256,
        }
        if letters is not None:
            entry["quarantine"] = {
                "name": letters.name,
                "size": letters.size,
                "rows": letters.rows,
                "footer_sha256": letters.footer_sha256,
            }
        self._lines.append(json.dumps(entry, separators=(",", ":")).encode())

    def encoded(self) -> bytes:
        """The manifest's bytes: JSON, a line for each shard."""
        head = json.dumps({"format": 1, **self._head, "rows": _counted(self._totals)}, indent=1)
        opening = head.removesuffix("\n}").encode() + b',\n "shards": [\n'
        return b"".join([opening, b",\n".join(self._lines), b"\n]}\n"])


def differences(stored: bytes, expected: bytes) -> dict[str, tuple[str, str]] | None:
    """Where two manifests differ.

    Returns:
        Shard's name → (what is stored, what is expected), in words; under the empty name what is
        not of any shard. None if the stored one is no manifest.
    """
    try:
        was, now = json.loads(stored), json.loads(expected)
        listed = {entry["name"]: entry for entry in was.pop("shards")}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    there = {entry["name"]: entry for entry in now.pop("shards")}
    told = {name: _told(listed.get(name), there.get(name)) for name in listed.keys() | there.keys()}
    told[""] = _told(was, now)
    return {name: pair for name, pair in told.items() if pair[0] != pair[1]}


def _told(was: Any, now: Any) -> tuple[str, str]:
    if was is None:
        return NOT_LISTED, "published"
    if now is None:
        return "listed", "no such file"
    differing = [n for n in {**was, **now} if was.get(n) != now.get(n)]
    return (
        ", ".join(f"{name} {_short(was.get(name))}" for name in differing),
        ", ".join(f"{name} {_short(now.get(name))}" for name in differing),
    )


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}…" if isinstance(value, str) and len(text) in {32, 64} else text


def _counted(counts: RowCounts) -> dict[str, int]:
    return {
        "rows_in": counts.rows_in,
        "scored": counts.scored,
        "null_scored": counts.null_scored,
        "quarantined": counts.quarantined,
    }


def _refuse_wrong(
    output: Storage,
    file: FileFacts,
    letters: FileFacts | None,
    fingerprint: str,
    wanted: Mapping[str, Any] | None,
) -> None:
    wrong = list(findings.of_predictions(file, fingerprint))
    if not wrong and file.note is not None:
        name = dead_letter_name(file.name)
        wrong += findings.of_dead_letters(file.note, file.name, name, letters)
        if wanted is not None:
            wrong += findings.of_input(file.name, file.note, wanted, "made from another input")
    if wrong:
        first = wrong[0]
        raise CorruptShardError(
            f"the output is not complete: {first.what}",
            path=f"{output.url}/{first.file}",
            expected=first.expected,
            received=first.found,
            hint=first.to_do,
        )
