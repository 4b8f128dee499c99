"""The options of the commands that look at an output: `status`, `verify`, `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Watch = Annotated[
    bool,
    typer.Option(
        "--watch", help="Show it again every two seconds, until no run is at work. Default: once."
    ),
]
OutputArgument = Annotated[
    str,
    typer.Argument(envvar="SHARDSCORE_OUTPUT", metavar="DIR", help="Folder of the predictions."),
]
Html = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write the page there. Default: _shardscore/report.html in the output.",
    ),
]
RunId = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="ID",
        help="Tell of this run; what is published is told as it is now. Default: the latest run.",
    ),
]
VerifiedInput = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="PATH",
        help="Compare with this input. Default: that of the latest run. Repeatable.",
    ),
]
NoInput = Annotated[
    bool,
    typer.Option(
        "--no-input",
        envvar="SHARDSCORE_NO_INPUT",
        show_envvar=False,
        help="Prove the output from its storage alone. Default: with its input, if it is there.",
    ),
]
Quick = Annotated[
    bool,
    typer.Option(
        "--quick",
        envvar="SHARDSCORE_QUICK",
        show_envvar=False,
        help="Read footers alone: no digests of data, no comparison of rows. Default: all.",
    ),
]
Repair = Annotated[
    bool,
    typer.Option(
        "--repair",
        help="Write _MANIFEST.json and _SUCCESS anew if all is proven, and remove what killed "
        "runs have left. No published file is changed or removed. Default: nothing is written.",
    ),
]
