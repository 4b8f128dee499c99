"""What the marks of a complete output prove of its shards, so that its files need not be opened.

`_SUCCESS` vouches for the manifest, and names the plan that it completed. Both were written when
each published file had been read, and each shard of the plan had been found to be what its file was
made from. A published file that has the size which the manifest says, and has not been changed
since the manifest was written, says so still. On a disk the time that counts is that of the last
change of the file's inode, which no program sets, and which a file that is put in another's place
brings along; so does a folder, or a link. Whatever is younger, or of another size, or not in the
plan, proves nothing here: the file itself is asked. A plan that is not what its name says, which is
the digest of its bytes, is no plan.

Marks are there only while no work is left. A run takes them away before it publishes anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline import manifest
from pipeline.entries import Cursor, entries
from pipeline.errors import NotFoundError
from pipeline.layout import MANIFEST, plan_name
from pipeline.plan import id_of_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.storage import ObjectInfo, Storage


class Witness:
    """Says of published files which shards they were made from; to be asked in their order.

    Reads the manifest and the plan along with the questions: neither is ever in memory whole.
    """

    def __init__(self, output: Storage, written: ObjectInfo, plan_id: str) -> None:
        self._written = written
        self._listed = Cursor(entries(output, MANIFEST))
        self._planned = Cursor(entries(output, plan_name(plan_id)))

    def shard_of(self, published: ObjectInfo) -> Mapping[str, Any] | None:
        """The identity of the shard that a published file was made from, if that is proven.

        Args:
            published: The file, whose name is behind those that were asked before.
        """
        entry = self._listed.at(published.name)
        shard = self._planned.at(published.name)
        if entry is None or shard is None:
            return None
        fits = (entry["size"], entry["rows_in"]) == (published.size, shard["rows"])
        return shard if fits and _before(published, self._written) else None


def witness(output: Storage, fingerprint: str) -> Witness | None:
    """The witness of a complete output; None if it is not complete, or not this job's.

    Raises:
        StorageError: Storage failed.
    """
    try:
        written = output.info(MANIFEST)
        plan_id = manifest.vouched(output, fingerprint)
        if plan_id is None or id_of_blocks(output.blocks(plan_name(plan_id))) != plan_id:
            return None
        return Witness(output, written, plan_id)
    except NotFoundError:
        return None


def _before(published: ObjectInfo, written: ObjectInfo) -> bool:
    return max(published.mtime_ns, published.ctime_ns) < written.mtime_ns
