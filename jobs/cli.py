"""The Typer entrypoint, and the one place where an error becomes a message and an exit code.

Standard output carries results only; all else goes to standard error. Nothing heavy is imported
until a command runs: `--help` must not wait for pyarrow, let alone TensorFlow.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from jobs import afterwards, beforehand
from jobs import job_options as of_job
from jobs import output_options as out
from jobs import run_options as of_run
from jobs.afterwards import no_output
from jobs.complaints import show, show_bug, show_failed, wanted_format, warn
from jobs.exit_codes import ExitCode, of_ending, of_report
from jobs.given import given, heed_signals
from jobs.help_text import Command, context_settings
from jobs.streams import NO_ROOM, hand_over, let_go, not_written, with_all_streams
from jobs.undecided import undecided
from jobs.wrong_usage import (
    in_our_words,
    misspelt_variables,
    named_by_variable,
    refuse_repeated,
)
from pipeline.errors import ModelError, ShardscoreError, UsageError
from pipeline.screen import width_of

if TYPE_CHECKING:
    from collections.abc import Callable

_EPILOG = (
    "Options are variables too: SHARDSCORE_BATCH_SIZE for --batch-size. Those that describe the "
    "job are also lines of the TOML file: batch_size (imports for --import). "
    "Exit codes: 0 done · 64 usage · 65 bad data, the rest is scored · 66 no input · 70 bug · "
    "73 output of another job · 74 storage, try again · 75 stopped, run again · 78 model or "
    "configuration · 130 Ctrl-C"
)

app = typer.Typer(
    name="shardscore",
    epilog=_EPILOG,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=context_settings(),
)


@app.command(cls=Command, epilog="Example: shardscore score --model m.keras -i data/ -o out/")
def score(
    context: typer.Context,
    model: of_job.Model = None,
    input_: of_job.Input = None,
    output: of_job.Output = None,
    config: of_job.Config = None,
    model_sha256: of_job.ModelSha256 = None,
    import_: of_job.Import = None,
    features: of_job.Features = None,
    allow_lossy: of_job.AllowLossy = None,
    time_unit: of_job.TimeUnit = None,
    preprocess: of_job.Preprocess = None,
    postprocess: of_job.Postprocess = None,
    labels: of_job.Labels = None,
    label_output: of_job.LabelOutput = None,
    top_k: of_job.TopK = None,
    keep: of_job.Keep = None,
    batch_size: of_job.BatchSize = None,
    small_shard_rows: of_job.SmallShardRows = None,
    method: of_job.Method = None,
    on_bad_row: of_job.OnBadRow = None,
    max_bad_rows: of_job.MaxBadRows = None,
    nonfinite: of_job.Nonfinite = None,
    follow_links: of_job.FollowLinks = None,
    checkpoint_every: of_run.CheckpointEvery = None,
    rescore_changed: of_run.RescoreChanged = None,
    shard_index: of_run.ShardIndex = None,
    shard_count: of_run.ShardCount = None,
    plan_id: of_run.PlanId = None,
    workers: of_run.Workers = None,
    threads: of_run.Threads = None,
    baseline: of_run.Baseline = None,
    max_drift: of_run.MaxDrift = None,
    engine: of_run.Engine = "local",
    ray_address: of_run.RayAddress = None,
    fail_fast: of_run.FailFast = False,
    metrics_file: of_run.MetricsFile = None,
    pushgateway: of_run.PushgatewayAddress = None,
    metrics_name: of_run.MetricsName = None,
    log_format: of_run.LogFormat = "auto",
    quiet: of_run.Quiet = False,
    as_json: of_run.AsJson = False,
) -> None:
    """Score what is not scored yet. Run it again to continue after any interruption."""
    from pipeline.memory import keep_imports, no_collections, share_one_heap

    share_one_heap()
    keep_imports()
    with no_collections():
        from jobs.engines import engine_named
        from jobs.invocation import invocation
        from jobs.monitor import monitor
        from jobs.settings import job_from
        from pipeline import report as reports
        from pipeline.progress import observer_for
        from pipeline.reason_counts import of_run
        from pipeline.run import score as run_score
        from pipeline.stop import Stop
        from pipeline.summary import summary_text

    shown = observer_for(log_format, quiet=quiet)
    with monitor(shown, metrics_file, pushgateway, metrics_name) as observer:
        observer.is_share(shard_index)
        job = job_from(given(locals()), config)
        observer.is_share(job.shard_index)
        stop = Stop()
        heed_signals(stop)
        with engine_named(engine, ray_address) as place:
            report = run_score(
                job,
                observer,
                stop,
                fail_fast=fail_fast,
                engine=place,
                invocation=invocation(context.obj or ()),
            )
        if as_json:
            print(json.dumps(reports.as_json(report), indent=1))
        elif log_format == "json":
            observer.event(
                "finished",
                f"run {report.state}",
                report=reports.as_json(report, shards=False),
            )
        elif not quiet:
            reasons, new_here = of_run(report), sys.stdout.isatty()
            print(summary_text(report, width_of(sys.stdout), reasons, what_next=new_here))
        if report.error is not None:
            show(report.error, log_format)
        raise typer.Exit(of_report(report))


@app.command(cls=Command, epilog="Example: shardscore plan --config job.toml --json")
def plan(
    model: of_job.Model = None,
    input_: of_job.Input = None,
    output: of_job.Output = None,
    config: of_job.Config = None,
    model_sha256: of_job.ModelSha256 = None,
    import_: of_job.Import = None,
    features: of_job.Features = None,
    allow_lossy: of_job.AllowLossy = None,
    time_unit: of_job.TimeUnit = None,
    preprocess: of_job.Preprocess = None,
    postprocess: of_job.Postprocess = None,
    labels: of_job.Labels = None,
    label_output: of_job.LabelOutput = None,
    top_k: of_job.TopK = None,
    keep: of_job.Keep = None,
    batch_size: of_job.BatchSize = None,
    small_shard_rows: of_job.SmallShardRows = None,
    method: of_job.Method = None,
    on_bad_row: of_job.OnBadRow = None,
    max_bad_rows: of_job.MaxBadRows = None,
    nonfinite: of_job.Nonfinite = None,
    follow_links: of_job.FollowLinks = None,
    rescore_changed: of_run.RescoreChanged = None,
    shard_index: of_run.ShardIndex = None,
    shard_count: of_run.ShardCount = None,
    plan_id: of_run.PlanId = None,
    workers: of_run.Workers = None,
    threads: of_run.Threads = None,
    with_model: Annotated[
        bool,
        typer.Option(
            "--with-model/--no-model",
            help="Load the model and check each shard's columns against it.",
        ),
    ] = True,
    log_format: of_run.LogFormat = "auto",
    as_json: of_run.AsJson = False,
) -> None:
    """Say what `score` would do and what would go wrong.

    No row is read and nothing is written. Without an output, it is told of one not begun.
    """
    from pipeline.memory import keep_imports, no_collections

    keep_imports()
    with no_collections():
        from jobs.settings import NOWHERE, planned_from
        from pipeline import preview, tables

    job, shares = planned_from(given(locals()), config)
    document, failed = preview.plan(job, with_model=with_model, shares=shares)
    if job.output == NOWHERE:
        document["output"] = None
    width = width_of(sys.stdout)
    print(json.dumps(document, indent=1) if as_json else tables.plan_text(document, width))
    show_failed(failed, log_format)
    raise typer.Exit(ExitCode.DATA if failed else ExitCode.OK)


@app.command(cls=Command, epilog="Example: shardscore status out/ --watch")
def status(
    output: out.OutputArgument,
    watch: out.Watch = False,
    as_json: of_run.AsJson = False,
) -> None:
    """Tell how an output stands, from its storage alone."""
    if watch:
        from jobs.watching import watch as watched

        if as_json:
            raise UsageError("--watch is for people, --json for scripts", hint="give one of them")
        if not (last := watched(output))["begun"]:
            raise no_output(last["output"])
        return
    from pipeline.memory import no_collections

    with no_collections():
        from pipeline import tables
        from pipeline.status import status as status_of

    document = status_of(output)
    if not document["begun"]:
        raise no_output(document["output"])
    width = width_of(sys.stdout)
    print(json.dumps(document, indent=1) if as_json else tables.status_text(document, width))


@app.command(cls=Command, epilog="Example: shardscore verify out/ --json")
def verify(
    output: out.OutputArgument,
    input_: out.VerifiedInput = None,
    no_input: out.NoInput = False,
    quick: out.Quick = False,
    repair: out.Repair = False,
    as_json: of_run.AsJson = False,
) -> None:
    """Prove that an output is whole and right, or name what is not.

    Ends with 0 if all planned shards are published and proven, with 65 if not.
    """
    from pipeline import tables
    from pipeline.proof import document
    from pipeline.repair import repair as run_repair
    from pipeline.storage import storage_at
    from pipeline.verify import verify as prove

    if no_input and input_:
        raise UsageError("--input and --no-input exclude each other", hint="give one of them")
    if repair and quick:
        raise UsageError("--repair needs a whole proof", hint="leave --quick out")
    inputs = () if no_input else input_ or None
    proof = prove(storage_at(output), inputs=inputs, quick=quick)
    if repair:
        run_repair(proof)
    told = document(proof)
    width = width_of(sys.stdout)
    print(json.dumps(told, indent=1) if as_json else tables.verify_text(told, width))
    raise typer.Exit(ExitCode.OK if told["ok"] else ExitCode.DATA)


for command, example in (
    (afterwards.report, "report out/ --html night.html"),
    (beforehand.compare, "compare --config job.toml --write job.toml"),
    (beforehand.init, "init --model m.keras -i data/ --output job.toml"),
):
    app.command(cls=Command, epilog=f"Example: shardscore {example}")(command)


def _version(wanted: bool) -> None:
    if wanted:
        from pipeline.runtime import versions

        print("\n".join(f"{name} {number}" for name, number in versions().items()))
        raise typer.Exit


@app.callback()
def _shardscore(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help="Print the versions of shardscore and of what it scores with.",
        ),
    ] = False,
) -> None:
    """Score Parquet shards with a Keras model: streamed, exact, resumable."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs the command line and ends the process with its exit code."""
    argv = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    with_all_streams()
    log_format = wanted_format(argv)
    code = None
    with suppress(OSError):  # of complaining: the code is that of what is complained of
        try:
            command = typer.main.get_command(app)
            for note in misspelt_variables(os.environ, command):
                warn(note, log_format)
            refuse_repeated(argv)
            code = _invoked(command, argv)
        except typer.TyperException as error:  # a flag or a value that Typer refuses
            code = of_ending(error)
            show(named_by_variable(in_our_words(error), argv), log_format)
        except typer.Abort as error:
            code = of_ending(error)
        except BrokenPipeError as error:  # whoever read our results has gone: say no more
            code = of_ending(error)
        except UsageError as error:
            code = of_ending(error)
            show(named_by_variable(error, argv), log_format)
        except ShardscoreError as error:
            code = of_ending(error)
            show(error, log_format)
        except SystemExit as error:  # code of the user's must not say that all is done
            left = ModelError(
                "code of the model's, or of a module that the job names, ends the process",
                received=f"SystemExit: {error}",
                hint="raise an error instead of calling sys.exit()",
            )
            code = of_ending(error)
            show(left, log_format)
        except Exception as error:
            code = of_ending(error)
            show_bug(error, log_format)
        if open_question := undecided(int(code or 0), argv):
            warn(open_question, log_format)
    let_go()
    sys.exit(int(code or 0))


def _invoked(command: Callable[..., Any], argv: list[str]) -> Any:
    """What a command returns: its exit code, or None.

    Raises:
        BrokenPipeError: No one takes what it prints.
        StorageError: It cannot be written where it was to go.
    """
    try:
        code = command(argv, prog_name="shardscore", standalone_mode=False, obj=argv)
        hand_over()
    except OSError as error:
        # Storage tells of its own errors in other words: what is left is the printing of results.
        if error.errno in NO_ROOM and error.filename is None:
            raise not_written(error) from error
        raise
    except SystemExit as error:
        # What Typer makes of a broken pipe; it would pass for an exit of the user's code.
        if isinstance(error.__context__, BrokenPipeError):
            raise error.__context__ from None
        raise
    return code


def run() -> NoReturn:
    """As `main`, for a process of its own: it ends at once.

    Python's last collection of garbage walks all that TensorFlow and Keras have made, which takes
    seconds; a pod that was told to stop has none to waste. Exit handlers still run.
    """
    try:
        main()
    finally:
        gc.freeze()


if __name__ == "__main__":
    run()
