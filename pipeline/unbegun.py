"""A job as if its output had not been begun: for commands that look at no output.

What `score` finds out of a job is a function of its survey. `compare` and `init` ask the same of
the model and the input alone, so theirs says of the output that nothing is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.plan import Standing
from pipeline.storage import storage_at
from pipeline.survey import Survey

if TYPE_CHECKING:
    from pipeline.discover import Discovery
    from pipeline.job import Job


def unbegun(job: Job, found: Discovery, model_sha256: str, code_sha256: str) -> Survey:
    """The survey of a job on what was found as its input; all its shards are pending."""
    return Survey(
        job=job,
        output=storage_at(job.output),
        model_sha256=model_sha256,
        code_sha256=code_sha256,
        record=None,
        found=found,
        unreadable=found.failed,
        standing=Standing(done=(), pending=tuple(found.shards), changed=()),
        rewritten=(),
        replaced={},
        checkpoints={},
        other_files=0,
    )
