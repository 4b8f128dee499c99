"""`init`: from a model and a data set, a job file that says all that they tell.

Owns what such a file says. Columns are bound as a run would bind them. What the model and the data
do not tell is a decision: the file has a line for it that is commented out, with what is most
likely, and until it is made `plan` and `score` refuse the job. So nothing that runs is a guess.
Whether a value works is not decided here: the binding is asked. No row is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.binding import Reading
from pipeline.contract import contracts, refuse_unknown_names
from pipeline.conversions import conversion_of
from pipeline.discover import described, is_readable, listed
from pipeline.errors import ContractError, ModelError, UnknownInputsError, shortened
from pipeline.feed import options_of
from pipeline.init_binding import ANY_LOSS, Part, bound_inputs
from pipeline.init_remarks import about_classes, bad_row_reasons
from pipeline.init_rounding import rounding
from pipeline.input_options import InputOptions, as_written
from pipeline.model import digest_model, load
from pipeline.model_file import kind_of
from pipeline.prepare import program_for
from pipeline.probe import without_rows
from pipeline.runtime import begin_import
from pipeline.unbegun import unbegun

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

    from pipeline.contract import Contract
    from pipeline.init_binding import BoundInput
    from pipeline.init_rounding import Rounding
    from pipeline.job import Job
    from pipeline.predictions import PredictionSchema
    from pipeline.records import FailedShard, Shard

_TRIED = 16
"""Files that are looked into, before the others are, for one that can be read."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What only the user knows: a line of the job file that is commented out until it is made.

    Attributes:
        name: An input's name, or a field of the job.
        of_input: Whether it is an input's.
        question: What is to be decided.
        remarks: What to know for it.
        value: What the line says; None: there is nothing to propose.
        others: Columns that could take the place of those proposed, the likeliest first.
    """

    name: str
    of_input: bool
    question: str
    remarks: tuple[str, ...]
    value: Any
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """A job with all that was found out about it.

    Attributes:
        job: The job, as far as it is decided.
        inputs: The model's inputs, and what feeds them or is proposed to.
        model_sha256: Digest of the model.
        decisions: What is left to decide.
        remarks: Job field → a remark that takes the place of the usual one.
        examples: Job field → what its comment shows in the place of the usual example.
        notes: What is to be told now, beside the file.
    """

    job: Job
    inputs: tuple[BoundInput, ...]
    model_sha256: str
    decisions: tuple[Decision, ...]
    remarks: Mapping[str, str]
    examples: Mapping[str, Any]
    notes: tuple[str, ...]


def draft(job: Job) -> Draft:
    """Completes a job as far as its model and its data tell.

    Raises:
        ModelError: The model cannot be loaded.
        NoInputError: There is no input.
        ContractError: The columns that the job names cannot feed the model.
        ConfigError: The job says what does not fit the model.
    """
    files = listed(job.input, job.output, follow_links=job.follow_links)
    kind_of(job.model)
    if any(is_readable(file, job.output) for file in files[:_TRIED]):
        begin_import()  # while footers are read; not before, since who leaves waits for its end
    found = described(files, job.output)
    if not found.shards:
        raise found.failed[0].error
    first = found.shards[0]
    remarks = {
        "input": f"shards: {len(found.shards):,}, rows: {sum(s.rows for s in found.shards):,}"
    }
    try:
        model = load(job.model, job.imports, job.model_sha256, said=options_of(job, None))
    except UnknownInputsError:
        if job.inputs or job.preprocess is not None:
            raise
        refuse_unknown_names(job, found.shards)
        asked = _about_silence(job, first.schema)
        sha256 = digest_model(job.model, job.model_sha256)
        silent = job.model_copy(update={"features": ()})
        return Draft(silent, (), sha256, (asked,), remarks, {}, ())
    refuse_unknown_names(job, found.shards)
    try:
        inputs = bound_inputs(model.signature, job, first.schema)
    except ContractError as error:
        raise error.with_path(first.path) from error.__cause__
    # As if each proposal were taken: what follows is said of that job.
    chosen = {one.name: one.columns for one in inputs if one.feeds}
    job = _with_inputs(job, [one for one in inputs if one.feeds])
    program = program_for(unbegun(job, found, model.sha256, ""), model)
    fed = Part(tuple(spec for spec in program.feed.inputs if spec.name in chosen))

    def bind(allowed: Sequence[str]) -> tuple[dict[str, Contract], list[FailedShard]]:
        reading = Reading(job.inputs, job.time_unit, tuple(allowed))
        return contracts(fed, chosen, job, found.shards, None, reading)

    bindings = {id(c.binding): c.binding for c in bind(ANY_LOSS)[0].values()}.values()
    uses = [(one.spec, use) for bound in bindings for one in bound.inputs for use in one.uses]
    uses += [(one.spec, use) for one in inputs if not one.feeds for use in one.uses]
    lossy = rounding(uses, job.allow_lossy)
    good, failed = bind((*job.allow_lossy, *(lossy.columns if lossy else ())))
    if not good:
        raise failed[0].error
    binding = {bound.spec.name: bound for bound in next(iter(good.values())).binding.inputs}
    inputs = tuple(
        replace(one, uses=binding[one.name].uses) if one.feeds else one for one in inputs
    )
    remarks["batch_size"] = (
        f"auto: {model.signature.batch_size():,} for this model; `shardscore compare` measures "
        "what is fastest"
    )
    update: dict[str, Any] = {"allow_lossy": ()} if lossy else {}
    read = [use for one in inputs for use in one.uses]
    read += [use for c in good.values() for one in c.binding.inputs for use in one.uses]
    schemas = [shard.schema for shard in found.shards if shard.name in good]
    reasons = bad_row_reasons(read, schemas)
    if job.on_bad_row == "fail" and reasons:
        update["on_bad_row"] = "quarantine"
        remarks["on_bad_row"] = (
            f"rows may be bad here ({', '.join(reasons)}); quarantine sets them aside in the "
            "dead-letter file. The default is fail (stop the shard); null keeps the row"
        )
        if job.max_bad_rows is None:
            update["max_bad_rows"] = "50%"
            remarks["max_bad_rows"] = (
                "a shard with more fails: then the job is likely wrong, not its rows; or a number"
            )
    try:
        predicted = without_rows(program, "auto").schema
    except ModelError:
        predicted = None  # it wants rows to tell
    if collisions := _collisions(predicted, job, good, found.shards):
        kept = [name for name in _unused(good, found.shards) if name not in collisions]
        update["keep"] = tuple(kept) or ("none",)
        remarks["keep"] = (
            f"all but {shortened(collisions)}: the predictions have that name; or all, none"
        )
    examples: dict[str, Any] = {}
    if predicted is not None and not job.labels and job.top_k is None:
        classes, examples = about_classes(predicted)
        remarks |= classes
    notes = [
        f"{len(failed):,} of {len(found.shards):,} shards have other columns and will not be "
        f"scored: {shortened([broken.name for broken in failed])}"
    ] * bool(failed)
    decided = _with_inputs(job, [one for one in inputs if one.question is None])
    return Draft(
        decided.model_copy(update=update),
        inputs,
        model.sha256,
        (*([_about_rounding(lossy)] if lossy else []), *_about_inputs(inputs)),
        remarks,
        examples,
        tuple(notes),
    )


def _with_inputs(job: Job, inputs: Sequence[BoundInput]) -> Job:
    """The job with its inputs said; as features, where it named them so and no more is needed."""
    if job.features and inputs and not any(bound.options for bound in inputs):
        return job
    said = {
        bound.name: InputOptions.model_validate({"columns": bound.columns, **bound.options})
        for bound in inputs
    }
    return job.model_copy(update={"features": (), "inputs": said})


def _about_inputs(inputs: Iterable[BoundInput]) -> Iterable[Decision]:
    for one in inputs:
        if one.question is not None:
            table = {"columns": list(one.columns), **one.options}
            yield Decision(
                name=one.name,
                of_input=True,
                question=one.question,
                remarks=one.remarks,
                value=as_written(table) if one.columns else None,
                others=one.others,
            )


def _about_silence(job: Job, schema: pa.Schema) -> Decision:
    """A model that does not say what it takes: one tensor of numbers is as good a guess as any."""
    kinds = {field.name: field.type for field in schema if field.name}
    numbers = [name for name, kind in kinds.items() if conversion_of(kind, "float32") is not None]
    columns = list(job.features) or numbers or list(kinds)[:1]
    return Decision(
        name="features",
        of_input=True,
        question="what does the model take? It does not say, so this is a guess",
        remarks=(
            "a line for each of its inputs, with the shape of one row ([] for a scalar) and the "
            "type; or call the model once on a batch before model.save(), and run init again",
            f"columns: {', '.join(f'{name} ({kind})' for name, kind in kinds.items())}",
        ),
        value={"columns": columns, "dtype": "float32", "shape": [len(columns)]},
    )


def _about_rounding(lossy: Rounding) -> Decision:
    return Decision(
        name="allow_lossy",
        of_input=False,
        question="may these columns be rounded on their way into the model?",
        remarks=(
            *lossy.kinds,
            "predict() itself would round them, and not say so; here that is yours to allow. Until "
            "then plan refuses the job and names them",
        ),
        value=list(lossy.allowing),
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
    predicted: PredictionSchema | None,
    job: Job,
    good: Mapping[str, Contract],
    shards: Iterable[Shard],
) -> list[str]:
    """Columns that would be carried along and have the name of a prediction."""
    if job.keep != ("unused",) or predicted is None:
        return []
    names = {output.name for output in predicted.outputs}
    return [name for name in _unused(good, shards) if name in names]
