"""Memory of this process: one heap for all its threads, given back where it has holes, and what the
kernel accounts for it."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import resource
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_M_ARENA_MAX = -8  # malloc.h

_imports_kept = False

LOOK_EVERY = 8
"""Batches between two looks at how much memory is resident."""

MOST_HOLES = 16 << 20
"""Bytes by which it may have grown before what is free is given back: a smaller bound is reached
every few batches, which costs pages that are asked for again."""


def share_one_heap() -> None:
    """Lets reader, model and writer reuse each other's freed memory.

    Batches are filled by one thread and freed by another. With an allocator of Arrow's own beside
    glibc's, and an arena a thread, each keeps pages that the others wait for (figures in
    ARCHITECTURE.md). To be called before pyarrow is imported: its threads make arenas, and its C++
    chooses its allocator then. A choice made in the environment stands.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if "MALLOC_ARENA_MAX" not in os.environ and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def keep_imports() -> None:
    """Says that this process is ours alone: what it imports is never looked through for garbage.

    Not for a process that has called us: what it holds when we import would be kept for good.
    """
    global _imports_kept
    _imports_kept = True


class FreedMemory:
    """Gives the heap's free pages back to the kernel, when they have piled up.

    What is in use stays the same from batch to batch, but where it lies wanders: a small block that
    lives for some batches is put where a large one has just been freed, and the next large one goes
    behind it. So the holes grow with the batches, ever more slowly (figures in ARCHITECTURE.md).
    glibc gives back what is free at the heap's end alone, unless it is asked.

    The level is what was resident at the look that followed the last giving back: with what the
    batches in between had touched again. So a model with large intermediate results has a high
    level, and not its memory taken away at each look.

    Args:
        resident: Tells the resident bytes of this process.
        give_back: Gives back what is free, if there is a way; None: glibc's, if this is glibc.
    """

    def __init__(
        self,
        resident: Callable[[], int] | None = None,
        give_back: Callable[[], object] | None = None,
    ) -> None:
        self._resident = resident or resident_bytes
        self._give_back = give_back or _trim()
        self._batches = 0
        self._level: int | None = None

    def batch_done(self) -> None:
        """To be called after each batch: looks now and then, and does what it takes."""
        self._batches += 1
        if self._give_back is None or self._batches % LOOK_EVERY:
            return
        resident = self._resident()
        if self._level is None:
            self._level = resident
        elif resident > self._level + MOST_HOLES:
            self._give_back()
            self._level = None


def _trim() -> Callable[[], object] | None:
    """glibc's way to give back all pages that hold nothing, wherever in the heap."""
    if platform.libc_ver()[0] != "glibc":
        return None
    return partial(ctypes.CDLL(None).malloc_trim, ctypes.c_size_t(0))


@contextmanager
def no_collections() -> Iterator[None]:
    """Holds Python's collections of garbage back while much is imported.

    What an import makes stays, so they walk it again and again and free nothing: without them
    TensorFlow's takes a fifth less, other imports a tenth. Each generation would do so once more
    afterwards, and take half a second for TensorFlow's: unless imports are kept.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if _imports_kept:
            gc.freeze()
        if enabled:
            gc.enable()


def resident_bytes() -> int:
    """Resident memory now, in bytes; 0 where the kernel does not tell."""
    return _field("VmRSS") or 0


def peak_bytes() -> int:
    """Highest resident memory so far, in bytes."""
    return _field("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak() -> bool:
    """Makes `peak_bytes` count from now on; False where the kernel does not let it."""
    try:
        _RESET.write_text("5")  # proc(5)
    except OSError:
        return False
    return True


def _field(name: str) -> int | None:
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None
