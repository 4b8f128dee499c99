"""Asking the kernel to begin writing a file to its disk, so that the fsync at its end is short.

Left alone, the kernel keeps what was written in memory for half a minute, and the fsync that makes
a file durable then waits for all of it. This is a hint, no promise: durability is fsync's alone.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_WRITE = 2  # SYNC_FILE_RANGE_WRITE of fcntl.h: begin, and do not wait
_begin = getattr(ctypes.CDLL(None), "sync_file_range", None)
if _begin is not None:
    _begin.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def begin_writeback(path: Path) -> None:
    """Begins to write what a file has in memory to its disk, where the system can."""
    if _begin is None:
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        begin_writeback_of(handle)
    finally:
        os.close(handle)


def begin_writeback_of(handle: int) -> None:
    """As `begin_writeback`, of a file that is open."""
    if _begin is not None:
        _begin(handle, 0, 0, _WRITE)  # that it cannot is no error: fsync will tell
