"""Checkpoints: what a run has saved of shards that it has not published yet.

`_shardscore/checkpoints/<shard>/<start>-<end>.parquet` holds the scored rows from `start` up to
`end` of a shard, and `<start>-<end>.bad.parquet` the bad ones among them. A chain of them from row
0 is progress. They are gone once the shard is published.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.storage import Storage

FOLDER = "_shardscore/checkpoints"
_PIECE = re.compile(re.escape(FOLDER) + r"/(.+)/(\d{12})-(\d{12})\.parquet")


def in_progress(output: Storage) -> dict[str, int]:
    """Rows that are saved of each shard that has checkpoints, from the listing alone."""
    saved: dict[str, int] = {}
    for info in output.list(FOLDER):  # sorted, so the pieces of a chain come in its order
        match = _PIECE.fullmatch(info.name)
        if match is None:
            continue
        shard, start, end = match[1], int(match[2]), int(match[3])
        if start == saved.setdefault(shard, 0):
            saved[shard] = end
    return saved
