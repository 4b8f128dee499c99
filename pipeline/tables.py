"""Documents as lines for people: facts in two columns, and tables of what is alike."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pipeline.errors import printable, shortened
from pipeline.screen import WIDTH, aligned, clipped, cut, item, short_path, size, table
from pipeline.wording import counted, duration, moment, short_duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHOWN_ROWS = 10
SHOWN_FINDINGS = 20
SHOWN_BINDING = 40
_CELL = 80
_NAME = 240
SILENT_SECONDS = 60.0
"""A run that goes on without a sign of life for longer was killed, it seems."""

_BAD_ROWS = {
    "fail": "fail (a shard that has one is not published)",
    "null": "null (they keep their place, without a prediction)",
    "quarantine": "quarantine (moved to _shardscore/quarantine/ in the output)",
}
_KEPT = {
    "unused": "unused (the columns that the model does not read)",
    "all": "all columns",
    "none": "no column",
}
_LIST = re.compile(r"(?:fixed_size_list|list)<\w+: ([\w\[\]., ()]+)>(\[\d+\])?")


def plan_text(document: dict[str, Any], width: int = WIDTH) -> str:
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
        lines["batch size"] = counted(document["batch_size"], "row")
        lines["small shards"] = _by(
            document["small_shards"],
            f" of at most {counted(document['small_shard_rows'], 'row')}",
            f"{document['small_method']}()",
        )
        lines["big shards"] = _by(document["big_shards"], "", document["method"])
    if "workers" in document:
        threads = counted(document["threads"], "thread")
        lines["workers"] = f"{document['workers']:,}, each with pools of {threads}"
    lines["bad rows"] = _BAD_ROWS.get(document["on_bad_row"], document["on_bad_row"])
    lines["kept"] = _kept(document.get("kept"), document["keep"])
    predicted = document.get("predictions", {})
    if "binding" in document and not predicted:
        lines["predicted"] = "known when the first rows are scored"
    elif len(predicted) == 1:
        lines["predicted"] = ", ".join(f"{n} ({_type(kind)})" for n, kind in predicted.items())
    if document["other_files"]:
        lines["besides"] = _others(document["other_files"])
    parts = [aligned(lines, width)]
    if len(predicted) > 1:
        types = [(_name(name), _type(kind)) for name, kind in predicted.items()]
        parts.append(_cut_table(("predicted", "type"), types, SHOWN_BINDING, width))
    if "binding" in document:
        head = ("input", "takes", "column", "type", "conversion")
        parts.append(_cut_table(head, _runs(document["binding"]), SHOWN_BINDING, width))
    text = "\n\n".join(parts)
    notes = (item(f"note: {printable(note)}", width) for note in document.get("notes", ()))
    return "\n".join([text, *notes])


def _planned_output(document: Mapping[str, Any]) -> str:
    if document["output"] is None:
        return "not said; score wants --output"
    return short_path(document["output"]) + ("" if document["begun"] else " (to be begun)")


def status_text(document: dict[str, Any], width: int = WIDTH) -> str:
    """The status of an output that has been begun."""
    shards, rows, last = document["shards"], document["rows"], document["last_run"]
    lines = {"output": short_path(document["output"])}
    if document["fingerprint"]:
        batches = f"batches of {counted(document['batch_size'], 'row')}"
        lines["job"] = f"{document['fingerprint'][:12]}…, {batches}, {_streamed(document)}"
    lines |= {
        "shards": f"{shards['published']:,} of {shards['total']:,} published",
        "rows": f"{rows['published']:,} of {rows['total']:,} in published shards",
    }
    if document["other_files"]:
        lines["besides"] = _others(document["other_files"])
    saved = document["in_progress"]
    if saved:
        kept = counted(sum(saved.values()), "row")
        lines["in progress"] = f"{counted(len(saved), 'shard')}, {kept} saved in checkpoints"
    failed: list[dict[str, Any]] = []
    if last:
        lines |= _last_run(last, rows["total"] - rows["published"])
        failed = [o for o in last.get("outcomes", ()) if o["error"]]
    lines["_SUCCESS"] = "there" if document["success"] else "not there"
    lines["complete"] = _complete(document)
    parts = [aligned(lines, width)]
    if saved:
        there = [(_name(name), f"{count:,}") for name, count in sorted(saved.items())]
        head = ("in progress", "rows saved")
        parts.append(_cut_table(head, there, SHOWN_ROWS, width, right=("rows saved",)))
    if failed:
        why = [
            (_name(o["shard"]), _name(o["error"].get("column", "")), _cell(o["error"]["message"]))
            for o in failed
        ]
        if any(column for _, column, _ in why):
            parts.append(_cut_table(("failed", "column", "why"), why, SHOWN_ROWS, width))
        else:
            plain = [(shard, text) for shard, _, text in why]
            parts.append(_cut_table(("failed", "why"), plain, SHOWN_ROWS, width))
    return "\n\n".join(parts)


def _streamed(document: Mapping[str, Any]) -> str:
    """By which method big shards are scored, or small ones where there are no others."""
    if document["big_shards"]:
        return f"big shards by {document['method']}()"
    return f"{document['small_method']}()"


def _complete(document: Mapping[str, Any]) -> str:
    """Whether all is published of what the last run found: what came since, storage cannot tell."""
    last = document["last_run"]
    if not document["complete"]:
        return "no"
    if last is None:
        return "yes"
    if last.get("share"):
        return f"yes, of the plan {last['plan_id']}"
    return f"yes, of the input as listed {moment(last['started'])}"


def _last_run(last: dict[str, Any], rows_left: int) -> dict[str, str]:
    """How the latest run went, or goes; `rows_left` are in shards that are not published."""
    counts, speed = last["rows"], last.get("rows_per_second") or 0.0
    lines = {
        "last run": f"{_state(last)}, begun {moment(last['started'])}, "
        + short_duration(last["seconds"])
    }
    lines["  scored"] = (
        f"{counted(counts['scored'], 'row')}, {counts['quarantined']:,} quarantined, "
        f"{counts['null_scored']:,} null-scored"
    )
    if last["state"] == "running" and speed >= 1:
        lines["  speed"] = f"{speed:,.0f} rows/s, about {duration(rows_left / speed)} left"
    if counts.get("nonfinite"):  # reports were written before it was counted
        rows = counted(counts["nonfinite"], "row")
        lines["  not finite"] = f"{rows} with a NaN or infinite prediction"
    if last["error"]:
        lines["  ended by"] = last["error"]["message"]
    return lines


def verify_text(document: dict[str, Any], width: int = WIDTH) -> str:
    """What `verify` found."""
    shards, rows = document["shards"], document["rows"]
    lines = {"output": short_path(document["output"])}
    if document["fingerprint"]:
        lines["job"] = f"{document['fingerprint'][:12]}…"
    lines["shards"] = f"{shards['published']:,} of {shards['planned']:,} published"
    if shards["others"]:
        lines["besides"] = _others(shards["others"])
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
        lines["input"] = f"{counted(shards['compared'], 'shard')} compared row for row"
    lines["_SUCCESS"] = "there" if document["success"] else "not there"
    wrong, unfinished = document["wrong"], document["unfinished"]
    verdicts = [f"wrong in {counted(len(wrong), 'place')}"] if wrong else []
    verdicts += [f"not finished, {len(unfinished):,} left to do"] if unfinished else []
    lines["verdict"] = "; ".join(verdicts) or "proven"
    parts = [aligned(lines, width)]
    if wrong:
        parts.append("wrong:\n" + _findings(wrong, width))
    if unfinished:
        parts.append("not finished:\n" + _findings(unfinished, width))
    notes = [f"repaired: {line}" for line in document["repaired"]]
    notes += [f"note: {line}" for line in document["notes"]]
    parts += ["\n".join(item(printable(note), width) for note in notes)] if notes else []
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


def _findings(found: Sequence[Mapping[str, str]], width: int) -> str:
    """A table of findings, and what to do about them."""
    head = ("file", "what", "expected", "found")
    rows = [
        (_name(finding["file"]), *(_cell(finding[name]) for name in head[1:])) for finding in found
    ]
    lines = [_cut_table(head, rows, SHOWN_FINDINGS, width)]
    for text in dict.fromkeys(finding["to_do"] for finding in found):
        kinds = dict.fromkeys(finding["what"] for finding in found if finding["to_do"] == text)
        several = any(finding["to_do"] != text for finding in found)
        start = f"to do ({shortened(list(kinds))}): " if several else "to do: "
        lines.append(item(printable(start + text), width))
    return "\n".join(lines)


def _cut_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    shown: int,
    width: int,
    right: Sequence[str] = (),
) -> str:
    """A table of the first rows; the others are counted."""
    text = table(head, rows[:shown], width, right=right)
    left = len(rows) - shown
    return f"{text}\nand {left:,} more; --json shows all" if left > 0 else text


def _name(text: str) -> str:
    return clipped(printable(text), _NAME)


def _cell(text: str) -> str:
    return cut(printable(text), _CELL)


def _type(kind: str) -> str:
    """A type of Arrow's; lists in short, as "float[10]"."""
    before = ""
    while before != kind:
        before, kind = kind, _LIST.sub(lambda m: f"{m[1]}{m[2] or '[]'}", kind)
    return kind


def _by(shards: int, which: str, method: str) -> str:
    return f"{shards:,}{which}, by {method}" if shards else f"none{which}"


def _kept(names: Sequence[str] | None, keep: Sequence[str]) -> str:
    """The columns that are kept, or what was said of them as long as no model tells the others."""
    if names is not None:
        return shortened([clipped(name, _CELL // 2) for name in names]) or _KEPT["none"]
    if len(keep) == 1 and keep[0] in _KEPT:
        return _KEPT[keep[0]]
    return shortened([clipped(name, _CELL // 2) for name in keep])


def _others(count: int) -> str:
    return f"{counted(count, 'file')} of earlier runs on other input"


def _runs(binding: Sequence[dict[str, str]]) -> list[tuple[str, ...]]:
    """Rows of the binding's table; many columns that feed one input alike share a row."""
    rows: list[tuple[str, ...]] = []
    for _, same in groupby(binding, key=lambda r: (r["input"], r["column_type"], r["conversion"])):
        uses = list(same)
        columns = [use["column"] for use in uses]
        names = [clipped(printable(name), _CELL) for name in (columns[0], columns[-1])]
        shown = names[0] if len(columns) == 1 else f"{names[0]} … {names[1]} ({len(uses):,})"
        first = uses[0]
        feeds = (_name(first["input"]), first["input_type"], shown)
        rows.append((*feeds, _type(first["column_type"]), first["conversion"]))
    return rows


def _state(last: dict[str, Any]) -> str:
    if last["state"] != "running":
        return str(last["state"])
    silent = (datetime.now(UTC) - datetime.fromisoformat(last["updated"])).total_seconds()
    if silent > SILENT_SECONDS:
        return f"killed, it seems (last sign of life {moment(last['updated'])})"
    return f"running (last sign of life {silent:.0f} s ago)"
