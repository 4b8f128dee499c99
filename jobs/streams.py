"""Standard streams that are closed, full, without a reader, or know ASCII alone."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path

from pipeline.errors import StorageError

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""What the printing of results fails with where they are written to a full or broken disk."""


def hand_over() -> None:
    """Sees that the results are where they were to go: Python's own last try has no exit code."""
    sys.stdout.flush()


def not_written(error: OSError) -> StorageError:
    """The error of results that could not be printed."""
    return StorageError(
        "the results cannot be written to standard output",
        received=error.strerror,
        hint="run again with standard output elsewhere; what is published stays so",
    )


def with_all_streams() -> None:
    """Gives a process that began without a standard stream one that leads nowhere, lest a file of
    data take its place; and has no stream refuse a character of a name or a text."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("r+"))  # noqa: SIM115 - for the process's life
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def let_go() -> None:
    """Sends what no one takes to nowhere, lest Python complain of it when it closes the streams."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
