"""Which listing a plan id stands for, so that all runs under one id share the same.

Pods of one Job begin at different times, over an input that may grow meanwhile. If each shared out
what it finds, a shard could be nobody's. So the first run under an id freezes what it found: the
plan, under the digest of its bytes as ever, and then `frozen/<id>.json`, which names that plan and
the files that could not be read. It is created once and never changed. Whoever comes later, also a
run that is tried again, takes that listing for the input: a shard that is new is for another id,
and one that has changed, or is gone without having been scored, is a failed shard.

A share of a frozen listing is told by the rows that the listing says, so a run opens the shards of
its own share alone. An id decides who scores what and never how: it is no part of the job's
identity, and nothing rests on it but that no shard is left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline import ledger
from pipeline.discover import Discovery, described
from pipeline.errors import (
    AlreadyExistsError,
    ChangedInputError,
    NotFoundError,
    OutputMismatchError,
)
from pipeline.layout import frozen_name, plan_name
from pipeline.plan import id_of_blocks, share, share_of_unreadable
from pipeline.records import FailedShard, Shard

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from pipeline.inputs import Found
    from pipeline.job import Job
    from pipeline.storage import Storage

_HINT = "run again with another --plan-id, or without one"


@dataclass(frozen=True, slots=True)
class Frozen:
    """What a plan id stands for.

    Attributes:
        shards: The listing, sorted by name. Of a shard no more is known than its identity.
        unreadable: Names of the files that could not be read.
    """

    shards: tuple[Shard, ...]
    unreadable: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """Names of all that was found."""
        return frozenset((*(shard.name for shard in self.shards), *self.unreadable))


def freeze(output: Storage, plan_id: str, found: Discovery) -> bool:
    """Freezes what was found under an id, unless that is taken.

    Returns:
        Whether the id stands for what was found: false if another run was first, with another
        listing.

    Raises:
        StorageError: Storage failed.
    """
    plan = ledger.freeze_plan(output, found.shards)  # first, so that no id names a plan to come
    stored = _encoded(plan, [failed.name for failed in found.failed])
    try:
        output.create(frozen_name(plan_id), stored)
    except AlreadyExistsError:
        return output.read(frozen_name(plan_id)) == stored
    return True


def thaw(output: Storage, plan_id: str) -> Frozen | None:
    """What an id stands for, None if nothing was frozen under it.

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
        whole = id_of_blocks(output.blocks(plan_name(plan))) == plan
        shards = tuple(map(_as_listed, ledger.read_plan(output, plan))) if whole else ()
    except (NotFoundError, ValueError, KeyError, TypeError) as error:
        raise _damaged(output, plan_id) from error
    if not whole:
        raise _damaged(output, plan_id)
    return Frozen(shards, unreadable)


def held_against(
    frozen: Frozen, files: Sequence[Found], job: Job, published: Container[str], output: Storage
) -> tuple[Discovery, Discovery]:
    """The input as it was frozen, held against the files that are there now.

    Args:
        frozen: What the job's plan id stands for.
        files: The files of the input; others than those that were frozen are passed over.
        job: The job, which may have a share of it.
        published: Names of published files.
        output: Where they are.

    Returns:
        All that was frozen, and this run's part of it. The shards of the latter have been opened.

    Raises:
        StorageError: Storage failed.
    """
    index, count = job.shard_index, job.shard_count
    ours, unreadable = frozen.shards, frozen.unreadable
    if index is not None and count is not None:
        ours = share(ours, index, count)
        unreadable = tuple(n for n in unreadable if share_of_unreadable(n, count) == index)
    planned = {shard.name: shard for shard in ours}
    wanted = planned.keys() | set(unreadable)
    now = described([file for file in files if file.name in wanted], job.output)
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
    for name in sorted(wanted - seen):
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


def _as_listed(entry: Mapping[str, str | int]) -> Shard:
    name = str(entry["name"])
    return Shard(
        name=name,
        root="",
        key=name,
        size=int(entry["size"]),
        mtime_ns=0,
        rows=int(entry["rows"]),
        footer_sha256=str(entry["footer_sha256"]),
        schema=None,
    )


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
