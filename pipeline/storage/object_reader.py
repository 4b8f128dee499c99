"""Reading an object at random places, by range requests that are pinned to one version of it.

What `open_input` gives for object stores. A shard is never fetched whole: the last bytes come with
the request that opens it, since that is where a Parquet footer lies; what else is read is fetched
as it was planned, or else as it is read, or a little ahead.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from obstore.exceptions import GenericError, NotSupportedError

from pipeline.errors import (
    AlreadyExistsError,
    NotFoundError,
    UnavailableError,
    VersionChangedError,
)
from pipeline.storage.object_errors import range_not_there, translated
from pipeline.storage.object_listing import described
from pipeline.storage.planned import PlannedReads
from pipeline.storage.read_ahead import ReadAhead
from pipeline.storage.remote_file import PlannedReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from obstore import GetOptions

    from pipeline.storage.base import ObjectInfo
    from pipeline.storage.buckets import Client

TAIL = 64 * 1024
_FOOTER = 4 << 20


class ObjectReader(PlannedReader):
    """A file over an object.

    Args:
        client: Reaches the bucket.
        key: The object's name in it.
        address: Its full address, for messages.

    Raises:
        NotFoundError: There is no such object.
        VersionChangedError: On reading: the object is not the one that was opened.
    """

    def __init__(self, client: Client, key: str, address: str) -> None:
        super().__init__()
        self._client = client
        self._key = key
        self._address = address
        self._position = 0
        with translated(address):
            try:
                answer = client.get(key, options={"range": {"suffix": TAIL}})
                tail = bytes(answer.bytes())
                meta = answer.meta
            except (GenericError, NotSupportedError) as error:
                if not range_not_there(error):
                    raise
                tail = b""
                meta = client.head(key)
        self._version = described(meta, key)
        self._size = meta["size"]
        self._etag = meta["e_tag"]
        self._tail = tail
        self._told = False
        self._ahead = ReadAhead(self._fetched, self._size - len(tail))
        self._planned = PlannedReads(self._fetched, self._ahead.read)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self._position)
        length = left if size is None or size < 0 else min(size, left)
        data = self._bytes_at(self._position, length) if length else b""
        self._position += len(data)
        return data

    def expect(self, chunks: Sequence[tuple[int, int]]) -> None:
        self._told = True
        tail_start = self._size - len(self._tail)
        self._planned.expect([(a, min(b, tail_start)) for a, b in chunks if a < tail_start])

    @property
    def hungry(self) -> bool:
        return self._planned.hungry

    @property
    def version(self) -> ObjectInfo:
        return self._version

    def close(self) -> None:
        if not self.closed:
            self._planned.close()
            self._ahead.close()
        super().close()

    def _bytes_at(self, start: int, length: int) -> bytes:
        tail_start = self._size - len(self._tail)
        before = max(0, min(length, tail_start - start))
        head = self._planned.read(start, before) if before else b""
        if before == length:
            return head
        if before and not self._told and length <= _FOOTER:
            self._tail = head + self._tail  # a footer that is longer is read twice
            return self._tail[:length]
        return head + self._tail[max(0, start - tail_start) :][: length - before]

    def _fetched(self, start: int, end: int) -> bytes:
        options: GetOptions = {"range": (start, end)}
        if self._etag:
            options["if_match"] = self._etag
        try:
            with translated(self._address):
                answer = self._client.get(self._key, options=options)
                data = bytes(answer.bytes())
        except (NotFoundError, AlreadyExistsError) as error:
            raise VersionChangedError(
                "the object was changed while it was read",
                path=self._address,
                expected=f"the version {self._etag}",
                received="it is gone" if isinstance(error, NotFoundError) else "another one",
            ) from error
        if len(data) != end - start:
            raise UnavailableError(
                "the storage gave fewer bytes than it was asked for",
                path=self._address,
                expected=f"{end - start} bytes",
                received=f"{len(data)}",
            )
        return data
