"""Where a class of the user's own is written down: in a Python file beside the model that needs it.

Files are looked at as text. None is imported: code of the user's runs only where the job names it.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FILES = 200
_BYTES = 1 << 20
"""A folder of more files, or a bigger file, is hardly where a model's class is kept."""


def source_beside(model: Path, name: str, module: str) -> Path | None:
    """The Python file beside a model that defines a class or a function.

    Args:
        model: Where the model lies, as the job names it.
        name: Of the class or the function.
        module: In which it was when the model was saved; of several files the one of this name
            comes first.

    Returns:
        The file in the model's folder, or None.
    """
    last = module.rpartition(".")[2]
    try:
        files = sorted(model.parent.glob("*.py"), key=lambda file: (file.stem != last, file.name))
    except OSError:
        return None
    return next((file for file in files[:_FILES] if _defines(file, name)), None)


def _defines(file: Path, name: str) -> bool:
    try:
        if not file.is_file() or file.stat().st_size > _BYTES:
            return False
        text = file.read_bytes()
        if name.encode() not in text:
            return False
        statements = ast.parse(text).body
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    kinds = (ast.ClassDef, ast.FunctionDef)
    return any(isinstance(node, kinds) and node.name == name for node in statements)
