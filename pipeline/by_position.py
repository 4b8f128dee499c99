"""One shard of an output as columns: its predictions, its input, its bad rows, row for row.

Owns the join by position. A published file holds its shard's rows in their order, but for those
that its dead-letter file names; so the rows of the two that belong together are known without a
key. What is joined is proved first: the shard must be the version that was scored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import ChangedInputError, ContractError, CorruptShardError, shortened
from pipeline.footer import Provenance, parquet_errors
from pipeline.plan import changed_input, foreign_output
from pipeline.quarantine import COLUMN_COLUMN, ROW_COLUMN, dead_letter_name
from pipeline.quarantine import REASON_COLUMN as LETTER_REASON
from pipeline.storage import ObjectInfo, storage_at
from pipeline.target import REASON_COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pipeline.records import Shard
    from pipeline.storage import Storage


_LETTER_COLUMNS = frozenset({ROW_COLUMN, COLUMN_COLUMN, LETTER_REASON})
"""Where the input was a mended dead-letter file it has these too, and a dead-letter file does not
hold the input's: its own stand there."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One shard's part of the table.

    Attributes:
        count: Its rows.
        columns: Those that are wanted, as far as the shard has them: name → column.
        fields: Their fields.
        numbers: Of its rows in the shard; none if they are not wanted.
        offered: The names of all columns there were.
    """

    count: int
    columns: dict[str, pa.ChunkedArray]
    fields: dict[str, pa.Field]
    numbers: np.ndarray[Any, np.dtype[np.int64]]
    offered: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reader:
    """What is wanted of each shard, and from where.

    Attributes:
        output: The output.
        fingerprint: The job's; empty if that is lost.
        predictions: The columns that are the model's.
        sources: The input's shards by name; None: nothing is joined.
        columns: The columns that are wanted; None: all.
        numbered: Whether row numbers are wanted.
        bad_rows: Whether the rows of dead-letter files are wanted, in their places.
    """

    output: Storage
    fingerprint: str
    predictions: frozenset[str]
    sources: Mapping[str, Shard] | None
    columns: tuple[str, ...] | None
    numbered: bool
    bad_rows: bool

    def piece(self, name: str) -> Piece:
        """A shard's part of the table.

        Raises:
            OutputMismatchError: The file, or its dead-letter file, is not of the job.
            ChangedInputError: The shard is not the one that was scored.
            ContractError: A column to be joined has the name of a prediction.
            CorruptShardError: A file does not decode, or not fit the other.
            StorageError: Something could not be read.
        """
        path = f"{self.output.url}/{name}"
        table, metadata, offered = self._read(self.output, name)
        note = Provenance.of(metadata)
        if note is None or (self.fingerprint and note.fingerprint != self.fingerprint):
            raise foreign_output(path, note, self.fingerprint)
        rows_in, published = note.counts.rows_in, note.counts.rows_in - note.counts.quarantined
        if metadata.num_rows != published:
            raise CorruptShardError(
                "a published file has not the rows that its note says",
                path=path,
                expected=f"{published} rows",
                received=f"{metadata.num_rows} rows",
                hint="`verify` says more",
            )
        letters = None
        if published < rows_in and (self.bad_rows or self.numbered or self.sources is not None):
            letters = self._letters(name, note)
        good = np.ones(rows_in, np.bool_)
        if letters is not None:
            good[letters[ROW_COLUMN].to_numpy()] = False
        columns = dict(zip(table.column_names, table.columns, strict=True))
        fields = {field.name: field for field in table.schema}
        if self.bad_rows:
            offered = tuple(dict.fromkeys([*offered, REASON_COLUMN]))
            if REASON_COLUMN not in columns and self._wanted([REASON_COLUMN]):
                columns[REASON_COLUMN] = nulls(published, pa.string())
                fields[REASON_COLUMN] = pa.field(REASON_COLUMN, pa.string())
            if letters is not None:
                columns = self._with_bad_rows(columns, letters, good)
        if self.sources is not None:
            source = self.sources[name]
            if source.identity != note.input:
                raise changed_input(source, note)
            joined = self._joined(source, self._names_to_join(source, offered))
            if letters is not None and not self.bad_rows:
                joined = joined.filter(pa.array(good))
            columns |= dict(zip(joined.column_names, joined.columns, strict=True))
            fields |= {field.name: field for field in joined.schema}
            offered = tuple(dict.fromkeys([*source.schema.names, *offered]))
        numbers = np.arange(rows_in) if self.bad_rows else np.flatnonzero(good)
        return Piece(
            count=rows_in if self.bad_rows else published,
            columns={name: columns[name] for name in offered if name in columns},
            fields=fields,
            numbers=numbers if self.numbered else numbers[:0],
            offered=offered,
        )

    def _wanted(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if self.columns is None or name in self.columns]

    def _read(
        self, storage: Storage, name: str
    ) -> tuple[pa.Table, pq.FileMetaData, tuple[str, ...]]:
        """The wanted columns of a file, its metadata, and the names of all its columns."""
        with parquet_errors(f"{storage.url}/{name}"), storage.open_input(name) as file:
            with pq.ParquetFile(file, pre_buffer=False) as parquet:
                names = tuple(parquet.schema_arrow.names)
                return _columns_of(parquet, self._wanted(names)), parquet.metadata, names

    def _letters(self, name: str, note: Provenance) -> pa.Table:
        """A shard's dead-letter file, which must name rows that the shard has."""
        letters = dead_letter_name(name)
        path = f"{self.output.url}/{letters}"
        with parquet_errors(path), self.output.open_input(letters) as file:
            with pq.ParquetFile(file, pre_buffer=False) as parquet:
                names = parquet.schema_arrow.names if self.bad_rows else [ROW_COLUMN]
                table = _columns_of(parquet, names)
                theirs = Provenance.of(parquet.metadata)
            rows = table[ROW_COLUMN].to_numpy()
        if theirs is None or theirs.fingerprint != note.fingerprint:
            raise foreign_output(path, theirs, note.fingerprint)
        counts = note.counts
        increasing = len(rows) == counts.quarantined and bool((np.diff(rows) > 0).all())
        if not increasing or rows[0] < 0 or rows[-1] >= counts.rows_in:
            raise CorruptShardError(
                "a dead-letter file does not fit the predictions beside it",
                path=path,
                expected=f"{counts.quarantined} increasing row numbers below {counts.rows_in}",
                received=f"{len(rows)}: {shortened([str(row) for row in rows])}",
                hint="`verify` says more",
            )
        return table

    def _with_bad_rows(
        self,
        columns: Mapping[str, pa.ChunkedArray],
        letters: pa.Table,
        good: np.ndarray[Any, np.dtype[np.bool_]],
    ) -> dict[str, pa.ChunkedArray]:
        """Published columns, with the rows of the dead-letter file in their places."""
        published = int(good.sum())
        places = np.empty(len(good), np.int64)
        places[good] = np.arange(published)
        places[~good] = np.arange(published, len(good))
        whole = {}
        for name, column in columns.items():
            if name == REASON_COLUMN:
                left = letters[LETTER_REASON]
            elif name in letters.column_names and name not in self.predictions | _LETTER_COLUMNS:
                left = letters[name].cast(column.type)
            else:
                left = nulls(len(letters), column.type)
            both = pa.chunked_array([*column.chunks, *left.chunks], column.type)
            whole[name] = both.take(pa.array(places))
        return whole

    def _names_to_join(self, source: Shard, offered: Sequence[str]) -> list[str]:
        """The columns of an input that the output does not carry."""
        ours = self.predictions | {REASON_COLUMN}
        for name in source.schema.names:
            if self.columns is None and name in ours and name in offered:
                raise ContractError(
                    "a column of the input has the name of a prediction",
                    path=source.path,
                    column=name,
                    hint="say with columns=[…] which columns to load; the name is the prediction's",
                )
        return self._wanted(name for name in source.schema.names if name not in offered)

    def _joined(self, source: Shard, names: list[str]) -> pa.Table:
        """Columns of an input, all its rows, in the types that `discover` found."""
        storage = storage_at(source.root)
        schema = pa.schema([source.schema.field(name) for name in names])
        with parquet_errors(source.path), storage.open_input(source.key) as file:
            with pq.ParquetFile(file, pre_buffer=False) as parquet:
                table = _columns_of(parquet, names).cast(schema)
        found = ObjectInfo(source.key, source.size, source.mtime_ns, source.etag)
        if not found.same_version(storage.info(source.key)):
            raise ChangedInputError(
                "the shard was changed while it was read",
                path=source.path,
                hint="load again, once nothing writes to the input",
            )
        return table


def _columns_of(parquet: pq.ParquetFile, names: Sequence[str]) -> pa.Table:
    # pyarrow takes a dot in a name for a step into a struct, and may read more than was named.
    table = parquet.read(columns=list(names), use_threads=False).select(list(names))
    return table.replace_schema_metadata(None)


def nulls(count: int, kind: pa.DataType) -> pa.ChunkedArray:
    """A column of nothing but nulls, of any type."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.chunked_array([kind.wrap_array(pa.nulls(count, kind.storage_type))])
    return pa.chunked_array([pa.nulls(count, kind)])
