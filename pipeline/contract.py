"""The contract between a job and one schema: which columns feed the model and which travel along.

Checked for each distinct schema of the input before any row is read, so that a shard that cannot
be scored is known, and named, before the first one is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.binding import PLAIN, Binding, Fed, Reading, check
from pipeline.choosing import resolve
from pipeline.columns import astray, expand, find, matching
from pipeline.errors import ConfigError, ContractError, DataError, shortened
from pipeline.records import FailedShard
from pipeline.spelling import did_you_mean
from pipeline.target import REASON_COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pipeline.job import Job
    from pipeline.predictions import PredictionSchema
    from pipeline.records import Shard


@dataclass(frozen=True, slots=True)
class Contract:
    """How shards of one schema are scored.

    Attributes:
        binding: Which columns feed which input.
        kept: Schema of the columns carried into the output, in the shard's order.
        carried: Names of the columns read beside the model's: the kept ones, or all of them where
            a bad row is to be quarantined whole.
    """

    binding: Binding
    kept: pa.Schema
    carried: tuple[str, ...]


def choose_columns(fed: Fed, job: Job, shards: Iterable[Shard]) -> dict[str, tuple[str, ...]]:
    """The columns of each input, by the first of the shards that has them all.

    Raises:
        ConfigError: The job names a column that no shard has, or names none where it must.
        ContractError: No shard has the columns; the error is the first shard's.
    """
    shards = list(shards)
    refuse_unknown_names(job, shards)
    features, inputs = job.features, job.input_columns
    if job.preprocess is not None and features:  # each column is an input of the hook's
        features, inputs = (), {spec.name: (spec.name,) for spec in fed.inputs}
    failures: list[ContractError] = []
    tried: set[int] = set()
    for shard in shards:
        if id(shard.schema) in tried:
            continue
        tried.add(id(shard.schema))
        try:
            return resolve(fed, shard.schema, features, inputs)
        except ContractError as error:
            failures.append(error.with_path(shard.path))
    raise failures[0]


def rounding_notes(bound: Iterable[Contract]) -> list[str]:
    """A line for each kind of float that is rounded on its way into the model."""
    rounded: dict[tuple[str, str], dict[str, None]] = {}
    for binding in {id(c.binding): c.binding for c in bound}.values():
        for fed in binding.inputs:
            for use in fed.uses:
                if use.conversion == "rounded":
                    columns = rounded.setdefault((str(use.type), fed.spec.dtype), {})
                    columns[use.column] = None
    return [
        f"rounded from {source} to the nearest {target}: {shortened(list(columns))}"
        for (source, target), columns in rounded.items()
    ]


def order_notes(job: Job, chosen: Mapping[str, Sequence[str]]) -> list[str]:
    """A line for each input whose globs took its columns in an order that may not be meant.

    A glob takes the columns in the table's order, since that is the order in which a model is
    usually trained. Where f10 comes before f2, or f9 before f0, it is worth a look.
    """
    asked = dict.fromkeys(chosen, job.features) if job.features else job.input_columns
    return [
        f"the columns of input {name!r} are taken in the table's order: "
        f"{shortened(chosen[name])}; name them one by one if the model wants another"
        for name, patterns in asked.items()
        if not set(patterns) <= set(chosen[name])  # there is a glob
        and list(chosen[name]) != sorted(chosen[name], key=_natural)
    ]


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which f2 comes before f10."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]


def refuse_unknown_names(job: Job, shards: Sequence[Shard]) -> None:
    """Raises ConfigError if a job names a column that no shard has."""
    named = [("--features", pattern) for pattern in job.features]
    named += [("[inputs]", p) for patterns in job.input_columns.values() for p in patterns]
    if job.keep not in {("unused",), ("all",), ("none",)}:
        named += [("--keep", pattern) for pattern in job.keep]
    named += [("--allow-lossy", pattern) for pattern in job.allow_lossy]
    there = {name for shard in shards for name in shard.schema.names}
    schemas = list({id(shard.schema): shard.schema for shard in shards}.values())
    for option, pattern in named:
        if any(matching(pattern, schema) for schema in schemas):
            continue
        listed = set(pattern.split(",")) & there
        end = astray(schemas[0], pattern)
        raise ConfigError(
            f"{option} names a column that no shard has",
            column=pattern,
            expected=None if end else "one of " + shortened(shards[0].schema.names),
            received=end,
            hint=f"repeat {option} for each column"
            if listed
            else "check its spelling; a field inside lists is to be a column of its own"
            if end
            else did_you_mean(pattern, there, "check its spelling"),
        )


def contracts(
    fed: Fed,
    chosen: Mapping[str, Sequence[str]],
    job: Job,
    shards: Iterable[Shard],
    predictions: PredictionSchema | None,
    reading: Reading = PLAIN,
) -> tuple[dict[str, Contract], list[FailedShard]]:
    """Each shard's contract, by its name, and the shards that break it.

    Shards of one schema share one contract.

    Args:
        fed: What the columns are to feed.
        chosen: Input → columns.
        job: The job.
        shards: The shards to check.
        predictions: The prediction columns, where they are known: carried ones must not collide.
        reading: What is said of how columns are read.
    """
    known: dict[int, Contract | DataError] = {}
    good: dict[str, Contract] = {}
    failed: list[FailedShard] = []
    for shard in shards:
        key = id(shard.schema)
        if key not in known:
            try:
                known[key] = _contract(fed, chosen, job, shard, predictions, reading)
            except DataError as error:
                known[key] = error
        found = known[key]
        if isinstance(found, Contract):
            good[shard.name] = found
        else:
            failed.append(_broken(shard, found))
    return good, failed


def _broken(shard: Shard, error: DataError) -> FailedShard:
    """A shard that fails for a reason it shares with others: the same error, naming this one."""
    return FailedShard(
        shard.name, shard.path, type(error)(error.message, **{**error.facts, "path": shard.path})
    )


def _contract(
    fed: Fed,
    chosen: Mapping[str, Sequence[str]],
    job: Job,
    shard: Shard,
    predictions: PredictionSchema | None,
    reading: Reading,
) -> Contract:
    schema = shard.schema
    binding = check(fed, chosen, schema, reading)
    kept = kept_schema(job.keep, schema, binding.consumed)
    if predictions is not None:
        predictions.refuse_collision(kept.names, shard.path)
        if job.on_bad_row == "null":
            _refuse_reason(kept.names + [o.name for o in predictions.outputs], shard.path)
    everything = job.on_bad_row == "quarantine"
    carried = tuple(schema.names if everything else kept.names)
    _refuse_doubles(carried, shard.path, whole=everything)
    return Contract(binding, kept, carried)


def _refuse_doubles(carried: Sequence[str], path: str, *, whole: bool) -> None:
    """Raises ContractError if two of the columns that are carried along have one name."""
    for name in carried:
        if carried.count(name) > 1:
            raise ContractError(
                "a column that is carried along is there twice",
                path=path,
                column=name,
                expected="one column of each name",
                received=f"{carried.count(name)} columns {name!r}",
                hint="rename one of them"
                + ("; --on-bad-row quarantine carries all columns" if whole else " or see --keep"),
            )


def kept_schema(keep: Sequence[str], schema: pa.Schema, used: Iterable[str]) -> pa.Schema:
    """The columns of a shard that are carried into the output.

    Args:
        keep: As in `Job`.
        schema: The shard's.
        used: The columns that the model reads.
    """
    if keep == ("unused",):
        names = set(schema.names) - set(used)
    elif keep == ("all",):
        names = set(schema.names)
    elif keep == ("none",):
        names = set()
    else:
        # A field is kept with the column that it is of.
        names = {find(schema, name)[0].top for name in expand(keep, schema, "--keep")}
    return pa.schema([field for field in schema if field.name in names])


def _refuse_reason(names: Sequence[str], path: str) -> None:
    if REASON_COLUMN in names:
        raise ContractError(
            "a column has the name of the column of reasons",
            path=path,
            column=REASON_COLUMN,
            hint="leave it out with --keep, or choose --on-bad-row quarantine",
        )
