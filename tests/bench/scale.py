"""Scale on paper: what a million shards cost a plan, a pod and `status`, and how even shares are.

    python -m tests.bench.scale [--shards 1000000] [--shares 1000] [--rows N] [--save FILE]

Nothing is stored but the plan: the lake is made of paper (`tests.bench.paper`). Each step runs in a
process of its own, through the code that a run goes through:

    freeze   the first pod, when it has read all footers: encodes the plan and stores it
    pod      any other: reads the plan, finds its share, lists input and output, opens its shards
    status   lists the output and reads the plan
    plan     the shares of `plan --shard-count`, and how even they are

Memory is a process's peak above the same step on ten shards. Seconds are the processor's. Of some
pods it is checked that their shares are those that another algorithm gives.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import frozen, survey
from pipeline.discover import Discovery
from pipeline.job import Job
from pipeline.layout import plan_name
from pipeline.memory import peak_bytes
from pipeline.report import REPORTS
from pipeline.shares import balance
from pipeline.status import status
from pipeline.storage import LocalStorage
from tests.bench.paper import PaperLake, name_of, paper_output, place_of, register_paper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PLAN_ID = "on-paper"
PODS = (0, 1, 500)
FEW = 10
"""Shards of the lake whose figures are taken away: what a process holds in any case."""


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shards", type=int, default=1_000_000)
    parser.add_argument("--shares", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=10**10)
    parser.add_argument("--save", type=Path, help="a JSON file for the figures")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    if asked.step is not None:
        sys.stdout.write(json.dumps(taken(**json.loads(asked.step))))
        return
    found = measured(asked.shards, asked.shares, asked.rows)
    if asked.save is not None:
        asked.save.parent.mkdir(parents=True, exist_ok=True)
        asked.save.write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.write(table(found))


def measured(shards: int, shares: int, rows: int) -> dict[str, Any]:
    """All figures, as a JSON document."""
    lakes = {
        f"{shards:,} shards, long tail": PaperLake(shards, rows),
        f"{shards:,} shards, {'giants'}": PaperLake(shards, rows, "giants"),
        f"{shards:,} shards, a thousand times the rows": PaperLake(shards, 1000 * rows),
        "4,000 shards": PaperLake(4000, rows),
        "40 shards": PaperLake(40, rows),
    }
    balances = {}
    for name, lake in lakes.items():
        spent = time.process_time()
        found = balance(lake.rows(), shares)
        balances[name] = {
            "shards": lake.shards,
            "rows": found.rows,
            "biggest_shard": found.biggest_shard,
            "smallest_share": found.smallest,
            "biggest_share": found.biggest,
            "imbalance": found.imbalance,
            "least_possible": max(1.0, found.biggest_shard / found.mean),
            "processor_seconds": time.process_time() - spent,
        }
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        steps = _steps(Path(folder), PaperLake(shards, rows), shares)
    return {
        "format": 1,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "shards": shards,
        "shares": shares,
        "steps": steps,
        "balance": balances,
    }


def _steps(folder: Path, lake: PaperLake, shares: int) -> dict[str, dict[str, float]]:
    few = PaperLake(FEW, FEW * 1000)
    found: dict[str, dict[str, float]] = {}
    of = {lake: folder / "many", few: folder / "few"}
    assigned = {lake: oracle(lake.rows(), shares), few: oracle(few.rows(), shares)}
    pods = [(f"pod {index}", "pod", index) for index in PODS if index < shares]
    orders = [("freeze", "freeze", -1), *pods, ("status", "status", -1)]
    for name, step, index in orders:
        both = []
        for one in (few, lake):
            address = paper_output(of[one], assigned[one], index)
            said = run(step, one, address, index, shares)
            if step == "pod":
                ours = [place for place, share in enumerate(assigned[one]) if share == index]
                if said.pop("places") != ours:
                    raise SystemExit(f"the share of pod {index} is another than it should be")
            both.append(said)
        base, figures = both
        figures["peak_above"] = figures["peak_bytes"] - base["peak_bytes"]
        figures["bytes_per_shard"] = figures["peak_above"] / lake.shards
        found[name] = figures
    plans = list((of[lake] / "_shardscore/plans").glob("*.json"))
    found["freeze"]["plan_bytes"] = plans[0].stat().st_size
    return found


def oracle(rows: array[int], count: int) -> array[int]:
    """Which share each shard is of, by looking for the least loaded one each time."""
    loads = np.zeros(count, np.int64)
    shares = array("l", bytes(array("l").itemsize * len(rows)))
    for place in np.argsort(-np.frombuffer(rows, np.int64), kind="stable"):
        least = int(loads.argmin())
        loads[least] += max(1, rows[place])
        shares[place] = least
    return shares


def run(step: str, lake: PaperLake, output: str, index: int, shares: int) -> dict[str, Any]:
    """Takes a step in a process of its own."""
    said = {
        "step": step,
        "lake": [lake.shards, lake.total, lake.kind],
        "output": output,
        "index": index,
        "shares": shares,
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.scale", "--step", json.dumps(said)],
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def taken(step: str, lake: list[Any], output: str, index: int, shares: int) -> dict[str, Any]:
    """Takes a step in this process: its seconds and its peak."""
    register_paper()
    steps: dict[str, Callable[..., dict[str, Any]]] = {
        "freeze": _freeze, "pod": _pod, "status": _status,
    }  # fmt: skip
    return steps[step](PaperLake(*lake), output, index, shares)


def _freeze(lake: PaperLake, output: str, _index: int, _shares: int) -> dict[str, Any]:
    storage = LocalStorage(f"/{output.removeprefix('paper-out://').partition('/')[2]}")
    found = Discovery(lake.discovered(), ())
    spent = time.process_time()
    plan = frozen.freeze(storage, PLAN_ID, found)
    figures = _figures(spent)
    report = {"plan_id": plan, "shards": {"total": lake.shards}}
    storage.replace(f"{REPORTS}/1.json", json.dumps(report).encode())
    if plan is None or not storage.info(plan_name(plan)).size:
        raise SystemExit("nothing was frozen")
    return figures


def _pod(lake: PaperLake, output: str, index: int, shares: int) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile(suffix=".keras") as model:
        job = Job(
            model=model.name,
            input=(lake.address,),
            output=output,
            plan_id=PLAN_ID,
            shard_index=index,
            shard_count=shares,
        )
        spent = time.process_time()
        found = survey.survey(job)
        figures = _figures(spent)
    wrong = [failed.error.message for failed in found.found.failed]
    if wrong:
        raise SystemExit(f"{len(wrong)} shards are wrong: {wrong[0]}")
    names = [shard.name for shard in found.standing.pending]
    return {**figures, "places": _places(names)}


def _places(names: Sequence[str]) -> list[int]:
    places = [place_of(name) for name in names]
    assert [name_of(place) for place in places] == list(names)
    return places


def _status(_lake: PaperLake, output: str, _index: int, _shares: int) -> dict[str, Any]:
    spent = time.process_time()
    found = status(output)
    figures = _figures(spent)
    return {**figures, "published": found["shards"]["published"]}


def _figures(since: float) -> dict[str, float]:
    return {"processor_seconds": time.process_time() - since, "peak_bytes": peak_bytes()}


def table(found: dict[str, Any]) -> str:
    lines = [f"{found['machine']}, {found['shards']:,} shards, {found['shares']:,} shares", ""]
    lines.append(f"{'':<46}{'s of CPU':>9}{'MB':>8}{'bytes a shard':>15}")
    for name, of in found["steps"].items():
        memory = f"{of['peak_above'] / 1e6:>8.0f}{of['bytes_per_shard']:>15,.0f}"
        lines.append(f"{name:<46}{of['processor_seconds']:>9.2f}{memory}")
    lines.append(f"the plan: {found['steps']['freeze']['plan_bytes'] / 1e6:,.0f} MB\n")
    head = f"{'':<46}{'s of CPU':>9}{'rows':>20}{'imbalance':>11}{'least possible':>16}"
    lines.append(head)
    for name, of in found["balance"].items():
        told = f"{of['rows']:>20,}{of['imbalance']:>11.5f}{of['least_possible']:>16.5f}"
        lines.append(f"{name:<46}{of['processor_seconds']:>9.2f}{told}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
