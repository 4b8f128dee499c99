"""The ledger: the notes in published files, and the frozen plans.

The published files are the ledger proper; a plan can be made again. Plans are created once and
never changed, so that any number of runs may share them.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.entries import entries_of
from pipeline.errors import AlreadyExistsError, DataError
from pipeline.footer import Provenance, read_footer
from pipeline.layout import plan_name
from pipeline.plan import PlanDigest, listing, plan_id
from pipeline.storage.at_hand import is_at_hand_in
from pipeline.threads import in_chunks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipeline.records import Shard
    from pipeline.storage import Storage

_FOOTER_THREADS = 8
_CHUNK = 8


def notes(output: Storage, names: Iterable[str]) -> dict[str, Provenance | None]:
    """The note in each published file's footer, None where there is none."""

    def named(name: str) -> tuple[str, Provenance | None]:
        return name, note(output, name)

    at_once = partial(is_at_hand_in, output)
    return dict(in_chunks(named, names, _FOOTER_THREADS, _CHUNK, at_once=at_once))


def note(output: Storage, name: str) -> Provenance | None:
    """The note in a published file's footer, None if there is none, or no footer that is sound.

    Raises:
        StorageError: It could not be read.
    """
    try:
        metadata, _ = read_footer(output, name)
    except DataError:
        return None
    return Provenance.of(metadata)


def freeze_plan(output: Storage, shards: Iterable[Shard]) -> str:
    """Stores the listing of a run's shards; returns the plan's id. Equal listings are one plan."""
    stored = listing(shards)
    name = plan_id(stored)
    with suppress(AlreadyExistsError):  # the name is the content's digest: that one is ours too
        output.create(plan_name(name), stored)
    return name


def read_plan(output: Storage, name: str) -> Iterator[dict[str, Any]]:
    """The shards of a plan, as their identities, read once and never all in memory.

    Raises:
        NotFoundError: The output has no such plan.
        KeyError, RecursionError, TypeError, ValueError: It is damaged. What it lists may be known
            by then: its digest is, at its end.
    """
    digest = PlanDigest()

    def digested() -> Iterator[bytes]:
        for block in output.blocks(plan_name(name)):
            digest.update(block)
            yield block

    yield from entries_of(digested())
    if digest.plan_id != name:
        raise ValueError("a plan whose bytes are not those that it is named for")
