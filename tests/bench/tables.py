"""What was found, as Markdown: a pure function of the JSON document."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from tests.bench.targets import (
    MIB,
    OURS,
    counted,
    limit_of,
    of_limit,
    rates,
    ratio,
    targets,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_NOTES = """\
* Contestants ran in turn (A B A B), one at a time, with all cores, on inputs in the page cache.
  Figures are medians of the rounds; a ratio is the median of the rounds' ratios, and says how many
  times ours is faster, row for row.
* After loading: a contestant's own clock, from when TensorFlow and its engine were up and the
  model was loaded, to its last file. Ours: its whole process less that of a process which imports
  TensorFlow, loads the model and ends (the median of the rounds). Scoring (ours): from when the
  model is loaded and its methods are proved, to the end of the process.
* Memory: all processes of a contestant together, what they share counted once.
* All had the batch size that ours chose. Predictions were compared row by row in the first round.
* An engine that loads the model in processes of its own may read meanwhile: that is a present to
  its rate after loading, and its whole process shows what it costs to get there.
* "part": it was given a part of the rows, and is told by its rate, after loading above all.
"""


def markdown(found: dict[str, Any]) -> str:
    """The tables."""
    machine = found["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    blocks = [
        f"# Benchmark of {machine['date'][:10]}",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"Linux {machine['kernel']}; Python {machine['python']}, {versions}; "
        f"commit {machine['commit']}.\n"
        f"`{found['command']}`: scale {found['scale']:g}, {found['rounds']} rounds.",
    ]
    if found["scale"] != 1:
        blocks.append("**Not at full scale: figures of a trial.**")
    blocks += [_versus(found, name) for name in _workloads(found)]
    if found["seconds"]:
        blocks.append(_starts(found))
    blocks.append("## What was promised\n\n" + _promised(found))
    blocks.append("## Notes\n\n" + _NOTES + "".join(f"* {note}\n" for note in found["notes"]))
    return "\n\n".join(blocks)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column to the left, the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _workloads(found: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(run["workload"] for run in found["runs"]))


def _versus(found: dict[str, Any], workload: str) -> str:
    runs = [run for run in found["runs"] if run["workload"] == workload]
    rows = [
        _row(found, workload, name)
        for name in dict.fromkeys(run["contestant"] for run in runs)
        if name != "loading"
    ]
    head = ["", "rows", "rows/s, whole process", "after loading", "scoring", "peak memory"]
    head += ["above the model", "CPU s per M rows", "ours, whole process", "ours, after loading"]
    title = found["titles"].get(workload, workload)
    lines = [f"## {workload}: {title}", "", table(head, rows)]
    best = limit_of(found, workload)
    if best is not None:
        ways = found["limits"][workload]
        told = "; ".join(f"{way}: {_big(statistics.median(r))}" for way, r in ways.items())
        share = of_limit(found, workload)
        lines += ["", f"Limit, the model alone on batches in memory, rows/s: {told}."]
        if share is not None:
            lines.append(f"Ours scores at {share:.2f} of the faster one.")
    parts = found["parts"].get(workload)
    if parts:
        told = ", ".join(f"{name} {seconds:.2f}" for name, seconds in parts.items())
        bound = found["machine"]["cores"] * 1e6 / sum(parts.values())
        lines.append(
            f"CPU seconds a million rows, each alone: {told}; with nothing ever waiting "
            f"{_big(bound)} rows/s."
        )
    return "\n".join(lines)


def _row(found: dict[str, Any], workload: str, name: str) -> list[str]:
    runs = counted(found, workload, name)
    if not runs:
        fault = next(
            run["fault"]
            for run in found["runs"]
            if (run["workload"], run["contestant"]) == (workload, name) and run["fault"]
        )
        return [name, f"does not count: {fault}".replace("|", "/"), *[""] * 8]
    part = " (part)" if any(run["facts"].get("part") for run in runs) else ""
    times = [
        ratio(found, workload, OURS, name, by) if name != OURS else None
        for by in ("wall", "after_loading")
    ]
    above = statistics.median(run["above_loaded"] for run in runs)
    rows = runs[0]["rows"]
    return [
        name,
        f"{rows:,}{part}",
        _rate(rates(runs, "wall")),
        _rate(rates(runs, "after_loading")),
        _rate(rates(runs, "scoring")),
        f"{statistics.median(run['peak'] for run in runs) / MIB:,.0f} MiB",
        f"{above / MIB:,.0f} MiB" if above else "",
        f"{statistics.median(run['cpu'] for run in runs) * 1e6 / max(rows, 1):.2f}",
        *[f"{each:,.1f} x" if each is not None else "" for each in times],
    ]


def _starts(found: dict[str, Any]) -> str:
    rows = [
        [name, f"{statistics.median(seconds):.2f} s", f"{min(seconds):.2f} s", str(len(seconds))]
        for name, seconds in found["seconds"].items()
    ]
    return "## Start-up\n\n" + table(["", "median", "fastest", "starts"], rows)


def _promised(found: dict[str, Any]) -> str:
    rows = []
    for target in targets(found):
        way = "at most" if target.at_most else "at least"
        unit = f" {target.unit}" if target.unit else ""
        told = "not measured" if target.found is None else f"{target.found:,.2f}{unit}"
        verdict = {True: "yes", False: "**no**", None: ""}[target.reached]
        rows.append([target.text, f"{way} {target.wanted:g}{unit}", told, verdict])
    return table(["", "promised", "found", "reached"], rows)


def _rate(values: list[float]) -> str:
    return _big(statistics.median(values)) if values else ""


def _big(rate: float) -> str:
    return f"{rate / 1e6:.2f} M" if rate >= 1e6 else f"{rate:,.0f}"
