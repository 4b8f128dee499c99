"""What `compare` found as lines for people, made to be pasted into a ticket: at most 80 columns,
or what the screen has, no colours, and all that one must know to read the figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.errors import printable, shortened
from pipeline.recommend import rate_text
from pipeline.screen import WIDTH, aligned, item, on_screen, short_path, size, table

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEAD = ("", "batch", "method", "rows/s", "ms/batch", "first", "memory", "outputs")
_RIGHT = ("batch", "rows/s", "ms/batch", "first", "memory")
_CELL = 14


def compare_text(document: Mapping[str, Any], width: int = WIDTH) -> str:
    """A comparison."""
    found = document["recommendation"]
    parts = [
        aligned(_facts(document), width),
        table(_HEAD, [_row(record, found) for record in document["measured"]], width, right=_RIGHT),
        on_screen(_legend(document), width),
    ]
    problems = list(
        dict.fromkeys(
            f"{record['method']}, batches of {record['batch_size']:,}: {text}"
            for record in document["measured"]
            for text in (record["problem"] or record["complaint"],)
            if text and len(text) > _CELL
        )
    )
    parts += ["\n".join(item(printable(p), width) for p in problems)] if problems else []
    return "\n\n".join([*parts, _verdict(document, width)])


def _facts(document: Mapping[str, Any]) -> dict[str, str]:
    model, sample, machine = document["model"], document["sample"], document["machine"]
    own = ", with a predict_step of its own" if model["custom_step"] else ""
    count = model["parameters"]
    parameters = "" if count is None else f", {count:,} parameters"
    left_out = f", {sample['bad_rows']:,} bad ones left out" if sample["bad_rows"] else ""
    return {
        "model": f"{short_path(model['path'])} (sha256 {model['sha256'][:12]}…){parameters}{own}",
        "inputs": shortened(model["inputs"]),
        "rows": f"{sample['rows']:,} from {sample['shards_read']:,} of {sample['shards']:,} shards"
        f"{left_out}",
        "machine": f"{machine['cpu']}, {machine['cores']} cores, {size(machine['memory'])}, "
        f"{machine['system']}",
        "versions": ", ".join(
            [
                *(f"{name} {number}" for name, number in document["versions"].items()),
                f"Python {machine['python']}",
            ]
        ),
    }


def _row(record: Mapping[str, Any], found: Mapping[str, Any] | None) -> tuple[str, ...]:
    best = found is not None and all(record[n] == found[n] for n in ("method", "batch_size"))
    at = ("*" if best else "", f"{record['batch_size']:,}", record["method"])
    if record["problem"] is not None:
        return (*at, "", "", "", "", _shortened(record["problem"], "not measured"))
    return (
        *at,
        rate_text(record["rate"]),
        _milliseconds(record["batch_ms"]),
        f"{_milliseconds(record['first_ms'])} ms",
        size(record["memory"]),
        _shortened(_difference(record), "other ones"),
    )


def _shortened(text: str, else_: str) -> str:
    """What fits its column; else, what the lines below the table explain."""
    return text if len(text) <= _CELL else f"{else_} (!)"


def _difference(record: Mapping[str, Any]) -> str:
    if record["method"] == "predict":
        return "the measure"
    if record["complaint"] is not None:
        return str(record["complaint"])
    parts = [f"within {record['difference']:.0e}"] if record["difference"] else []
    parts += [f"{record['unequal']:,} values differ"] if record["unequal"] else []
    return ", ".join(parts) or "the same"


def _milliseconds(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _legend(document: Mapping[str, Any]) -> str:
    star = "* recommended. " if document["recommendation"] is not None else ""
    return (
        f"{star}Each line is a process of its own, timed for about {document['seconds']:g} s "
        "after its first call, which traces the model. ms/batch: the median, handing the batch "
        "over included; for predict(), a call on many batches divided by them. first: that first "
        "call. memory: the peak above the loaded model and the sample. outputs: against those of "
        "predict(); (!): see below. compiled: the bare tf.function(model), a yardstick."
    )


def _verdict(document: Mapping[str, Any], width: int) -> str:
    lines = [f"note: {note}" for note in document["notes"]]
    found = document["recommendation"]
    if found is not None:
        lines += [f"recommendation: {found['text']}", f"why: {found['reason']}"]
    elif document["refused"]:
        lines += [
            "recommendation: none; `score` refuses this model",
            f"why: {document['refused']}",
        ]
    else:
        lines += [
            "recommendation: none",
            "why: no method that a job can name was measured and gives what predict() gives",
        ]
    return "\n".join(item(printable(line), width) for line in lines)
