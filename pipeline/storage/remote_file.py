"""Files over the network, whose readers can be told what will be read of them.

What a Parquet file's footer says of its column chunks is known before they are read. Who knows it
tells it here, and the layers below hand it on to where requests are made.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.storage.base import ObjectInfo


class PlannedReader(io.RawIOBase):
    """A file object that makes something of what it is told; by itself nothing."""

    def expect(self, chunks: Sequence[tuple[int, int]]) -> None:
        """Tells which bytes will be read next, all of them, each chunk from its start to its end.

        Args:
            chunks: Starts and ends. Chunks of one call are read side by side (a row group's
                columns), calls one after the other.
        """

    @property
    def hungry(self) -> bool:
        """Whether it could make use of being told more."""
        return False

    @property
    def version(self) -> ObjectInfo | None:
        """The version that is read, as the request that opened it told; None if it told nothing."""
        return None


class RemoteFile(pa.PythonFile):  # type: ignore[misc]
    """An Arrow file over a reader that can be told what will be read.

    Args:
        reader: What reads.
        mode: Reading is all that it can.
    """

    def __init__(self, reader: PlannedReader, mode: str = "r") -> None:  # noqa: ARG002
        # Arrow's part is made by its `__cinit__`, from the same arguments.
        self._reader = reader

    def expect(self, chunks: Sequence[tuple[int, int]]) -> None:
        """See `PlannedReader.expect`."""
        self._reader.expect(chunks)

    @property
    def hungry(self) -> bool:
        """See `PlannedReader.hungry`."""
        return self._reader.hungry

    @property
    def version(self) -> ObjectInfo | None:
        """See `PlannedReader.version`."""
        return self._reader.version
