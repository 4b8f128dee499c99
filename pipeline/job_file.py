"""Job files on the disk, and other texts: reading one, and writing one whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError, UsageError
from pipeline.storage.disk_errors import translated

if TYPE_CHECKING:
    from pathlib import Path


def read_text(path: Path) -> str | None:
    """The text of a file, line breaks as they are; None if there is none.

    Raises:
        ConfigError: It cannot be read as text.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(
            f"the configuration cannot be read: {error.strerror}", path=str(path)
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            "the configuration is not TOML", path=str(path), received=str(error)
        ) from error


def refuse_existing(path: Path) -> None:
    """Raises UsageError if there is something at a path."""
    if path.exists() or path.is_symlink():
        raise UsageError(
            "the file is there already",
            path=str(path),
            hint="choose another --output, or replace it with --force",
        )


def write_text(path: Path, text: str, *, replace: bool) -> None:
    """Writes a file durably, under its name only when it is whole.

    Args:
        path: The file. If it is a link, what it leads to is replaced.
        text: Its text.
        replace: Whether it may be there already; its mode is kept then.

    Raises:
        UsageError: It is there, and is not to be replaced; or the text is no Unicode.
        StorageError: It cannot be written.
    """
    if replace:
        path = path.resolve()
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(
            "a path is not UTF-8, as TOML wants it", received=repr(text[error.start : error.end])
        ) from error
    staged = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with translated(path):
        try:
            with staged.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                if path.exists():
                    shutil.copymode(path, staged)
                staged.replace(path)
            else:
                try:
                    path.hardlink_to(staged)
                except FileExistsError:
                    refuse_existing(path)
        finally:
            staged.unlink(missing_ok=True)
