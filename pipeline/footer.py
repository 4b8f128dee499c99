"""What a Parquet file says of itself: reading footers, and the note that ours carry.

Owns two things: reading a file's footer with one small read and a digest of its bytes, and
`Provenance`, the note by which a published file proves whose it is. A published file is the
commit, so this note is the ledger: which job, which input, how many rows went where. It holds a
digest of the data before the footer, so that a file can be proved whole without its input.
"""

from __future__ import annotations

import functools
import hashlib
import json
import struct
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import ContractError, CorruptShardError, StorageError
from pipeline.records import RowCounts  # noqa: TC001 - pydantic reads it at run time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline.storage import Storage

PROVENANCE_KEY = b"shardscore"
_TAIL = 64 * 1024
_PAGE_HEADER = 16 << 20  # Arrow takes none that is larger
_CHUNK = 1 << 20
_MAGIC = b"PAR1"


@dataclass(frozen=True, slots=True)
class Provenance:
    """The note in the footer of each file that a job publishes.

    Attributes:
        fingerprint: The job's identity.
        model_sha256: The model's digest.
        code_sha256: The digest of the code that the job imports.
        input: The input shard's identity.
        counts: Where its rows went.
        method: Keras' method that scored it.
        batch_size: Rows a batch.
        data_xxh3: XXH3-128, in 32 hex digits, of the file's bytes before its footer.
        format: Version of the note.
    """

    fingerprint: str
    model_sha256: str
    code_sha256: str
    input: dict[str, Any]
    counts: RowCounts
    method: str
    batch_size: int
    data_xxh3: str
    format: int = 1

    def encoded(self) -> dict[bytes, bytes]:
        """The note as Parquet key-value metadata; equal notes give equal bytes."""
        counts = asdict(self.counts)
        if not self.counts.nonfinite:  # notes were written before it was counted, and are read
            del counts["nonfinite"]
        fields = {field: getattr(self, field) for field in self.__slots__} | {"counts": counts}
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return {PROVENANCE_KEY: text.encode()}

    @classmethod
    def of(cls, metadata: pq.FileMetaData) -> Provenance | None:
        """The note in a file's footer, or None if another program wrote the file."""
        note = (metadata.metadata or {}).get(PROVENANCE_KEY)
        if note is None:
            return None
        try:
            found = _notes().validate_json(note)
        except ValidationError:
            return None
        # One note has one spelling: with more in it, or less, it is not ours.
        return found if found.encoded()[PROVENANCE_KEY] == note else None


@functools.cache
def _notes() -> TypeAdapter[Provenance]:
    """The parser of notes, which is slow to build."""
    return TypeAdapter(Provenance)


@contextmanager
def parquet_errors(path: str) -> Iterator[None]:
    """Turns pyarrow's errors on reading into ours.

    pyarrow raises OSError both for a disk that fails, which has an errno, and for bytes that do
    not decode, which has none.
    """
    try:
        yield
    except pa.ArrowNotImplementedError as error:
        raise ContractError(
            "Arrow cannot do this with a column of the shard",
            path=path,
            received=_first_line(error),
            hint="leave nested and unusual columns out with --keep, or rewrite them",
        ) from error
    except pa.ArrowException as error:
        raise corrupt(path, _first_line(error)) from error
    except UnicodeDecodeError as error:
        raise corrupt(path, "a name that is not UTF-8") from error
    except OSError as error:
        if error.errno:
            raise StorageError(
                f"reading failed: {error.strerror or error}",
                path=path,
                hint="check the disk or mount, then run again",
            ) from error
        raise corrupt(path, _first_line(error)) from error


def corrupt(path: str, received: str) -> CorruptShardError:
    """The error for a file that is not what its footer or its name promises."""
    return CorruptShardError(
        "not a readable Parquet file",
        path=path,
        received=received,
        hint="write the shard again or take it out of the input; the others are scored",
    )


def read_footer(storage: Storage, name: str) -> tuple[pq.FileMetaData, str]:
    """A Parquet file's metadata, and the SHA-256 of its footer's bytes.

    Raises:
        CorruptShardError: The file is no Parquet file, or is truncated.
        NotFoundError: There is no such file.
        StorageError: It could not be read.
    """
    path = f"{storage.url}/{name}"
    with parquet_errors(path), storage.open_input(name) as file:
        footer = footer_bytes(file, path)
        digest = hashlib.sha256(footer).hexdigest()
        with pq.ParquetFile(file, pre_buffer=False, **thrift_limits(footer)) as parquet:
            return parquet.metadata, digest


def footer_bytes(file: pa.NativeFile, path: str) -> bytes:
    """A Parquet file's footer: what lies between its last row group and the footer's length.

    Args:
        file: The file.
        path: Its address, for messages.

    Raises:
        CorruptShardError: The end of the file does not say where the footer begins.
    """
    size = file.size()
    if size < 12:
        raise corrupt(path, f"{size} bytes, less than any Parquet file has")
    file.seek(max(0, size - _TAIL))
    tail = file.read()
    if tail[-4:] != _MAGIC:
        raise corrupt(path, f"the file ends with {tail[-4:]!r}, not with {_MAGIC!r}: truncated?")
    (length,) = struct.unpack("<I", tail[-8:-4])
    if length + 12 > size:
        raise corrupt(path, f"a footer of {length} bytes in a file of {size}")
    if length + 8 > len(tail):
        file.seek(size - length - 8)
        tail = file.read()
    return bytes(tail[-8 - length : -8])


def thrift_limits(footer: bytes) -> dict[str, int]:
    """pyarrow's limits while it reads a file with that footer.

    No list in it has more parts than it has bytes; by default a flipped bit makes room for a
    million. Texts may also stand in page headers, which have a limit of their own.
    """
    return {
        "thrift_container_size_limit": max(1, len(footer)),
        "thrift_string_size_limit": max(len(footer), _PAGE_HEADER),
    }


def data_digest(storage: Storage, name: str) -> str:
    """XXH3-128 of a Parquet file's bytes before its footer; the file is read once, in pieces.

    Raises:
        CorruptShardError: The end of the file does not say where the footer begins.
        NotFoundError: There is no such file.
        StorageError: It could not be read.
    """
    path = f"{storage.url}/{name}"
    with parquet_errors(path), storage.open_input(name) as file:
        size = file.size()
        if size < 12:
            raise corrupt(path, f"{size} bytes, less than any Parquet file has")
        file.seek(size - 8)
        length, magic = struct.unpack("<I4s", file.read(8))
        if magic != _MAGIC or length + 12 > size:
            raise corrupt(path, f"a footer of {length} bytes and {magic!r} in a file of {size}")
        file.seek(0)
        return _digest(file, size - 8 - length, path)


def unclosed_digest(path: Path) -> str:
    """XXH3-128 of a local file as it stands.

    Of a file that pyarrow writes, when all row groups are in it and it is not closed yet, this is
    the `data_digest` that it will have: without a page index only the footer follows.
    """
    with pa.OSFile(str(path), "rb") as file:
        return _digest(file, file.size(), str(path))


def _digest(file: pa.NativeFile, stop: int, path: str) -> str:
    hasher = xxhash.xxh3_128()
    left = stop
    while left:
        chunk = file.read(min(left, _CHUNK))
        if not chunk:
            raise corrupt(path, f"the file ends {left} bytes early: it was cut meanwhile")
        hasher.update(chunk)
        left -= len(chunk)
    return hasher.hexdigest()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
