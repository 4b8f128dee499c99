"""Storage on a local disk (or anything mounted like one).

The order of writes, which makes a final name appear only whole and durable:

    write STAGING/x → fsync x → link x to the final name, without replacing → unlink x
    → fsync the folder of the final name (and of each folder that was made for it)

Files that are published together each take this way, but share the last step: see `local_staged`.

`link` fails if the name exists, atomically, so it is the create-if-absent. Staged files live in
one folder below the root whose name begins with `_`, where no reader of the data set looks. Each
is held by a lock of its writer; one that nobody holds was left by a writer that died, and `sweep`
removes it. After a failed fsync the file is given up, never synced again: the kernel may have
dropped the pages that it could not write.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.storage.base import BLOCK, ObjectInfo, checked_name, fault_of
from pipeline.storage.disk_errors import reading, translated
from pipeline.storage.folders import entered
from pipeline.storage.links import Leaving, walk
from pipeline.storage.local_staged import (
    STAGING,
    LocalStaged,
    published_together,
    this_host,
    try_lock,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    import pyarrow as pa

    from pipeline.storage.base import Staged

LOCKS = "_shardscore/locks"

_NAME_MAX = 255
_PATH_MAX = 4096


class LocalStorage:
    """A folder. It is made when first written to."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root).absolute()
        self.url = str(self._root)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        base = self.path_of(prefix.rstrip("/")) if prefix else self._root
        tree = os.path.realpath(self._root)
        with translated(base):
            found = list(walk(self.url, str(base), tree=tree, follow=False))
        # A folder that lies outside is no part of this storage: nothing is written there.
        objects = [item.info if isinstance(item, Leaving) else item for item in found]
        yield from sorted(
            (item for item in objects if isinstance(item, ObjectInfo)), key=lambda item: item.name
        )

    def info(self, name: str) -> ObjectInfo:
        path = self.path_of(name)
        with reading(path):
            stat = path.stat()
        return ObjectInfo(name, stat.st_size, stat.st_mtime_ns, ctime_ns=stat.st_ctime_ns)

    def open_input(self, name: str) -> pa.NativeFile:
        import pyarrow as pa  # not for those who only list, or read JSON

        path = f"{self.url}/{checked_name(name)}"  # no Path: a lake has many thousands of shards
        try:
            return pa.OSFile(path, "rb")
        except OSError:
            with reading(path):
                raise

    def blocks(self, name: str) -> Iterator[bytes]:
        path = self.path_of(name)
        with reading(path), path.open("rb") as file:
            while block := file.read(BLOCK):
                yield block

    def read(self, name: str) -> bytes:
        path = self.path_of(name)
        with reading(path):
            return path.read_bytes()

    def create(self, name: str, data: bytes) -> None:
        with self.stage(name) as staged:
            staged.write(data)
            staged.publish()

    def replace(self, name: str, data: bytes) -> None:
        with self.stage(name) as staged:
            staged.write(data)
            staged.replace()

    def delete(self, name: str) -> None:
        path = self.path_of(name)
        with translated(path):
            try:
                with entered(self._root, path.parent, make=False) as folder:
                    os.unlink(path.name, dir_fd=folder)
                    os.fsync(folder)
            except (FileNotFoundError, NotADirectoryError):
                return
        # An object store has no folders: those that hold nothing any more go.
        with suppress(OSError):
            while (path := path.parent) != self._root:
                path.rmdir()

    def stage(self, name: str) -> LocalStaged:
        return LocalStaged(self, self._root, self.path_of(name))

    def publish_all(self, staged: Sequence[Staged]) -> tuple[bool, ...]:
        ours = [one for one in staged if isinstance(one, LocalStaged)]
        if len(ours) != len(staged):
            raise TypeError("staged in another storage")
        return published_together(ours)

    def hold(self, name: str, *, shared: bool = False) -> AbstractContextManager[None]:
        from pipeline.storage.lock import held  # which needs this module's `translated`

        path = self.path_of(f"{LOCKS}/{name}")
        with translated(path), suppress(FileNotFoundError):
            with entered(self._root, path.parent, make=False):
                pass  # it is no link out of the output
        return held(path, shared=shared)

    def sweep(self) -> int:
        folder = self._root / STAGING
        removed = 0
        with translated(folder):
            try:
                with entered(self._root, folder, make=False):
                    pass  # it is no link out of the output
            except (FileNotFoundError, NotADirectoryError):
                return 0
            ours = re.compile(re.escape(this_host()) + r"-\d+-[0-9a-f]{16}\.tmp")
            for path in folder.iterdir():
                if not ours.fullmatch(path.name):
                    continue
                with suppress(FileNotFoundError), path.open("rb") as file:
                    if try_lock(file.fileno()):
                        path.unlink()
                        removed += 1
        return removed

    def refuses(self, name: str) -> str | None:
        fault = fault_of(name)
        if fault is not None:
            return fault
        encoded = os.fsencode(name)
        longest = max(map(len, encoded.split(b"/")))
        if longest > _NAME_MAX:
            return f"a part of it has {longest} bytes, and a disk holds {_NAME_MAX} at most"
        whole = len(os.fsencode(self.url).rstrip(b"/")) + 1 + len(encoded)
        if whole >= _PATH_MAX:  # which counts the byte that ends it
            return f"its path has {whole} bytes, and a disk holds {_PATH_MAX - 1} at most"
        return None

    def path_of(self, name: str) -> Path:
        """Where an object lies."""
        return self._root / checked_name(name)
