"""The library's front door: what `from pipeline import …` gives, with plain addresses and defaults.

Each is one call of what the command of that name calls too. Nothing is decided here but what a
caller of a library expects otherwise: work that is left undone is an exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline import preview, run
from pipeline import verify as verification
from pipeline.errors import DataError, ShardscoreError
