"""The survey: all that is known of a job before its model is loaded. Made without TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline import frozen, layout, ledger, spans
from pipeline.discover import Discovery, described, is_readable, listed
from pipeline.errors import shortened
from pipeline.job import disagreements
from pipeline.model import digest_model
from pipeline.plan import Standing, listing, plan_id, standing, together
from pipeline.shares import share, share_of_unreadable
from pipeline.spans import Span, reach
from pipeline.storage import ObjectInfo, Storage, storage_at
from pipeline.threads import chunks
from pipeline.user_code import digest_imports
from pipeline.witness import witness

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from pipeline.discover import Known
    from pipeline.footer import Provenance
    from pipeline.frozen import Frozen
    from pipeline.inputs import Found
    from pipeline.job import Job, RunRecord
    from pipeline.records import FailedShard, Shard

OnWork = Callable[[int, int], None]
"""Is told of work: how many shards, and their bytes."""

_CHUNK = 1024
_TRIED = 16
"""Files without a prediction that are looked into, before the others are, for one to be scored."""


@dataclass(frozen=True, slots=True)
class Survey:
    """A job, its input and its output, as they stand.

    Attributes:
        job: The job.
        output: Where it publishes.
        model_sha256: Digest of its model.
        code_sha256: Digest of the modules that it imports.
        record: The output's run.json, or None if the output has not been begun.
        found: The input.
        unreadable: Files of it that cannot be read, as far as they are this run's to report.
        standing: How the shards stand.
        rewritten: Shards that are done, but were written again since. Their size and footer are
            as they were; whether their rows are, cannot be told without reading them.
        replaced: Name → the published file that is to be replaced, since its shard has changed.
        checkpoints: Name → the checkpoints of a pending shard.
        other_files: How many files the output shows that are of no shard of the input.
        plan: Id of the stored plan that the job's plan id stands for; None: the input is what is
            there now.
    """

    job: Job
    output: Storage
    model_sha256: str
    code_sha256: str
    record: RunRecord | None
    found: Discovery
    unreadable: tuple[FailedShard, ...]
    standing: Standing
    rewritten: tuple[str, ...]
    replaced: dict[str, ObjectInfo]
    checkpoints: dict[str, list[Span]]
    other_files: int
    plan: str | None = None

    @property
    def plan_id(self) -> str:
        """Id of the plan of what was found, stored or not."""
        return self.plan or plan_id(listing(self.found.shards))

    def freeze(self) -> str:
        """Sees to it that the plan of what was found is stored; returns its id.

        Raises:
            StorageError: It could not be.
        """
        return self.plan or ledger.freeze_plan(self.output, self.found.shards)

    @property
    def rewritten_note(self) -> str | None:
        """A line on the shards that were written again, if there are any."""
        if not self.rewritten:
            return None
        return (
            f"shards written again since they were scored: {len(self.rewritten):,} "
            f"({shortened(self.rewritten)}). Size and footer are as they were, so they count as "
            f"done; if rows have changed, have them scored again with --rescore-changed"
        )

    def rows_saved(self, shard: Shard) -> int:
        """Rows of a pending shard that its checkpoints seem to hold, by their names."""
        return reach(self.checkpoints.get(shard.name, ()))

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do, and run.json is there to say for whom."""
        return not self.standing.pending and (self.record is not None or not self.standing.done)

    @property
    def shards_at_hand(self) -> tuple[Shard, ...]:
        """The shards to look at: the pending ones, or all that are done if none is pending."""
        return self.standing.pending or self.standing.done

    @property
    def shards(self) -> int:
        """Shards of the input that are this run's, readable or not."""
        at = self.standing
        return sum(map(len, (at.done, at.pending, at.changed, self.unreadable)))


def survey(
    job: Job,
    on_work: OnWork = lambda _shards, _bytes: None,
    *,
    claim: Callable[[Storage], None] | None = None,
) -> Survey:
    """Looks at a job's model file, input and output.

    Args:
        job: The job.
        on_work: Called, perhaps more than once, as soon as it is known that a shard will have to
            be scored: when one is listed that is not published and can be read, before the
            footers of the others are. Is given how many shards there are to score, at most, and
            how many bytes.

    Raises:
        ModelError: There is no such model, or it is not the one that the job names.
        OutputMismatchError: The output belongs to another job.
        NoInputError: There is nothing to score.
        UsageError: Two shards would publish to one name.
    """
    output = storage_at(job.output)

    def work(shards: int, size: int) -> None:
        if claim is not None:
            claim(output)
        on_work(shards, size)

    model_sha256 = digest_model(job.model, job.model_sha256)
    code_sha256 = digest_imports(job.modules)
    record = layout.read_record(output)
    if record is not None:
        layout.refuse_mismatch(output, disagreements(job, model_sha256, code_sha256, record))
    plan = None
    if job.plan_id is not None:
        plan = frozen.thaw(output, job.plan_id, job.shard_index, job.shard_count)
    wanted = plan.mine if plan is not None else None
    files = listed(job.input, job.output, follow_links=job.follow_links, only=wanted)
    there, others = _published(output, files, plan)
    unpublished = [file for file in files if file.name not in there]
    if any(is_readable(file, job.output) for file in unpublished[:_TRIED]):
        share_of = job.shard_count or 1 if plan is None else 1
        size = sum(file.size for file in unpublished)
        work(-(-len(unpublished) // share_of), size // share_of)
    del unpublished
    if record is not None:
        fingerprint = record.identity.fingerprint
    else:
        fingerprint = _fingerprint(output, files, there, (model_sha256, code_sha256))

    # Which shards a share has depends on all footers, and to score again takes schemas.
    if plan is not None:
        found, ours = frozen.held_against(plan, files, there, output)
    elif record is None or job.rescore_changed or job.shard_count is not None:
        found = described(files, job.output)
        ours = _ours(found, job)
    else:
        found = ours = described(files, job.output, _known(output, there, fingerprint))
    del files

    def written_again(shard: Shard) -> bool:
        return shard.mtime_ns > there[shard.name].mtime_ns

    def rescore(shard: Shard, note: Provenance) -> bool:
        changed = note.input != shard.identity or written_again(shard)
        return job.rescore_changed and changed

    parts = []
    for some in chunks(ours.shards, _CHUNK):  # their notes are more than what is kept of them
        asked = [s.name for s in some if s.name in there and s.schema is not None]
        notes = ledger.notes(output, asked)
        parts.append(standing(some, notes, fingerprint, output.url, rescore=rescore))
    at = together(parts)
    if at.pending:
        work(len(at.pending), sum(shard.size for shard in at.pending))
    pending = {shard.name for shard in at.pending}
    return Survey(
        job=job,
        output=output,
        model_sha256=model_sha256,
        code_sha256=code_sha256,
        record=record,
        found=found,
        unreadable=ours.failed,
        standing=at,
        rewritten=tuple(shard.name for shard in at.done if written_again(shard)),
        replaced={name: there[name] for name in at.replaced},
        checkpoints={
            name: found for name, found in spans.listing(output).items() if name in pending
        },
        other_files=others,
        plan=plan.plan if plan is not None else None,
    )


def _published(
    output: Storage, files: Iterable[Found], plan: Frozen | None
) -> tuple[dict[str, ObjectInfo], int]:
    """Published files by name, of a frozen input those of this run; and how many others there are
    that are of no shard of the input."""
    if plan is None:
        there = layout.published(output)
        return there, len(there.keys() - {file.name for file in files})
    found: dict[str, ObjectInfo] = {}
    names, others = plan.names, 0
    name = next(names, None)
    for info in layout.visible(output):  # both are sorted: neither needs to be in memory
        while name is not None and name < info.name:
            name = next(names, None)
        others += name != info.name
        if info.name in plan.mine:
            found[info.name] = info
    return found, others


def _known(
    output: Storage, there: Mapping[str, ObjectInfo], fingerprint: str
) -> Callable[[Found], Known]:
    """What tells which shard a published file of this job was made from: the marks of a complete
    output, or else the file itself."""
    marks = witness(output, fingerprint) if there else None

    def noted(name: str) -> Mapping[str, Any] | None:
        note = ledger.note(output, name) if name in there else None
        return note.input if note is not None and note.fingerprint == fingerprint else None

    def known(file: Found) -> Known:
        shard = marks.shard_of(there[file.name]) if marks and file.name in there else None
        return partial(noted, file.name) if shard is None else lambda: shard

    return known


def _fingerprint(
    output: Storage,
    files: Iterable[Found],
    there: Container[str],
    digests: tuple[str, str],
) -> str:
    """The job of an output without run.json, as its files alone say; empty if they do not.

    The whole identity is compared when it is known, before anything is published.
    """
    notes = (ledger.note(output, file.name) for file in files if file.name in there)
    first = next((note for note in notes if note is not None), None)
    if first is None or (first.model_sha256, first.code_sha256) != digests:
        return ""
    return first.fingerprint


def _ours(found: Discovery, job: Job) -> Discovery:
    """What this run has to do with: all that is found, or its share of it."""
    index, count = job.shard_index, job.shard_count
    if index is None or count is None:
        return found
    return Discovery(
        share(found.shards, index, count),
        tuple(f for f in found.failed if share_of_unreadable(f.name, count) == index),
    )
