"""How the help of a command looks: its options by what they are about, 80 columns at most.

Plain text, without boxes or colours: it reads the same in a pipe, in a log and on any terminal.
A group is what an option has for its `rich_help_panel`; those without one come last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH = 80

WHAT = "What to score"
COLUMNS = "Columns and the model"
RESULTS = "Predictions"
ROWS = "Rows and batches"
AGAIN = "Saving, and scoring again"
SCALE = "Several processes or machines"
DRIFT = "Drift"
SHOWN = "What is shown"
MEASURED = "What is measured"
FILE = "The job file"

_ARGUMENTS, _OTHERS = "Arguments", "Other options"
_FEW = 8
"""So many options need no groups."""


class Command(TyperCommand):
    """A command whose help has a section for each group of its options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the arguments, then the options, group by group."""
        told = [*self._records(ctx)]
        if len(told) <= _FEW:
            told = [(g if g == _ARGUMENTS else "Options", record) for g, record in told]
        sections: dict[str, list[tuple[str, str]]] = {}
        for group, record in sorted(told, key=lambda pair: pair[0] == _OTHERS):
            sections.setdefault(group, []).append(record)
        for group, records in sections.items():
            with formatter.section(group):
                formatter.write_dl(records)

    def _records(self, ctx: Any) -> Iterator[tuple[str, tuple[str, str]]]:
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            if param.param_type_name == "argument":
                yield _ARGUMENTS, (record[0].partition(" ")[0], record[1])  # not its type
            else:
                yield getattr(param, "rich_help_panel", None) or _OTHERS, record


def context_settings() -> dict[str, Any]:
    """How Typer is to write help."""
    return {"help_option_names": ["-h", "--help"], "max_content_width": WIDTH}
