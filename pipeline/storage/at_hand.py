"""Whether a file can be read without waiting for a disk or a network.

Reading the footers of many files wants threads where each read waits, and none where it does not:
they would only take the interpreter from each other, for twice the CPU (figures in
ARCHITECTURE.md).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pipeline.storage.locate import has_scheme

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.storage.base import Storage

_TAIL = 8


def is_at_hand_in(storage: Storage, name: str) -> bool:
    """Whether a file of a storage is at hand; of an object store none is."""
    return not has_scheme(storage.url) and is_at_hand(f"{storage.url}/{name}")


def is_at_hand(path: str | Path) -> bool:
    """Whether the end of a file lies in the kernel's page cache, as far as it tells.

    False as well if the file system cannot tell (NFS, most in user space), if this is not Linux,
    or if the file cannot be opened.
    """
    flag = getattr(os, "RWF_NOWAIT", None)
    if flag is None:
        return False
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return False
    try:
        size = os.fstat(file).st_size
        return os.preadv(file, [bytearray(_TAIL)], max(0, size - _TAIL), flag) > 0
    except OSError:
        return False
    finally:
        os.close(file)
