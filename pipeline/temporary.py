"""Where temporary files go, or an error that says that they can go nowhere."""

from __future__ import annotations

import tempfile

from pipeline.errors import StorageError


def temporary_folder() -> str:
    """The folder that TMPDIR names, or else /tmp and its like.

    Raises:
        StorageError: None of them can be written to, as in a container whose root file system is
            read-only and that has been given no other, or on a full disk.
    """
    try:
        return tempfile.gettempdir()
    except FileNotFoundError as error:
        raise StorageError(
            "no folder for temporary files can be written to",
            received=error.strerror,
            hint="make room, or let TMPDIR name a folder with some; "
            "a container needs a writable volume at /tmp",
        ) from error
