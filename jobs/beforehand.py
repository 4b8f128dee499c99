"""The commands that come before a job: `compare` says how to score, `init` writes the job file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs import help_text
from jobs import options as opt
from jobs.given import given, heed_signals
from pipeline.errors import ConfigError
from pipeline.screen import width_of

if TYPE_CHECKING:
    from pipeline.job import Job

BatchSizes = Annotated[
    str | None,
    typer.Option(
        metavar="N,N,…",
        help="Batch sizes to measure. Default: 32,128,512,2048,8192,32768, as far as there are "
        "rows.",
        rich_help_panel=help_text.MEASURED,
    ),
]
Rows = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        help="Measure on this many good rows, at most.",
        rich_help_panel=help_text.MEASURED,
    ),
]
Seconds = Annotated[
    float,
    typer.Option(
        metavar="S",
        min=0.01,
        help="Time each method at each batch size for so long.",
        rich_help_panel=help_text.MEASURED,
    ),
]
Write = Annotated[
    Path | None,
    typer.Option(
        metavar="TOML",
        help="Set batch_size and method in this job file, to what is recommended. What else it "
        "says stays; if it is not there, it is written as `init` writes it. Default: none.",
        rich_help_panel=help_text.MEASURED,
    ),
]
JobFile = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        metavar="TOML|-",
        help="The file to write; -: print it.",
        rich_help_panel=help_text.FILE,
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace the file if it is there. Default: refuse to.")
]


def compare(
    model: opt.Model = None,
    input_: opt.Input = None,
    config: opt.Config = None,
    model_sha256: opt.ModelSha256 = None,
    import_: opt.Import = None,
    features: opt.Features = None,
    allow_lossy: opt.AllowLossy = None,
    time_unit: opt.TimeUnit = None,
    preprocess: opt.Preprocess = None,
    follow_links: opt.FollowLinks = None,
    batch_sizes: BatchSizes = None,
    rows: Rows = 32_768,
    seconds: Seconds = 1.0,
    write: Write = None,
    log_format: opt.LogFormat = "auto",
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Measure the prediction methods, and say which to use.

    On your model and your rows. Each method at each batch size runs in a process of its own: rows
    a second, memory, and whether it gives what predict() gives. Takes about a minute.
    """
    from jobs.settings import job_from
    from pipeline.compare import SIZES
    from pipeline.compare import compare as run_compare
    from pipeline.compare_text import compare_text
    from pipeline.progress import observer_for
    from pipeline.stop import Stop

    asked = given(locals())
    sizes = SIZES if batch_sizes is None else _sizes(batch_sizes)
    # Nothing is read of an output, but what lies in that of the job file is no input.
    job = job_from(asked, config, output=_NOWHERE)
    if write is not None:
        _edited(write, {"batch_size": 1, "method": "auto"})  # what is wrong with it is said now
    stop = Stop()
    heed_signals(stop)
    document = run_compare(
        job,
        observer_for(log_format, quiet=quiet),
        stop,
        sizes=sizes,
        rows=rows,
        seconds=seconds,
    )
    print(
        json.dumps(document, indent=1) if as_json else compare_text(document, width_of(sys.stdout))
    )
    if write is not None:
        _write_choice(write, document["recommendation"], job)


_NOWHERE = "/nonexistent/output"
"""Where a job without an output would have it."""


def _edited(path: Path, values: dict[str, Any]) -> str | None:
    """The text of a job file with values set; None if there is no such file."""
    from pipeline.job_file import read_text
    from pipeline.toml_text import with_values

    text = read_text(path)
    return None if text is None else with_values(text, values, str(path))


def _write_choice(path: Path, found: dict[str, Any] | None, job: Job) -> None:
    """Sets what is recommended in a job file, or writes one."""
    from pipeline.init_job import draft
    from pipeline.init_text import job_text
    from pipeline.job_file import write_text

    if found is None:
        raise ConfigError("nothing is recommended, so the job file stays as it is", path=str(path))
    values = {name: found[name] for name in ("batch_size", "method")}
    text = _edited(path, values)
    if text is None:
        folder = path.absolute().parent
        output = str(folder / "scored") if job.output == _NOWHERE else job.output
        drafted = draft(job.model_copy(update={**values, "output": output}))
        write_text(path, job_text(drafted, folder), replace=False)
    else:
        write_text(path, text, replace=True)
    typer.echo(
        f"{path}: batch_size = {values['batch_size']}, method = {values['method']!r}. An output "
        "that was begun with others is not continued with these: choose a new one.",
        err=True,
    )


def _sizes(text: str) -> tuple[int, ...]:
    """Batch sizes from text like `32,128`, in order."""
    try:
        sizes = sorted({int(part) for part in text.split(",")})
    except ValueError:
        sizes = [0]
    if sizes[0] < 1:
        raise typer.BadParameter(
            f"{text!r} is no list of numbers, like 32,1024", param_hint="--batch-sizes"
        )
    return tuple(sizes)


def init(
    model: opt.Model = None,
    input_: opt.Input = None,
    output: JobFile = "job.toml",
    model_sha256: opt.ModelSha256 = None,
    import_: opt.Import = None,
    features: opt.Features = None,
    allow_lossy: opt.AllowLossy = None,
    time_unit: opt.TimeUnit = None,
    preprocess: opt.Preprocess = None,
    postprocess: opt.Postprocess = None,
    follow_links: opt.FollowLinks = None,
    force: Force = False,
) -> None:
    """Write a commented job file for a model and its data.

    `score --config` accepts it as it stands. No row is read. The columns are bound as `score`
    would bind them.
    """
    from jobs.settings import job_from
    from pipeline.init_job import draft
    from pipeline.init_text import job_text
    from pipeline.job_file import refuse_existing, write_text

    path = None if output == "-" else Path(output)
    if path is not None and not force:
        refuse_existing(path)  # before the model is loaded
    folder = Path.cwd() if path is None else path.absolute().parent
    job = job_from(given(locals()) | {"output": str(folder / "scored")}, None)
    drafted = draft(job)
    text = job_text(drafted, folder)
    for note in drafted.notes:
        typer.echo(f"note: {note}", err=True)
    if path is None:
        print(text, end="")
        return
    write_text(path, text, replace=force)
    typer.echo(f"{path} is written; next: shardscore plan --config {path}", err=True)
