"""Where things lie in an output, and what can be told of it from listings and `run.json` alone.

Opens no published file, so it needs neither pyarrow nor numpy: a command that only tells how an
output stands does not wait for them. `run.json` is created once and never changed, so that any
number of runs may share it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pipeline.errors import AlreadyExistsError, NotFoundError, OutputMismatchError
from pipeline.job import RunRecord
from pipeline.storage.base import is_hidden

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pipeline.storage import ObjectInfo, Storage

MANIFEST = "_MANIFEST.json"
SUCCESS = "_SUCCESS"
HOUSE = "_shardscore/"
"""Where all that lies which is neither predictions nor these two."""

RUN = "_shardscore/run.json"
PLANS = "_shardscore/plans"
FROZEN = "_shardscore/frozen"
PAGE = "_shardscore/report.html"
"""The page that `report` makes, unless it is told where else."""

PREDICTIONS = "_shardscore/predictions.json"
"""What the predictions of a complete output look like."""

REFUSED = "_shardscore/refused.json"
"""Says that predictions have drifted, and of which manifest: then there is no `_SUCCESS`."""


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
        "the output belongs to another job: not the same " + ", ".join(map(_label, differences)),
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
    return {info.name: info for info in visible(output)}


def visible(output: Storage) -> Iterator[ObjectInfo]:
    """Published files, sorted by name, from a listing alone."""
    return (info for info in output.list() if not is_hidden(info.name))


def plan_name(plan_id: str) -> str:
    """The name of a plan's file."""
    return f"{PLANS}/{plan_id}.json"


def frozen_name(plan_id: str) -> str:
    """The name of the file that says which plan an id of the user's stands for."""
    return f"{FROZEN}/{plan_id}.json"
