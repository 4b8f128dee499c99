"""Reading: a shard's rows as a `tf.data.Dataset` of batches. The only reader of rows.

Two layers. `read_batches` reads a shard batch by batch, with memory set by the batch: boundaries
are fixed by the shard and the batch size alone. `BatchStream` carries batches through `tf.data`:
the features go into the graph, where the next batch is read while one is scored, and all that
does not concern the model (carried columns, bad rows) waits beside it, in order, for its scores.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import BadRowError, ContractError, ScoringError
from pipeline.extract import extract
from pipeline.footer import corrupt, parquet_errors
from pipeline.records import Batch
from pipeline.runtime import tensorflow
from pipeline.storage import storage_at

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from pipeline.binding import Binding
    from pipeline.records import Shard
    from pipeline.signature import Signature

PREFETCH = 1
"""Batches read ahead of the one being scored: more cost memory and gain nothing."""

_READ_BUFFER = 1 << 18


def read_batches(
    shard: Shard,
    binding: Binding,
    carried: Sequence[str],
    batch_size: int,
    *,
    fail_on_bad: bool,
) -> Generator[Batch, None, None]:
    """Reads a shard from its first row to its last.

    Args:
        shard: The shard.
        binding: The model's inputs, bound to its columns.
        carried: The other columns to bring along, in order.
        batch_size: Rows a batch; only the last may have fewer.
        fail_on_bad: Whether a row that cannot be scored ends the reading.

    Raises:
        CorruptShardError: The file does not decode, or has other rows than its footer says.
        BadRowError: A row cannot be scored, and `fail_on_bad` is set.
        StorageError: The disk failed.
    """
    columns = list(dict.fromkeys([*binding.columns, *carried]))
    start = 0
    for rows in _record_batches(shard, columns, batch_size):
        features, good, bad = extract(binding, rows, start)
        if bad and fail_on_bad:
            raise BadRowError(
                bad[0].reason,
                path=shard.path,
                column=bad[0].column,
                row=bad[0].row,
                hint="mend the row, or choose --on-bad-row quarantine or null and a new --output",
            )
        yield Batch(
            shard=shard,
            start=start,
            rows=rows.num_rows,
            features=features,
            carried=rows.select(list(carried)),
            good=good,
            bad=bad,
        )
        start += rows.num_rows
    if start != shard.rows:
        raise corrupt(shard.path, f"{start} rows, where the footer says {shard.rows}")


def _record_batches(shard: Shard, columns: list[str], batch_size: int) -> Iterator[pa.RecordBatch]:
    """Record batches of exactly `batch_size` rows, the last one excepted."""
    if shard.rows == 0:
        return
    with parquet_errors(shard.path), storage_at(shard.root).open_input(shard.key) as file:
        # The defaults read ahead whole row groups: forty times the memory, and slower.
        with pq.ParquetFile(file, pre_buffer=False, buffer_size=_READ_BUFFER) as parquet:
            _refuse_other_rows(parquet.metadata, shard)
            parts: deque[pa.RecordBatch] = deque()
            waiting = 0
            for part in parquet.iter_batches(batch_size, columns=columns, use_threads=False):
                parts.append(_in_order(part, columns, shard))
                waiting += part.num_rows
                while waiting >= batch_size:
                    yield _taken(parts, batch_size)
                    waiting -= batch_size
            if waiting:
                yield _taken(parts, waiting)


def _refuse_other_rows(metadata: pq.FileMetaData, shard: Shard) -> None:
    if metadata.num_rows != shard.rows:
        raise corrupt(
            shard.path,
            f"{metadata.num_rows} rows, {shard.rows} when the run began: it was changed meanwhile",
        )
    in_groups = sum(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
    if in_groups != shard.rows:
        raise corrupt(
            shard.path, f"row groups of {in_groups} rows in all; the footer says {shard.rows}"
        )


def _in_order(part: pa.RecordBatch, columns: list[str], shard: Shard) -> pa.RecordBatch:
    if sorted(part.schema.names) != sorted(columns):
        raise ContractError(
            "the columns cannot be told apart by name",
            path=shard.path,
            expected=", ".join(columns),
            received=", ".join(part.schema.names),
            hint="rename columns whose names hold a dot or occur twice",
        )
    part = part.select(columns)
    schema = pa.schema([shard.schema.field(name) for name in columns])
    # Views become plain strings, as discover has promised; all else is of its type already.
    return part if part.schema.equals(schema) else part.cast(schema)


def _taken(parts: deque[pa.RecordBatch], rows: int) -> pa.RecordBatch:
    """The first `rows` rows of the parts, which are consumed."""
    if parts[0].num_rows == rows:
        return parts.popleft()
    taken = []
    while rows:
        part = parts.popleft()
        if part.num_rows > rows:
            parts.appendleft(part.slice(rows))
            part = part.slice(0, rows)
        taken.append(part)
        rows -= part.num_rows
    return pa.concat_batches(taken)


class BatchStream:
    """Batches on their way through tf.data.

    Args:
        source: The batches; read from tf.data's thread.
        count: How many of them to take.
        signature: The model's inputs.

    Attributes:
        dataset: Yields, batch by batch, what the model takes; batches without a good row are
            passed over.
    """

    def __init__(self, source: Iterator[Batch], count: int, signature: Signature) -> None:
        self._source = source
        self._signature = signature
        self._waiting: deque[Batch] = deque()
        self._failure: BaseException | None = None
        self.dataset = self._build(count)

    def scored_pairs(self) -> Iterator[tuple[Batch, Any]]:
        """Each batch with its tensors, in order; None for a batch without a good row.

        Raises:
            ShardscoreError: What reading the batches raised.
        """
        elements = iter(self.dataset)
        while True:
            try:
                tensors = next(elements, None)
            except Exception as error:
                raise self.reading_error(error) from error
            if tensors is None:
                break
            yield from self._without_good_rows()
            yield self._waiting.popleft(), tensors
        yield from self._without_good_rows()

    def all_batches(self) -> list[Batch]:
        """The batches that a whole pass over `dataset` has read."""
        batches = list(self._waiting)
        self._waiting.clear()
        return batches

    def reading_error(self, error: Exception) -> BaseException:
        """What really went wrong, where tf.data raised an error of its own for it."""
        return self._failure if self._failure is not None else error

    def _without_good_rows(self) -> Iterator[tuple[Batch, None]]:
        while self._waiting and self._waiting[0].good_rows == 0:
            yield self._waiting.popleft(), None

    def _next(self, _index: Any) -> list[Any]:
        try:
            batch = next(self._source)
        except StopIteration:
            self._failure = ScoringError("fewer batches were read than the footers promise")
            raise self._failure from None
        except BaseException as error:
            self._failure = error
            raise
        self._waiting.append(batch)
        return list(batch.features)

    def _build(self, count: int) -> Any:
        tf = tensorflow()
        specs = self._signature.inputs
        types = [tf.as_dtype(spec.dtype) for spec in specs]

        def element(index: Any) -> Any:
            tensors = tf.numpy_function(self._next, [index], types)
            for tensor, spec in zip(tensors, specs, strict=True):
                tensor.set_shape((None, *spec.shape))
            return self._signature.pack(tensors)

        def has_rows(*structure: Any) -> Any:
            return tf.shape(tf.nest.flatten(structure)[0])[0] > 0

        # One crossing into Python a batch; a generator would cost three. Calls are in order:
        # the map is not parallel.
        dataset = tf.data.Dataset.range(count).map(element)
        options = tf.data.Options()
        options.autotune.enabled = False
        return dataset.filter(has_rows).prefetch(PREFETCH).with_options(options)
