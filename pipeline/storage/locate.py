"""From an address to the storage that serves it.

Object stores get retries here, and nothing else does: a disk that fails does not heal by asking
again. Further schemes can be registered; tests plug in storages that fail that way.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError
from pipeline.storage.local import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.storage.base import Storage
    from pipeline.storage.memory import MemoryBucket

_OBJECT_STORES = ("s3", "gs", "az", "abfss")


def has_scheme(address: str) -> bool:
    """Whether an address is a URL rather than a path."""
    scheme, separator, _ = address.partition("://")
    return bool(separator) and scheme.replace("+", "").replace("-", "").isalnum()


def is_served(address: str) -> bool:
    """Whether there is a storage for an address: for paths, and for URLs of a known scheme."""
    return not has_scheme(address) or address.partition("://")[0] in _factories


def is_shared(address: str) -> bool:
    """Whether other processes reach the same storage by that address."""
    return not has_scheme(address) or address.partition("://")[0] in _OBJECT_STORES


def storage_at(address: str) -> Storage:
    """The storage at an address.

    Raises:
        ConfigError: No storage serves addresses of that scheme, or the address names no bucket.
    """
    if not has_scheme(address):
        return LocalStorage(address)
    scheme = address.partition("://")[0]
    if scheme not in _factories:
        raise ConfigError(
            f"no storage for addresses that begin with {scheme}://",
            path=address,
            expected="a path, or an address that begins with "
            + ", ".join(f"{known}://" for known in _OBJECT_STORES),
            hint="copy what is there to one of these first",
        )
    return _factories[scheme](address.rstrip("/"))


def register(scheme: str, factory: Callable[[str], Storage]) -> None:
    """Lets a factory make the storages of a scheme; it is given addresses without a last slash."""
    _factories[scheme] = factory


def _object_store(address: str) -> Storage:
    # Jobs on a disk alone need no client of any cloud.
    from pipeline.storage.objects import ObjectStorage
    from pipeline.storage.retry import Retrying

    return Retrying(ObjectStorage(address))


def _memory(address: str) -> Storage:
    from pipeline.storage.memory import MemoryStorage

    bucket, _, prefix = address.removeprefix("memory://").partition("/")
    return MemoryStorage(address, _memory_bucket(bucket), f"{prefix}/" if prefix else "")


@functools.cache
def _memory_bucket(name: str) -> MemoryBucket:  # noqa: ARG001 - one a name
    from pipeline.storage.memory import MemoryBucket

    return MemoryBucket()


_factories: dict[str, Callable[[str], Storage]] = {
    "memory": _memory,
    **dict.fromkeys(_OBJECT_STORES, _object_store),
}
