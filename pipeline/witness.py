"""What the marks of a complete output prove of its shards, so that its files need not be opened.

`_SUCCESS` vouches for the manifest, and names the plan that it completed. Both were written when
each published file had been read, and each shard of the plan had been found to be what its file was
made from. A published file that has the size which the manifest says, and has not been changed
since the manifest was written, says so still. On a disk the time that counts is that of the last
change of the file's inode, which no program sets, and which a file that is put in another's place
brings along. Whatever is younger, or of another size, or not in the plan, proves nothing here: the
file itself is asked.

Marks are there only while no work is left. A run takes them away before it publishes anything.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pipeline import manifest
from pipeline.errors import DataError, NotFoundError
from pipeline.footer import parquet_errors
from pipeline.ledger import PLANS
from pipeline.published import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pipeline.storage import ObjectInfo, Storage

_BLOCK = 1 << 18
_OPENING, _PARTING, _CLOSING = b'"shards": [\n', b"},\n", b"\n]"


class Witness:
    """Says of published files which shards they were made from; to be asked in their order.

    Reads the manifest and the plan along with the questions: neither is ever in memory whole.
    """

    def __init__(self, output: Storage, written: ObjectInfo, plan_id: str) -> None:
        self._written = written
        self._listed = _Cursor(_entries(output, MANIFEST))
        self._planned = _Cursor(_entries(output, f"{PLANS}/{plan_id}.json"))

    def shard_of(self, published: ObjectInfo) -> Mapping[str, Any] | None:
        """The identity of the shard that a published file was made from, if that is proven.

        Args:
            published: The file, whose name is behind those that were asked before.
        """
        entry = self._listed.at(published.name)
        shard = self._planned.at(published.name)
        if entry is None or shard is None:
            return None
        fits = (entry["size"], entry["rows_in"]) == (published.size, shard["rows"])
        return shard if fits and _before(published, self._written) else None


def witness(output: Storage, fingerprint: str) -> Witness | None:
    """The witness of a complete output; None if it is not complete, or not this job's.

    Raises:
        StorageError: Storage failed.
    """
    try:
        written = output.info(MANIFEST)
        plan_id = manifest.vouched(output, fingerprint)
        return None if plan_id is None else Witness(output, written, plan_id)
    except NotFoundError:
        return None


def _before(published: ObjectInfo, written: ObjectInfo) -> bool:
    return max(published.mtime_ns, published.ctime_ns) < written.mtime_ns


class _Cursor:
    """Entries that are sorted by name, asked for in the order of their names."""

    def __init__(self, entries: Iterator[dict[str, Any]]) -> None:
        self._entries = entries
        self._next = next(entries, None)

    def at(self, name: str) -> dict[str, Any] | None:
        while self._next is not None and self._next["name"] < name:
            self._next = next(self._entries, None)
        return self._next if self._next is not None and self._next["name"] == name else None


def _entries(output: Storage, name: str) -> Iterator[dict[str, Any]]:
    """The entries of a manifest or of a plan, one at a time. What cannot be read ends them.

    In both, entries are parted at an end of a line, which no text in JSON can hold.
    """
    left, opened = b"", False
    try:
        with parquet_errors(f"{output.url}/{name}"), output.open_input(name) as file:
            while block := file.read(_BLOCK):
                left += block
                if not opened:
                    _, opening, rest = left.partition(_OPENING)
                    if not opening:
                        continue
                    left, opened = rest, True
                *whole, left = left.split(_PARTING)
                for text in whole:
                    yield _entry(text + b"}")
        yield _entry(left.rpartition(_CLOSING)[0])
    except (DataError, NotFoundError, ValueError, TypeError, KeyError):
        return


def _entry(text: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads(text.decode())
    if not isinstance(entry["name"], str):
        raise TypeError
    return entry
