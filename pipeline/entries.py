"""The long JSON documents of an output, read an entry at a time: manifests and plans.

Both list their shards sorted by name, and part them at an end of a line, which no text in JSON can
hold. So neither needs to be in memory whole, however many shards there are.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pipeline.errors import DataError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipeline.storage import Storage

_OPENING, _PARTING, _CLOSING = b'"shards": [\n', b"},\n", b"\n]"
_EMPTY = b'"shards": []'


def entries(output: Storage, name: str) -> Iterator[dict[str, Any]]:
    """The entries of a document, in the order of their names. What cannot be read ends them.

    Args:
        output: The output.
        name: The document's name.

    Raises:
        StorageError: Storage failed.
    """
    with suppress(DataError, NotFoundError, ValueError, TypeError, KeyError, RecursionError):
        yield from entries_of(output.blocks(name))


def entries_of(blocks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The entries of a document that is given some bytes at a time.

    Raises:
        ValueError, TypeError, KeyError, RecursionError: It is no such document.
    """
    left, opened = b"", False
    for block in blocks:
        left += block
        if not opened:
            _, opening, rest = left.partition(_OPENING)
            if not opening:
                continue
            left, opened = rest, True
        whole, parting, left = left.rpartition(_PARTING)
        if parting:  # many at once: each call of the parser costs as much as an entry
            yield from _parsed(whole + b"}")
    if opened or _EMPTY not in left:
        yield from _parsed(left.rpartition(_CLOSING)[0])


def _parsed(text: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(f"[{text.decode()}]")
    if not found or not all(isinstance(entry["name"], str) for entry in found):
        raise TypeError
    return found


class Cursor:
    """Entries, asked for in the order of their names."""

    def __init__(self, found: Iterator[dict[str, Any]]) -> None:
        self._found = found
        self._next = next(found, None)

    def at(self, name: str) -> dict[str, Any] | None:
        """The entry of a name that is behind those that were asked for before, if there is one."""
        while self._next is not None and self._next["name"] < name:
            self._next = next(self._found, None)
        return self._next if self._next is not None and self._next["name"] == name else None
