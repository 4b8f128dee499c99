"""The survey: all that is known of a job before its model is loaded. Made without TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline import ledger
from pipeline.discover import Discovery, discover
from pipeline.errors import shortened
from pipeline.job import disagreements
from pipeline.model import digest_model
from pipeline.plan import Standing, standing
from pipeline.storage import Storage, storage_at
from pipeline.user_code import digest_imports

if TYPE_CHECKING:
    from pipeline.job import Job, RunRecord
    from pipeline.records import Shard


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
        standing: How the shards stand.
        rewritten: Shards that are done, but were written again since. Their size and footer are
            as they were; whether their rows are, cannot be told without reading them.
    """

    job: Job
    output: Storage
    model_sha256: str
    code_sha256: str
    record: RunRecord | None
    found: Discovery
    standing: Standing
    rewritten: tuple[str, ...]

    @property
    def rewritten_note(self) -> str | None:
        """A line on the shards that were written again, if there are any."""
        if not self.rewritten:
            return None
        return (
            f"shards written again since they were scored: {len(self.rewritten):,} "
            f"({shortened(self.rewritten)}). Size and footer are as they were, so they count as "
            f"done; if rows have changed, remove the files of their names from {self.output.url}"
        )

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
        """Shards of the input, readable or not."""
        return len(self.found.shards) + len(self.found.failed)


def survey(job: Job) -> Survey:
    """Looks at a job's model file, input and output.

    Raises:
        ModelError: There is no such model, or it is not the one that the job names.
        OutputMismatchError: The output belongs to another job.
        NoInputError: There is nothing to score.
        UsageError: Two shards would publish to one name.
    """
    output = storage_at(job.output)
    model_sha256 = digest_model(job.model, job.model_sha256)
    code_sha256 = digest_imports(job.imports)
    record = ledger.read_record(output)
    if record is not None:
        ledger.refuse_mismatch(output, disagreements(job, model_sha256, code_sha256, record))
    found = discover(job.input, job.output)
    there = ledger.published(output)
    notes = ledger.notes(output, [shard.name for shard in found.shards if shard.name in there])
    if record is not None:
        fingerprint = record.identity.fingerprint
    else:
        # Without run.json the files alone say whose they are. The whole identity is compared when
        # it is known, before anything is published.
        first = next((note for note in notes.values() if note is not None), None)
        fingerprint = first.fingerprint if first else ""
        if first and (first.model_sha256, first.code_sha256) != (model_sha256, code_sha256):
            fingerprint = ""
    at = standing(found.shards, notes, fingerprint, output.url)
    rewritten = tuple(shard.name for shard in at.done if shard.mtime_ns > there[shard.name])
    return Survey(job, output, model_sha256, code_sha256, record, found, at, rewritten)
