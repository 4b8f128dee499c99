"""A value of a job that is wrong, in our words: where it stands, what would be right, what it is.

pydantic finds it and names the place; its sentences speak of Python, a reader of TOML does not.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError, ShardscoreError, UsageError
from pipeline.input_options import ImageOptions, InputOptions
from pipeline.toml_text import toml_key, toml_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from pipeline.job import Job

_TAKES = {
    "batch_size": "a whole number from 1 to 10,000,000, or auto",
    "workers": "a whole number from 1 to 1,024, or auto",
    "threads": "a whole number from 1 to 1,024, or auto",
    "max_bad_rows": "a whole number, or a percentage like 1%",
    "plan_id": "1 to 63 lower-case letters, digits, dots and hyphens, no dot or hyphen at an end",
    "model_sha256": "64 hexadecimal digits in lower case",
    "preprocess": "module:function, or path/to/file.py:function",
    "postprocess": "module:function, or path/to/file.py:function",
    "inputs.*": "names of columns, or a table that says how they are read",
    "inputs.*.image": "true, or a table: " + ", ".join(ImageOptions.model_fields),
    "inputs.*.image.size": "height and width in pixels, like [224, 224]",
    "inputs.*.shape": "the sizes of one row's dimensions, like [28, 28, 3]",
}
"""What a place takes, where pydantic's sentence would not tell."""

_KINDS = {
    "string_type": "a text",
    "string_too_short": "a text that is not empty",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "too_short": "a list that is not empty",
    "greater_than_equal": "at least {ge:,}",
    "less_than_equal": "at most {le:,}",
    "literal_error": "{expected}",
}

_BETWEEN = (
    "baseline",
    "max_drift",
    "shard_index",
    "shard_count",
    "label_output",
    "labels",
    "top_k",
    "rescore_changed",
    "features",
    "plan_id",
    "time_unit",
    "max_bad_rows",
    "on_bad_row",
)
"""Fields that rules between fields speak of."""

Place = tuple[str | int, ...]


def explained(
    error: ValidationError, values: Mapping[str, Any], chosen: Mapping[str, Any], config: str
) -> ShardscoreError:
    """The first thing that is wrong with a job.

    Args:
        error: What pydantic found.
        values: All that the job was to be made of.
        chosen: What of it the command line and the environment gave.
        config: The TOML file's path, that gave the rest.
    """
    lacking = [e["loc"][0] for e in error.errors() if e["type"] == "missing" and e["loc"]]
    first = error.errors()[0]
    if not first["loc"]:
        return _between_fields(_sentence(first), chosen, config)
    field = str(first["loc"][0])
    option = f"--{field.replace('_', '-')}" if field != "imports" else "--import"
    if first["type"] == "missing":
        options = [f"--{name}" for name in lacking]
        named = " and ".join(filter(None, [", ".join(options[:-1]), options[-1]]))
        return UsageError(
            f"{named} {'is' if len(options) == 1 else 'are'} missing",
            hint=f"give {'it' if len(options) == 1 else 'them'} here, or in a job file with "
            "--config; `shardscore init` writes one",
        )
    place = _place(first["loc"], values)
    if first["type"] == "extra_forbidden":
        return unknown_key(place, InputOptions if len(place) == 3 else ImageOptions, config)
    takes = _sentence(first)
    if first["type"] not in {"value_error", "string_too_short"}:
        takes = _TAKES.get(_pattern(place), takes)
    if field in chosen:
        return UsageError(f"{option}: the value is wrong", expected=takes, received=_given(first))
    whole = first["type"] == "value_error" and isinstance(first["input"], dict)
    return ConfigError(
        f"the values of {_dotted(place)} do not go together"
        if whole
        else f"the value of {_dotted(place)} is wrong",
        path=config,
        expected=takes,
        received=_given(first),
    )


def unknown_key(
    place: Place, known: type[Job | InputOptions | ImageOptions], config: str
) -> ConfigError:
    """A key of the TOML file that means nothing."""
    close = difflib.get_close_matches(str(place[-1]), known.model_fields, n=1)
    return ConfigError(
        f"the configuration has an unknown key: {_dotted(place)}",
        path=config,
        expected=", ".join(known.model_fields),
        hint=f"did you mean {close[0]!r}?" if close else "remove it",
    )


def _between_fields(sentence: str, chosen: Mapping[str, Any], config: str) -> ShardscoreError:
    """A rule between fields has no place of its own, but names those that it is about."""
    if any(name in sentence for name in chosen):
        for name in sorted(_BETWEEN, key=len, reverse=True):
            option = f"--{name.replace('_', '-')}"
            sentence = re.sub(rf"(?<![\w-]){name}(?![\w-])", option, sentence)
        return UsageError(sentence)
    return ConfigError("the values do not go together", path=config, expected=sentence)


def _place(loc: Sequence[str | int], values: Any) -> Place:
    """The part of pydantic's path that leads through the values; the rest names its own types."""
    place: list[str | int] = []
    for step in loc:
        if isinstance(values, dict):
            through = step in values
        else:
            through = isinstance(values, (list, tuple)) and isinstance(step, int)
        if through:
            values = values[step]
            place.append(step)
    return tuple(place)


def _dotted(place: Place) -> str:
    """As TOML writes it; an item of a list by its number, from 0."""
    parts = [f"[{step}]" if isinstance(step, int) else f".{toml_key(step)}" for step in place]
    return "".join(parts).removeprefix(".")


def _pattern(place: Place) -> str:
    named = [step for step in place if isinstance(step, str)]
    return ".".join("*" if i == 1 and named[0] == "inputs" else n for i, n in enumerate(named))


def _sentence(detail: ErrorDetails) -> str:
    known = _KINDS.get(detail["type"])
    if known is not None:
        return known.format(**detail.get("ctx", {})).replace("'", '"')
    return detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")


def _given(detail: ErrorDetails) -> str:
    try:
        return toml_value(detail["input"])
    except TypeError:  # a date, or what only the Python of a caller can say
        return repr(detail["input"])
