"""shardscore's library: from a Parquet shard to predictions, and back to Parquet.

    from pipeline import Job, load_predictions, score, verify

    job = Job(model="model.keras", input="lake/", output="out/", features=["a", "b"])
    score(job)
    frame = load_predictions("out/", inputs=True)

What is listed in `__all__` is the public part; each says in its docstring what it takes, gives and
raises. Every error is a `ShardscoreError`. ARCHITECTURE.md beside this file tells all modules
apart.

Importing the package loads neither TensorFlow nor pyarrow; a name brings what it needs when it is
first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.api import plan as plan
    from pipeline.api import score as score
    from pipeline.api import verify as verify
    from pipeline.errors import ShardscoreError as ShardscoreError
    from pipeline.job import Job as Job
    from pipeline.load import load_predictions as load_predictions

__all__ = ["Job", "ShardscoreError", "load_predictions", "plan", "score", "verify"]

_HOMES = {
    "Job": "pipeline.job",
    "ShardscoreError": "pipeline.errors",
    "load_predictions": "pipeline.load",
    "plan": "pipeline.api",
    "score": "pipeline.api",
    "verify": "pipeline.api",
}


class _Package(ModuleType):
    """The package, in which a public name is never the module of that name.

    There are modules `plan` and `verify`, too, and Python binds a module in its package when it is
    first imported: without this, what `from pipeline import verify` gives would depend on what was
    imported before.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """Brings a public name in when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
