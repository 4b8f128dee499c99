"""The library's front door: what `from pipeline import …` gives, with plain addresses and defaults.

Each function is the whole of the command of its name. One thing is otherwise, as callers of a
library expect it: what is left undone raises, where a command has its exit code.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import preview, run
from pipeline.errors import IncompleteError
from pipeline.storage import storage_at
from pipeline.verify import verify as verify_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.job import Job
    from pipeline.progress import Observer
    from pipeline.proof import Proof
    from pipeline.records import RunReport
    from pipeline.stop import Stop


def score(
    job: Job,
    observer: Observer | None = None,
    stop: Stop | None = None,
    *,
    fail_fast: bool = False,
    check: bool = True,
) -> RunReport:
    """Scores what is not scored yet. Call it again to continue after any interruption.

        report = score(Job(model="m.keras", input="lake/", output="out/", features=["a", "b"]))
        print(report.counts.scored)

    Args:
        job: What to score with what.
        observer: Is told how it goes; None: nobody is.
        stop: May ask the run to stop, between batches; None: nothing does. Signals are not
            handled here: KeyboardInterrupt ends the run like a kill, and a later one continues.
        fail_fast: Whether the first shard that fails ends the run.
        check: Whether work that is left raises. If not, see the report's `state`, `error` and
            `failed`.

    Returns:
        The report of the run.

    Raises:
        ShardscoreError: What kept the run from beginning; with `check`, also what ended it, or
            what the first shard that failed did. The other shards are scored nevertheless.
    """
    report = run.score(job, observer, stop, fail_fast=fail_fast)
    if check:
        for error in (report.error, *(outcome.error for outcome in report.failed)):
            if error is not None:
                raise error
        if report.state != "finished":
            raise IncompleteError("the run ended with work left", path=report.output)
    return report


def plan(job: Job, *, with_model: bool = True) -> dict[str, Any]:
    """What `score` would do, as a JSON document: shards, rows, bytes, and how columns are bound.

        plan(Job(…))["rows"]["pending"]

    Args:
        job: The job.
        with_model: Whether to load the model, and so to check each shard's columns against it.

    Returns:
        The document. Shards that cannot be scored are listed under `failed`.

    Raises:
        ShardscoreError: What would keep `score` from beginning.
    """
    document, _ = preview.plan(job, with_model=with_model)
    return document


def verify(
    output: str | Path,
    *,
    inputs: str | Path | Sequence[str | Path] | None = None,
    quick: bool = False,
) -> Proof:
    """Proves an output from its storage, and against its input where that can be reached.

        proof = verify("out/")
        assert not proof.faults and not proof.unfinished

    Args:
        output: The output's address.
        inputs: Where its input is; None: where the latest run found it; (): it is not looked at.
        quick: Whether to read footers alone: no digests of data, no comparison of rows.

    Returns:
        What was found: `faults`, `unfinished`, `notes`. Nothing is repaired, and a fault does not
        raise.

    Raises:
        NoInputError: There is no output; or no input where `inputs` says.
        StorageError: Something could not be read.
    """
    if isinstance(inputs, (str, Path)):
        inputs = (inputs,)
    addresses = None if inputs is None else [str(address) for address in inputs]
    return verify_output(storage_at(str(output)), inputs=addresses, quick=quick)
