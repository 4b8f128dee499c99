"""Preparation: from a survey to work units, by way of the model.

Loads the model, binds its inputs to the columns, proves on the first rows that the methods agree,
and so decides the job's identity. `begin` then claims the output for it.
"""

from __future__ import annotations

import math
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline import layout, ledger
from pipeline.binding import Reading
from pipeline.contract import (
    Contract,
    choose_columns,
    contracts,
    order_notes,
    rounding_notes,
)
from pipeline.errors import DataError, PredictFailedError, ScoringError
from pipeline.fed_columns import fed_columns
from pipeline.feed import feed_for, options_of
from pipeline.job import AS_ASKED, JobIdentity, RunRecord, input_options, small_method
from pipeline.model import load
from pipeline.plan import standing, work_units
from pipeline.postprocess import finish_for
from pipeline.probe import PROBE_ROWS, Proof, probe, without_rows
from pipeline.program import Program
from pipeline.records import FailedShard
from pipeline.rows import read_batches
from pipeline.runtime import versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pipeline.feed import Feed
    from pipeline.job import Job
    from pipeline.model import LoadedModel
    from pipeline.predictions import Array
    from pipeline.records import FedColumn, Shard, WorkUnit
    from pipeline.survey import Survey


SMALL_SHARD_ROWS = 8192
"""Rows of the biggest small shard, if a batch is not smaller. A call of `predict()` takes as long
as streaming some 100,000 rows of a small model: more than it saves on bigger shards."""

PROBED_SHARDS = 32
"""Samples on which a new model may raise before it is given up."""

PLENTY = 32
"""Good rows that are enough to see whether predictions depend on their neighbours."""

SEARCHED_ROWS = 16_384
"""Rows of a shard that are searched for plenty of good ones, if there are any at all."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A loaded model with all that is needed to score a job's pending shards with it.

    Attributes:
        program: The model, and what stands around it.
        identity: The job's identity.
        proof: What the probe found.
        contracts: Shard's name → how shards of its schema are scored.
        units: The work, in order.
        columns: How columns feed the model.
        notes: What the user should know of that, a line each.
    """

    program: Program
    identity: JobIdentity
    proof: Proof
    contracts: dict[str, Contract]
    units: tuple[WorkUnit, ...]
    columns: tuple[FedColumn, ...]
    notes: tuple[str, ...]


def prepare(survey: Survey) -> tuple[Prepared | None, list[FailedShard]]:
    """Prepares the pending shards of a job; if there are none, its published ones, to prove anew
    whose they are.

    Returns:
        What is needed to score them, None if none of them can be scored; and those that cannot.

    Raises:
        ModelError: The model cannot be loaded, or its methods cannot be proved to agree.
        ConfigError: The job names columns that are not there, or names none where it must.
        ContractError: No pending shard can be scored, all for one reason.
        StorageError: Reading failed.
    """
    job, shards = survey.job, survey.shards_at_hand
    made = survey.record.identity if survey.record else None
    said = options_of(job, made)
    model = load(job.model, job.imports, survey.model_sha256, said=said)
    program = program_for(survey, model)
    feed, reading = program.feed, reading_of(survey, program.feed)
    chosen = columns_for(survey, feed)
    bound, failed = contracts(feed, chosen, job, shards, None, reading)
    if bound:
        try:
            proof = _prove(survey, program, bound)
        except PredictFailedError as error:
            if survey.record is None:
                raise
            # The model was proved when the output was begun: it is the rows that are at fault.
            failed += [
                FailedShard(shard.name, shard.path, raised_again(error))
                for shard in shards
                if shard.name in bound
            ]
            return None, failed
        bound, failed = contracts(feed, chosen, job, shards, proof.schema, reading)
    if not bound:
        return None, failed
    identity = identify(survey, feed, chosen, proof)
    units = work_units(
        [shard for shard in survey.standing.pending if shard.name in bound],
        identity.batch_size,
        identity.small_shard_rows,
    )
    notes = rounding_notes(bound.values())
    if survey.record is None:
        notes += order_notes(job, chosen)
    columns = fed_columns((contract.binding for contract in bound.values()), feed.decoders)
    return Prepared(program, identity, proof, bound, units, columns, tuple(notes)), failed


def begin(
    survey: Survey, identity: JobIdentity, note: str, columns: tuple[FedColumn, ...]
) -> tuple[RunRecord, str]:
    """Claims the output: creates run.json, or proves that the one there is this job's.

    Args:
        survey: The job, its input and its output.
        identity: The job's identity.
        note: What the probe found.
        columns: How columns feed the model.

    Returns:
        What run.json holds, and the id of the frozen plan.

    Raises:
        OutputMismatchError: The output is another job's.
        StorageError: It cannot be written.
    """
    if survey.record is None:
        # With run.json lost, the published files were only seen to agree among themselves.
        done = survey.standing.done
        notes = ledger.notes(survey.output, [shard.name for shard in done])
        standing(done, notes, identity.fingerprint, survey.output.url)
    record = survey.record or layout.create_record(
        survey.output,
        RunRecord(
            identity=identity,
            asked_features=survey.job.features,
            asked_inputs=survey.job.input_columns,
            probe=note,
            created_with=versions(),
            columns=columns,
        ),
    )
    ours, theirs = identity.model_dump(), record.identity.model_dump()
    layout.refuse_mismatch(
        survey.output,
        {n: (str(theirs[n]), str(ours[n])) for n in ours if ours[n] != theirs[n]},
    )
    return record, survey.freeze()


def raised_again(error: PredictFailedError) -> ScoringError:
    """The error of a shard on which a model raises that has scored others."""
    return ScoringError(
        "the model raises on the first rows of the shard",
        received=error.received,
        hint="score these rows by hand to see the whole error; the other shards are scored",
    )


def program_for(survey: Survey, model: LoadedModel) -> Program:
    """A model with what the job puts around it.

    Raises:
        ConfigError: The job says of an input what does not fit it.
        ModelError: A hook cannot be imported.
    """
    made = survey.record.identity if survey.record else None
    schemas = [shard.schema for shard in survey.shards_at_hand]
    feed = feed_for(model.signature, survey.job, made, schemas)
    return Program(model, feed, finish_for(survey.job))


def reading_of(survey: Survey, feed: Feed) -> Reading:
    """How a job's columns are read."""
    return Reading(feed.options, survey.job.time_unit, survey.job.allow_lossy)


def columns_for(survey: Survey, feed: Feed) -> Mapping[str, Sequence[str]]:
    """The columns of each input: those the output was begun with, or those of the first shard.

    Raises:
        ConfigError: The job names columns that are not there, or names none where it must.
        ContractError: No pending shard has the columns.
    """
    if survey.record is not None:
        return survey.record.identity.binding
    return choose_columns(feed, survey.job, survey.shards_at_hand)


def sizes(job: Job, recorded: JobIdentity | None, feed: Feed) -> tuple[int, int]:
    """Rows a batch, and rows of the biggest small shard.

    What the output was begun with comes first, then what was asked for, then the automatic value.
    """
    if recorded is not None:
        return recorded.batch_size, recorded.small_shard_rows
    size = feed.signature.batch_size() if job.batch_size == "auto" else job.batch_size
    small = min(size, SMALL_SHARD_ROWS) if job.small_shard_rows is None else job.small_shard_rows
    return size, small


def identify(
    survey: Survey, feed: Feed, chosen: Mapping[str, Sequence[str]], proof: Proof
) -> JobIdentity:
    """The identity of a job, all decisions made."""
    job = survey.job
    recorded = survey.record.identity if survey.record else None
    size, threshold = sizes(job, recorded, feed)
    return JobIdentity(
        model_sha256=survey.model_sha256,
        code_sha256=survey.code_sha256,
        binding={name: tuple(columns) for name, columns in chosen.items()},
        keep=job.keep,
        batch_size=size,
        small_shard_rows=threshold,
        method=proof.method,
        small_method=recorded.small_method if recorded else small_method(job.method),
        on_bad_row=job.on_bad_row,
        predictions=proof.schema.described(),
        fed=feed.fed,
        inputs=recorded.inputs if recorded else input_options(job),
        **{name: getattr(job, name) for name in AS_ASKED},
    )


def _prove(survey: Survey, program: Program, bound: Mapping[str, Contract]) -> Proof:
    """Probes the model on the first rows of a shard.

    Raises:
        PredictFailedError: `predict()` raises on the first rows of each shard that was tried.
        ModelError: The methods cannot be proved to agree.
    """
    recorded = survey.record.identity if survey.record else None
    choice = recorded.method if recorded else survey.job.method
    types = recorded.predictions if recorded else {}
    failures: list[PredictFailedError] = []
    # Once an output has been begun the model is known to be sound, so any row will do, and shards
    # on which it raises are no reason to give it up.
    wanted, patience = (1, math.inf) if recorded else (PLENTY, PROBED_SHARDS)
    for features in _samples(survey.shards_at_hand, bound, wanted):
        try:
            return probe(program, features, choice, types)
        # It may be this shard's rows: it fails again when its turn comes, if another proves the
        # model sound.
        except PredictFailedError as error:
            failures.append(error.detached())
            if len(failures) >= patience:
                break
    if failures:
        raise failures[0]
    return without_rows(program, choice, types)


def _samples(
    shards: Sequence[Shard], bound: Mapping[str, Contract], wanted: int
) -> Iterator[tuple[Array, ...]]:
    """Good rows to probe with: of one shard if it has enough, else of as many as it takes."""
    gathered: list[tuple[Array, ...]] = []
    for shard in shards:
        features = _first_rows(shard, bound[shard.name]) if shard.name in bound else None
        if features is None:
            continue
        gathered.append(features)
        if sum(len(arrays[0]) for arrays in gathered) >= wanted:
            yield from _together_then_alone(gathered)
            gathered = []
    if gathered:
        yield from _together_then_alone(gathered)


def _together_then_alone(gathered: list[tuple[Array, ...]]) -> Iterator[tuple[Array, ...]]:
    """Several samples as one, (rows, …) for each input; if that fails, each of them."""
    yield tuple(np.concatenate(arrays) for arrays in zip(*gathered, strict=True))
    if len(gathered) > 1:
        yield from gathered


def _first_rows(shard: Shard, contract: Contract) -> tuple[Array, ...] | None:
    """The good rows of the first stretch that has plenty of them, or the most of any stretch."""
    best: tuple[Array, ...] | None = None
    batches = read_batches(shard, contract.binding, (), PROBE_ROWS, fail_on_bad=False)
    # A shard that breaks the contract here does so again when its turn comes, and is reported then.
    with closing(batches), suppress(DataError):
        for batch in batches:
            if batch.good_rows > (len(best[0]) if best else 0):
                best = batch.features
            if best is not None and (len(best[0]) >= PLENTY or batch.start >= SEARCHED_ROWS):
                break
    return best
