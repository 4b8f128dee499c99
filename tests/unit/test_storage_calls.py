"""What a run asks of storage: how many calls a shard, and how many a run, whatever its shards.

Each scenario runs over two numbers of shards. What the two differ by, for each shard more, is what
a shard costs; what is left is what a run costs. Both are whole numbers, and pinned: who changes one
sees it here. On an object store a call is a request or more, which is paid for and waited for.
"""

from __future__ import annotations

import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import preview, run_state, small
from pipeline.job import Job
from pipeline.probe import PROBE_ROWS
from pipeline.status import status
from pipeline.storage import storage_at
from pipeline.storage.locate import _factories, register
from pipeline.verify import verify
from tests.faults.arithmetic import install
from tests.faults.lake import score_here, write_shard
from tests.services import SeaweedServer
from tests.unit.counting import Calls, CountingProxy, counted_memory

FEWER, MORE = 2, 5
"""Shards, or checkpoints, of the two runs of a scenario."""

ROWS = PROBE_ROWS
"""Of a shard: the probe asks one of them alone."""

BATCH = 2 * ROWS
"""Rows a batch: shards of ROWS are small ones, and all of a run share one call."""

Scenario = Callable[["Place", int], None]


class Place:
    """Where a scenario runs: an input and an output of its own, both counted.

    Args:
        root: The address below which both are.
        folder: Where the stand-in of a model is made.
        calls: What is counted.
    """

    def __init__(self, root: str, folder: Path, calls: Calls) -> None:
        self.input, self.output = f"{root}in", f"{root}out"
        self._folder = folder
        self._calls = calls
        self.counted: Counter[str] = Counter()
        (folder / "model.keras").write_bytes(b"arithmetic")
        self._shard = folder / "shard.parquet"

    def put(self, shards: int, rows: int = ROWS) -> None:
        write_shard(self._shard, rows)
        for number in range(shards):
            storage_at(self.input).create(f"{number:04}.parquet", self._shard.read_bytes())

    def job(self, **more: Any) -> Job:
        at = {"model": str(self._folder / "model.keras"), "input": (self.input,)}
        how: dict[str, Any] = {"workers": 1, "batch_size": BATCH, "checkpoint_every": 1e9} | more
        return Job(**at, output=self.output, **how)

    def score(self, **more: Any) -> None:
        assert score_here(self.job(**more)).state == "finished"

    def count(self, action: Callable[[], object]) -> None:
        """Counts what an action asks for."""
        with self._calls.during() as found:
            action()
        self.counted = found


def marked(at: Place, shards: int) -> None:
    """An output whose marks are a second younger than its files: an object store tells no less."""
    at.put(shards)
    at.score()
    storage_at(at.output).delete("_SUCCESS")
    time.sleep(1.1)
    at.score()


def fresh(at: Place, shards: int) -> None:
    at.put(shards)
    at.count(at.score)


def idle(at: Place, shards: int) -> None:
    marked(at, shards)
    at.count(at.score)


def resumed(at: Place, shards: int) -> None:
    """One shard is new, and the others are published: the output is not marked."""
    at.put(shards)
    at.score()
    write_shard(at._shard, ROWS)
    storage_at(at.input).create("new.parquet", at._shard.read_bytes())
    storage_at(at.output).delete("_SUCCESS")
    at.count(at.score)


def told(at: Place, shards: int) -> None:
    at.put(shards)
    at.score()
    at.count(lambda: status(at.output))


def planned(at: Place, shards: int) -> None:
    at.put(shards)
    at.count(lambda: preview.plan(at.job(), with_model=False))


def planned_again(at: Place, shards: int) -> None:
    marked(at, shards)
    at.count(lambda: preview.plan(at.job(), with_model=False))


def verified(at: Place, shards: int) -> None:
    at.put(shards)
    at.score()
    at.count(lambda: verify(storage_at(at.output), quick=True))


def share(index: int, count: int) -> dict[str, Any]:
    return {"shard_index": index, "shard_count": count, "plan_id": "a-job"}


def first_index(at: Place, shards: int) -> None:
    """Freezes the plan: a shard is one of its own share, and one of another's."""
    at.put(2 * shards)
    at.count(lambda: at.score(**share(0, 2)))


def an_index(at: Place, shards: int) -> None:
    """Comes when the plan is frozen, and is not the last: a third is still to be done."""
    at.put(3 * shards)
    at.score(**share(0, 3))
    at.count(lambda: at.score(**share(1, 3)))


def last_index(at: Place, shards: int) -> None:
    """Completes the output: writes the manifest, which asks each published file."""
    at.put(2 * shards)
    at.score(**share(0, 2))
    at.count(lambda: at.score(**share(1, 2)))


def checkpointed(at: Place, checkpoints: int) -> None:
    """One big shard, saved behind each batch but the last: so many times."""
    at.put(1, rows=BATCH * (checkpoints + 1))
    at.count(lambda: at.score(checkpoint_every=0))


# fmt: off
CALLS: dict[str, tuple[Scenario, dict[str, tuple[int, int]]]] = {
    "a fresh run": (fresh, {
        "in info": (2, 2), "in list": (0, 1), "in open_input": (2, 2), "out create": (0, 2),
        "out delete": (0, 2), "out hold": (0, 1), "out list": (0, 5), "out open_input": (1, 0),
        "out publish": (1, 0), "out read": (0, 1), "out replace": (0, 5), "out stage": (1, 0),
        "out sweep": (0, 1), "root info": (0, 1),
    }),
    "a second run, idle": (idle, {
        "in list": (0, 1), "in open_input": (1, 0), "out blocks": (0, 4), "out create": (0, 1),
        "out hold": (0, 1), "out info": (0, 1), "out list": (0, 4), "out read": (0, 5),
        "out replace": (0, 1), "out sweep": (0, 1), "root info": (0, 1),
    }),
    "one new shard among published ones": (resumed, {
        "in info": (0, 4), "in list": (0, 1), "in open_input": (1, 4), "out create": (0, 2),
        "out delete": (0, 2), "out hold": (0, 1), "out info": (0, 1), "out list": (0, 5),
        "out open_input": (2, 1), "out publish": (0, 1), "out read": (0, 3),
        "out replace": (0, 5), "out stage": (0, 1), "out sweep": (0, 1), "root info": (0, 1),
    }),
    "status": (told, {
        "out blocks": (0, 1), "out info": (0, 1), "out list": (0, 3), "out read": (0, 2),
    }),
    "plan of what is to be begun": (planned, {
        "in list": (0, 1), "in open_input": (1, 1), "out list": (0, 3), "out read": (0, 1),
        "root info": (0, 1),
    }),
    "plan of a complete output": (planned_again, {
        "in list": (0, 1), "in open_input": (1, 0), "out blocks": (0, 3), "out info": (0, 1),
        "out list": (0, 2), "out read": (0, 3), "root info": (0, 1),
    }),
    "verify --quick": (verified, {
        "in list": (0, 1), "in open_input": (1, 0), "out list": (0, 3), "out open_input": (1, 0),
        "out read": (0, 5), "root info": (0, 1),
    }),
    "an index that freezes the plan": (first_index, {
        "in info": (2, 2), "in list": (0, 1), "in open_input": (3, 2), "out create": (0, 3),
        "out delete": (0, 2), "out hold": (0, 2), "out list": (0, 5), "out publish": (1, 0),
        "out read": (0, 2), "out replace": (0, 2), "out stage": (1, 0), "out sweep": (0, 1),
        "root info": (0, 1),
    }),
    "an index of a frozen plan": (an_index, {
        "in info": (2, 2), "in list": (0, 1), "in open_input": (2, 2), "out blocks": (0, 1),
        "out delete": (0, 2), "out hold": (0, 2), "out list": (0, 5), "out publish": (1, 0),
        "out read": (0, 3), "out replace": (0, 2), "out stage": (1, 0), "out sweep": (0, 1),
        "root info": (0, 1),
    }),
    "the index that completes the output": (last_index, {
        "in info": (2, 2), "in list": (0, 1), "in open_input": (2, 2), "out blocks": (0, 1),
        "out delete": (0, 2), "out hold": (0, 2), "out list": (0, 6), "out open_input": (2, 0),
        "out publish": (1, 0), "out read": (0, 3), "out replace": (0, 5), "out stage": (1, 0),
        "out sweep": (0, 1), "root info": (0, 1),
    }),
    "checkpoints": (checkpointed, {
        "in info": (0, 3), "in list": (0, 1), "in open_input": (0, 4), "out create": (0, 2),
        "out delete": (1, 2), "out hold": (0, 1), "out info": (0, 1), "out list": (0, 6),
        "out open_input": (1, 1), "out publish": (1, 1), "out read": (0, 1),
        "out replace": (0, 5), "out stage": (1, 2), "out sweep": (0, 1), "root info": (0, 1),
    }),
}
# fmt: on
"""Scenario → call → (for each shard, for each run). `root` is the folder above both, which is asked
whether the input is a single object."""

# fmt: off
REQUESTS: dict[str, tuple[Scenario, dict[str, tuple[int, int]]]] = {
    "a fresh run": (fresh, {
        "POST": (0, 2), "in GET": (2, 2), "in HEAD": (1, 2), "in LIST": (0, 1), "out GET": (1, 1),
        "out LIST": (0, 5), "out PUT": (1, 7),
    }),
    "a second run, idle": (idle, {
        "in GET": (1, 0), "in HEAD": (0, 1), "in LIST": (0, 1), "out GET": (0, 9),
        "out HEAD": (0, 1), "out LIST": (0, 4), "out PUT": (0, 2),
    }),
    "one new shard among published ones": (resumed, {
        "POST": (0, 2), "in GET": (1, 4), "in HEAD": (0, 3), "in LIST": (0, 1), "out GET": (2, 4),
        "out HEAD": (0, 1), "out LIST": (0, 5), "out PUT": (0, 8),
    }),
    "status": (told, {
        "out GET": (0, 3), "out HEAD": (0, 1), "out LIST": (0, 3),
    }),
    "plan of what is to be begun": (planned, {
        "in GET": (1, 1), "in HEAD": (0, 1), "in LIST": (0, 1), "out GET": (0, 1),
        "out LIST": (0, 3),
    }),
    "plan of a complete output": (planned_again, {
        "in GET": (1, 0), "in HEAD": (0, 1), "in LIST": (0, 1), "out GET": (0, 6),
        "out HEAD": (0, 1), "out LIST": (0, 2),
    }),
    "verify --quick": (verified, {
        "in GET": (1, 0), "in HEAD": (0, 1), "in LIST": (0, 1), "out GET": (1, 5),
        "out LIST": (0, 3),
    }),
    "an index that freezes the plan": (first_index, {
        "POST": (0, 2), "in GET": (3, 2), "in HEAD": (1, 2), "in LIST": (0, 1), "out GET": (0, 2),
        "out LIST": (0, 5), "out PUT": (1, 5),
    }),
    "an index of a frozen plan": (an_index, {
        "POST": (0, 2), "in GET": (2, 2), "in HEAD": (1, 2), "in LIST": (0, 1), "out GET": (0, 4),
        "out LIST": (0, 5), "out PUT": (1, 2),
    }),
    "the index that completes the output": (last_index, {
        "POST": (0, 2), "in GET": (2, 2), "in HEAD": (1, 2), "in LIST": (0, 1), "out GET": (2, 4),
        "out LIST": (0, 6), "out PUT": (1, 5),
    }),
    "checkpoints": (checkpointed, {
        "POST": (1, 2), "in GET": (0, 4), "in HEAD": (0, 2), "in LIST": (0, 1), "out GET": (1, 2),
        "out HEAD": (0, 1), "out LIST": (0, 6), "out PUT": (1, 8),
    }),
}
# fmt: on
"""The same in requests to an S3 server, where a deletion is a POST to the bucket. A LIST brings up
to 1,000 keys, so those of a run are for each thousand that there are."""


def of_each(scenario: Scenario, place: Callable[[], Place]) -> dict[str, tuple[float, float]]:
    """What a scenario costs for each shard, and for each run."""
    few, many = place(), place()
    scenario(few, FEWER)
    scenario(many, MORE)
    found = {}
    for name in sorted(few.counted.keys() | many.counted.keys()):
        slope = (many.counted[name] - few.counted[name]) / (MORE - FEWER)
        found[name] = (slope, few.counted[name] - FEWER * slope)
    return found


@pytest.fixture(autouse=True)
def _no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done every so often is not done here, and small shards wait for each other."""
    install(monkeypatch.setattr)
    monkeypatch.setattr(run_state, "SNAPSHOT_SECONDS", math.inf)
    monkeypatch.setattr(small, "SECONDS_TOGETHER", math.inf)


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Callable[[], Place]]:
    calls = Calls()
    register("counted", counted_memory(calls))

    def place() -> Place:
        return Place(f"counted://{secrets.token_hex(8)}/", tmp_path, calls)

    yield place
    _factories.pop("counted", None)


@pytest.mark.parametrize("name", CALLS)
def test_calls_a_shard_and_a_run_are_these(name: str, in_memory: Callable[[], Place]) -> None:
    scenario, wanted = CALLS[name]
    assert of_each(scenario, in_memory) == wanted


@pytest.fixture
def on_s3(
    s3_server: SeaweedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Place]]:
    calls = Calls()
    with CountingProxy(s3_server.endpoint, calls, depth=2) as proxy:
        for name, value in {**s3_server.environment, "AWS_ENDPOINT_URL": proxy.endpoint}.items():
            monkeypatch.setenv(name, value)

        def place() -> Place:
            return Place(f"{s3_server.url(secrets.token_hex(8))}/", tmp_path, calls)

        yield place


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_a_shard_and_a_run_are_these(name: str, on_s3: Callable[[], Place]) -> None:
    scenario, wanted = REQUESTS[name]
    assert of_each(scenario, on_s3) == wanted
