"""Private temporary files, for what is on its way to or from an object store.

They lie in one folder of this user below TMPDIR, each held by a lock of its writer, so that what
a killed process left there is found and removed by the next one.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pipeline.errors import StorageError
from pipeline.storage.disk_errors import translated
from pipeline.storage.local import LocalStorage
from pipeline.temporary import temporary_folder


def scratch() -> LocalStorage:
    """The folder of this user's temporary files.

    Raises:
        StorageError: It cannot be made, or another user has taken its name.
    """
    folder = Path(temporary_folder()) / f"shardscore-{os.getuid()}"
    with translated(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise StorageError(
            "the folder for temporary files is not this user's own",
            path=str(folder),
            hint="remove it, or set TMPDIR to a folder that only you can write to",
        )
    return LocalStorage(folder)
