"""What a Parquet file says of itself: reading footers, and the note that ours carry.

Owns two things: reading a file's footer with one small read and a digest of its bytes, and
`Provenance`, the note by which a published file proves whose it is. A published file is the
commit, so this note is the ledger: which job, which input, how many rows went where. It holds a
digest of the data before the footer, so that a file can be proved whole without its input.
"""

from __future__ import annotations

import hashlib
import json
import struct
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from pipeline.errors import ContractError, CorruptShardError, StorageError
from pipeline.records import RowCounts
from pipeline.spelling import CONVERT, is_text_table

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
        counts = {name: getattr(self.counts, name) for name in _COUNT_FIELDS}
        if not self.counts.nonfinite:  # notes were written before it was counted, and are read
            del counts["nonfinite"]
        values = {**{name: getattr(self, name) for name in _NOTE_FIELDS}, "counts": counts}
        return {PROVENANCE_KEY: _SPELT.encode(values).encode()}

    @classmethod
    def of(cls, metadata: pq.FileMetaData) -> Provenance | None:
        """The note in a file's footer, or None if another program wrote the file."""
        note = (metadata.metadata or {}).get(PROVENANCE_KEY)
        if note is None:
            return None
        try:
            values = json.loads(note)
            found = cls(**{**values, "counts": RowCounts(**values["counts"])})
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        if not found._typed:
            return None
        # One note has one spelling: with more in it, or less, it is not ours.
        return found if found.encoded()[PROVENANCE_KEY] == note else None

    @property
    def _typed(self) -> bool:
        """Whether each field is of its type: what is read may be anything."""
        counts = self.counts
        numbers = (
            *(self.batch_size, self.format),
            *(counts.rows_in, counts.scored, counts.null_scored),
            *(counts.quarantined, counts.nonfinite),
        )
        texts = (self.fingerprint, self.model_sha256, self.code_sha256, self.method, self.data_xxh3)
        return (
            all(type(number) is int for number in numbers)
            and all(type(text) is str for text in texts)
            and type(self.input) is dict
        )


_NOTE_FIELDS = tuple(field.name for field in fields(Provenance))
_COUNT_FIELDS = tuple(field.name for field in fields(RowCounts))
_SPELT = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


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
        hint=CONVERT
        if is_text_table(path)
        else "write the shard again or take it out of the input; the others are scored",
    )


def read_footer(storage: Storage, name: str) -> tuple[pq.FileMetaData, str]:
    """A Parquet file's metadata, and the SHA-256 of its footer's bytes.

    Raises:
        CorruptShardError: The file is no Parquet file, or is truncated.
        NotFoundError: There is no such file.
        StorageError: It could not be read.
    """
    footer = read_footer_bytes(storage, name)
    return parsed(footer, f"{storage.url}/{name}"), digest_of(footer)


def read_footer_bytes(storage: Storage, name: str) -> bytes:
    """A Parquet file's footer as it stands. Raises as `read_footer` does."""
    path = f"{storage.url}/{name}"
    with parquet_errors(path), storage.open_input(name) as file:
        return footer_bytes(file, path)


def digest_of(footer: bytes) -> str:
    """The SHA-256 of a footer, by which a shard is known."""
    return hashlib.sha256(footer).hexdigest()


def parsed(footer: bytes, path: str) -> pq.FileMetaData:
    """A footer as pyarrow reads it.

    Args:
        footer: Its bytes.
        path: The file's address, for messages.

    Raises:
        CorruptShardError: It is none.
        ContractError: Arrow cannot read files with such a schema.
    """
    # pyarrow looks for a footer at the end of a file. `ParquetFile` would do the same, and then
    # build an index of the columns that takes it longer than all the rest.
    file = pa.BufferReader(footer + struct.pack("<I", len(footer)) + _MAGIC)
    with parquet_errors(path):
        reader = pq.ParquetReader()
        reader.open(file, pre_buffer=False, **thrift_limits(footer))
        return reader.metadata


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
