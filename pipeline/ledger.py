"""What an output says of itself: `run.json`, the frozen plans, and the published files' notes.

The published files are the ledger proper; everything here but `run.json` can be rebuilt from
them. `run.json` and the plans are created once and never changed, so that any number of runs may
share them.
"""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipeline.errors import (
    AlreadyExistsError,
    DataError,
    NotFoundError,
    OutputMismatchError,
)
from pipeline.footer import Provenance, read_footer
from pipeline.job import RunRecord
from pipeline.plan import listing, plan_id
from pipeline.storage.base import is_hidden
from pipeline.threads import in_chunks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipeline.records import Shard
    from pipeline.storage import ObjectInfo, Storage

RUN = "_shardscore/run.json"
PLANS = "_shardscore/plans"
_FOOTER_THREADS = 8
_CHUNK = 8


def read_record(output: Storage) -> RunRecord | None:
    """The output's `run.json`, or None if the output has not been begun.

    Raises:
        OutputMismatchError: There is one that this version cannot read.
    """
    try:
        data = output.read(RUN)
    except NotFoundError:
        return None
    try:
        return RunRecord.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise OutputMismatchError(
            "the output was begun by another version of shardscore, or run.json is damaged",
            path=f"{output.url}/{RUN}",
            received=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            hint="choose another --output, or finish it with the version that began it",
        ) from error


def create_record(output: Storage, record: RunRecord) -> RunRecord:
    """Creates `run.json`; if another run was first, what that one wrote."""
    data = json.dumps(record.model_dump(mode="json"), indent=2).encode() + b"\n"
    try:
        output.create(RUN, data)
    except AlreadyExistsError:
        return read_record(output) or record
    return record


def refuse_mismatch(output: Storage, differences: Mapping[str, tuple[str, str]]) -> None:
    """Raises OutputMismatchError, with what differs, if anything does."""
    if not differences:
        return
    raise OutputMismatchError(
        "the output was begun with another " + ", ".join(map(_label, differences)),
        path=output.url,
        expected="\n".join(f"{_label(n)}: {was}" for n, (was, _) in differences.items()),
        received="\n".join(f"{_label(n)}: {wanted}" for n, (_, wanted) in differences.items()),
        hint="choose another --output, or score with what this one was begun with",
    )


def _label(field: str) -> str:
    labels = {"model_sha256": "model file", "code_sha256": "code of the imported modules"}
    return labels.get(field, field)


def published(output: Storage) -> dict[str, ObjectInfo]:
    """Published files by name, from a listing alone."""
    return {info.name: info for info in output.list() if not is_hidden(info.name)}


def notes(output: Storage, names: Iterable[str]) -> dict[str, Provenance | None]:
    """The note in each published file's footer, None where there is none."""
    ordered = list(names)
    read = in_chunks(partial(note, output), ordered, _FOOTER_THREADS, _CHUNK)
    return dict(zip(ordered, read, strict=True))


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
        output.create(f"{PLANS}/{name}.json", stored)
    return name


def plan_name(plan_id: str) -> str:
    """The name of a plan's file."""
    return f"{PLANS}/{plan_id}.json"


def read_plan(output: Storage, name: str) -> list[dict[str, Any]]:
    """The shards of a plan, as their identities.

    Raises:
        NotFoundError: The output has no such plan.
    """
    found: list[dict[str, Any]] = json.loads(output.read(f"{PLANS}/{name}.json"))["shards"]
    return found
