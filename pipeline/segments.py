"""A Parquet file that is written in segments, each of which can be saved on its way.

`GroupedFile` takes record batches, cuts them into row groups at places that follow from the rows
alone (`pipeline.row_groups`), and becomes one file. On its way it can be saved: all row groups
that are full since the last time become a segment, a small Parquet file of its own, and the rows
that wait for their row group travel in its footer, as Arrow writes them between processes, so that
they come back as they were (Parquet would make other dictionaries of them). A file that was saved
is joined from its segments, without decoding them, and is the same bytes as one that never was.

It knows nothing of shards: what a segment is called and what its note says is its owner's affair.
"""

from __future__ import annotations

import io
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from pipeline.errors import AlreadyExistsError
from pipeline.footer import footer_bytes, unclosed_digest
from pipeline.row_groups import ROW_GROUP_BYTES, row_group_rows, varying_bytes
from pipeline.stitching import Segment, footer_digest, stitch
from pipeline.storage.disk_errors import translated
from pipeline.storage.writeback import begin_writeback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pipeline.storage import Staged, Storage

WAITING_KEY = b"shardscore.waiting"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Rows that wait for their row group, and what decides when it is full.

    Attributes:
        batches: The rows.
        varying: Bytes of their values without a fixed width that were counted so far.
    """

    batches: tuple[pa.RecordBatch, ...] = ()
    varying: int = 0


@dataclass(frozen=True, slots=True)
class Saved:
    """What a segment's note must say of it.

    Attributes:
        data_xxh3: Digest of its row groups.
        varying: See `Waiting`.
    """

    data_xxh3: str
    varying: int


@dataclass(frozen=True, slots=True)
class _Open:
    """The segment that is being written: a staged file and its writer."""

    staged: Staged
    parquet: pq.ParquetWriter


class GroupedFile:
    """A Parquet file to be. A context manager: what is not published when it is left is discarded.

    Args:
        output: Where it will be.
        name: Its final name.
        schema: Its columns.
        segments: Segments that were saved of it before.
        waiting: The rows that waited then.
    """

    def __init__(
        self,
        output: Storage,
        name: str,
        schema: pa.Schema,
        segments: tuple[Segment, ...] = (),
        waiting: Waiting | None = None,
    ) -> None:
        self._output = output
        self._name = name
        self._path = f"{output.url}/{name}"
        self._schema = schema
        self._segments = list(segments)
        self._group_rows = row_group_rows(schema)
        waiting = waiting or Waiting()
        self._waiting = list(waiting.batches)
        self._waiting_rows = sum(batch.num_rows for batch in self._waiting)
        self._varying = waiting.varying
        self._open: _Open | None = None
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._discard()

    @property
    def segments(self) -> tuple[Segment, ...]:
        """What was saved so far."""
        return tuple(self._segments)

    def append(self, rows: pa.RecordBatch) -> None:
        """Takes rows, and writes the row groups that they fill."""
        self._waiting.append(rows)
        self._waiting_rows += rows.num_rows
        self._varying += varying_bytes(rows)
        # Long texts and lists, whose bytes the schema does not tell, end a row group early.
        heavy = self._varying > ROW_GROUP_BYTES
        if heavy or self._waiting_rows >= self._group_rows:
            self._flush(everything=heavy)

    def save(
        self, name: Callable[[str], str], note: Callable[[Saved], Mapping[bytes, bytes]]
    ) -> str:
        """Saves what came since the last time as a segment.

        Args:
            name: From the digest of the segment's footer to its name in the storage. The footer
                holds the digests of all else, so segments of one name are alike.
            note: From what was saved to the segment's key-value metadata.

        Returns:
            The segment's name.

        Raises:
            StorageError: It could not be written.
        """
        segment = self._segment()
        with translated(self._path):
            waiting = _packed(self._waiting, self._schema)
            saved = Saved(unclosed_digest(segment.staged.path), self._varying)
            segment.parquet.add_key_value_metadata({**note(saved), WAITING_KEY: waiting})
            segment.parquet.close()
            with pa.OSFile(str(segment.staged.path), "rb") as file:
                digest = footer_digest(footer_bytes(file, self._path))
        with suppress(AlreadyExistsError):  # another writer of the same has saved the same
            segment.staged.publish(name(digest))
        self._discard()
        self._segments.append(Segment(name(digest), saved.data_xxh3, digest))
        return name(digest)

    def finished(self, note: Callable[[str], Mapping[bytes, bytes]]) -> Staged:
        """Writes all that is left; the whole file, staged.

        Args:
            note: Is given the digest of the file's row groups, and returns its metadata.

        Raises:
            CheckpointError: A saved segment is gone, or is not what was saved.
            StorageError: It could not be written.
        """
        if self._open is None and not self._segments:
            return self._at_once(note)
        self._flush(everything=True)
        last = self._segment()
        with translated(self._path):
            if not self._segments:
                last.parquet.add_key_value_metadata(note(unclosed_digest(last.staged.path)))
            last.parquet.close()
        if not self._segments:
            return last.staged
        whole = self._exit.enter_context(self._output.stage(self._name))
        stitch(self._output, self._segments, last.staged.path, whole.path, self._path, note)
        return whole

    def _at_once(self, note: Callable[[str], Mapping[bytes, bytes]]) -> Staged:
        """The whole file where no row group is full yet: made in memory, and written in one go."""
        made = io.BytesIO()
        with pq.ParquetWriter(
            pa.PythonFile(made), self._schema, **_parquet_options(self._schema)
        ) as parquet:
            if self._waiting_rows:
                group = pa.Table.from_batches(self._waiting, self._schema).combine_chunks()
                self._write_group(parquet, group)
            parquet.add_key_value_metadata(note(xxhash.xxh3_128_hexdigest(made.getbuffer())))
        staged = self._exit.enter_context(self._output.stage(self._name))
        staged.write(made.getvalue())
        return staged

    def _flush(self, *, everything: bool) -> None:
        """Writes the row groups that are full, and at the end the one that is not."""
        if not self._waiting_rows:
            return
        table = pa.Table.from_batches(self._waiting, self._schema)
        full = self._waiting_rows - self._waiting_rows % self._group_rows
        stop = self._waiting_rows if everything else full
        rest = table.slice(stop)
        self._waiting = rest.to_batches()
        self._waiting_rows = rest.num_rows
        self._varying = 0
        groups = self._groups(table.slice(0, stop))
        del table, rest
        parquet = self._segment().parquet
        with translated(self._path):
            for group in groups:
                self._write_group(parquet, group)
                del group  # before the next is made
            if stop:
                begin_writeback(self._segment().staged.path)

    def _groups(self, rows: pa.Table) -> Iterator[pa.Table]:
        """Rows as row groups, in memory of their own. When the last is handed on, mostly the only
        one, the rows that it was made of are let go: writing takes several times its bytes."""
        while rows.num_rows:
            left = rows.num_rows - self._group_rows
            # One chunk a row group: where pages end must not depend on how the rows arrived.
            group = rows.slice(0, self._group_rows).combine_chunks()
            rows = rows.slice(self._group_rows) if left > 0 else rows.schema.empty_table()
            yield group
            del group

    def _write_group(self, parquet: pq.ParquetWriter, group: pa.Table) -> None:
        parquet.write_table(group, row_group_size=self._group_rows)

    def _segment(self) -> _Open:
        """The segment that is being written; begun if there is none."""
        if self._open is None:
            staged = self._exit.enter_context(self._output.stage(self._name))
            with translated(self._path):
                parquet = pq.ParquetWriter(
                    staged.path, self._schema, **_parquet_options(self._schema)
                )
            self._exit.callback(_abandon, parquet)
            self._open = _Open(staged, parquet)
        return self._open

    def _discard(self) -> None:
        self._open = None
        self._exit.close()


def unpacked(packed: bytes, varying: int) -> Waiting:
    """The rows that a segment's footer carries, under `WAITING_KEY`."""
    with pa.ipc.open_stream(packed) as stream:
        return Waiting(tuple(stream), varying)


def _packed(waiting: Iterable[pa.RecordBatch], schema: pa.Schema) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, schema, options=options) as stream:
        for batch in waiting:
            stream.write_batch(batch)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _abandon(parquet: pq.ParquetWriter) -> None:
    if parquet.is_open:
        # Closing writes a valid, short file; it is still under its staged name, and goes.
        with suppress(OSError):
            parquet.close()


def _parquet_options(schema: pa.Schema) -> dict[str, Any]:
    # Numbers seldom repeat enough: a dictionary of floats halves the speed of writing, and one of
    # ids is given up when it is a megabyte long. Where they do repeat, zstd finds it.
    repeating = [
        f.name
        for f in schema
        if not pa.types.is_floating(f.type)
        and not pa.types.is_integer(f.type)
        and not pa.types.is_nested(f.type)
        and not isinstance(f.type, pa.ExtensionType)
    ]
    return {
        # Its fastest levels: a fifth less time for a twentieth more bytes, of floats.
        "compression": "zstd",
        "compression_level": -1,
        "use_dictionary": repeating or False,
        "write_page_checksum": True,
    }
