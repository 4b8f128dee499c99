"""Publishing several staged objects where each waits for an answer from far away: at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pipeline.errors import AlreadyExistsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.storage.base import Staged

AT_ONCE = 16
"""Requests on their way together; a file of up to 5 GiB is mapped, not held, by each."""


def published(staged: Staged) -> bool:
    """Publishes one; False if its name was taken."""
    try:
        staged.publish()
    except AlreadyExistsError:
        return False
    return True


def published_at_once(staged: Sequence[Staged]) -> tuple[bool, ...]:
    """Publishes each by itself, several at a time; returns for each whether its name was free.

    Raises:
        StorageError: That of the first, in order, which failed. None is under way any more.
    """
    with ThreadPoolExecutor(max(1, min(AT_ONCE, len(staged)))) as pool:
        return tuple(pool.map(published, staged))
