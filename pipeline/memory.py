"""Memory of this process: one heap for all its threads, and what the kernel accounts for it."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import resource
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_M_ARENA_MAX = -8  # malloc.h

_imports_kept = False


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
