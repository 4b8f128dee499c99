"""Retries: a storage that asks again when the one below it did not answer.

Only `UnavailableError` is tried again, with growing pauses; all else is an answer. What makes
this more than a loop: a request whose answer was lost may have been done. So after such a failure
`create` and `publish` first look what is there. The same bytes are success, whoever wrote them;
other bytes are another's; nothing means that it can be tried again.
"""

from __future__ import annotations

import io
import random
import time
from typing import TYPE_CHECKING, Self, TypeVar

from pipeline.errors import AlreadyExistsError, NotFoundError, UnavailableError
from pipeline.storage.base import BLOCK
from pipeline.storage.remote_file import PlannedReader, RemoteFile
from pipeline.storage.together import published_at_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import pyarrow as pa

    from pipeline.storage.base import ObjectInfo, Staged, Storage

T = TypeVar("T")

_CHUNK = 1 << 20
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 10.0


class Patience:
    """How often, and for how long, something is tried.

    Args:
        attempts: Tries in all.
        seconds: Time after which no further try begins.
        sleep: Waits for a number of seconds.
        jitter: A random number from 0 to 1, so that many workers do not come back at one moment.
        clock: Seconds, from any moment on.
    """

    def __init__(
        self,
        attempts: int = 6,
        seconds: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._attempts = attempts
        self._seconds = seconds
        self._sleep = sleep
        self._jitter = jitter
        self._clock = clock

    def call(self, act: Callable[[], T]) -> T:
        """Does it, again and again while the storage does not answer.

        Raises:
            UnavailableError: That of the last try.
        """
        end = self._clock() + self._seconds
        pause = _FIRST_PAUSE
        for _ in range(self._attempts - 1):
            try:
                return act()
            except UnavailableError:
                wait = pause * (0.5 + self._jitter())
                if self._clock() + wait > end:
                    raise
                self._sleep(wait)
                pause = min(2 * pause, _LONGEST_PAUSE)
        return act()

    def commit(self, act: Callable[[], None], done: Callable[[], bool | None]) -> None:
        """Does what must be done once, and looks first whether it is done before it tries again.

        Args:
            act: Does it.
            done: Whether it is done: None if nothing is there, False if something else is.

        Raises:
            AlreadyExistsError: Something else is there.
            UnavailableError: That of the last try. Whether it was done is not known.
        """
        lost = False

        def attempt() -> None:
            nonlocal lost
            if lost and (there := done()) is not None:
                if there:
                    return
                raise AlreadyExistsError("already exists")
            try:
                act()
            except UnavailableError:
                lost = True
                raise
            except AlreadyExistsError:
                # Our own earlier try may have arrived late.
                if not (lost and done()):
                    raise

        self.call(attempt)


class Retrying:
    """A storage that tries again.

    Args:
        storage: The one below.
        patience: How often it tries.
    """

    def __init__(self, storage: Storage, patience: Patience | None = None) -> None:
        self.url = storage.url
        self._storage = storage
        self._patience = patience or Patience()

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        # Whole before the first is given: it may have to begin again.
        yield from self._patience.call(lambda: [*self._storage.list(prefix)])

    def info(self, name: str) -> ObjectInfo:
        return self._patience.call(lambda: self._storage.info(name))

    def open_input(self, name: str) -> pa.NativeFile:
        opened = self._patience.call(lambda: self._storage.open_input(name))
        return RemoteFile(_RetryingFile(opened, self._patience))

    def blocks(self, name: str) -> Iterator[bytes]:
        with self.open_input(name) as file:
            while block := file.read(BLOCK):
                yield block

    def read(self, name: str) -> bytes:
        return self._patience.call(lambda: self._storage.read(name))

    def create(self, name: str, data: bytes) -> None:
        def done() -> bool | None:
            try:
                return self._storage.read(name) == data
            except NotFoundError:
                return None

        try:
            self._patience.commit(lambda: self._storage.create(name, data), done)
        except AlreadyExistsError as error:
            raise error.with_path(f"{self.url}/{name}") from error.__cause__

    def replace(self, name: str, data: bytes) -> None:
        self._patience.call(lambda: self._storage.replace(name, data))

    def delete(self, name: str) -> None:
        self._patience.call(lambda: self._storage.delete(name))

    def stage(self, name: str) -> Staged:
        return _RetryingStaged(self._storage, name, self._patience)

    def publish_all(self, staged: Sequence[Staged]) -> tuple[bool, ...]:
        # Each by itself: of an answer that was lost it matters which one it was.
        return published_at_once(staged)

    def sweep(self) -> int:
        return self._patience.call(self._storage.sweep)

    def refuses(self, name: str) -> str | None:
        return self._storage.refuses(name)

    def hold(self, name: str, *, shared: bool = False) -> AbstractContextManager[None]:
        return self._storage.hold(name, shared=shared)


class _RetryingStaged:
    """A staged object whose publishing is tried again."""

    path: Path

    def __init__(self, storage: Storage, name: str, patience: Patience) -> None:
        self._storage = storage
        self._name = name
        self._patience = patience
        self._staged = storage.stage(name)
        self.path = self._staged.path

    def write(self, data: bytes) -> None:
        self._staged.write(data)

    def publish(self, name: str | None = None) -> None:
        self._commit(lambda: self._staged.publish(name), name or self._name)

    def replace(self, only_if: ObjectInfo | None = None) -> None:
        if only_if is None:
            self._patience.call(self._staged.replace)
        else:
            self._commit(lambda: self._staged.replace(only_if), self._name, only_if)

    def _commit(
        self, act: Callable[[], None], name: str, replaces: ObjectInfo | None = None
    ) -> None:
        try:
            self._patience.commit(act, lambda: self._is_done(name, replaces))
        except AlreadyExistsError as error:
            raise error.with_path(f"{self._storage.url}/{name}") from error.__cause__

    def _is_done(self, name: str, replaces: ObjectInfo | None) -> bool | None:
        """Whether the object is the staged file; None if it is what it was before."""
        try:
            there = self._storage.info(name)
            if replaces is not None and there.same_version(replaces):
                return None
            if there.size != self.path.stat().st_size:
                return False
            with self._storage.open_input(name) as theirs, self.path.open("rb") as ours:
                while chunk := ours.read(_CHUNK):
                    if theirs.read(len(chunk)) != chunk:
                        return False
        except NotFoundError:
            return None
        return True

    def __enter__(self) -> Self:
        self._staged.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._staged.__exit__(*exc)


class _RetryingFile(PlannedReader):
    """An opened object, each read of which is tried again at its own place."""

    def __init__(self, file: pa.NativeFile, patience: Patience) -> None:
        super().__init__()
        self._file = file
        self._patience = patience
        self._size = self._patience.call(file.size)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self._position)
        length = left if size is None or size < 0 else min(size, left)
        data: bytes = self._patience.call(lambda: self._file.read_at(length, self._position))
        self._position += len(data)
        return data

    def expect(self, chunks: Sequence[tuple[int, int]]) -> None:
        if isinstance(self._file, RemoteFile):
            self._file.expect(chunks)

    @property
    def hungry(self) -> bool:
        return isinstance(self._file, RemoteFile) and self._file.hungry

    @property
    def version(self) -> ObjectInfo | None:
        return self._file.version if isinstance(self._file, RemoteFile) else None

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
