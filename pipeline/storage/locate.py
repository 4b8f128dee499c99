"""From an address to the storage that serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import ConfigError
from pipeline.storage.local import LocalStorage

if TYPE_CHECKING:
    from pipeline.storage.base import Storage


def has_scheme(address: str) -> bool:
    """Whether an address is a URL rather than a path."""
    scheme, separator, _ = address.partition("://")
    return bool(separator) and scheme.replace("+", "").replace("-", "").isalnum()


def storage_at(address: str) -> Storage:
    """The storage at an address.

    Raises:
        ConfigError: No storage serves addresses of that scheme.
    """
    if has_scheme(address):
        raise ConfigError(
            f"no storage for addresses that begin with {address.partition('://')[0]}://",
            path=address,
            expected="a path on a local or mounted disk",
        )
    return LocalStorage(address)
