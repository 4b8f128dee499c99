"""What becomes of one shard: the columns of its file, and whether another run has made it.

Another run of the same job is no trouble: one of two writers wins, and the other finds that the
same shard's rows are accounted for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.checkpoints import NOTHING, Origin, Resumed
from pipeline.errors import NotFoundError
from pipeline.footer import Provenance, read_footer
from pipeline.plan import changed_input, foreign_output

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.job import JobIdentity
    from pipeline.predictions import PredictionSchema
    from pipeline.records import RowCounts, Shard
    from pipeline.storage import ObjectInfo, Storage

REASON_COLUMN = "bad_row_reason"


def output_schema(
    carried: pa.Schema, predictions: PredictionSchema, *, with_reason: bool
) -> pa.Schema:
    """The columns of a published file: carried, then predictions, then the reason if asked for."""
    fields = [*carried, *predictions.fields]
    if with_reason:
        fields.append(pa.field(REASON_COLUMN, pa.string()))
    return pa.schema(fields)


@dataclass(frozen=True, slots=True)
class Target:
    """What becomes of one shard, and from where it goes on.

    Attributes:
        shard: The shard.
        schema: Columns of the published file.
        kept: Names of the columns that travel past the model into it.
        identity: The job's identity.
        fingerprint: Its digest, which is worked out once a run.
        method: Keras' method that scores the shard, for the provenance.
        versions: Of the programs that score and write, for the checkpoints.
        resumed: How far an earlier run came.
        refuse_swapped: Raises ChangedInputError if the shard is no longer the one that was read.
        replacing: The published file whose place this one takes, if the shard has changed since.
        most_bad: Most bad rows that the shard may have; None: any number.
    """

    shard: Shard
    schema: pa.Schema
    kept: tuple[str, ...]
    identity: JobIdentity
    fingerprint: str
    method: str
    versions: dict[str, str]
    refuse_swapped: Callable[[], None]
    resumed: Resumed = NOTHING
    replacing: ObjectInfo | None = None
    most_bad: int | None = None

    @property
    def predictions(self) -> pa.Schema:
        """The columns of the published file that hold predictions."""
        reasoned = self.identity.on_bad_row == "null"
        return pa.schema(list(self.schema)[len(self.kept) : len(self.schema) - reasoned])

    @property
    def origin(self) -> Origin:
        """What a checkpoint must have in common with this writing of the shard."""
        version = {**self.shard.identity, "mtime_ns": self.shard.mtime_ns}
        return Origin(self.fingerprint, version, self.versions)


def published_by_another(output: Storage, target: Target) -> RowCounts | None:
    """Where the rows of a shard went, if another run of the job has published it by now.

    Raises:
        OutputMismatchError: A file of another job has its name.
        ChangedInputError: It was published from another version of the shard.
    """
    shard, path = target.shard, f"{output.url}/{target.shard.name}"
    try:
        there = output.info(shard.name)
        if target.replacing is not None and there.same_version(target.replacing):
            return None
        theirs = Provenance.of(read_footer(output, shard.name)[0])
    except NotFoundError:
        return None
    if theirs is None or theirs.fingerprint != target.fingerprint:
        raise foreign_output(path, theirs, target.fingerprint)
    if theirs.input != shard.identity:
        raise changed_input(shard, theirs)
    return theirs.counts
