"""What the predictions of an output look like: its shards' sketches, added up.

Of a complete output that is kept in a file beside its manifest, since reading the footer of each
shard again takes as long as the manifest does. The file names the manifest that it was made with:
one that belongs to another is passed over. It follows from the published files alone, so that any
number of writers write the same bytes, and it can be made anew.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from pipeline.distributions import Distributions
from pipeline.errors import NotFoundError
from pipeline.layout import MANIFEST, PREDICTIONS, read_record
from pipeline.published import FOOTER_THREADS, facts_of, take_inventory
from pipeline.sketch import text_of
from pipeline.storage.at_hand import is_at_hand_in
from pipeline.threads import in_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.published import FileFacts
    from pipeline.storage import Storage


def save(output: Storage, seen: Distributions, manifest: bytes) -> None:
    """Keeps what the predictions look like.

    Args:
        output: The output.
        seen: All of its shards.
        manifest: The manifest of the same.
    """
    document = {
        "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
        "shards": seen.shards,
        "without": seen.without,
        "predictions": text_of(seen.sketches()),
    }
    output.replace(PREDICTIONS, json.dumps(document).encode() + b"\n")


def of_output(output: Storage, told: Callable[[FileFacts], None] = lambda _: None) -> Distributions:
    """What the predictions that are published look like.

    Args:
        output: The output.
        told: Is told the facts of each published file that is opened for it; none is where what
            they look like together has been kept.

    Raises:
        StorageError: Storage failed.
    """
    return _kept(output) or _gathered(output, told)


def _kept(output: Storage) -> Distributions | None:
    try:
        document = json.loads(output.read(PREDICTIONS))
        if document["manifest_sha256"] != hashlib.sha256(output.read(MANIFEST)).hexdigest():
            return None
        found = Distributions()
        if document["shards"]:
            found.add(document["predictions"])
            if found.without:
                return None
        found.shards, found.without = int(document["shards"]), int(document["without"])
    except (NotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return found


def _gathered(output: Storage, told: Callable[[FileFacts], None]) -> Distributions:
    inventory = take_inventory(output)
    record = read_record(output)
    ours = None if record is None else record.identity.fingerprint

    def read(name: str) -> FileFacts:
        return facts_of(output, inventory.files[name])

    def at_once(name: str) -> bool:
        return is_at_hand_in(output, name)

    found = Distributions()
    for file in in_threads(read, sorted(inventory.files), FOOTER_THREADS, at_once=at_once):
        told(file)
        if file.note is not None and ours in {None, file.note.fingerprint}:
            found.add(file.sketch)
    return found
