"""TOML as text: writing values, and setting keys of a file without touching its other lines.

PURE. The standard library reads TOML and does not write it. What is written here is read back by
it and compared before anyone relies on it, so that a slip is an error and never a wrong job.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def toml_key(name: str) -> str:
    """A key, quoted where TOML wants it."""
    return name if name and set(name) <= _BARE else _string(name)


def toml_value(value: Any) -> str:
    """A value on one line: text, number, boolean, list, or a mapping as an inline table."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, dict):
        inner = ", ".join(f"{toml_key(name)} = {toml_value(v)}" for name, v in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    raise TypeError(f"TOML has no value for {value!r}")


def toml_comment(text: str) -> str:
    """A comment of one line, whatever the text holds."""
    return f"# {printable(text)}"


def _string(text: str) -> str:
    # JSON's escapes are TOML's, but JSON lets one control character through that TOML forbids.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def not_toml(error: ValueError, text: str, path: str) -> ConfigError:
    """The error for a text that is not TOML: its line, and what may be wrong with it.

    Args:
        error: What the parser says.
        text: The file's text.
        path: The file.
    """
    place = re.search(r"at line (\d+)", str(error))
    lines = text.splitlines()
    at = int(place[1]) - 1 if place else len(lines)
    line = f"\n{lines[at].strip()}" if at < len(lines) else ""
    return ConfigError(
        "the configuration is not TOML",
        path=path,
        received=f"{error}{line}",
        hint='mend that line; texts stand in quotes, lists in brackets: input = ["data/"]',
    )


def with_values(text: str, values: Mapping[str, Any], path: str) -> str:
    """A TOML file's text with top-level keys set; all else, comments too, stays as it is.

    Args:
        text: The file's text.
        values: Key → value.
        path: The file, for messages.

    Raises:
        ConfigError: The text is not TOML, or the keys cannot be set in it.
    """
    try:
        before = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise not_toml(error, text, path) from error
    edited = text
    for name, value in values.items():
        edited = _with_value(edited, name, toml_value(value))
    try:
        after = tomllib.loads(edited)
    except tomllib.TOMLDecodeError:
        after = None
    if after != {**before, **values}:
        raise ConfigError(
            "the values cannot be set in this file without changing what else it says",
            path=path,
            hint="set them by hand: "
            + ", ".join(f"{name} = {toml_value(value)}" for name, value in values.items()),
        )
    return edited


@dataclass(frozen=True, slots=True)
class _Statement:
    """A statement of the text: a key and its value, or the head of a table.

    Attributes:
        begin: Where it begins.
        equals: Where its `=` is, or None for a head.
        end: Where its value ends, before blanks, comment and line break.
        line_end: Behind its line break.
    """

    begin: int
    equals: int | None
    end: int
    line_end: int


def _with_value(text: str, name: str, value: str) -> str:
    top: list[_Statement] = []
    tables = len(text)
    for statement in _statements(text):
        if statement.equals is None:
            tables = statement.begin
            break  # the first table's head: what follows is no longer at the top
        top.append(statement)
    for statement in top:
        if _names(text[statement.begin : statement.equals], name):
            assert statement.equals is not None  # noqa: S101 - heads are left out above
            return f"{text[: statement.equals + 1]} {value}{text[statement.end :]}"
    line_break = "\r\n" if "\r\n" in text else "\n"
    place = top[-1].line_end if top else 0
    if shown := re.search(rf"(?m)^# {re.escape(name)} = .*\n", text[:tables]):
        place = shown.end()  # below the comment that shows its default
    before = text[:place]
    if before and not before.endswith("\n"):
        before += line_break
    return f"{before}{name} = {value}{line_break}{text[place:]}"


def _names(key: str, name: str) -> bool:
    """Whether the text of a key, quoted or not, is a name."""
    try:
        return list(tomllib.loads(f"{key.strip()} = 0")) == [name] and "." not in key
    except tomllib.TOMLDecodeError:
        return False


def _statements(text: str) -> Iterator[_Statement]:
    """The statements of valid TOML, in order."""
    place, length = 0, len(text)
    while place < length:
        if text[place] in " \t\r\n":
            place += 1
        elif text[place] == "#":
            place = _line_end(text, place)
        else:
            begin, depth, equals = place, 0, None
            end = place
            while place < length and not (depth == 0 and text[place] in "#\n"):
                char = text[place]
                if char in "\"'":
                    place = end = _string_end(text, place)
                    continue
                if char == "#":  # a comment inside of a list
                    place = _line_end(text, place)
                    continue
                depth += (char in "[{") - (char in "]}")
                if char == "=" and equals is None:
                    equals = place
                place += 1
                if char not in " \t\r\n":
                    end = place
            yield _Statement(begin, equals, end, _line_end(text, place))


def _line_end(text: str, place: int) -> int:
    """Behind the line break that ends the line at a place."""
    found = text.find("\n", place)
    return len(text) if found < 0 else found + 1


def _string_end(text: str, place: int) -> int:
    """Behind the string that begins at a place."""
    quote = text[place]
    mark = quote * 3 if text.startswith(quote * 3, place) else quote
    place += len(mark)
    while not text.startswith(mark, place):
        place += 2 if text[place] == "\\" and quote == '"' else 1
    place += len(mark)
    # Up to two quotes may stand before the three that end a long string.
    while len(mark) == 3 and text.startswith(quote, place):
        place += 1
    return place
