"""What the command line or a variable asks for that cannot be, in our words.

Typer finds it; its sentences speak of arguments and inputs, a reader thinks of what was typed.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from pipeline.errors import UsageError, on_lines
from pipeline.spelling import closest, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import typer

_ONCE = ("--model", "--output", "--config")
"""Options of which the last one would win in silence, and that decide what is scored, and where."""

_INVALID = re.compile(r"Invalid value(?: for (?P<option>[^:]*))?: (?P<what>.*)", re.DOTALL)
_EXTRA = re.compile(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", re.DOTALL)
_WORDS = {
    "Value error, ": "",
    "Input should be greater than or equal to ": "the value must be at least ",
    "Input should be less than or equal to ": "the value must be at most ",
    "Input should be greater than ": "the value must be more than ",
    "Input should be a valid boolean, unable to interpret input": "it is either true or false",
    "Input should be a valid integer, unable to parse string as an integer": "a whole number is "
    "wanted",
    "Input should be a valid number, unable to parse string as a number": "a number is wanted",
}


def in_our_words(error: typer.TyperException) -> UsageError:
    """The error for what Typer refuses."""
    context: Any = getattr(error, "ctx", None)
    see = f"see {context.command_path if context else 'shardscore'} --help"
    message = on_lines(error.format_message())
    known = [*_options(context)]
    unknown = getattr(error, "possibilities", None) is not None
    name = str(getattr(error, "option_name", "") or "")
    extra = _EXTRA.match(message)
    invalid = _INVALID.match(message)
    if unknown and name.startswith("-"):
        return UsageError(f"there is no option {name}", hint=did_you_mean(name, known, see))
    if name.startswith("-"):
        return UsageError(f"{name} needs a value", hint=see)
    if unknown or message.startswith("No such command"):
        word = (re.findall("'([^']*)'", message) or [""])[0]
        commands = getattr(getattr(context, "command", None), "commands", {})
        return UsageError(
            f"there is no command {word!r}",
            expected="one of " + ", ".join(commands),
            hint=did_you_mean(word, commands, see),
        )
    if extra:
        return UsageError(
            "there are words that stand behind no option",
            received=extra[1],
            hint="put the option before each, as in --model m.keras --input data/\n"
            f"(a glob stands in quotes: --input 'data/*.parquet'); {see}",
        )
    if message.startswith("Missing argument"):
        return UsageError(
            "the folder of the predictions is missing", hint=f"name it: {see[4:-7]} out/"
        )
    if invalid:
        what = invalid["what"]
        for theirs, ours in _WORDS.items():
            what = what.replace(theirs, ours)
        option = re.search(r"-[\w-]+", invalid["option"] or "")
        choices = re.fullmatch(r"'(.*)' is not one of ((?:'[^']*'(?:, )?)+)\.?", what)
        if option and choices:
            return UsageError(
                f"{option[0]}: there is no {choices[1]!r}",
                expected="one of " + choices[2].replace("'", ""),
                hint=did_you_mean(choices[1], re.findall("'([^']*)'", choices[2]), see),
            )
        return UsageError(f"{option[0]}: {what}" if option else what, hint=see)
    return UsageError(message, hint=see)


def refuse_repeated(words: Sequence[str]) -> None:
    """Raises UsageError where an option that can have one value alone is given two."""
    for option in _ONCE:
        count = sum(word == option or word.startswith(f"{option}=") for word in words)
        if count > 1:
            raise UsageError(
                f"{option} is given {count} times",
                expected="one",
                hint="an output has one model; score with each into an output of its own"
                if option == "--model"
                else "leave all but one out",
            )


def named_by_variable(error: UsageError, words: Sequence[str]) -> UsageError:
    """The same error, naming the variable if it is one that gave the value, not an option."""
    option = re.match(r"(--[a-z0-9-]+):", error.message)
    if option is None or any(w == option[1] or w.startswith(f"{option[1]}=") for w in words):
        return error
    variable = "SHARDSCORE_" + option[1][2:].upper().replace("-", "_")
    if variable not in os.environ:
        return error
    facts = {**error.facts, "received": f"{variable}={os.environ[variable]}"}
    return UsageError(f"the variable {variable}{error.message[option.end() - 1 :]}", **facts)


def misspelt_variables(variables: Mapping[str, str], command: Any) -> Iterator[str]:
    """Notes on variables that are nearly one of ours, and so are not heeded.

    Others are passed over: Kubernetes gives each container SHARDSCORE_SERVICE_HOST, if a service is
    called so.
    """
    known = {"SHARDSCORE_INPUT"}
    for one in command.commands.values():
        for param in one.params:
            names = getattr(param, "envvar", None) or ()
            known.update((names,) if isinstance(names, str) else names)
    ours = {name for name in known if name.startswith("SHARDSCORE_")}
    for name in sorted(variables):
        if name.startswith("SHARDSCORE_") and name not in ours:
            meant = closest(name, ours)
            if meant is not None and _alike(name, meant):
                yield f"the variable {name} is not known, and not heeded; did you mean {meant}?"


def _alike(name: str, other: str) -> bool:
    """Whether two variables are alike without what they all begin with."""
    start = len("SHARDSCORE_")
    return closest(name[start:], [other[start:]]) is not None


def _options(context: Any) -> Iterator[str]:
    if context is not None:
        for param in context.command.params:
            yield from (name for name in param.opts if name.startswith("--"))
