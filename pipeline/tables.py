"""Documents and reports as lines for people: facts in two columns, and plain tables."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import printable
from pipeline.report import methods, rate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.records import RunReport

SHOWN_FAILURES = 10
SHOWN_FINDINGS = 20
SHOWN_PROGRESS = 10
_CELL = 60
SILENT_SECONDS = 60.0
"""A run that goes on without a sign of life for longer was killed, it seems."""


def summary_text(report: RunReport) -> str:
    """The closing summary of a run."""
    counts = report.counts
    output = short_path(report.output)
    if report.nothing_to_do:
        return f"nothing to do: all {report.shards:,} shards are published in {output}"
    lines = {"rows in": f"{counts.rows_in:,}", "scored": f"{counts.scored:,}"}
    if counts.null_scored:
        lines["null-scored"] = f"{counts.null_scored:,}"
    if counts.quarantined:
        lines["quarantined"] = f"{counts.quarantined:,} (see {output}/_shardscore/quarantine/)"
    if counts.nonfinite:
        lines["not finite"] = (
            f"{counts.nonfinite:,} of the scored have a NaN or infinite prediction "
            "(--nonfinite bad sets them aside)"
        )
    lines["shards"] = _shards(report)
    lines["time"] = f"{report.seconds:,.1f} s"
    if counts.rows_in:
        lines["time"] += f", scoring at {rate(report):,.0f} rows/s"
    if report.memory_after_load:
        lines["memory"] = (
            f"{size(report.memory_peak)} at its peak, of which "
            f"{size(report.memory_after_load)} TensorFlow and the loaded model"
        )
        if report.workers > 1:
            lines["memory"] += f", over {report.workers} workers"
    if report.fitting_batch_rows:
        lines["out of memory"] = (
            f"batches of {report.batch_size:,} rows did not fit, and were scored by at most "
            f"{report.fitting_batch_rows:,} rows a call"
        )
    if report.drift is not None and report.drift.differences:
        largest = report.drift.differences[0]
        lines["drift"] = (
            f"{largest.psi:.3g} at most ({largest.name}; population stability index against "
            f"{short_path(report.drift.baseline)})"
        )
    lines["output"] = output
    return aligned(lines)


def plan_text(document: dict[str, Any]) -> str:
    """A plan."""
    shards, rows, bytes_ = document["shards"], document["rows"], document["bytes"]
    lines = {
        "model": f"{short_path(document['model'])} (sha256 {document['model_sha256'][:12]}…)",
        "output": _planned_output(document),
        "shards": f"{shards['total']:,}: {shards['done']:,} published, {shards['pending']:,} "
        f"to score, {shards['failed']:,} that cannot be scored",
        "rows": f"{rows['pending']:,} to score of {rows['total']:,} "
        f"({size(bytes_['pending'])} of {size(bytes_['total'])})",
    }
    if "shares" in document:
        lines["shares"] = _shares(document["shares"])
    if "batch_size" in document:
        lines["batch size"] = f"{document['batch_size']:,} rows"
        lines["small shards"] = (
            f"{document['small_shards']:,} of at most {document['small_shard_rows']:,} rows, by "
            f"{document['small_method']}()"
        )
        lines["big shards"] = f"{document['big_shards']:,}, by {document['method']}"
    if "workers" in document:
        lines["workers"] = f"{document['workers']:,}, pools of {document['threads']:,} threads"
    lines["bad rows"] = document["on_bad_row"]
    lines["kept"] = ", ".join(document["keep"])
    if "predictions" in document:
        lines["predicted"] = ", ".join(
            f"{name} ({kind})" for name, kind in document["predictions"].items()
        )
    if document["other_files"]:
        lines["besides"] = f"{document['other_files']:,} files of earlier runs on other input"
    text = aligned(lines)
    if "binding" in document:
        head = ("input", "takes", "column", "type", "conversion")
        text += "\n\n" + table(head, _runs(document["binding"]))
    return "\n".join([text, *("note: " + printable(note) for note in document.get("notes", ()))])


def _planned_output(document: Mapping[str, Any]) -> str:
    if document["output"] is None:
        return "not said; score wants --output"
    return short_path(document["output"]) + ("" if document["begun"] else " (to be begun)")


def status_text(document: dict[str, Any]) -> str:
    """The status of an output that has been begun."""
    shards, rows, last = document["shards"], document["rows"], document["last_run"]
    lines = {"output": short_path(document["output"])}
    if document["fingerprint"]:
        lines["job"] = (
            f"{document['fingerprint'][:12]}…, batches of {document['batch_size']:,} rows, "
            f"{document['method']}"
        )
    lines |= {
        "shards": f"{shards['published']:,} of {shards['total']:,} published",
        "rows": f"{rows['published']:,} of {rows['total']:,} in published shards",
    }
    if document["other_files"]:
        lines["besides"] = f"{document['other_files']:,} files of earlier runs on other input"
    if document["in_progress"]:
        saved = document["in_progress"]
        lines["in progress"] = (
            f"{len(saved):,} shards, {sum(saved.values()):,} rows saved in checkpoints"
        )
        for i, (name, rows) in enumerate(sorted(saved.items())[:SHOWN_PROGRESS]):
            lines[f"  shard {i + 1}"] = f"{name}: {rows:,} rows"
        if len(saved) > SHOWN_PROGRESS:
            lines["  shards"] = f"{len(saved):,} in all; see --json"
    if last:
        counts = last["rows"]
        lines["last run"] = f"{_state(last)}, begun {last['started']}, {last['seconds']:,.1f} s"
        lines["  scored"] = (
            f"{counts['scored']:,} rows, {counts['quarantined']:,} quarantined, "
            f"{counts['null_scored']:,} null-scored"
        )
        if counts.get("nonfinite"):  # reports were written before it was counted
            lines["  not finite"] = (
                f"{counts['nonfinite']:,} rows with a NaN or infinite prediction"
            )
        failed = [o for o in last.get("outcomes", ()) if o["error"]]
        for i, outcome in enumerate(failed[:SHOWN_FAILURES]):
            message = outcome["error"]["message"]
            lines[f"  failed {i + 1}"] = f"{outcome['shard']}: {message}"
        if len(failed) > SHOWN_FAILURES:
            lines["  failed"] = f"{len(failed):,} shards in all; see --json"
        if last["error"]:
            lines["  ended by"] = last["error"]["message"]
    lines["_SUCCESS"] = "there" if document["success"] else "not there"
    lines["complete"] = "yes" if document["complete"] else "no"
    return aligned(lines)


def verify_text(document: dict[str, Any]) -> str:
    """What `verify` found."""
    shards, rows = document["shards"], document["rows"]
    lines = {"output": short_path(document["output"])}
    if document["fingerprint"]:
        lines["job"] = f"{document['fingerprint'][:12]}…"
    lines["shards"] = f"{shards['published']:,} of {shards['planned']:,} published"
    if shards["others"]:
        lines["besides"] = f"{shards['others']:,} files of earlier runs on other input"
    lines["rows"] = (
        f"{rows['in']:,} in, {rows['scored']:,} scored, {rows['null_scored']:,} null-scored, "
        f"{rows['quarantined']:,} quarantined"
    )
    read = "footers alone were read (--quick)" if document["quick"] else "read and digested"
    lines["data"] = f"{size(document['bytes'])}, {read}"
    if document["input_note"]:
        lines["input"] = f"not looked at: {document['input_note']}"
    elif document["quick"]:
        lines["input"] = "its footers alone were looked at (--quick)"
    else:
        lines["input"] = f"{shards['compared']:,} shards compared row for row"
    lines["_SUCCESS"] = "there" if document["success"] else "not there"
    wrong, unfinished = document["wrong"], document["unfinished"]
    verdicts = [f"wrong in {len(wrong):,} places"] if wrong else []
    verdicts += [f"not finished, {len(unfinished):,} left to do"] if unfinished else []
    lines["verdict"] = "; ".join(verdicts) or "proven"
    parts = [aligned(lines)]
    if wrong:
        parts.append("wrong:\n" + _findings(wrong))
    if unfinished:
        parts.append("not finished:\n" + _findings(unfinished))
    notes = [f"repaired: {line}" for line in document["repaired"]]
    notes += [f"note: {line}" for line in document["notes"]]
    parts += ["\n".join(map(printable, notes))] if notes else []
    return "\n\n".join(parts)


def _shares(shares: Mapping[str, Any]) -> str:
    text = (
        f"{shares['count']:,} of {shares['smallest_rows']:,} to {shares['biggest_rows']:,} rows, "
        f"{shares['mean_rows']:,.0f} on average"
    )
    if shares["biggest_shard_rows"] > shares["mean_rows"]:
        # No sharing can do better: the biggest share has that shard.
        text += f"; one shard alone has {shares['biggest_shard_rows']:,}"
    return text


def _findings(found: Sequence[Mapping[str, str]]) -> str:
    """A table of findings, and what to do about them."""
    columns = ("file", "what", "expected", "found")
    rows = [[_cell(finding[name]) for name in columns] for finding in found[:SHOWN_FINDINGS]]
    lines = [table(columns, rows)]
    if len(found) > SHOWN_FINDINGS:
        lines.append(f"… {len(found) - SHOWN_FINDINGS:,} more, see --json")
    lines += [f"to do: {text}" for text in dict.fromkeys(finding["to_do"] for finding in found)]
    return "\n".join(lines)


def _cell(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= _CELL else f"{shown[: _CELL - 1]}…"


def aligned(lines: Mapping[str, str]) -> str:
    """Facts, a line each, their names in a column."""
    width = max(map(len, lines)) + 2
    return "\n".join(f"{name + ':':<{width}}{printable(text)}" for name, text in lines.items())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table with a rule below its head."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "  ".join(printable(cell).ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])


def size(count: float) -> str:
    """Bytes in the unit that suits them."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            shown = count / scale
            return f"{shown:,.0f} {unit}" if shown >= 100 else f"{shown:,.1f} {unit}"
    return f"{count:,.0f} bytes"


def short_path(path: str) -> str:
    """A path relative to the current folder, if it lies below it."""
    return path.removeprefix(f"{Path.cwd()}/")


def _runs(binding: Sequence[dict[str, str]]) -> list[tuple[str, ...]]:
    """Rows of the binding's table; many columns that feed one input alike share a row."""
    rows: list[tuple[str, ...]] = []
    for _, same in groupby(binding, key=lambda r: (r["input"], r["column_type"], r["conversion"])):
        uses = list(same)
        columns = [use["column"] for use in uses]
        shown = columns[0] if len(columns) == 1 else f"{columns[0]} … {columns[-1]} ({len(uses)})"
        first = uses[0]
        rows.append(
            (first["input"], first["input_type"], shown, first["column_type"], first["conversion"])
        )
    return rows


def _shards(report: RunReport) -> str:
    parts = [f"{n:,} by {method}()" for method, n in methods(report.outcomes).items()]
    if report.shards_done_before:
        parts.append(f"{report.shards_done_before:,} published before")
    if report.failed:
        parts.append(f"{len(report.failed):,} failed")
    left = report.shards - report.shards_done_before - len(report.outcomes)
    if left:
        parts.append(f"{left:,} left")
    return f"{report.shards:,}: " + ", ".join(parts)


def _state(last: dict[str, Any]) -> str:
    if last["state"] != "running":
        return str(last["state"])
    silent = (datetime.now(UTC) - datetime.fromisoformat(last["updated"])).total_seconds()
    if silent > SILENT_SECONDS:
        return f"killed, it seems (last sign of life {last['updated']})"
    return f"running (last sign of life {silent:.0f} s ago)"
