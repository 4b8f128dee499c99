"""The text of a job file: each option of a job, said or as a comment, with a word on it.

PURE. What was decided is a line; what is left at its default is a comment that shows the default,
so that the file is also the list of what could be said. What is left to decide is a comment below
the word DECIDE, which is a line when its `# ` is taken away. The text is read back as TOML and
compared before it is handed on, and so is each of those lines.
"""

from __future__ import annotations

import os
import textwrap
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError, printable
from pipeline.input_options import as_written
from pipeline.job import Job
from pipeline.storage.locate import has_scheme
from pipeline.toml_text import toml_comment, toml_key, toml_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pipeline.init_job import Decision, Draft

_WIDTH = 100

UNKNOWN = "COLUMN"
"""Stands for a column where none can be proposed: no shard has it, so it is refused."""

_PARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("What to score with what", ("model", "model_sha256", "imports", "input", "output", "keep")),
    (
        "How columns become what the model takes",
        ("features", "allow_lossy", "time_unit", "preprocess"),
    ),
    ("What is written", ("postprocess", "labels", "top_k", "label_output", "nonfinite")),
    ("Rows that cannot be scored", ("on_bad_row", "max_bad_rows")),
    ("What is compared with an earlier output", ("baseline", "max_drift")),
    ("How", ("method", "batch_size", "small_shard_rows", "checkpoint_every", "workers", "threads")),
)

_REMARKS = {
    "model_sha256": "refuse any other model",
    "imports": "modules that register the model's own classes",
    "output": "a file for each shard, of the same name",
    "keep": "columns carried along: unused (those the model does not read), all, none, or names",
    "features": "columns of a model with one input, in order",
    "allow_lossy": "columns whose values may be rounded on their way into the model",
    "time_unit": "what dates and times are counted in: days, s, ms, us, ns",
    "preprocess": "from the columns' tensors to what the model takes",
    "postprocess": "from a batch's outputs to those that are written",
    "labels": "names of a classifier's classes, or a file with one a line",
    "top_k": "write the likeliest classes and their scores",
    "label_output": "the output that labels and top_k are about",
    "nonfinite": "predictions that are NaN or infinite: allow (and count), or bad",
    "on_bad_row": "fail (stop the shard), null (keep the row), quarantine (set it aside)",
    "max_bad_rows": "fail a shard that has more: a number, or a share of its rows",
    "method": "auto: predict_on_batch() where it is proved right, predict() for small shards",
    "batch_size": "auto: follows from the model's inputs",
    "small_shard_rows": "shards of at most this many rows go to predict(); default: the batch size",
    "checkpoint_every": "seconds between two checkpoints of a big shard",
    "baseline": "an earlier output, whose predictions are compared with these",
    "max_drift": "end with 65 if they differ by a higher population stability index",
    "workers": "auto: what cores, memory and work are good for",
    "threads": "in each pool of a worker; auto: the cores, divided by the workers",
}

_EXAMPLES: dict[str, Any] = {
    "imports": ["my_models.py"],
    "time_unit": "days",
    "preprocess": "features.py:scale",
    "postprocess": "features.py:round_off",
    "labels": "labels.txt",
    "top_k": 3,
    "label_output": "prediction",
    "max_bad_rows": "1%",
    "small_shard_rows": 8192,
    "baseline": "scored-last-month/",
    "max_drift": 0.25,
}
"""What a comment shows of an option whose default says nothing."""

_UNSAID = {"features", "label_output", "follow_links", "rescore_changed"}
"""Options that are no comment where they are not said: they are about other files than this one."""


def job_text(draft: Draft, folder: Path) -> str:
    """The text of a job file in a folder.

    Raises:
        ConfigError: The text does not say what it should.
    """
    said = _said(draft.job, folder)
    inputs = said.pop("inputs", {})
    lines = [
        "# A job of shardscore. Run it with:  shardscore score --config FILE",
        "# Paths are relative to this file. Lines that are comments show defaults, or examples.",
    ]
    if count := len(draft.decisions):
        left = "1 decision is" if count == 1 else f"{count:,} decisions are"
        lines += _comment(
            f"{left} left to you: look for DECIDE. Make what is commented out below it right, and "
            "take its # away. Until then plan and score refuse this job, and say why."
        )
    shown: set[str] = set()
    for title, names in _PARTS:
        block = [line for name in names for line in _option(name, said, draft)]
        lines += ["", f"# --- {title}", *block] if block else []
        shown.update(names)
    rest = [name for name in said if name not in shown]
    lines += ["", *(line for name in rest for line in _assigned(name, said[name]))] if rest else []
    lines += ["", "# --- The model's inputs", "", *_inputs(draft, inputs)]
    text = "\n".join(lines) + "\n"
    tables = inputs or any(decision.of_input for decision in draft.decisions)
    _refuse_other(text, {**said, **({"inputs": inputs} if tables else {})})
    return text


def decisions_text(decisions: Sequence[Decision], file: str) -> str:
    """What is left to decide in a file, a line each; nothing if nothing is."""
    if not decisions:
        return ""
    count = "1 decision" if len(decisions) == 1 else f"{len(decisions):,} decisions"
    told = [f"  {printable(one.name)}: {printable(one.question)}\n" for one in decisions]
    return "".join([f"{count} left in {file}, marked DECIDE:\n", *told])


def _refuse_other(text: str, expected: Mapping[str, Any]) -> None:
    """Raises ConfigError if a text does not say, as TOML, what it should."""
    if (received := tomllib.loads(text)) != expected:
        raise ConfigError(
            "the job cannot be written as TOML", expected=str(expected), received=str(received)
        )


def _said(job: Job, folder: Path) -> dict[str, Any]:
    """What the file is to say, as TOML reads it."""
    values = job.model_dump(mode="json", exclude_defaults=True)
    values["inputs"] = (
        {name: as_written(table) for name, table in values["inputs"].items()}
        if ("inputs" in values)
        else {}
    )
    for name in ("model", "output"):
        values[name] = _beside(values[name], folder)
    values["input"] = [_beside(address, folder) for address in values["input"]]
    if "imports" in values:
        values["imports"] = [
            _beside(module, folder) if module.endswith(".py") else module
            for module in values["imports"]
        ]
    for name in ("preprocess", "postprocess"):
        if ".py:" in values.get(name, ""):
            values[name] = _beside(values[name], folder)
    return {name: value for name, value in values.items() if value not in ({}, [])}


def _beside(path: str, folder: Path) -> str:
    """A path as seen from a folder; absolute where the two have nothing but the root in common."""
    if has_scheme(path):
        return path
    # Links in the folder's own path are followed by the system, before it goes up from there.
    real, target = folder.resolve(), Path(os.path.normpath(Path.cwd() / path))
    if len(Path(os.path.commonpath([real, target])).parts) < 2:
        return str(target)
    return os.path.relpath(target, real)


def _option(name: str, said: dict[str, Any], draft: Draft) -> list[str]:
    for decision in draft.decisions:
        if decision.name == name and not decision.of_input:
            return _to_decide(decision)
    remark = draft.remarks.get(name) or _REMARKS.get(name)
    if name in said:
        return _assigned(name, said[name], remark)
    if name in _UNSAID and name not in draft.examples:
        return []
    default = Job.model_fields[name].get_default(call_default_factory=True)
    default = draft.examples.get(name, _EXAMPLES.get(name, default))
    if name == "model_sha256":
        default = draft.model_sha256
    shown = f"{name} = {toml_value(default)}"
    return [f"# {shown}" + (f"   # {remark}" if remark else "")]


def _assigned(name: str, value: Any, remark: str | None = None) -> list[str]:
    """`name = value`, on several lines where it is a long list; the remark beside or above it."""
    line = f"{toml_key(name)} = {toml_value(value)}"
    if len(line) > _WIDTH and isinstance(value, list):
        line = "\n".join([f"{toml_key(name)} = [", *_items(value), "]"])
    if not remark:
        return [line]
    beside = f"{line}   {toml_comment(remark)}"
    if len(beside) <= _WIDTH and "\n" not in line:
        return [beside]
    return [*_comment(remark), line]


def _items(values: Iterable[Any]) -> list[str]:
    """The items of a list, as many on a line as there is room for."""
    lines: list[str] = []
    for value in values:
        item = f"{toml_value(value)},"
        if lines and len(lines[-1]) + 1 + len(item) <= _WIDTH - len("# "):
            lines[-1] += f" {item}"
        else:
            lines.append(f"    {item}")
    return lines


def _comment(text: str, indent: str = "") -> list[str]:
    """A comment, on as many lines as it takes; no name is broken."""
    lines = textwrap.wrap(
        printable(text),
        _WIDTH - len("# "),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [f"# {line}" for line in lines]


def _to_decide(decision: Decision) -> list[str]:
    """A decision: the question, what to know for it, and the line that it is about."""
    value = UNKNOWN if decision.value is None else decision.value
    lines = "\n".join(_assigned(decision.name, value)).split("\n")
    _refuse_other("\n".join(lines), {decision.name: value})
    return [
        *_comment(f"DECIDE: {decision.question}"),
        *(line for remark in decision.remarks for line in _comment(remark, "  ")),
        *(f"# {line}" for line in lines),
    ]


def _inputs(draft: Draft, values: dict[str, Any]) -> list[str]:
    """Each input with what feeds it, as lines of the table, or as comments where `features` say."""
    open_ = {decision.name: decision for decision in draft.decisions if decision.of_input}
    lines = ["[inputs]"] if values or open_ else []
    known = {one.name for one in draft.inputs}
    lines += [line for name in open_ if name not in known for line in _to_decide(open_[name])]
    for one in draft.inputs:
        kinds = dict.fromkeys(f"{use.type}, {use.described}" for use in one.uses)
        origin = f", from {'; '.join(kinds)}" if kinds else ""
        lines += _comment(f"{one.spec}{origin}")
        if one.name in open_:
            lines += _to_decide(open_[one.name])
            continue
        lines += [line for remark in one.remarks for line in _comment(remark, "  ")]
        if one.name in values:
            lines += _assigned(one.name, values[one.name])
    return lines
