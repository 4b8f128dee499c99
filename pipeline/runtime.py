"""Bringing TensorFlow up: quietly, and only when rows are to be read or scored.

The only module that imports TensorFlow for the first time. Importing it takes seconds, so
commands that do without never reach this module's functions, and a run that will need it begins
with it as soon as that is known: `begin_import` leaves it to a thread, and the first call of
`tensorflow` waits for that one.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import tempfile
import threading
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError
from pipeline.memory import no_collections
from pipeline.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


_UNBUFFERED = 2  # stdio.h

_begun: list[threading.Thread] = []
"""The thread that imports TensorFlow, or has done so, if one was begun."""


def begin_import() -> None:
    """Begins to import TensorFlow in a thread, where that can be done without a word.

    What C++ says meanwhile is held back as in `tensorflow`, but what this program says itself is
    not: with glibc the two can be told apart. Elsewhere the first use of TensorFlow imports it.
    """
    if _begun or "tensorflow" in sys.modules or platform.libc_ver()[0] != "glibc":
        return
    thread = threading.Thread(target=_import_ahead, name="import tensorflow")
    _begun.append(thread)
    thread.start()


def _import_ahead() -> None:
    # Whatever fails here fails again, and is told, in the thread that needs it.
    with suppress(Exception):
        _import(_quiet_c_code)


_threads = 0


def tensorflow() -> Any:
    """The `tensorflow` module, imported and set up on the first call.

    Raises:
        ConfigError: Keras is set to another backend.
    """
    for thread in _begun:
        thread.join()
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    return _import(_quiet_stderr)


def _import(quiet: Callable[[], AbstractContextManager[None]]) -> Any:
    if os.environ.setdefault("KERAS_BACKEND", "tensorflow") != "tensorflow":
        raise ConfigError(
            "Keras is set to another backend",
            expected="KERAS_BACKEND unset, or tensorflow",
            received=f"KERAS_BACKEND={os.environ['KERAS_BACKEND']}",
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with quiet(), no_collections():
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
    if "tensorflow" in sys.modules and not _bound_to(tensorflow(), count):
        return False
    import pyarrow as pa

    _threads = count
    cores = len(os.sched_getaffinity(0))
    pa.set_cpu_count(count or cores)
    pa.set_io_thread_count(count or 8)
    return True


def pool_threads() -> int:
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
    with tempfile.TemporaryFile(dir=temporary_folder()) as held:
        kept = os.dup(2)
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


@contextmanager
def _quiet_c_code() -> Iterator[None]:
    """As `_quiet_stderr`, but what Python writes to standard error gets there at once.

    C code writes to what the variable `stderr` of the C library leads to; Python does not.
    """
    libc = ctypes.CDLL(None)
    libc.fdopen.restype = ctypes.c_void_p
    stream = ctypes.c_void_p.in_dll(libc, "stderr")
    kept = stream.value
    with tempfile.TemporaryFile(dir=temporary_folder()) as held:
        # Never closed: C code that was about to write may still hold it.
        ours = libc.fdopen(os.dup(held.fileno()), b"w")
        libc.setvbuf(ctypes.c_void_p(ours), None, _UNBUFFERED, 0)  # as stderr is
        stream.value = ours
        try:
            yield
        finally:
            stream.value = kept


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
