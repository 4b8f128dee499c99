"""Whether a Parquet file's row groups agree with its footer, looked at ahead of their reader.

`soundness` says why, and holds what is asked at discovery. `RowGroupChecks` is for the stream: it
reads a row group's part of the footer, and the headers of the pages that will be read, before the
group is.
"""

from __future__ import annotations

import functools
import re
from bisect import bisect
from typing import TYPE_CHECKING

from pipeline.column_chunks import (
    PHYSICAL_TYPES,
    Column,
    ColumnChunk,
    Columns,
    columns_of,
    row_groups,
    unreadable,
)
from pipeline.compact import ThriftError
from pipeline.footer import corrupt
from pipeline.page_headers import Chunk, PageError, Read, check_pages, whole_reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline.storage.remote_file import RemoteFile

_FIRST_OFFSET = 4
"""Where the magic number at the start of a file ends."""

_FORGETFUL = re.compile(r"parquet-mr version 1\.[0-2]\.")
"""Writers that left the header of the dictionary page out of a chunk's size (PARQUET-816)."""

_HEADER_BYTES = 100


class RowGroupChecks:
    """Checks the row groups of a file, one at a time, ahead of its reader.

    Args:
        file: The file; read at places of its own, whatever else reads it.
        footer: The bytes of its footer.
        metadata: The footer as pyarrow reads it.
        columns: Names of the top-level columns that are read.
        walk_from: The first row group of which the headers of the pages are read, a small read
            for each; None for none.
        path: The file's address, for errors.
        whole: The bytes of the file, where they are in memory.
        plan: Is told where the columns' chunks lie, from the row group `plan_from` on, and may
            want to know more than what is read next.
        plan_from: The first row group that is read.
    """

    def __init__(
        self,
        file: pa.NativeFile,
        footer: bytes,
        metadata: pq.FileMetaData,
        columns: Sequence[str],
        *,
        walk_from: int | None,
        path: str,
        whole: bytes | None = None,
        plan: RemoteFile | None = None,
        plan_from: int = 0,
    ) -> None:
        self._read: Read = file.read_at if whole is None else whole_reader(whole)
        self._path = path
        self._end = file.size() - len(footer) - 8
        self._footer = footer
        self._names = tuple(columns)
        self._count = metadata.num_row_groups
        self._metadata = metadata
        self._walk_from = metadata.num_row_groups if walk_from is None else walk_from
        self._plan = plan
        self._plan_from = plan_from
        self._slack = _HEADER_BYTES if _FORGETFUL.match(metadata.created_by or "") else 0
        self._groups = self._told()
        self._group = 0
        self._rows = 0
        self._starts: list[int] = []
        self._stops: list[int] = []

    def up_to(self, rows: int) -> None:
        """Checks the row groups that hold the first `rows` rows, as far as it has not yet.

        Raises:
            CorruptShardError: They are not what the footer says, or it contradicts itself.
        """
        while self._group < self._count and (self._rows < rows or self._hungry()):
            try:
                self._check(*next(self._groups, (-1, ())))
            except (ThriftError, PageError) as error:
                raise self._corrupt(str(error)) from error
            self._rows += self._metadata.row_group(self._group).num_rows
            self._group += 1

    def _hungry(self) -> bool:
        return self._plan is not None and self._plan.hungry

    def _told(self) -> Iterator[tuple[int, Iterable[ColumnChunk]]]:
        self._columns = columns_of(self._footer, self._metadata)
        self._walked = _walked(self._columns, self._names)
        yield from row_groups(self._footer, self._columns)

    def _check(self, told: int, chunks: Iterable[ColumnChunk]) -> None:
        rows = self._metadata.row_group(self._group).num_rows
        if told != rows:
            raise unreadable()
        columns = iter(self._columns.leaves)
        plans = self._plan is not None and self._group >= self._plan_from
        planned: list[tuple[int, int]] = []
        walks = self._group >= self._walk_from
        index = 0
        try:
            for index, chunk in enumerate(chunks):
                column = next(columns)
                wanted = index in self._walked
                place = self._check_chunk(chunk, column, rows, walk=walks and wanted)
                if plans and wanted and place is not None:
                    planned.append(place)
        except PageError as error:
            raise PageError(f"column {self._columns.leaves[index].path}: {error}") from error
        if planned and self._plan is not None:
            self._plan.expect(planned)

    def _check_chunk(
        self, chunk: ColumnChunk, column: Column, rows: int, *, walk: bool
    ) -> tuple[int, int] | None:
        """Where the chunk begins and ends; None if it holds nothing."""
        kind, values = chunk.kind, chunk.values
        if not 0 <= kind < len(PHYSICAL_TYPES) or PHYSICAL_TYPES[kind] != column.physical_type:
            raise PageError(f"a chunk of type {kind}, where the schema says {column.physical_type}")
        if values < rows or (column.max_repetition == 0 and values != rows):
            raise PageError(f"{values} values in {rows} rows")
        if values == 0:
            return None
        start, length = chunk.data_offset, chunk.compressed_bytes
        # Some writers say 0, or the first data page, where there is no dictionary.
        if 0 < chunk.dictionary_offset < start:
            start = chunk.dictionary_offset
        if start < _FIRST_OFFSET or length <= 0 or start + length > self._end:
            raise PageError(f"bytes {start} to {start + length}, outside of the data")
        self._claim(start, start + length)
        if walk:
            facts = Chunk(
                start=start,
                stop=min(start + length + self._slack, self._end),
                values=values,
                rows=rows,
                uncompressed_bytes=chunk.uncompressed_bytes,
                compressed=chunk.codec != 0,
                max_definition=column.max_definition,
                max_repetition=column.max_repetition,
            )
            check_pages(self._read, facts)
        return start, start + length

    def _claim(self, start: int, stop: int) -> None:
        """Notes the bytes of a chunk, which no other may have."""
        if not self._stops or start >= self._stops[-1]:  # behind all others, as most are
            self._starts.append(start)
            self._stops.append(stop)
            return
        place = bisect(self._starts, start)
        before = place and self._stops[place - 1] > start
        after = place < len(self._starts) and self._starts[place] < stop
        if before or after:
            raise PageError(f"bytes {start} to {stop}, some of which are another column's")
        self._starts.insert(place, start)
        self._stops.insert(place, stop)

    def _corrupt(self, reason: str) -> Exception:
        return corrupt(self._path, f"row group {self._group}: {reason}")


@functools.lru_cache(maxsize=64)
def _walked(columns: Columns, names: tuple[str, ...]) -> frozenset[int]:
    """Places of the columns of values that belong to some top-level columns.

    A dot may be part of a name, or divide it from the name of a field: both are taken.
    """
    wanted = set(names)
    return frozenset(
        i
        for i, path in enumerate(column.path for column in columns.leaves)
        if path in wanted or any(path[:end] in wanted for end in _dots(path))
    )


def _dots(path: str) -> list[int]:
    return [i for i, c in enumerate(path) if c == "."]
