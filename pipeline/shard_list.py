"""Many shards, held as columns: a tenth of what as many records take.

A frozen listing names each shard of a lake, and each of a thousand pods holds all of it to find its
own thousandth. Of a shard that is listed no more is known than its identity.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

from pipeline.records import Shard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_DIGEST = 32


class ShardList(Sequence[Shard]):
    """Shards by their identities, in their order; each becomes a record when it is asked for.

    Args:
        identities: What `Shard.identity` gives.

    Raises:
        KeyError, TypeError, ValueError, OverflowError: One is no identity.
    """

    def __init__(self, identities: Iterable[Mapping[str, Any]] = ()) -> None:
        names, self._ends = bytearray(), array("q")
        self._sizes, self.rows = array("q"), array("q")
        self._digests = bytearray()
        for entry in identities:
            digest = bytes.fromhex(entry["footer_sha256"])
            if len(digest) != _DIGEST:
                raise ValueError("no SHA-256")
            self._digests += digest
            self._sizes.append(entry["size"])
            self.rows.append(entry["rows"])
            names += entry["name"].encode()
            self._ends.append(len(names))
        self._names = bytes(names)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, place: int) -> Shard: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Shard]: ...

    def __getitem__(self, place: int | slice) -> Shard | Sequence[Shard]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        name = self.name(place)
        return Shard(
            name=name,
            root="",
            key=name,
            size=self._sizes[place],
            mtime_ns=0,
            rows=self.rows[place],
            footer_sha256=self._digests[_DIGEST * place : _DIGEST * (place + 1)].hex(),
            schema=None,
        )

    def name(self, place: int) -> str:
        """The name of the shard at a place, counted from 0."""
        start = self._ends[place - 1] if place else 0
        return self._names[start : self._ends[place]].decode()

    def names(self) -> Iterator[str]:
        """The names of all, in order."""
        return map(self.name, range(len(self)))
