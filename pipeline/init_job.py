"""`init`: from a model and a data set, a job file that `score --config` accepts as it stands.

Owns what such a file says. Columns are bound as a run would bind them; where that leaves something
open, the file says the safest value that works and, beside it, what to think about. Whether a value
works is not decided here: the binding is asked. No row is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.types as pt

from pipeline.binding import Reading, check, expand
from pipeline.contract import contracts
from pipeline.discover import discover
from pipeline.errors import ConfigError, ContractError, ModelError, shortened
from pipeline.input_options import InputOptions
from pipeline.model import load
from pipeline.prepare import program_for
from pipeline.probe import without_rows
from pipeline.unbegun import unbegun

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pipeline.binding import ColumnUse
    from pipeline.contract import Contract
    from pipeline.job import Job
    from pipeline.program import Program
    from pipeline.records import Shard
    from pipeline.signature import InputSpec

ANY_LOSS = ("*",)


@dataclass(frozen=True, slots=True)
class BoundInput:
    """One input of the model, and what was found for it.

    Attributes:
        spec: The input.
        columns: The columns that feed it.
        options: What must be said of how they are read.
        uses: How each of them is used, by the first schema.
        remarks: What the user should look at.
    """

    spec: InputSpec
    columns: tuple[str, ...]
    options: dict[str, Any]
    uses: tuple[ColumnUse, ...]
    remarks: tuple[str, ...]


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
    model = load(job.model, job.imports, job.model_sha256)
    program = program_for(unbegun(job, found, model.sha256, ""), model)
    first = found.shards[0]
    try:
        inputs = _bound(program, job, first.schema)
    except ContractError as error:
        raise error.with_path(first.path) from error.__cause__
    chosen = {bound.spec.name: bound.columns for bound in inputs}
    options = {
        bound.spec.name: InputOptions.model_validate(bound.options)
        for bound in inputs
        if bound.options
    }
    reading = Reading(options, job.time_unit, ANY_LOSS)
    good, failed = contracts(program.feed, chosen, job, found.shards, None, reading)
    if not good:
        raise failed[0].error
    lossy = _lossy(good.values())
    update: dict[str, Any] = {"allow_lossy": tuple(dict.fromkeys([*job.allow_lossy, *lossy]))}
    if not job.features or options:
        update |= {
            "features": (),
            "inputs": {
                bound.spec.name: InputOptions.model_validate(
                    {"columns": bound.columns, **bound.options}
                )
                for bound in inputs
            },
        }
    remarks = {
        "input": f"shards: {len(found.shards):,}, rows: {sum(s.rows for s in found.shards):,}",
        "batch_size": f"auto: {model.signature.batch_size():,} for this model; `shardscore "
        "compare` measures what is fastest",
    }
    nullable = _nullable(good, found.shards)
    if job.on_bad_row == "fail" and nullable:
        update["on_bad_row"] = "quarantine"
        remarks["on_bad_row"] = (
            "the columns may hold nulls: such rows go to the dead-letter file; or fail (stop the "
            "shard), null (keep the row)"
        )
    if collisions := _collisions(program, job, good, found.shards):
        kept = [c for c in _unused(good, found.shards) if c not in collisions]
        update["keep"] = tuple(kept) or ("none",)
        remarks["keep"] = (
            f"all but {shortened(collisions)}: the predictions have that name; or all, none"
        )
    notes = [
        f"{len(failed):,} of {len(found.shards):,} shards have other columns and will not be "
        f"scored: {shortened([broken.name for broken in failed])}"
    ] * bool(failed)
    return Draft(job.model_copy(update=update), inputs, model.sha256, lossy, remarks, tuple(notes))


# --- binding ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _One:
    """A single input, as the binding takes inputs."""

    inputs: tuple[InputSpec, ...]


def _bound(program: Program, job: Job, schema: pa.Schema) -> tuple[BoundInput, ...]:
    specs = program.feed.inputs
    wanted = dict(job.input_columns)
    if job.features:
        wanted = {specs[0].name: job.features}
    unknown = [name for name in wanted if name not in {spec.name for spec in specs}]
    if unknown or (job.features and len(specs) > 1):
        raise ConfigError(
            f"the model has no input {unknown[0]!r}" if unknown else "the model has several inputs",
            expected=", ".join(spec.name for spec in specs),
            hint="leave --features out: each input takes the column of its name",
        )
    return tuple(
        _bound_input(
            spec,
            *(
                (expand(wanted[spec.name], schema, f"input {spec.name!r}"), ())
                if spec.name in wanted
                else _found(spec, schema, job, alone=len(specs) == 1)
            ),
            schema=schema,
            job=job,
        )
        for spec in specs
    )


def _found(
    spec: InputSpec, schema: pa.Schema, job: Job, *, alone: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns of an input that the job does not map, and remarks on them."""
    if spec.name in schema.names:
        return (spec.name,), ()
    near = [name for name in schema.names if _plain(name) == _plain(spec.name)]
    if len(near) == 1:
        return (near[0],), (f"no column is called {spec.name}; {near[0]} is taken for it",)
    fitting = [name for name in schema.names if _fits(spec, (name,), schema, job)]
    if alone and len(fitting) == 1:
        return (fitting[0],), ("the only column that fits",)
    width = spec.shape[0] if len(spec.shape) == 1 else None
    parts = replace(spec, shape=(1,))
    scalars = [name for name in schema.names if _fits(parts, (name,), schema, job)]
    if alone and not fitting and width is not None and len(scalars) == width:
        return tuple(scalars), (
            "all columns that fit, in the table's order: is it the order of the training?",
        )
    told = fitting or scalars
    error = ConfigError if alone else ContractError
    raise error(
        "which columns feed the model is not said"
        if alone
        else f"no column feeds the model's input {spec.name!r}",
        column=None if alone else spec.name,
        expected=f"columns for {spec}",
        received=f"columns whose types fit: {shortened(told)}"
        if told
        else f"no column whose type fits, among {shortened(schema.names)}",
        hint="name them in order with --features (names or globs)"
        if alone
        else "rename the column, or write the [inputs] table of a job file by hand",
    )


def _plain(name: str) -> str:
    """A name without case and punctuation, by which dep_delay and DepDelay are one."""
    return re.sub(r"[\W_]+", "", name).casefold()


def _fits(spec: InputSpec, columns: Sequence[str], schema: pa.Schema, job: Job) -> bool:
    for options, _ in _ways(spec, columns, schema):
        try:
            _checked(spec, columns, options, schema, job)
        except (ContractError, ConfigError):
            continue
        return True
    return False


def _bound_input(
    spec: InputSpec,
    columns: tuple[str, ...],
    remarks: tuple[str, ...],
    *,
    schema: pa.Schema,
    job: Job,
) -> BoundInput:
    given = job.inputs[spec.name].said if spec.name in job.inputs else {}
    failures: list[ContractError | ConfigError] = []
    for options, remark in _ways(spec, columns, schema):
        said = {**options, **given}
        try:
            uses = _checked(spec, columns, said, schema, job)
        except (ContractError, ConfigError) as error:
            failures.append(error)
            continue
        remarks += (remark,) if remark else ()
        return BoundInput(spec, columns, said, uses, remarks)
    raise failures[0]


def _checked(
    spec: InputSpec,
    columns: Sequence[str],
    options: Mapping[str, Any],
    schema: pa.Schema,
    job: Job,
) -> tuple[ColumnUse, ...]:
    told = {spec.name: InputOptions.model_validate(options)} if options else {}
    reading = Reading(told, job.time_unit, ANY_LOSS)
    return check(_One((spec,)), {spec.name: columns}, schema, reading).inputs[0].uses


def _ways(
    spec: InputSpec, columns: Sequence[str], schema: pa.Schema
) -> Iterator[tuple[dict[str, Any], str | None]]:
    """What may be said of how columns are read, the least first, and a remark on each."""
    yield {}, None
    kinds = [schema.field(name).type for name in columns if name in schema.names]
    if any(map(pt.is_temporal, kinds)):
        for unit in _units(kinds):
            yield (
                {"unit": unit},
                f"counted in {unit} since 1970 is a guess: the unit of the training is right "
                "(days, s, ms, us, ns)",
            )
    if len(spec.shape) == 3 and any(pt.is_binary(k) or pt.is_large_binary(k) for k in kinds):
        yield (
            {"image": True},
            "encoded images; 0 to 255, stretched, unless image = { fit = …, scale = … } says more",
        )
    if spec.shape and any(pt.is_list(k) or pt.is_large_list(k) for k in kinds):
        length = spec.shape[0] or 128
        yield (
            {"length": length},
            f"shorter lists are padded with 0 to {length}, longer ones are bad rows unless "
            'truncate = "end" or "start"',
        )


def _units(kinds: Iterable[pa.DataType]) -> list[str]:
    """Units for times: days for dates, a timestamp's own unit, then the others."""
    kinds = list(kinds)
    own = ["days"] if any(map(pt.is_date, kinds)) else []
    own += [k.unit for k in kinds if pt.is_timestamp(k) or pt.is_duration(k) or pt.is_time(k)]
    return list(dict.fromkeys([*own, "s", "days"]))


def _lossy(bound: Iterable[Contract]) -> dict[str, str]:
    """Columns whose values are rounded on their way into the model, and how."""
    return {
        use.column: f"{use.column}: {use.type} to {fed.spec.dtype}"
        for binding in {id(c.binding): c.binding for c in bound}.values()
        for fed in binding.inputs
        for use in fed.uses
        if use.conversion == "rounded"
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
