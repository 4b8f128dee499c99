"""The contract between a job and one schema: which columns feed the model and which travel along.

Checked for each distinct schema of the input before any row is read, so that a shard that cannot
be scored is known, and named, before the first one is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.binding import Binding, check, expand, resolve
from pipeline.errors import ContractError, DataError
from pipeline.records import FailedShard
from pipeline.writer import REASON_COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pipeline.job import Job
    from pipeline.predictions import PredictionSchema
    from pipeline.records import Shard
    from pipeline.signature import Signature


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


def choose_columns(
    signature: Signature, job: Job, shards: Iterable[Shard]
) -> dict[str, tuple[str, ...]]:
    """The columns of each input, by the first of the shards that has them all.

    Raises:
        ContractError: No shard has; the error is the first shard's.
    """
    failures: list[DataError] = []
    tried: set[int] = set()
    for shard in shards:
        if id(shard.schema) in tried:
            continue
        tried.add(id(shard.schema))
        try:
            return resolve(signature, shard.schema, job.features, job.inputs)
        except DataError as error:
            failures.append(error.with_path(shard.path))
    raise failures[0]


def contracts(
    signature: Signature,
    chosen: Mapping[str, Sequence[str]],
    job: Job,
    shards: Iterable[Shard],
    predictions: PredictionSchema | None,
) -> tuple[dict[str, Contract], list[FailedShard]]:
    """Each shard's contract, by its name, and the shards that break it.

    Shards of one schema share one contract.

    Args:
        signature: The model's.
        chosen: Input → columns.
        job: The job.
        shards: The shards to check.
        predictions: The prediction columns, where they are known: carried ones must not collide.
    """
    known: dict[int, Contract | DataError] = {}
    good: dict[str, Contract] = {}
    failed: list[FailedShard] = []
    for shard in shards:
        key = id(shard.schema)
        if key not in known:
            try:
                known[key] = _contract(signature, chosen, job, shard, predictions)
            except DataError as error:
                known[key] = error
        found = known[key]
        if isinstance(found, Contract):
            good[shard.name] = found
        else:
            failed.append(broken(shard, found))
    return good, failed


def broken(shard: Shard, error: DataError) -> FailedShard:
    """A shard that fails for a reason it shares with others: the same error, naming this one."""
    return FailedShard(
        shard.name, shard.path, type(error)(error.message, **{**error.facts, "path": shard.path})
    )


def _contract(
    signature: Signature,
    chosen: Mapping[str, Sequence[str]],
    job: Job,
    shard: Shard,
    predictions: PredictionSchema | None,
) -> Contract:
    schema = shard.schema
    binding = check(signature, chosen, schema)
    kept = _kept(job.keep, schema, binding)
    if predictions is not None:
        predictions.refuse_collision(kept.names, shard.path)
        if job.on_bad_row == "null":
            _refuse_reason(kept.names + [o.name for o in predictions.outputs], shard.path)
    everything = job.on_bad_row == "quarantine"
    return Contract(binding, kept, tuple(schema.names if everything else kept.names))


def _kept(keep: Sequence[str], schema: pa.Schema, binding: Binding) -> pa.Schema:
    if keep == ("unused",):
        names = set(schema.names) - set(binding.columns)
    elif keep == ("all",):
        names = set(schema.names)
    elif keep == ("none",):
        names = set()
    else:
        names = set(expand(keep, schema, "--keep"))
    return pa.schema([field for field in schema if field.name in names])


def _refuse_reason(names: Sequence[str], path: str) -> None:
    if REASON_COLUMN in names:
        raise ContractError(
            "a column has the name of the column of reasons",
            path=path,
            column=REASON_COLUMN,
            hint="leave it out with --keep, or choose --on-bad-row quarantine",
        )
