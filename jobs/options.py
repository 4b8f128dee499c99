"""The options that commands share: each is a flag, a SHARDSCORE_* variable, and a line of help.

All default to None, so that a value in the TOML file can tell whether it was overridden.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from jobs import help_text

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        envvar="SHARDSCORE_MODEL",
        show_envvar=False,
        metavar="PATH",
        help="The model: a .keras, .h5 or .hdf5 file, or the folder of a SavedModel. Needed, if no "
        "job file names it.",
        rich_help_panel=help_text.WHAT,
    ),
]
ModelSha256 = Annotated[
    str | None,
    typer.Option(
        envvar="SHARDSCORE_MODEL_SHA256",
        show_envvar=False,
        metavar="HEX",
        help="Refuse a model with another digest, in hexadecimal. Default: any is taken.",
        rich_help_panel=help_text.COLUMNS,
    ),
]
Import = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        envvar="SHARDSCORE_IMPORT",
        show_envvar=False,
        metavar="MODULE",
        help="Module, or .py file, that registers the model's own classes. Default: none. "
        "Repeatable.",
        rich_help_panel=help_text.COLUMNS,
    ),
]
Input = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="PATH",
        help="File, folder or quoted glob of Parquet shards. Needed, if no job file names it. "
        "Repeatable; in the variable SHARDSCORE_INPUT, one a line.",
        rich_help_panel=help_text.WHAT,
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        envvar="SHARDSCORE_OUTPUT",
        show_envvar=False,
        metavar="DIR",
        help="Folder of the predictions: a file for each shard, of the same name. Needed, if no "
        "job file names it.",
        rich_help_panel=help_text.WHAT,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="SHARDSCORE_CONFIG",
        show_envvar=False,
        metavar="TOML",
        help="Job file, as `shardscore init` writes one; options and variables take precedence "
        "over it. Default: none.",
        rich_help_panel=help_text.WHAT,
    ),
]
Features = Annotated[
    list[str] | None,
    typer.Option(
        envvar="SHARDSCORE_FEATURES",
        show_envvar=False,
        metavar="COLUMN",
        help="Columns (names or globs, in order) of a model with one input. Default: the only list "
        "column of its width; named inputs take the columns of their names. Repeatable.",
        rich_help_panel=help_text.COLUMNS,
    ),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        envvar="SHARDSCORE_KEEP",
        show_envvar=False,
        metavar="COLUMN",
        help="Columns to carry along: names or globs, or unused (those the model does "
        "not read; the default), all, none. Repeatable.",
        rich_help_panel=help_text.RESULTS,
    ),
]
BatchSize = Annotated[
    str | None,
    typer.Option(
        envvar="SHARDSCORE_BATCH_SIZE",
        show_envvar=False,
        metavar="N|auto",
        help="Rows a batch. auto (the default) follows from the model's inputs.",
        rich_help_panel=help_text.ROWS,
    ),
]
SmallShardRows = Annotated[
    int | None,
    typer.Option(
        envvar="SHARDSCORE_SMALL_SHARD_ROWS",
        show_envvar=False,
        metavar="N",
        min=0,
        help="Shards of at most N rows go to predict(). Default: the batch size.",
        rich_help_panel=help_text.ROWS,
    ),
]
Method = Annotated[
    Literal["auto", "predict_on_batch", "predict", "predict_step"] | None,
    typer.Option(
        envvar="SHARDSCORE_METHOD",
        show_envvar=False,
        help="Keras' method that scores. auto (the default): predict_on_batch() where it "
        "is proved right, predict() for small shards.",
        rich_help_panel=help_text.ROWS,
    ),
]
OnBadRow = Annotated[
    Literal["fail", "null", "quarantine"] | None,
    typer.Option(
        envvar="SHARDSCORE_ON_BAD_ROW",
        show_envvar=False,
        help="A row that cannot be scored: fail its shard (the default), keep it with "
        "null predictions, or move it to the dead-letter file.",
        rich_help_panel=help_text.ROWS,
    ),
]
MaxBadRows = Annotated[
    str | None,
    typer.Option(
        envvar="SHARDSCORE_MAX_BAD_ROWS",
        show_envvar=False,
        metavar="N|P%",
        help="Fail a shard that has more bad rows than this: a number, or a share of its rows like "
        "1%. Default: any number is allowed.",
        rich_help_panel=help_text.ROWS,
    ),
]
Nonfinite = Annotated[
    Literal["allow", "bad"] | None,
    typer.Option(
        envvar="SHARDSCORE_NONFINITE",
        show_envvar=False,
        help="A prediction that is NaN or infinite: write and count it (allow, the default), or "
        "take its row for a bad one.",
        rich_help_panel=help_text.ROWS,
    ),
]
AllowLossy = Annotated[
    list[str] | None,
    typer.Option(
        envvar="SHARDSCORE_ALLOW_LOSSY",
        show_envvar=False,
        metavar="COLUMN",
        help="Columns (names or globs) whose values may lose precision on their way into the "
        "model. Default: none. Repeatable.",
        rich_help_panel=help_text.COLUMNS,
    ),
]
TimeUnit = Annotated[
    Literal["days", "s", "ms", "us", "ns"] | None,
    typer.Option(
        envvar="SHARDSCORE_TIME_UNIT",
        show_envvar=False,
        help="What dates and times are counted in, from 1970 on, where they feed the model. Needed "
        "only then.",
        rich_help_panel=help_text.COLUMNS,
    ),
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        envvar="SHARDSCORE_PREPROCESS",
        show_envvar=False,
        metavar="MODULE:FUNCTION",
        help="Function from the columns' tensors, by name, to what the model takes. Default: none.",
        rich_help_panel=help_text.COLUMNS,
    ),
]
Postprocess = Annotated[
    str | None,
    typer.Option(
        envvar="SHARDSCORE_POSTPROCESS",
        show_envvar=False,
        metavar="MODULE:FUNCTION",
        help="Function from a batch's outputs, by name, to those that are written. Default: none.",
        rich_help_panel=help_text.RESULTS,
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        envvar="SHARDSCORE_LABELS",
        show_envvar=False,
        metavar="FILE",
        help="File with the names of a classifier's classes, in order, one a line. "
        "Default: classes have no names.",
        rich_help_panel=help_text.RESULTS,
    ),
]
LabelOutput = Annotated[
    str | None,
    typer.Option(
        envvar="SHARDSCORE_LABEL_OUTPUT",
        show_envvar=False,
        metavar="NAME",
        help="The output that --labels and --top-k are about, where several could be meant. "
        "Default: the only one that can be meant.",
        rich_help_panel=help_text.RESULTS,
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        envvar="SHARDSCORE_TOP_K",
        show_envvar=False,
        metavar="K",
        min=1,
        help="Write the K likeliest classes and their scores beside a classifier's output. "
        "Default: they are not written.",
        rich_help_panel=help_text.RESULTS,
    ),
]
CheckpointEvery = Annotated[
    float | None,
    typer.Option(
        envvar="SHARDSCORE_CHECKPOINT_EVERY",
        show_envvar=False,
        metavar="SECONDS",
        min=0,
        help="Save the progress inside a big shard this often. Default: 30; 0: at each batch.",
        rich_help_panel=help_text.AGAIN,
    ),
]
RescoreChanged = Annotated[
    bool | None,
    typer.Option(
        "--rescore-changed",
        envvar="SHARDSCORE_RESCORE_CHANGED",
        show_envvar=False,
        help="Score shards again that have changed since they were scored, and put the new file "
        "in the place of the old one. Default: they are refused.",
        rich_help_panel=help_text.AGAIN,
    ),
]
ShardIndex = Annotated[
    int | None,
    typer.Option(
        envvar=["SHARDSCORE_SHARD_INDEX", "JOB_COMPLETION_INDEX"],
        show_envvar=False,
        metavar="I",
        min=0,
        help="Score the share with this number alone, from 0; in a Kubernetes Indexed Job it is "
        "the pod's index. Default: all is scored.",
        rich_help_panel=help_text.SCALE,
    ),
]
ShardCount = Annotated[
    int | None,
    typer.Option(
        envvar="SHARDSCORE_SHARD_COUNT",
        show_envvar=False,
        metavar="N",
        min=1,
        help="How many shares there are, alike in rows. Default: the input is not shared out.",
        rich_help_panel=help_text.SCALE,
    ),
]
PlanId = Annotated[
    str | None,
    typer.Option(
        "--plan-id",
        envvar="SHARDSCORE_PLAN_ID",
        show_envvar=False,
        metavar="ID",
        help="Share one listing of the input: the first run with this id freezes what it finds, "
        "all others with the same id take that. In a Kubernetes Job, its uid. "
        "Default: each run lists the input itself.",
        rich_help_panel=help_text.SCALE,
    ),
]
Workers = Annotated[
    str | None,
    typer.Option(
        envvar="SHARDSCORE_WORKERS",
        show_envvar=False,
        metavar="N|auto",
        help="Processes that score, a shard at a time each. auto (the default): as many as cores, "
        "memory and work are good for.",
        rich_help_panel=help_text.SCALE,
    ),
]
Threads = Annotated[
    str | None,
    typer.Option(
        envvar="SHARDSCORE_THREADS",
        show_envvar=False,
        metavar="N|auto",
        help="Threads in each pool of a process. auto (the default): the cores, divided by the "
        "workers.",
        rich_help_panel=help_text.SCALE,
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        envvar="SHARDSCORE_BASELINE",
        show_envvar=False,
        metavar="DIR",
        help="Compare the predictions, when all are published, with those of this earlier output. "
        "Default: none.",
        rich_help_panel=help_text.DRIFT,
    ),
]
MaxDrift = Annotated[
    float | None,
    typer.Option(
        "--max-drift",
        envvar="SHARDSCORE_MAX_DRIFT",
        show_envvar=False,
        metavar="PSI",
        help="End with 65, without _SUCCESS, if a prediction's population stability index against "
        "--baseline is higher. Below 0.1 is alike by custom, above 0.25 another population. "
        "Default: no limit.",
        rich_help_panel=help_text.DRIFT,
    ),
]
Engine = Annotated[
    Literal["local", "ray"],
    typer.Option(
        envvar="SHARDSCORE_ENGINE",
        show_envvar=False,
        help="Where the workers are: processes on this machine, or actors on a Ray cluster "
        "(pip install 'shardscore[ray]').",
        rich_help_panel=help_text.SCALE,
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        envvar="SHARDSCORE_RAY_ADDRESS",
        show_envvar=False,
        metavar="HOST:PORT|auto",
        help="The head of the Ray cluster that this machine is a node of. Default: RAY_ADDRESS, or "
        "the one that runs here.",
        rich_help_panel=help_text.SCALE,
    ),
]
FollowLinks = Annotated[
    bool | None,
    typer.Option(
        "--follow-links/--no-follow-links",
        envvar="SHARDSCORE_FOLLOW_LINKS",
        show_envvar=False,
        help="Follow links that lead out of an input. Without it, each is a failed shard.",
        show_default=False,
        rich_help_panel=help_text.WHAT,
    ),
]
LogFormat = Annotated[
    Literal["auto", "text", "json"],
    typer.Option(
        envvar="SHARDSCORE_LOG_FORMAT",
        show_envvar=False,
        help="Standard error: auto is a progress bar on a terminal, else text.",
        rich_help_panel=help_text.SHOWN,
    ),
]
MetricsFile = Annotated[
    Path | None,
    typer.Option(
        envvar="SHARDSCORE_METRICS_FILE",
        show_envvar=False,
        metavar="PROM",
        help="Keep figures of the run in this file, in Prometheus' text format. Each job, and each "
        "share, needs one of its own. Default: none.",
        rich_help_panel=help_text.SHOWN,
    ),
]
PushgatewayAddress = Annotated[
    str | None,
    typer.Option(
        "--pushgateway",
        envvar="SHARDSCORE_PUSHGATEWAY",
        show_envvar=False,
        metavar="URL",
        help="Push the same figures to this Prometheus Pushgateway, like http://gateway:9091. "
        "Default: none.",
        rich_help_panel=help_text.SHOWN,
    ),
]
MetricsName = Annotated[
    str | None,
    typer.Option(
        envvar="SHARDSCORE_METRICS_NAME",
        show_envvar=False,
        metavar="NAME",
        help="What tells this job's figures from those of another: their label name. "
        "Default: none.",
        rich_help_panel=help_text.SHOWN,
    ),
]
FailFast = Annotated[
    bool,
    typer.Option(
        "--fail-fast",
        envvar="SHARDSCORE_FAIL_FAST",
        show_envvar=False,
        help="End the run at the first shard that fails. Default: the others are scored.",
        rich_help_panel=help_text.AGAIN,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        envvar="SHARDSCORE_QUIET",
        show_envvar=False,
        help="Show problems alone. Default: progress too.",
        rich_help_panel=help_text.SHOWN,
    ),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print the result as one JSON document. Default: text.",
        rich_help_panel=help_text.SHOWN,
    ),
]
