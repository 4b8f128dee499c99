"""Saved segments of a Parquet file, end to end in one file.

Their row groups are copied, neither decoded nor encoded again; `pipeline.joining` makes the one
footer. A segment that is not what was saved is named, and nothing comes of the file.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import xxhash

from pipeline.errors import CheckpointError, CorruptShardError, NotFoundError
from pipeline.footer import footer_bytes, parquet_errors
from pipeline.joining import MAGIC, JoinedFooter
from pipeline.storage.disk_errors import translated
from pipeline.storage.writeback import begin_writeback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import BinaryIO

    from pipeline.storage import Storage

_CHUNK = 1 << 20
_WRITEBACK = 16 << 20  # bytes of a joined file after which its writing to disk is begun
_TRAILER = 8  # the footer's length and the magic


@dataclass(frozen=True, slots=True)
class Segment:
    """A saved segment.

    Attributes:
        name: Its name in the storage.
        data_xxh3: Digest of its row groups.
        footer_xxh3: Digest of its footer, which holds the row groups' places and statistics.
    """

    name: str
    data_xxh3: str
    footer_xxh3: str


def stitch(
    output: Storage,
    segments: Iterable[Segment],
    last: Path,
    whole: Path,
    address: str,
    note: Callable[[str], Mapping[bytes, bytes]],
) -> None:
    """Writes a file of saved segments and of one that was not.

    Args:
        output: Where the segments were saved.
        segments: What was saved, in order.
        last: The Parquet file that follows.
        whole: The file to write.
        address: What it is to be, for errors.
        note: Is given the digest of the file's row groups, and returns its metadata.

    Raises:
        CheckpointError: A saved segment is gone, or is not what was saved.
        StorageError: The file could not be written.
    """
    digest = xxhash.xxh3_128(MAGIC)
    joined = JoinedFooter()
    with translated(address), whole.open("wb") as target:
        target.write(MAGIC)
        for segment in segments:
            path = f"{output.url}/{segment.name}"
            shift = target.tell() - len(MAGIC)
            with _damaged(path), output.open_input(segment.name) as file:
                footer = footer_bytes(file, path)
                found = _append(file, len(footer), target, digest, address)
            if (found, footer_digest(footer)) != (segment.data_xxh3, segment.footer_xxh3):
                raise _unusable(path, "other bytes than were saved")
            joined.add(footer, shift)
        shift = target.tell() - len(MAGIC)
        with pa.OSFile(str(last), "rb") as file:
            footer = footer_bytes(file, address)
            _append(file, len(footer), target, digest, address)
        joined.add(footer, shift)
        target.write(joined.encoded(note(digest.hexdigest())))


def _append(
    file: pa.NativeFile, footer: int, target: BinaryIO, digest: xxhash.xxh3_128, address: str
) -> str:
    """Appends a Parquet file's row groups to `target`; the digest of all before its footer."""
    own = xxhash.xxh3_128()
    left = file.size() - footer - _TRAILER
    file.seek(0)
    own.update(file.read(len(MAGIC)))
    left -= len(MAGIC)
    while left > 0:
        chunk = file.read(min(left, _CHUNK))
        if not chunk:  # shorter than it was a moment ago: the digest tells
            break
        own.update(chunk)
        digest.update(chunk)
        with translated(address):  # a full disk is no fault of the file that is read
            target.write(chunk)
            if target.tell() % _WRITEBACK < len(chunk):
                target.flush()
                begin_writeback(Path(target.name))
        left -= len(chunk)
    return own.hexdigest()


def footer_digest(footer: bytes) -> str:
    """XXH3-128 of a segment's footer, in 32 hex digits."""
    return xxhash.xxh3_128(footer).hexdigest()


@contextmanager
def _damaged(path: str) -> Iterator[None]:
    """Turns what keeps a segment from being read as one into a CheckpointError."""
    try:
        with parquet_errors(path):
            yield
    except (CorruptShardError, NotFoundError) as error:
        raise _unusable(path, error.received or error.message) from error


def _unusable(path: str, received: str) -> CheckpointError:
    return CheckpointError(
        "a checkpoint is damaged or gone",
        path=path,
        received=received,
        hint="run again: the shard is scored from its first row",
    )
