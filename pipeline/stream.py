"""Batches on their way through `tf.data`. The only user of it.

The features go into the graph, where the next batch is read while one is scored, and all that does
not concern the model (carried columns, bad rows) waits beside it, in order, for its scores.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Self, cast

from pipeline.errors import ScoringError
from pipeline.runtime import pool_threads, tensorflow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.feed import Feed
    from pipeline.records import Batch
    from pipeline.signature import InputSpec

PREFETCH = 1
"""Batches read ahead of the one being scored: more cost memory and gain nothing."""


class BatchStream:
    """Batches on their way through tf.data. Once its `with` block is left, it reads no more.

    Args:
        source: The batches; read from tf.data's thread.
        count: How many of them to take.
        feed: From their arrays to the model.
        for_keras: Whether Keras goes through the dataset itself.

    Attributes:
        dataset: Yields, batch by batch, what the model takes. Batches without a good row are
            passed over where something could choke on them: Keras' loop, or a feed that computes.
    """

    def __init__(
        self, source: Iterator[Batch], count: int, feed: Feed, *, for_keras: bool = False
    ) -> None:
        self._source = source
        self._waiting: deque[Batch] = deque()
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._number = next(_numbers)
        _open_streams[self._number] = self
        self._passes_over = for_keras or not feed.bare
        self.dataset = _dataset(self._number, count, feed, passes_over=self._passes_over)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        _open_streams.pop(self._number, None)
        with self._lock:  # tf.data may be reading ahead: wait for it, then let it read no more
            self._failure = self._failure or ScoringError("the stream was closed")

    def elements(self) -> Iterator[tuple[Batch, Any, Exception | None]]:
        """Each batch with what the model takes for it, in order.

        Yields:
            The batch; its element, None if it has no good row; and, in the place of an element,
            what the graph raised on it: an image that does not decode, a hook of the user's.

        Raises:
            ShardscoreError: What reading the batches raised.
        """
        elements = iter(self.dataset)
        while True:
            element, raised = None, None
            try:
                element = next(elements, None)
            except Exception as error:
                raised = error.with_traceback(None)
            if element is None and raised is None:
                break
            if self._passes_over:
                yield from self._without_good_rows()
            if not self._waiting:
                # All that was read has been handed on, so it was the reading.
                raise self.reading_error(cast(Exception, raised)) from raised
            batch = self._waiting.popleft()
            yield batch, element if batch.good_rows else None, raised
            del batch  # or its features lie there while the next is waited for
        yield from self._without_good_rows()

    def all_batches(self) -> list[Batch]:
        """The batches that a whole pass over `dataset` has read."""
        batches = list(self._waiting)
        self._waiting.clear()
        return batches

    def reading_error(self, error: Exception) -> BaseException:
        """What really went wrong, where tf.data raised an error of its own for it."""
        return self._failure if self._failure is not None else error

    def pull(self) -> list[Any]:
        """The features of the next batch; called from tf.data's thread."""
        with self._lock:
            # Reading ahead goes on after an error: the first one is the one that counts.
            if self._failure is not None:
                raise self._failure
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

    def _without_good_rows(self) -> Iterator[tuple[Batch, None, None]]:
        while self._waiting and self._waiting[0].good_rows == 0:
            yield self._waiting.popleft(), None, None


# TensorFlow keeps each Python function that a graph calls for the life of the process, and all
# that the function refers to. So there is one function for each signature, it is given a stream's
# number, and finds the stream here, as long as it is open.
_numbers = itertools.count()
_open_streams: dict[int, BatchStream] = {}


def _pull(number: Any) -> list[Any]:
    return _open_streams[int(number)].pull()


@functools.cache
def _puller(inputs: tuple[InputSpec, ...]) -> Any:
    """A compiled function from a stream's number to its next features, one tensor an input."""
    tf = tensorflow()
    types = [tf.as_dtype(spec.dtype) for spec in inputs]

    def pull(number: Any) -> Any:
        tensors = tf.numpy_function(_pull, [number], types)
        for tensor, spec in zip(tensors, inputs, strict=True):
            tensor.set_shape((None, *spec.shape))
        return tuple(tensors)

    return tf.function(pull, input_signature=[tf.TensorSpec((), tf.int64)], autograph=False)


@functools.lru_cache(maxsize=8)
def _maker(feed: Feed, *, passes_over: bool) -> Any:
    """A compiled function from a stream's number, and its number of batches, to its dataset.

    What tf.data traces for a dataset is the same each time, and takes as long as scoring many a
    shard: so it is traced once for each feed. What is left is some 5 ms for each function of the
    dataset, whenever one is gone through: so there are no more than need be.
    """
    tf = tensorflow()
    pull = _puller(feed.inputs)
    # To translate what needs no translation takes longer than all else here; a hook has its own.
    as_it_is = tf.autograph.experimental.do_not_convert

    def has_rows(*tensors: Any) -> Any:
        return tf.shape(tensors[0])[0] > 0

    def element(*tensors: Any) -> Any:
        return feed.element(tensors)

    def make(number: Any, count: Any) -> Any:
        # One crossing into Python a batch; a generator would cost three. The map is not parallel,
        # so calls are in order.
        numbers = tf.data.Dataset.from_tensors(number).repeat(count)
        if passes_over:
            dataset = numbers.map(as_it_is(pull)).filter(as_it_is(has_rows)).map(as_it_is(element))
        else:
            dataset = numbers.map(as_it_is(lambda number: element(*pull(number))))
        return dataset.prefetch(PREFETCH)

    integer = tf.TensorSpec((), tf.int64)
    return tf.function(make, input_signature=[integer, integer], autograph=False)


def _dataset(number: int, count: int, feed: Feed, *, passes_over: bool) -> Any:
    tf = tensorflow()
    options = tf.data.Options()
    options.autotune.enabled = False
    # It is as it should be already; looking for better takes longer than many a shard.
    options.experimental_optimization.apply_default_optimizations = False
    if pool_threads():
        options.threading.private_threadpool_size = pool_threads()
    make = _maker(feed, passes_over=passes_over)
    return make(tf.constant(number, tf.int64), tf.constant(count, tf.int64)).with_options(options)
