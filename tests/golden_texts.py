"""Texts that are kept word for word: what people read is part of what is tested.

After a change that is meant, SHARDSCORE_RENEW_GOLDEN=1 writes the new texts; read them in the diff.
"""

from __future__ import annotations

import os
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent / "golden"


def assert_golden(name: str, text: str) -> None:
    """Compares a text with `tests/golden/<name>.txt`."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("SHARDSCORE_RENEW_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert path.exists(), f"{path} is missing; SHARDSCORE_RENEW_GOLDEN=1 writes it"
    assert text + "\n" == path.read_text()
