"""The command that comes after a run: `report` says how it went."""

from __future__ import annotations

import json
import sys

from jobs import options as opt  # noqa: TC001 - Typer reads the annotations at run time
from jobs import output_options as out  # noqa: TC001 - Typer reads the annotations at run time
from pipeline.errors import NoInputError, printable


def report(
    output: out.OutputArgument,
    html: out.Html = None,
    run_id: out.RunId = None,
    as_json: opt.AsJson = False,
) -> None:
    """Write an HTML page that says how the scoring of an output went.

    One file that needs no network: the verdict, bad rows, what the predictions look like, the
    shards, and what ran. From storage alone, at any moment.
    """
    from pipeline.memory import no_collections

    with no_collections():
        from jobs.exit_codes import of_told
        from pipeline.report_facts import facts
        from pipeline.storage import storage_at

    storage = storage_at(output)
    document = facts(storage, run_id=run_id, exit_code=of_told)
    if document is None:
        raise no_output(storage.url)
    if as_json and html is None:
        print(json.dumps(document, indent=1))
        return
    from pipeline.job_file import write_text
    from pipeline.layout import PAGE
    from pipeline.page import page
    from pipeline.screen import on_screen, short_path, width_of

    made = page(document)
    if html is None:
        storage.replace(PAGE, made.encode())
    else:
        write_text(html, made, replace=True)
    if as_json:
        print(json.dumps(document, indent=1))
    else:
        print(on_screen(printable(document["verdict"]["text"]), width_of(sys.stdout)))
        print("report:", printable(short_path(str(html or f"{storage.url}/{PAGE}"))))


def no_output(address: str) -> NoInputError:
    """The error for an address where no run has begun an output."""
    return NoInputError(
        "no run has begun an output here",
        path=address,
        hint="check the path; it is what `score` was given as --output",
    )
