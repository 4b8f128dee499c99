"""Bringing TensorFlow up: quietly, and only when rows are to be read or scored.

The only module that imports TensorFlow for the first time. Importing it takes seconds, so
commands that do without never reach this module's functions.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


_threads = 0


def tensorflow() -> Any:
    """The `tensorflow` module, imported and set up on the first call."""
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    if os.environ.setdefault("KERAS_BACKEND", "tensorflow") != "tensorflow":
        raise ConfigError(
            "Keras is set to another backend",
            expected="KERAS_BACKEND unset, or tensorflow",
            received=f"KERAS_BACKEND={os.environ['KERAS_BACKEND']}",
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _quiet_stderr():
        import tensorflow as tf

        _bound_to(tf, _threads)
        cards = tf.config.list_physical_devices("GPU")  # complains where there is no driver
    tf.get_logger().setLevel("ERROR")
    for card in cards:
        # Without it the first process takes all the memory of a card that others share.
        tf.config.experimental.set_memory_growth(card, True)
    return tf


def bound_threads(count: int) -> bool:
    """Bounds the pools of this process: TensorFlow's, and Arrow's.

    Args:
        count: Threads in each; 0: what each takes by itself.

    Returns:
        Whether that could be done: TensorFlow's pools are as they are from its first operation on.
    """
    global _threads
    if count == (_threads or len(os.sched_getaffinity(0))):  # as it is, or what each takes anyway
        return True
    tf = sys.modules.get("tensorflow")
    if tf is not None and not _bound_to(tf, count):
        return False
    import pyarrow as pa

    _threads = count
    cores = len(os.sched_getaffinity(0))
    pa.set_cpu_count(count or cores)
    pa.set_io_thread_count(count or 8)
    return True


def threads() -> int:
    """Threads in each pool of this process; 0: what each takes by itself."""
    return _threads


def _bound_to(tf: Any, count: int) -> bool:
    try:
        tf.config.threading.set_intra_op_parallelism_threads(count)
        tf.config.threading.set_inter_op_parallelism_threads(count)
    except RuntimeError:  # its pools are there already
        return False
    return True


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Holds back what C++ writes to standard error, and shows it only if the import fails.

    TensorFlow's libraries greet on standard error before any log level takes effect.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(kept, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def versions() -> dict[str, str]:
    """Versions of the programs that decide a prediction's last bit, without importing them."""
    names = ("shardscore", "tensorflow", "keras", "numpy", "pyarrow")
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
