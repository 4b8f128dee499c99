"""What was raised on a batch: whether rows can be at fault, and what to write of it.

The reason that is written of a row goes into files that are the same bytes whenever they are
written, so all that varies is left out of it: names of operations and of tensors, addresses.
"""

from __future__ import annotations

import re

from pipeline.errors import ScoringError, ShardscoreError
from pipeline.reasons import named_reason, reason_of
from pipeline.runtime import tensorflow

_LONGEST_REASON = 300
"""Characters: some errors print all that they were given."""

_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")
"""Where an object is in memory, as Python shows those that have no text of their own."""

_TENSOR = re.compile(r"\[(\w+) \([^()]*\) = \]")


def out_of_memory(error: BaseException) -> bool:
    """Whether fewer rows might do."""
    return isinstance(error, (MemoryError, tensorflow().errors.ResourceExhaustedError))


def no_rows_fault(error: BaseException) -> bool:
    """Whether TensorFlow itself was at a loss: a device, a thread, a store of its own."""
    errors = tensorflow().errors
    return isinstance(
        error,
        (
            errors.UnavailableError,
            errors.AbortedError,
            errors.CancelledError,
            errors.InternalError,
        ),
    )


def model_raised(error: Exception, path: str, start: int, rows: int) -> ScoringError:
    """The error for a model that raised, naming the rows it was given."""
    return ScoringError(
        f"the model raised on rows {start} to {start + rows - 1}",
        path=path,
        received=named_reason(error),
        hint="score these rows by hand to see the whole error; the other shards are scored",
    )


def row_reason(error: Exception) -> str:
    """Why a row cannot be scored, in one line that is the same each time.

    It says what was raised inside of TensorFlow's wrappers: `ValueError: no such length`.
    """
    if isinstance(error, ShardscoreError):
        said = ": ".join([error.message, *(error.received or "").splitlines()[:1]])
    else:
        said = _assertion(reason_of(error))
        if not said or not isinstance(error, tensorflow().errors.OpError):
            said = f"{type(error).__name__}: {said}" if said else type(error).__name__
    said = _ADDRESS.sub("0x…", said).encode(errors="backslashreplace").decode()
    return said if len(said) <= _LONGEST_REASON else f"{said[: _LONGEST_REASON - 1]}…"


def _assertion(line: str) -> str:
    """What `tf.debugging` says, without its brackets and the names of tensors.

    assertion failed: [too long.  ] [x (data:0) = ] [[7]]  →  assertion failed: too long. x = [7]
    """
    _, found, rest = line.partition("assertion failed: ")
    if not found:
        return line
    groups, depth, begun = [], 0, 0
    rest = _TENSOR.sub(r"[\1 =]", rest)
    for i, letter in enumerate(rest):
        if letter == "[":
            begun = i + 1 if depth == 0 else begun
            depth += 1
        elif letter == "]":
            depth -= 1
            if depth == 0:
                groups.append(rest[begun:i].strip())
    said = " ".join(group for group in groups if group) if depth == 0 else rest
    return f"{found}{said}".strip()
