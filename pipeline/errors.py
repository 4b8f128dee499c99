"""The errors of shardscore, and the facts that each one carries.

    ShardscoreError
    ├── UsageError            the command line asks for something that cannot be
    ├── NoInputError          there is nothing to score
    ├── DataError             a shard broke the contract; the other shards are still scored
    │   ├── CorruptShardError     not Parquet, truncated, or its footer lies
    │   ├── ContractError         a column is missing, has the wrong type, or collides
    │   ├── BadRowError           a row cannot be scored, and the policy is to fail
    │   ├── TooManyBadRowsError   more rows cannot be scored than the job allows
    │   ├── ScoringError          the model raised on a batch
    │   ├── ChangedInputError     the shard is not the one that was scored before
    │   └── DriftError            the predictions differ too much from those of the baseline
    ├── OutputMismatchError   the output belongs to another job
    ├── StorageError          reading or writing failed; trying again may help
    │   ├── NotFoundError
    │   ├── AlreadyExistsError    create-if-absent found something there
    │   ├── VersionChangedError   an opened object is no longer the one that was opened
    │   ├── UnavailableError      no answer, or "try later"; what was asked may have been done
    │   └── CheckpointError       a checkpoint is damaged or gone; the shard begins again
    ├── IncompleteError       an output is asked for whole, and has work left
    ├── BusyError             another run is at work on the output
    ├── StoppedError          asked to stop; there is work left
    ├── WorkerDiedError       a worker process was killed, or ended by itself; there is work left
    ├── EngineError           who is to score cannot be reached; there is work left
    └── ConfigError           the job's configuration is wrong
        └── ModelError            the model is missing, unreadable, refused or inconsistent
            ├── PredictFailedError    predict() raised on the first rows
            └── UnknownInputsError    neither the model nor the job says what it takes

This module owns the tree and the text of an error, and imports nothing of ours. It does not
know exit codes: `jobs.exit_codes` is the one place that does.

Facts are attributes, so that a report can use them; `str()` of an error is one readable block.
Errors travel between processes: each survives pickling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Sequence


class ShardscoreError(Exception):
    """Base of all expected failures.

    Args:
        message: One line that says what is wrong, without a full stop.
        path: The file or folder concerned.
        column: The column concerned.
        row: The row's number in its shard, counted from 0.
        expected: What would have been right.
        received: What was found.
        hint: What the user can do about it.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | None = None,
        column: str | None = None,
        row: int | None = None,
        expected: str | None = None,
        received: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.column = column
        self.row = row
        self.expected = expected
        self.received = received
        self.hint = hint

    @property
    def facts(self) -> dict[str, Any]:
        """The facts that are known, by name, in the order in which they are shown."""
        known = {
            "path": self.path,
            "column": self.column,
            "row": self.row,
            "expected": self.expected,
            "received": self.received,
            "hint": self.hint,
        }
        return {name: value for name, value in known.items() if value is not None}

    def __str__(self) -> str:
        labels = {"path": "file", "hint": "to do"}
        lines = [printable(self.message)]
        for name, value in self.facts.items():
            # Names come from outside and stay on one line; our own texts may have several.
            texts = [str(value)] if name in {"path", "column"} else str(value).split("\n")
            label = labels.get(name, name) + ":"
            lines.append(f"  {label:<10}" + f"\n{'':12}".join(map(printable, texts)))
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.facts)

    def detached(self) -> Self:
        """The same error without its traceback and causes.

        Those hold all that was in use when it was raised, readers and batches included. An error
        that is kept for a report must not keep them.
        """
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self

    def with_path(self, path: str) -> Self:
        """The same error, naming a file if it named none."""
        if self.path is None:
            self.path = path
        return self


def _rebuild(kind: type[ShardscoreError], message: str, facts: dict[str, Any]) -> ShardscoreError:
    return kind(message, **facts)


def printable(text: str) -> str:
    """`text` with control characters escaped, so that a file's name cannot drive a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def on_lines(text: str) -> str:
    """`text` with its own line breaks kept and all other control characters escaped."""
    return "\n".join(map(printable, text.split("\n")))


def shortened(names: Sequence[str]) -> str:
    """A list of names that stays readable if there are many."""
    shown = names if len(names) <= 8 else [*names[:6], "…", names[-1]]
    return ", ".join(map(printable, shown))


class UsageError(ShardscoreError):
    """The command line asks for something that cannot be."""


class NoInputError(ShardscoreError):
    """There is nothing to score."""


class DataError(ShardscoreError):
    """A shard broke the contract. The other shards are still scored."""


class CorruptShardError(DataError):
    """A file is not Parquet, is truncated, or its footer lies about it."""


class ContractError(DataError):
    """A column is missing, has the wrong type, or collides with a prediction."""


class BadRowError(DataError):
    """A row cannot be scored, and the policy for bad rows is to fail."""


class TooManyBadRowsError(DataError):
    """More rows of a shard cannot be scored than the job allows."""


class ScoringError(DataError):
    """The model raised on a batch, or its outputs do not fit the rows."""


class DriftError(DataError):
    """The predictions of an output differ too much from those of the baseline."""


class ChangedInputError(DataError):
    """A shard is not the one that was scored into the file of its name."""


class OutputMismatchError(ShardscoreError):
    """The output holds the results of another job, model or program."""


class StorageError(ShardscoreError):
    """Reading or writing failed for a reason outside the job. Trying again may help."""


class NotFoundError(StorageError):
    """There is nothing under that name."""


class AlreadyExistsError(StorageError):
    """Create-if-absent found something under the name."""


class VersionChangedError(StorageError):
    """An object was replaced or removed after it was opened."""


class UnavailableError(StorageError):
    """The storage did not answer, or said "try later". What was asked may or may not be done."""


class CheckpointError(StorageError):
    """A checkpoint that is needed is damaged or gone. The shard begins again in the next run."""


class IncompleteError(ShardscoreError):
    """An output has work left, and is asked for as a whole."""


class BusyError(ShardscoreError):
    """Another run is at work on the output; it, or a later run, does what is left."""


class StoppedError(ShardscoreError):
    """A signal asked the run to stop before all was done.

    Args:
        signum: The number of the signal.
    """

    def __init__(self, message: str, *, signum: int = 0, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.signum = signum

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, {**self.facts, "signum": self.signum})


class WorkerDiedError(ShardscoreError):
    """A worker process was killed, or ended by itself; what it had in hand is left."""


class EngineError(ShardscoreError):
    """Where workers should be cannot be reached. Trying again may help."""


class ConfigError(ShardscoreError):
    """The job's configuration is wrong: a value, or a file that it names."""


class ModelError(ConfigError):
    """The model is missing, unreadable, refused, or disagrees with itself."""


class PredictFailedError(ModelError):
    """`predict()` raised on the first rows of a shard."""


class UnknownInputsError(ModelError):
    """Neither the model nor the job says what the model takes as input."""
