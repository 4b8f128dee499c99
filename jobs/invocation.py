"""How a command was called for, so that its report can say how to do so again.

What the user typed, and the variables that are options: nothing else of the environment, and no
password that stands in an address.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.records import Invocation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PASSWORD = re.compile(r"(://[^/@:\s]*:)\S*@")
"""What stands between a user's name and the last @ of an address."""


def invocation(arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> Invocation:
    """How this process was called for.

    Args:
        arguments: The words behind `shardscore`.
        environ: The environment; None: this process's.
    """
    given = os.environ if environ is None else environ
    return Invocation(
        command=("shardscore", *map(without_password, arguments)),
        variables=tuple(
            (name, without_password(value))
            for name, value in sorted(given.items())
            if name.startswith("SHARDSCORE_")
        ),
        folder=_folder(),
    )


def _folder() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:  # it was removed under this process
        return ""


def without_password(text: str) -> str:
    """A word of a command line, with an ellipsis for the password in an address."""
    return _PASSWORD.sub(r"\1…@", text)
