"""The frozen records that travel from stage to stage: discover → plan → stream → score → write.

Records hold facts and no behaviour beyond what follows from their own fields. They import only
errors, so every stage may use them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from pipeline.drift import Drift
    from pipeline.errors import ShardscoreError
    from pipeline.timeline import Point

Method = Literal["predict_on_batch", "predict", "predict_step"]
"""Keras' prediction methods: the streaming call, the loop that keeps all output, and the compiled
step called as `predict()` calls it."""

ShardStatus = Literal["published", "already_published", "failed"]


@dataclass(frozen=True, slots=True)
class Shard:
    """One input file, as its listing and its Parquet footer describe it.

    Attributes:
        name: Path relative to the input's root, with `/`; also the output's name.
        root: Address of the storage that holds it.
        key: Its name in that storage.
        size: Bytes.
        mtime_ns: Time of the last change, in nanoseconds since the epoch.
        rows: Rows, by the footer.
        footer_sha256: Digest of the footer's bytes. With `size` it identifies the content: the
            footer holds each column chunk's offset, sizes and statistics, and unlike the mtime
            it is the same wherever the file is copied.
        schema: Arrow schema; shards of equal schemas share one object. None where a published
            file says that it was made from this very shard: then nobody asks for it.
        etag: What an object store calls this version of it; None on a disk.
    """

    name: str
    root: str
    key: str
    size: int
    mtime_ns: int
    rows: int
    footer_sha256: str
    schema: pa.Schema = field(compare=False, repr=False)
    etag: str | None = None

    @property
    def path(self) -> str:
        """The file's address, for messages."""
        return f"{self.root.rstrip('/')}/{self.key}"

    @property
    def identity(self) -> dict[str, Any]:
        """What an output says of its input: independent of where the input is stored."""
        return {
            "name": self.name,
            "size": self.size,
            "rows": self.rows,
            "footer_sha256": self.footer_sha256,
        }

    def batches(self, batch_size: int) -> int:
        """Number of batches: boundaries are fixed by the shard and the batch size alone."""
        return -(-self.rows // batch_size)


@dataclass(frozen=True, slots=True)
class FailedShard:
    """An input file that could not be read far enough to plan it."""

    name: str
    path: str
    error: ShardscoreError


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """What is scored in one go: one shard, or neighbouring small shards that share a call.

    A unit never decides what is in a batch: each batch holds rows of one shard.
    """

    shards: tuple[Shard, ...]
    small: bool

    @property
    def rows(self) -> int:
        """Rows of all its shards."""
        return sum(shard.rows for shard in self.shards)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be scored.

    Attributes:
        row: Its number in the shard, counted from 0.
        column: The column at fault; None if it is no single column's fault.
        reason: One line for people.
    """

    row: int
    column: str | None
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Consecutive rows of one shard, read and converted.

    Attributes:
        shard: Where the rows come from.
        start: Number of the first row in the shard.
        rows: Rows read, good and bad.
        features: One array per model input, in the signature's order, holding the good rows only:
            (good, …).
        carried: The columns that travel past the model, all rows read.
        good: (rows,) bool, or None when every row is good.
        bad: The rows that are not, in order.
    """

    shard: Shard
    start: int
    rows: int
    features: tuple[np.ndarray[Any, Any], ...]
    carried: pa.RecordBatch
    good: np.ndarray[Any, np.dtype[np.bool_]] | None
    bad: tuple[BadRow, ...]

    @property
    def good_rows(self) -> int:
        """Rows that the model sees."""
        return self.rows - len(self.bad)


@dataclass(frozen=True, slots=True, eq=False)
class ScoredBatch:
    """A batch and what the model said of its good rows.

    Attributes:
        batch: The batch.
        predictions: One Arrow array a prediction column, each `batch.good_rows` long.
        ends_call: Whether all that the model has scored so far has been handed on with this.
        nonfinite: Good rows with a NaN or an infinity in a prediction.
    """

    batch: Batch
    predictions: tuple[pa.Array, ...]
    ends_call: bool
    nonfinite: int = 0


@dataclass(frozen=True, slots=True)
class RowCounts:
    """Where the rows of a shard, or of a run, went.

    Attributes:
        rows_in: Rows read.
        scored: Those with a prediction.
        null_scored: Those with null predictions.
        quarantined: Those in the dead-letter file.
        nonfinite: Those among the scored ones that have a NaN or an infinity in a prediction. No
            outcome of its own, and no part of what is compared: whether a value overflows can
            depend on the machine, as a last bit does.
    """

    rows_in: int = 0
    scored: int = 0
    null_scored: int = 0
    quarantined: int = 0
    nonfinite: int = field(default=0, compare=False)

    def __add__(self, other: RowCounts) -> RowCounts:
        return RowCounts(
            self.rows_in + other.rows_in,
            self.scored + other.scored,
            self.null_scored + other.null_scored,
            self.quarantined + other.quarantined,
            self.nonfinite + other.nonfinite,
        )

    @property
    def bad(self) -> int:
        """Rows that could not be scored, whatever became of them."""
        return self.null_scored + self.quarantined

    @property
    def balanced(self) -> bool:
        """Whether each row that went in has exactly one outcome."""
        return self.rows_in == self.scored + self.null_scored + self.quarantined


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one shard in one run.

    Attributes:
        shard: Its name.
        status: `published` by this run; `already_published`, when another run of the same job was
            first with the same content; `failed`.
        counts: Where its rows went; zeros if it failed.
        method: Keras' method that scored it; None if it failed.
        seconds: Wall time spent on it; shards of one group share their time by rows.
        resumed: Rows of it that checkpoints of earlier runs held.
        error: Why it failed.
    """

    shard: str
    status: ShardStatus
    counts: RowCounts = RowCounts()
    method: Method | None = None
    seconds: float = 0.0
    resumed: int = 0
    error: ShardscoreError | None = None


RunState = Literal["running", "finished", "incomplete", "stopped", "broken"]
"""`finished`: every shard is published. `incomplete`: shards failed. `stopped`: by a signal.
`broken`: an error ended the run."""


@dataclass(frozen=True, slots=True)
class FedColumn:
    """A column, and what becomes of it on its way into the model; in words.

    Attributes:
        input: The input that it feeds.
        input_type: What that takes: element type and shape, or an encoded image's size.
        column: Its name, or the dotted path of a struct's field.
        column_type: Its Arrow type; several, where shards differ.
        conversion: How it is read.
    """

    input: str
    input_type: str
    column: str
    column_type: str
    conversion: str


@dataclass(frozen=True, slots=True)
class Invocation:
    """How a run was called for: what it takes to do so again.

    Attributes:
        command: The words of the command line.
        variables: The variables that are options.
        folder: What relative paths are relative to.
    """

    command: tuple[str, ...]
    variables: tuple[tuple[str, str], ...]
    folder: str


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run, as it stands: written when it begins, while it goes on, and when it ends.

    Attributes:
        run_id: Name of the report; sorts by the time of the start.
        state: How it stands.
        started: Time of the start, ISO 8601 in UTC.
        seconds: Wall time since.
        output: Address of the output.
        plan_id: The frozen listing of its shards; empty until there is one.
        fingerprint: The job's identity.
        model_sha256: Digest of the model.
        batch_size: Rows a batch; 0 until decided.
        probe: What the probe found.
        shards: Shards of the input, readable or not.
        shards_done_before: Those published before the run began.
        counts: Rows of the shards that this run finished.
        outcomes: The shards that this run finished.
        memory_after_load: Resident bytes when the model was loaded and probed; 0 if it was not.
        memory_peak: Highest resident bytes.
        versions: Of the programs that scored.
        error: What ended the run, if anything but its work did.
        inputs: The addresses that were asked for; paths are absolute.
        fitting_batch_rows: Most rows that were scored in one call, where whole batches did not
            fit into memory; 0 where they did.
        workers: Processes that scored; 1: the run's own. Memory is the sum over all processes.
        threads: Threads in each pool of each of them; 0 until decided.
        scoring_seconds: Wall time since the first unit was begun; 0 until then.
        drift: How the predictions differ from those of the baseline, once they were compared.
        share: Which share of the shards the run scores, from 0, and of how many; None: all.
        host: The name of the machine.
        invocation: How the run was called for; None: by a program.
        timeline: How it went over time.
        rows_failed: Rows of the shards that failed and could be read; 0 until the run has ended.
    """

    run_id: str
    state: RunState
    started: str
    seconds: float
    output: str
    plan_id: str
    fingerprint: str
    model_sha256: str
    batch_size: int
    probe: str
    shards: int
    shards_done_before: int
    counts: RowCounts
    outcomes: tuple[Outcome, ...]
    memory_after_load: int
    memory_peak: int
    versions: dict[str, str]
    error: ShardscoreError | None = None
    inputs: tuple[str, ...] = ()
    fitting_batch_rows: int = 0
    workers: int = 1
    threads: int = 0
    scoring_seconds: float = 0.0
    drift: Drift | None = None
    share: tuple[int, int] | None = None
    host: str = ""
    invocation: Invocation | None = None
    timeline: tuple[Point, ...] = ()
    rows_failed: int = 0

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The shards that could not be scored."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == "failed")

    @property
    def nothing_to_do(self) -> bool:
        """Whether all was published before the run began."""
        return self.state == "finished" and self.shards == self.shards_done_before
