"""What is a shard: by its name, and as it is found before its footer is read.

What local and remote inputs have in common. `local_inputs` and `remote_inputs` find files,
`discover` makes shards of them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ContractError, NoInputError, UsageError, shortened
from pipeline.spelling import CONVERT, is_text_table, near
from pipeline.storage.base import is_hidden
from pipeline.storage.locate import has_scheme

if TYPE_CHECKING:
    from collections.abc import Sequence

SUFFIXES = (".parquet", ".pq", ".parq")


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is to be a shard: where it is, and its output's name.

    Attributes:
        root: Address of the storage that holds it.
        key: Its name in that storage.
        name: Its output's name.
        size: Bytes.
        mtime_ns: Time of the last change, in nanoseconds since the epoch.
        etag: What an object store calls its version.
        refused: Why it is not looked at.
    """

    root: str
    key: str
    name: str
    size: int
    mtime_ns: int
    etag: str | None = None
    refused: ContractError | None = None

    @property
    def path(self) -> str:
        """The file's address."""
        return f"{self.root}/{self.key}"


class Places:
    """Where files lie in truth: one file has one place, whatever links lead to it.

    Folders are looked at once each: a lake has few of them for its files.
    """

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def of(self, file: Found) -> str:
        """The place of a file."""
        path = file.path
        if has_scheme(file.root):
            return path
        if os.path.islink(path):  # noqa: PTH114 - one of many thousands
            return os.path.realpath(path)
        folder, _, name = path.rpartition("/")
        real = self._folders.get(folder)
        if real is None:
            real = self._folders[folder] = os.path.realpath(folder or "/")
        return f"{real.rstrip('/')}/{name}"


def is_shard(name: str) -> bool:
    """Whether a file that is found in a folder is a shard."""
    return name.lower().endswith(SUFFIXES) and not is_hidden(name)


def output_as_input(path: str) -> UsageError:
    """The error for an input that is the output."""
    return UsageError("the output is one of the inputs", path=path, hint="choose another --output")


def hidden_input(path: str) -> UsageError:
    """The error for an input that is one file with a hidden name."""
    return UsageError(
        "a shard whose name begins with _ or . would be invisible in the output",
        path=path,
        hint="rename it",
    )


def no_such_input(address: str) -> NoInputError:
    """The error for an input that leads to nothing."""
    hint = "check the path; --input takes a file, a folder or a quoted glob"
    return NoInputError(
        "the input does not exist",
        path=address,
        hint=hint if has_scheme(address) else near(Path(address), hint),
    )


def no_shard_in(address: str, others: Sequence[str] = ()) -> NoInputError:
    """The error for an input without a single shard.

    Args:
        address: The input.
        others: Names of what it holds instead, as far as that is known.
    """
    if any(map(is_shard, others)):
        return NoInputError(
            "all that the input holds lies in the output",
            path=address,
            hint="choose another --output, which is not above the input",
        )
    return NoInputError(
        "the input holds no Parquet file",
        path=address,
        expected=f"files that end with {', '.join(SUFFIXES)}; names that begin with _ or . "
        "are passed over",
        received=shortened(sorted(others)) if others else None,
        hint=CONVERT if any(map(is_text_table, others)) else "check the path of --input",
    )
