"""What a run of mutmut found, as a table: how many mutants of each module the tests kill.

    python -m tests.mutation [--survivors]

The score that counts is a module's mutants that tests killed, over all that mypy lets pass: what
it refuses never reaches a test, so it neither helps nor harms. A survivor that is argued
(`tests.mutation.argued`) is a survivor; the score without those is shown beside.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mutmut.configuration import config
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.format_utils import orig_function_and_class_names_from_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

LEAST = 0.85
"""The score that each module must have."""

_KILLED = {"killed", "timeout", "segfault"}
_REFUSED = "caught by type check"


@dataclass(frozen=True, slots=True)
class Change:
    """What a mutant is, whatever number it has: so it is known again when others come and go.

    Attributes:
        module: Its file, relative to `pipeline/`.
        function: The function, with its class.
        was: The lines that it changes, as they are, without their indentation.
        became: The same lines, changed.
    """

    module: str
    function: str
    was: str
    became: str

    def __str__(self) -> str:
        lines = [f"{self.module} {self.function}"]
        lines += [f"  - {line}" for line in self.was.split("\n")]
        lines += [f"  + {line}" for line in self.became.split("\n")]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Module:
    """What became of a module's mutants.

    Attributes:
        name: Its file, relative to `pipeline/`.
        refused: Mutants that mypy refuses.
        killed: Those that a test found, or that ran until their time was over.
        survivors: The others.
        unfinished: Those that were not tried.
    """

    name: str
    refused: int
    killed: int
    survivors: tuple[Change, ...]
    unfinished: int

    def score(self, without: Collection[Change] = ()) -> float:
        """Killed mutants over those that tests could kill; 1 where there are none.

        Args:
            without: Survivors that are left out.
        """
        left = sum(change not in without for change in self.survivors)
        return self.killed / (self.killed + left) if self.killed + left else 1.0


def found() -> list[Module]:
    """What the last run of mutmut found, of each module that pyproject.toml names."""
    return [_module(Path(name)) for name in config().only_mutate]


def _module(path: Path) -> Module:
    data = SourceFileMutationData(path=path)
    data.load()
    status = {key: status_by_exit_code[code] for key, code in data.exit_code_by_key.items()}
    counts = Counter(status.values())
    waiting = {"not checked", "check was interrupted by user"}
    name = str(path.relative_to("pipeline"))
    others = [
        key for key, one in status.items() if one not in _KILLED | waiting and one != _REFUSED
    ]
    return Module(
        name,
        counts[_REFUSED],
        sum(counts[one] for one in _KILLED),
        tuple(_change(name, path, key) for key in others),
        sum(counts[one] for one in waiting) + (not status),
    )


def _change(module: str, path: Path, key: str) -> Change:
    function, owner = orig_function_and_class_names_from_key(key)
    lines = get_diff_for_mutant(key, path=path).split("\n")[3:]
    was, became = (
        "\n".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+"
    )
    return Change(module, f"{owner}.{function}" if owner else function, was, became)


def table(modules: Sequence[Module], argued: Collection[Change]) -> str:
    """The modules and their sum, a line each."""
    lines = [
        f"{'module':<26}{'mutants':>8}{'mypy':>6}{'killed':>8}{'survived':>10}{'argued':>8}"
        f"{'score':>8}{'without argued':>16}"
    ]
    lines += [_line(module, argued) for module in [*modules, _sum(modules)]]
    return "\n".join(lines)


def _line(module: Module, argued: Collection[Change]) -> str:
    survived = len(module.survivors)
    return (
        f"{module.name:<26}{module.refused + module.killed + survived:>8}{module.refused:>6}"
        f"{module.killed:>8}{survived:>10}{sum(s in argued for s in module.survivors):>8}"
        f"{module.score():>8.1%}{module.score(argued):>16.1%}"
    )


def _sum(modules: Iterable[Module]) -> Module:
    modules = list(modules)
    return Module(
        "all",
        sum(module.refused for module in modules),
        sum(module.killed for module in modules),
        tuple(change for module in modules for change in module.survivors),
        sum(module.unfinished for module in modules),
    )


def complaints(modules: Sequence[Module], argued: Collection[Change]) -> list[str]:
    """Why the run is no success, a line each: empty if it is one."""
    survivors = {change for module in modules for change in module.survivors}
    return [
        *(f"{m.name}: {m.unfinished} mutants were not tried" for m in modules if m.unfinished),
        *(
            f"{m.name}: the score is {m.score():.1%}, and must be {LEAST:.0%}"
            for m in modules
            if m.score() < LEAST
        ),
        *(f"argued, and no survivor any more: {one}" for one in argued if one not in survivors),
    ]
