"""Survivors that no test can kill, or that none should, each with its reason.

They count as survivors in a module's score. One that is killed, or is gone with its line, must go
from here too: `make mutants` says so.
"""

from __future__ import annotations

from tests.mutation.score import Change

ARGUED: dict[Change, str] = {}
