"""A storage that fails at its nth call, or at which the process dies there.

It wraps another one and counts each call that a run makes on it: listing, reading (each read of an
opened object too), creating, staging, publishing, replacing, deleting, holding, sweeping. At the
nth call one of four things happens:

    refuses      the call raises, and nothing was done
    loses        it is done, and raises all the same: a response that was lost
    dies_before  the process dies on its way there
    dies_after   the process dies before it hears of it

Death is a BaseException that nobody catches. From then on every call raises it again, those that
clean up included, so that the storage stays as death leaves it; its locks are let go, as the kernel
does.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import pyarrow as pa

from pipeline.errors import StorageError
from pipeline.storage import lock
from pipeline.storage.base import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pipeline.storage import ObjectInfo, Staged, Storage

Mode = Literal["refuses", "loses", "dies_before", "dies_after"]
T = TypeVar("T")


class DeathError(BaseException):
    """The process has died."""


@dataclass
class Fault:
    """What happens at which call, and what has happened so far.

    Attributes:
        at: Number of the call, from 1.
        mode: What happens there.
        calls: Calls so far.
        dead: Whether the process has died.
        place: What was called there, once it was.
    """

    at: int
    mode: Mode
    calls: int = 0
    dead: bool = False
    place: str | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def call(
        self, place: str, action: Callable[[], T], undo: Callable[[T], None] | None = None
    ) -> T:
        """Makes a call.

        Args:
            place: What is called, for people.
            action: Does it.
            undo: Lets go what the kernel lets go when nobody hears of the call's success.
        """
        with self._lock:
            if self.dead:
                raise DeathError
            self.calls += 1
            hit = self.calls == self.at
            if hit:
                self.place = place
                self.dead = self.mode.startswith("dies")
        if hit and self.mode == "dies_before":
            raise DeathError
        if hit and self.mode == "refuses":
            raise StorageError("refused by the test", path=place)
        result = action()
        if not hit:
            return result
        if undo is not None:
            undo(result)
        if self.mode == "dies_after":
            raise DeathError
        raise StorageError("the answer was lost by the test", path=place)


class FaultyStorage:
    """A storage with a fault in it."""

    def __init__(self, inner: Storage, fault: Fault) -> None:
        self._inner = inner
        self._fault = fault
        self.url = inner.url

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        found = self._fault.call(f"list {prefix}", lambda: [*self._inner.list(prefix)])
        return iter(found)

    def info(self, name: str) -> ObjectInfo:
        return self._fault.call(f"info {name}", lambda: self._inner.info(name))

    def open_input(self, name: str) -> pa.NativeFile:
        file = self._fault.call(f"open {name}", lambda: self._inner.open_input(name))
        return pa.PythonFile(_CountedReads(file, name, self._fault), mode="r")

    def blocks(self, name: str) -> Iterator[bytes]:
        with self.open_input(name) as file:
            while block := file.read(BLOCK):
                yield block

    def read(self, name: str) -> bytes:
        return self._fault.call(f"read {name}", lambda: self._inner.read(name))

    def create(self, name: str, data: bytes) -> None:
        self._fault.call(f"create {name}", lambda: self._inner.create(name, data))

    def replace(self, name: str, data: bytes) -> None:
        self._fault.call(f"replace {name}", lambda: self._inner.replace(name, data))

    def delete(self, name: str) -> None:
        self._fault.call(f"delete {name}", lambda: self._inner.delete(name))

    def stage(self, name: str) -> FaultyStaged:
        staged = self._fault.call(f"stage {name}", lambda: self._inner.stage(name), _let_go)
        return FaultyStaged(staged, name, self._fault)

    def publish_all(self, staged: Sequence[Staged]) -> tuple[bool, ...]:
        # One by one, so that a fault strikes within a group too.
        return tuple(map(self._published, staged))

    def _published(self, staged: Staged) -> bool:
        assert isinstance(staged, FaultyStaged)
        (done,) = self._fault.call(
            f"publish_all {staged.name}", lambda: self._inner.publish_all([staged.inner])
        )
        return done

    @contextmanager
    def hold(self, name: str, *, shared: bool = False) -> Iterator[None]:
        claim = self._inner.hold(name, shared=shared)
        self._fault.call(
            f"hold {name}", claim.__enter__, lambda _: claim.__exit__(None, None, None)
        )
        try:
            yield
        finally:
            claim.__exit__(None, None, None)

    def sweep(self) -> int:
        return self._fault.call("sweep", self._inner.sweep)

    def refuses(self, name: str) -> str | None:
        return self._inner.refuses(name)


class FaultyStaged:
    """A staged object with a fault in it; what is written to it goes to its file, not here."""

    def __init__(self, inner: Staged, name: str, fault: Fault) -> None:
        self.inner = inner
        self.name = name
        self._fault = fault
        self.path = inner.path

    def write(self, data: bytes) -> None:
        self.inner.write(data)

    def publish(self, name: str | None = None) -> None:
        place = f"publish {name or self.name}"
        self._fault.call(place, lambda: self.inner.publish(name))

    def replace(self, only_if: ObjectInfo | None = None) -> None:
        place = f"replace {self.name} as staged"
        self._fault.call(place, lambda: self.inner.replace(only_if))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._fault.dead:
            _let_go(self.inner)
        else:
            self.inner.__exit__(*exc)


class _CountedReads:
    """A file of which each read is a call. pyarrow wants `closed`, `tell`, `seek` and `read`."""

    def __init__(self, file: pa.NativeFile, name: str, fault: Fault) -> None:
        self._file = file
        self._name = name
        self._fault = fault

    def read(self, size: int = -1) -> bytes:
        wanted = None if size < 0 else size
        found: bytes = self._fault.call(f"read of {self._name}", lambda: self._file.read(wanted))
        return found

    def seek(self, *where: int) -> int:
        place: int = self._file.seek(*where)
        return place

    def tell(self) -> int:
        place: int = self._file.tell()
        return place

    def close(self) -> None:
        self._file.close()

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)


def _let_go(staged: Staged) -> None:
    """Lets go the lock of a staged file, which stays where it is."""
    handle = getattr(staged, "_lock", None)
    if isinstance(handle, int):
        os.close(handle)


def install_locks(fault: Fault, put: Callable[[object, str, Any], None]) -> None:
    """Makes the locks of runs stay as death leaves them: let go, and their files still there."""
    orderly = lock._let_go

    def let_go(path: Any, handle: int, made: Any) -> None:
        if fault.dead:
            os.close(handle)
        else:
            orderly(path, handle, made)

    put(lock, "_let_go", let_go)
