"""Why TensorFlow raised, in one line that a person can read.

TensorFlow wraps what an operation says in names of nodes, places of Python code and the word that
an error happened in a graph; a hook's own error is wrapped once more by AutoGraph. What the user
needs is the sentence inside.
"""

from __future__ import annotations

import re
from pathlib import Path

_WRAPPING = re.compile(
    r"Graph execution error|Detected at node|<stack traces|\d+ root error|\s+File \"|"
    r"\s*\[\[\{\{node|in user code:|Traceback |Original stack trace"
)
"""How lines begin that say where, and not what."""

_PREFIXES = re.compile(
    r"\{\{function_node [^}]*\}\}\s*|\(\d+\)\s+|[A-Z_]+:\s+(?=[A-Z{])|"
    r"Error in user-defined function passed to .*? transformation with iterator: \S+: "
)
_PLACE = re.compile(r'File "([^"]+)", line (\d+), in ')
_SUFFIX = re.compile(r"\s*\[Op:[^\]]*\](\s*name:.*)?$")


def reason_of(error: BaseException) -> str:
    """What an error says, without where TensorFlow was when it was raised; one line."""
    metadata = getattr(error, "ag_error_metadata", None)
    text = getattr(metadata, "cause_message", None) or str(error)
    lines = [line for line in text.splitlines() if line.strip() and not _WRAPPING.match(line)]
    line = lines[0].strip() if lines else ""
    while prefix := _PREFIXES.match(line):
        line = line[prefix.end() :]
    return _SUFFIX.sub("", line)


def named_reason(error: BaseException) -> str:
    """The same behind the error's type."""
    said, kind = reason_of(error), type(error).__name__
    if said == kind or said.startswith(f"{kind}: "):
        return said
    return f"{kind}: {said}" if said else kind


def place_of(error: BaseException, but: str) -> str:
    """Where in the user's code it was raised while a graph was made; empty if that is not known.

    Args:
        error: What was raised.
        but: A file of ours, through which the user's code was called.
    """
    places = _PLACE.findall(str(error)) if hasattr(error, "ag_error_metadata") else []
    users = [f"{Path(file).name} line {line}" for file, line in places if file != but]
    return users[-1] if users else ""
