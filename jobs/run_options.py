"""The options of a run: who scores, when it saves, who is told.

Each is a flag, a SHARDSCORE_* variable, and a line of help.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from jobs import help_text

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
