"""The report of an output as one HTML page that needs nothing else.

`page.html`, `page.css` and `page.js` lie beside this; here they become one text. All that comes
from outside (names of shards, columns and classes, reasons, errors, addresses) is escaped twice:
control characters and marks of direction by `printable`, markup by the template. The page forbids
itself the network: it may run this one script and no other, and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from pipeline import plots, wording
from pipeline.errors import printable
from pipeline.screen import size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SIGNS = {"good": "✓", "waiting": "…", "bad": "✗"}
"""What tells how an output stands where colours do not."""

MOST_MULTIPLES = 3
"""Small figures of a column that are shown at once; the others can be unfolded."""


def page(facts: Mapping[str, Any]) -> str:
    """The page, to be written as UTF-8.

    Args:
        facts: What it says: see `pipeline.report_facts`.
    """
    style, script = _part("page.css"), _part("page.js")
    environment = jinja2.Environment(
        autoescape=True,
        finalize=_finalized,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=wording.count,
        number=wording.number,
        duration=wording.duration,
        moment=wording.moment,
        size=size,
        command=_command,
        said=partial(json.dumps, ensure_ascii=False),
    )
    environment.globals.update(share=wording.share)
    return environment.from_string(_part("page.html")).render(
        facts=facts,
        sign=SIGNS[facts["verdict"]["level"]],
        style=style,
        script=script,
        policy="; ".join(
            (
                "default-src 'none'",
                f"style-src 'sha256-{_digest(style)}'",
                f"script-src 'sha256-{_digest(script)}'",
                "img-src data:",
                "base-uri 'none'",
                "form-action 'none'",
            )
        ),
        data=_data(facts),
        multiples=MOST_MULTIPLES,
        columns=[_column(column, facts) for column in facts["predictions"]],
        courses=_courses(facts["run"]),
    )


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _shown(value: Any) -> str:
    """A text from outside, on one line, with no mark that could reorder or hide what follows."""
    return printable(str(value))


def _finalized(value: Any) -> Any:
    """Each value on its way into the page: what is a text, and not made here as markup, as shown.

    So no place in the template can forget it, as none can forget to escape.
    """
    return _shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _command(invocation: Mapping[str, Any]) -> str:
    """What to type to do it again."""
    variables = [
        f"{shlex.quote(_shown(name))}={shlex.quote(_shown(value))}"
        for name, value in invocation.get("variables", {}).items()
    ]
    words = [shlex.quote(_shown(word)) for word in invocation.get("command", ())]
    return " ".join([*variables, *words])


def _data(facts: Mapping[str, Any]) -> str:
    """The shards, for the script: compact, and nothing in it that could end the element."""
    rows = facts["shard_table"]
    states, methods = (_words(row[place] for row in rows) for place in (1, 5))
    compact = [
        [
            _shown(name),
            states[state],
            of_rows,
            bad,
            methods[method],
            seconds,
            *([_shown(note)] if note else []),
        ]
        for name, state, of_rows, _scored, bad, method, seconds, note in rows
    ]
    data = {
        "states": [*map(_shown, states)],
        "methods": [*map(_shown, methods)],
        "rows": compact,
    }
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _words(found: Any) -> dict[str, int]:
    return {word: place for place, word in enumerate(dict.fromkeys(found))}


def _column(column: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """A prediction column, its parts drawn."""
    rows = facts["rows"]
    outcomes = rows["scored"] + rows["null_scored"]
    return {
        **column,
        "null": wording.share(rows["null_scored"], outcomes),
        "parts": [
            {**part, "figure": _drawn(str(column["name"]), part)} for part in column["parts"]
        ],
    }


def _drawn(name: str, part: Mapping[str, Any]) -> Markup:
    baseline = part.get("baseline")
    compared = None if baseline is None else (baseline["counts"], baseline["total"])
    if "bars" in part:
        named = [(_shown(value), count) for value, count in part["bars"]]
        if not named:
            return Markup("")
        title = _shown(f"Shares of {name}" + (f": {part['of']}" if part["of"] else ""))
        return plots.bars(named, part["total"], baseline=compared, title=title)
    if not part["edges"]:
        return Markup("")
    return plots.histogram(
        part["edges"],
        part["counts"],
        part["total"],
        logarithmic=part["log"],
        baseline=compared,
        title=_shown(f"Histogram of {name}{part['of']}"),
    )


def _courses(run: Mapping[str, Any] | None) -> Sequence[dict[str, Any]]:
    """Throughput and memory over time, where a run has told of it at least three times."""
    timeline = [] if run is None else run["timeline"]
    if len(timeline) < 3:
        return []
    before = sum(1 for point in timeline if not point[1]) - 1
    drawn = (
        ("Rows a second, while it scored", plots.rates(timeline[max(0, before) :]), True, _rate),
        ("Resident memory, all processes", [(p[0], p[2]) for p in timeline], False, size),
    )
    return [
        {
            "name": name,
            "figure": plots.course(
                points, stepped=stepped, worded=worded, title=f"{name}, over time"
            ),
        }
        for name, points, stepped, worded in drawn
    ]


def _rate(value: float) -> str:
    return f"{value:,.0f} rows/s"
