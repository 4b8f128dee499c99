"""The dead-letter file of a shard: the rows that could not be scored, and why.

It holds all of the shard's columns, so that a mended copy of it can be scored like any shard, and
three of ours: the row's number in the shard, the column at fault and the reason. It is written as
the rows are found, in memory set by the batch. It is published before the predictions, whose
publication is the commit; until then whatever has its name is a left-over and may be replaced.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from pipeline.errors import AlreadyExistsError, NotFoundError
from pipeline.footer import Provenance, read_footer
from pipeline.plan import DEAD_LETTER_MARK, changed_input, foreign_output
from pipeline.segments import GroupedFile, Saved

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipeline.checkpoints import Resumed
    from pipeline.records import Batch, Shard
    from pipeline.storage import ObjectInfo, Storage

FOLDER = "_shardscore/quarantine"
ROW_COLUMN = DEAD_LETTER_MARK
COLUMN_COLUMN = "quarantine_column"
REASON_COLUMN = "quarantine_reason"

_OURS = [
    pa.field(ROW_COLUMN, pa.int64()),
    pa.field(COLUMN_COLUMN, pa.string()),
    pa.field(REASON_COLUMN, pa.string()),
]


def dead_letter_name(shard: str) -> str:
    """Name of a shard's dead-letter file in the output."""
    return f"{FOLDER}/{shard}"


class DeadLetters:
    """Writes a shard's dead-letter file; there is none if no row is bad.

    Args:
        output: Where to publish.
        shard: The shard.
        resumed: How far an earlier run came with it.
    """

    def __init__(self, output: Storage, shard: Shard, resumed: Resumed) -> None:
        self._output = output
        self._shard = shard
        self._name = dead_letter_name(shard.name)
        self._file: GroupedFile | None = None
        if resumed.bad_waiting is not None:
            self._file = GroupedFile(
                output, self._name, self._schema, resumed.bad_segments, resumed.bad_waiting
            )

    @cached_property
    def _schema(self) -> pa.Schema:
        # A mended dead-letter file that is scored again carries our columns of the last time.
        ours = {field.name for field in _OURS}
        theirs = [field for field in self._shard.schema if field.name not in ours]
        return pa.schema([*theirs, *_OURS])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.__exit__(*exc)

    @property
    def any(self) -> bool:
        """Whether there was a bad row."""
        return self._file is not None

    def add(self, original: pa.RecordBatch, batch: Batch) -> None:
        """Takes the bad rows of a batch.

        Args:
            original: All columns of all rows of the batch.
            batch: The batch, which says which rows are bad, and why.
        """
        if self._file is None:
            self._file = GroupedFile(self._output, self._name, self._schema)
        theirs = original.select(self._schema.names[: -len(_OURS)])
        rows = theirs.take([bad.row - batch.start for bad in batch.bad])
        ours = [  # of the types that the schema says
            [bad.row for bad in batch.bad],
            [bad.column for bad in batch.bad],
            [bad.reason for bad in batch.bad],
        ]
        self._file.append(pa.RecordBatch.from_arrays([*rows.columns, *ours], schema=self._schema))

    def save(
        self, name: Callable[[str], str], note: Callable[[Saved], Mapping[bytes, bytes]]
    ) -> str:
        """Saves what was added since the last time, as `GroupedFile.save` does.

        Returns:
            The digest of the segment's footer; empty if there was never a bad row.
        """
        if self._file is None:
            return ""
        self._file.save(name, note)
        return self._file.segments[-1].footer_xxh3

    def there(self) -> ObjectInfo | None:
        """What lies under the file's name."""
        try:
            return self._output.info(self._name)
        except NotFoundError:
            return None

    def publish(self, note: Provenance, there: ObjectInfo | None) -> None:
        """Publishes what was added, if anything was.

        Args:
            note: The note of the predictions; this file's has its own digest of the data.
            there: What lay under the file's name while the shard was known not to be published,
                and to be as it was read: a left-over, which may go. Nothing else is ever replaced.

        Raises:
            OutputMismatchError: Another job was faster.
            ChangedInputError: A run with another version of the shard was faster.
        """
        if self._file is None:
            return
        staged = self._file.finished(lambda digest: replace(note, data_xxh3=digest).encoded())
        try:
            staged.publish() if there is None else staged.replace(only_if=there)
        except AlreadyExistsError:
            path = f"{self._output.url}/{self._name}"
            theirs = Provenance.of(read_footer(self._output, self._name)[0])
            if theirs is None or theirs.fingerprint != note.fingerprint:
                raise foreign_output(path, theirs, note.fingerprint) from None
            if theirs.input != note.input:
                raise changed_input(self._shard, theirs) from None

    def remove_left_over(self, there: ObjectInfo) -> None:
        """Takes away what an earlier attempt at the shard left, now that it has no bad row.

        Only once the shard is published: what lies there otherwise may be another writer's.
        """
        now = self.there()
        if now is not None and now.same_version(there):
            self._output.delete(self._name)
