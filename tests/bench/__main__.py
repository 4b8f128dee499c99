"""The benchmark: makes the workloads, runs all contestants in turn, prints and saves tables.

    python -m tests.bench [--scale 1] [--rounds 2] [--only W1,W4] [--contestants pandas_loop,daft]

At full scale the whole takes more than an hour on two cores. What was found is saved after each
section, to `.bench/results/`, as JSON and as Markdown.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench import environments
from tests.bench.machine import machine
from tests.bench.sections import SECTIONS, Bench
from tests.bench.tables import markdown
from tests.bench.workloads import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

_TITLES = {
    **{name: kind.title for name, kind in KINDS.items()},
    "W6": "the data of W1, ours on a real S3 server and on the disk",
    "workers": "ours on W1, a thread a worker",
    **{f"batch-{name}": f"batch sizes of ours on {name}" for name in KINDS},
}


def main(words: Sequence[str] | None = None) -> None:
    asked = _options(words)
    described = machine()
    bench = Bench(asked.scale, asked.rounds, asked.contestants)
    name = described["date"].replace(":", "").removesuffix("+0000")
    for section in asked.only:
        SECTIONS[section](bench)
        found = {
            "machine": described,
            "command": _command(asked),
            "titles": _TITLES,
            **bench.as_json(),
        }
        _save(asked.save, name, found)
    sys.stdout.write(markdown(found) + "\n")


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--scale", type=float, default=1.0, help="1: as big as is promised")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each contestant")
    parser.add_argument(
        "--only", type=_listed(list(SECTIONS)), default=tuple(SECTIONS), metavar="SECTION,…"
    )
    parser.add_argument(
        "--contestants",
        type=_listed(environments.names()),
        default=tuple(environments.names()),
        metavar="NAME,…",
    )
    parser.add_argument("--save", type=Path, default=environments.HOME / "results", metavar="DIR")
    return parser.parse_args(words)


def _listed(known: list[str]) -> Any:
    def parsed(text: str) -> tuple[str, ...]:
        names = tuple(filter(None, text.split(",")))
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}; there are {', '.join(known)}")
        return names

    return parsed


def _command(asked: argparse.Namespace) -> str:
    words = ["python -m tests.bench"]
    if asked.scale != 1:
        words.append(f"--scale {asked.scale:g}")
    words.append(f"--rounds {asked.rounds}")
    if set(asked.only) != set(SECTIONS):
        words.append(f"--only {','.join(asked.only)}")
    if set(asked.contestants) != set(environments.names()):
        words.append(f"--contestants {','.join(asked.contestants)}")
    return " ".join(words)


def _save(folder: Path, name: str, found: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for ending, text in (("json", json.dumps(found, indent=1)), ("md", markdown(found))):
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
            file.write(text + "\n")
        Path(file.name).replace(folder / f"{name}.{ending}")


if __name__ == "__main__":
    main()
