"""`init`: from a model and a data set, a job file that `score --config` accepts as it stands.

Owns what such a file says. Columns are bound as a run would bind them; where that leaves something
open, the file says the safest value that works and, beside it, what to think about. Whether a value
works is not decided here: the binding is asked. No row is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.binding import Reading
from pipeline.columns import value_type
from pipeline.contract import contracts, refuse_unknown_names
from pipeline.conversions import MANTISSA, conversion_of, is_time
from pipeline.discover import discover
from pipeline.errors import ContractError, ModelError, shortened
from pipeline.feed import options_of
from pipeline.init_binding import ANY_LOSS, bound_inputs
from pipeline.input_options import InputOptions
from pipeline.model import load
from pipeline.prepare import program_for
from pipeline.probe import without_rows
from pipeline.unbegun import unbegun

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pipeline.contract import Contract
    from pipeline.init_binding import BoundInput
    from pipeline.job import Job
    from pipeline.program import Program
    from pipeline.records import FailedShard, Shard


@dataclass(frozen=True, slots=True)
class Draft:
    """A job with all that was found out about it.

    Attributes:
        job: The job, ready to be scored.
        inputs: The model's inputs, bound.
        model_sha256: Digest of the model.
        lossy: Column → why it is in `allow_lossy`.
        remarks: Job field → a remark that takes the place of the usual one.
        notes: What is to be told now, beside the file.
    """

    job: Job
    inputs: tuple[BoundInput, ...]
    model_sha256: str
    lossy: Mapping[str, str]
    remarks: Mapping[str, str]
    notes: tuple[str, ...]


def draft(job: Job) -> Draft:
    """Completes a job, so that it can be scored.

    Raises:
        ModelError: The model cannot be loaded.
        NoInputError: There is no input.
        ContractError: No shard has the columns that an input needs.
        ConfigError: Which columns feed the model cannot be told.
    """
    found = discover(job.input, job.output, follow_links=job.follow_links)
    if not found.shards:
        raise found.failed[0].error
    model = load(job.model, job.imports, job.model_sha256, said=options_of(job, None))
    first = found.shards[0]
    refuse_unknown_names(job, found.shards)
    try:
        inputs = bound_inputs(model.signature, job, first.schema)
    except ContractError as error:
        raise error.with_path(first.path) from error.__cause__
    job = _with_inputs(job, inputs)
    chosen = {bound.name: bound.columns for bound in inputs}
    program = program_for(unbegun(job, found, model.sha256, ""), model)

    def bind(allowed: Sequence[str]) -> tuple[dict[str, Contract], list[FailedShard]]:
        reading = Reading(job.inputs, job.time_unit, tuple(allowed))
        return contracts(program.feed, chosen, job, found.shards, None, reading)

    lossy = _lossy(bind(ANY_LOSS)[0].values(), job)
    allowed = tuple(dict.fromkeys([*job.allow_lossy, *lossy]))
    good, failed = bind(allowed)
    if not good:
        raise failed[0].error
    update: dict[str, Any] = {"allow_lossy": allowed}
    remarks = {
        "input": f"shards: {len(found.shards):,}, rows: {sum(s.rows for s in found.shards):,}",
        "batch_size": f"auto: {model.signature.batch_size():,} for this model; `shardscore "
        "compare` measures what is fastest",
    }
    if job.on_bad_row == "fail" and _nullable(good, found.shards):
        update["on_bad_row"] = "quarantine"
        remarks["on_bad_row"] = (
            "the columns may hold nulls: such rows go to the dead-letter file; or fail (stop the "
            "shard), null (keep the row)"
        )
    if collisions := _collisions(program, job, good, found.shards):
        kept = [name for name in _unused(good, found.shards) if name not in collisions]
        update["keep"] = tuple(kept) or ("none",)
        remarks["keep"] = (
            f"all but {shortened(collisions)}: the predictions have that name; or all, none"
        )
    notes = [
        f"{len(failed):,} of {len(found.shards):,} shards have other columns and will not be "
        f"scored: {shortened([broken.name for broken in failed])}"
    ] * bool(failed)
    binding = next(iter(good.values())).binding
    return Draft(
        job.model_copy(update=update),
        tuple(
            replace(one, uses=bound.uses) for one, bound in zip(inputs, binding.inputs, strict=True)
        ),
        model.sha256,
        lossy,
        remarks,
        tuple(notes),
    )


def _with_inputs(job: Job, inputs: Sequence[BoundInput]) -> Job:
    """The job with its inputs said; as features, where it named them so and no more is needed."""
    if job.features and not any(bound.options for bound in inputs):
        return job
    said = {
        bound.name: InputOptions.model_validate({"columns": bound.columns, **bound.options})
        for bound in inputs
    }
    return job.model_copy(update={"features": (), "inputs": said})


def _lossy(bound: Iterable[Contract], job: Job) -> dict[str, str]:
    """Columns whose values must be allowed to be rounded on their way into the model, and how.

    Times are among them where they feed floats: checked one by one, hardly one would be held.
    """
    found: dict[str, str] = {}
    for binding in {id(c.binding): c.binding for c in bound}.values():
        for fed in binding.inputs:
            for use in fed.uses:
                kind = value_type(use.type)
                strict = conversion_of(kind, fed.spec.dtype, use.unit)
                if strict == "rounded" or (
                    strict == "checked" and is_time(kind) and fed.spec.dtype in MANTISSA
                ):
                    found[use.column] = f"{use.column}: {use.type} to {fed.spec.dtype}"
    return {
        name: how
        for name, how in found.items()
        if not Reading({}, None, job.allow_lossy).may_lose(name)
    }


def _nullable(good: Mapping[str, Contract], shards: Iterable[Shard]) -> bool:
    return any(
        column not in shard.schema.names or shard.schema.field(column).nullable
        for shard in shards
        if shard.name in good
        for column in good[shard.name].binding.columns
    )


def _unused(good: Mapping[str, Contract], shards: Iterable[Shard]) -> list[str]:
    return list(
        dict.fromkeys(
            name
            for shard in shards
            if shard.name in good
            for name in shard.schema.names
            if name not in good[shard.name].binding.columns
        )
    )


def _collisions(
    program: Program, job: Job, good: Mapping[str, Contract], shards: Iterable[Shard]
) -> list[str]:
    """Columns that would be carried along and have the name of a prediction."""
    if job.keep != ("unused",):
        return []
    try:
        predicted = {output.name for output in without_rows(program, "auto").schema.outputs}
    except ModelError:
        return []  # it wants rows to tell
    return [name for name in _unused(good, shards) if name in predicted]
