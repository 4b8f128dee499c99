"""Which listing a plan id stands for, so that all runs under one id share the same.

Pods of one Job begin at different times, over an input that may grow meanwhile. If each shared out
what it finds, a shard could be nobody's. So the first run under an id freezes what it found: the
plan, under the digest of its bytes as ever, and then `frozen/<id>.json`, which names that plan and
the files that could not be read. It is created once and never changed. Whoever comes later, also a
run that is tried again, takes that listing for the input: a shard that is new is for another id,
and one that has changed, or is gone without having been scored, is a failed shard.

A share of a frozen listing is told by the rows that the listing says, so a run opens the shards of
its own share alone, and holds no more than columns of the others. An id decides who scores what and
never how: it is no part of the job's identity, and nothing rests on it but that no shard is left
out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from heapq import merge
from typing import TYPE_CHECKING

from pipeline import ledger
from pipeline.discover import Discovery, described
from pipeline.errors import (
    AlreadyExistsError,
    ChangedInputError,
    NotFoundError,
    OutputMismatchError,
)
from pipeline.layout import frozen_name
from pipeline.records import FailedShard
from pipeline.shard_list import ShardList
from pipeline.shares import assigned, share_of_unreadable

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    from pipeline.inputs import Found
    from pipeline.records import Shard
    from pipeline.storage import Storage

_NO_PLAN = (NotFoundError, ValueError, KeyError, TypeError, OverflowError, RecursionError)
_HINT = "run again with another --plan-id, or without one"


@dataclass(frozen=True, slots=True)
class Frozen:
    """What a plan id stands for.

    Attributes:
        plan: Id of the plan that lists it.
        shards: The listing, sorted by name. Of a shard no more is known than its identity.
        unreadable: Names of the files that could not be read.
        planned: Those of the shards that are this run's, by name.
        mine: Names of all that is this run's, readable or not.
    """

    plan: str
    shards: ShardList
    unreadable: tuple[str, ...]
    planned: Mapping[str, Shard]
    mine: frozenset[str]

    @property
    def names(self) -> Iterator[str]:
        """Names of all that was found, sorted."""
        return merge(self.shards.names(), sorted(self.unreadable))


def freeze(output: Storage, plan_id: str, found: Discovery) -> str | None:
    """Freezes what was found under an id, unless that is taken.

    Returns:
        The plan that lists it, if the id stands for what was found: None if another run was first,
        with another listing.

    Raises:
        StorageError: Storage failed.
    """
    plan = ledger.freeze_plan(output, found.shards)  # first, so that no id names a plan to come
    stored = _encoded(plan, [failed.name for failed in found.failed])
    try:
        output.create(frozen_name(plan_id), stored)
    except AlreadyExistsError:
        return plan if output.read(frozen_name(plan_id)) == stored else None
    return plan


def thaw(
    output: Storage, plan_id: str, index: int | None = None, count: int | None = None
) -> Frozen | None:
    """What an id stands for, None if nothing was frozen under it.

    Args:
        output: The output.
        plan_id: The id.
        index: The share that is this run's; None: all is.
        count: How many shares there are.

    Raises:
        OutputMismatchError: What was frozen is damaged or gone.
        StorageError: Storage failed.
    """
    try:
        stored = output.read(frozen_name(plan_id))
    except NotFoundError:
        return None
    try:
        told = json.loads(stored)
        plan, unreadable = str(told["plan"]), tuple(told["unreadable"])
        shards = ShardList(ledger.read_plan(output, plan))
    except _NO_PLAN as error:
        raise _damaged(output, plan_id) from error
    if index is None or count is None:
        ours, theirs = iter(shards), unreadable
    else:
        shares = enumerate(assigned(shards.rows, count))
        ours = (shards[place] for place, share in shares if share == index)
        theirs = tuple(n for n in unreadable if share_of_unreadable(n, count) == index)
    planned = {shard.name: shard for shard in ours}
    return Frozen(plan, shards, unreadable, planned, frozenset((*planned, *theirs)))


def held_against(
    frozen: Frozen, files: Sequence[Found], published: Container[str], output: Storage
) -> tuple[Discovery, Discovery]:
    """The input as it was frozen, held against the files that are there now.

    Args:
        frozen: What the job's plan id stands for.
        files: The files of the input that are this run's.
        published: Names of published files that are this run's.
        output: Where they are.

    Returns:
        All that was frozen, and this run's part of it. The shards of the latter have been opened.

    Raises:
        StorageError: Storage failed.
    """
    planned = frozen.planned
    now = described(files, output.url)
    failed = {shard.name: shard for shard in now.failed}
    sound: list[Shard] = []
    for shard in now.shards:
        if shard.name not in planned:
            failed[shard.name] = FailedShard(shard.name, shard.path, _was_unreadable(shard.path))
        elif shard.identity != planned[shard.name].identity:
            failed[shard.name] = FailedShard(
                shard.name, shard.path, _changed(planned[shard.name], shard)
            )
        else:
            sound.append(shard)
    seen = failed.keys() | {shard.name for shard in sound}
    for name in sorted(frozen.mine - seen):
        if name in planned and name in published and _is_made_of(output, planned[name].identity):
            continue  # scored before it went
        failed[name] = FailedShard(name, name, _gone(name))
    mine = tuple(failed[name] for name in sorted(failed))
    others = tuple(
        FailedShard(name, name, _was_unreadable(name))
        for name in frozen.unreadable
        if name not in failed
    )
    return Discovery(frozen.shards, (*mine, *others)), Discovery(tuple(sound), mine)


def _is_made_of(output: Storage, identity: Mapping[str, str | int]) -> bool:
    note = ledger.note(output, str(identity["name"]))
    return note is not None and note.input == identity


def _encoded(plan: str, unreadable: list[str]) -> bytes:
    told = {"format": 1, "plan": plan, "unreadable": sorted(unreadable)}
    return json.dumps(told, indent=1).encode() + b"\n"


def _damaged(output: Storage, plan_id: str) -> OutputMismatchError:
    return OutputMismatchError(
        f"the plan that was frozen as {plan_id} is damaged or gone",
        path=f"{output.url}/{frozen_name(plan_id)}",
        hint=_HINT,
    )


def _changed(was: Shard, now: Shard) -> ChangedInputError:
    differing = [name for name in now.identity if was.identity[name] != now.identity[name]]
    return ChangedInputError(
        "the shard has changed since the plan was frozen",
        path=now.path,
        expected=", ".join(f"{name} {was.identity[name]}" for name in differing),
        received=", ".join(f"{name} {now.identity[name]}" for name in differing),
        hint=_HINT,
    )


def _gone(name: str) -> ChangedInputError:
    return ChangedInputError(
        "the shard is gone since the plan was frozen, and is not scored", path=name, hint=_HINT
    )


def _was_unreadable(path: str) -> ChangedInputError:
    return ChangedInputError(
        "the shard could not be read when the plan was frozen", path=path, hint=_HINT
    )
