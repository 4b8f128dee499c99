"""Storage: where shards are read from and outputs are published to.

`base` says what a storage must do; `local` does it on a disk, `objects` in an object store, and
`memory` for tests. `retry` wraps one that may not answer. `storage_at()` finds the one for an
address.
"""

from pipeline.storage.base import ObjectInfo, Staged, Storage
from pipeline.storage.local import LocalStorage
from pipeline.storage.locate import storage_at

__all__ = ["LocalStorage", "ObjectInfo", "Staged", "Storage", "storage_at"]
