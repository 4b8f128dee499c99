"""Fifty times `kill -9` at random moments: the same bytes, and little work done twice."""

from __future__ import annotations

import math
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import pytest

from pipeline.storage import LocalStorage
from tests.faults.lake import (
    assert_finished,
    assert_whole,
    begin,
    contents,
    ended,
    kill,
    make_lake,
    scored_rows,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from subprocess import Popen

    from tests.faults.lake import Lake

pytestmark = pytest.mark.faults

KILLS = 50
CHAINS = 2
BATCH = 16
BATCHES = 60
ROWS = BATCH * BATCHES - 7
PAUSE = 0.05
EVERY = 1.0
MOMENTS = ("start-up", "scoring", "scoring", "scoring", "publishing")
# A batch takes PAUSE at least: what fits into an interval, the batch that ends it, the one at hand.
AT_MOST = math.ceil(EVERY / PAUSE) + 2
SHARD = "big.parquet"


@dataclass
class Chain:
    """Outputs that are begun, killed, resumed and killed again until they are finished, in turn.

    Attributes:
        kills: Kills so far.
        finished: Outputs that were finished.
        repeated: For each run that went on: the rows that the one before had scored already.
    """

    lake: Lake
    folder: Path
    reference: Mapping[str, bytes]
    chance: random.Random
    kills: int = 0
    finished: int = 0
    repeated: list[int] = field(default_factory=list)

    def __call__(self, kills: int) -> Self:
        self.folder.mkdir()
        number = reached = 0
        output = self.folder / "out-0"
        while self.kills < kills or output.exists():
            number += 1
            told = self.folder / f"scored-{number}"
            run = begin(self.lake.arguments(output), PAUSE=str(PAUSE), SCORED=str(told))
            if self.kills == kills:
                done = ended(run)
                assert done.code == 0, done.err
            elif _struck(run, MOMENTS[number % len(MOMENTS)], told, self.chance):
                self.kills += 1
            rows = scored_rows(told, SHARD)
            if reached and rows:
                self.repeated.append(reached - rows[0][0])
            assert_whole(output, self.reference)
            if (output / SHARD).exists():
                # It may have been killed after its commit: one more run says the last words.
                assert ended(begin(self.lake.arguments(output))).code == 0
                assert_finished(output, self.reference)
                self.finished += 1
                reached, output = 0, self.folder / f"out-{self.finished}"
            elif rows:
                reached = rows[-1][1]
        return self


def test_fifty_random_kills_end_in_the_same_bytes_and_repeat_one_interval_at_most(
    tmp_path: Path,
) -> None:
    bad = range(5, ROWS, 97)
    lake = make_lake(tmp_path / "lake", {"big": (ROWS, bad)}, batch_size=BATCH, every=EVERY)
    whole = tmp_path / "whole"
    done = ended(begin(lake.arguments(whole)))
    assert done.code == 0, done.err
    reference = contents(LocalStorage(whole))
    chains = [
        Chain(lake, tmp_path / f"chain-{seed}", reference, random.Random(seed))  # noqa: S311
        for seed in range(CHAINS)
    ]
    with ThreadPoolExecutor(CHAINS) as pool:
        list(pool.map(lambda chain: chain(KILLS // CHAINS), chains))
    kills = sum(chain.kills for chain in chains)
    finished = sum(chain.finished for chain in chains)
    repeated = [rows for chain in chains for rows in chain.repeated]
    worst = max(repeated)
    print(
        f"{kills} kills survived, {finished} outputs finished; work repeated per kill: at most "
        f"{worst} rows of {ROWS} ({worst / BATCH:.0f} batches of {BATCH}, "
        f"{worst / BATCH * PAUSE:.2f} s), {sum(repeated) / len(repeated):.0f} on average; "
        f"bound {AT_MOST} batches"
    )
    assert kills == KILLS
    assert finished >= 5
    assert len(repeated) >= 20
    assert min(repeated) >= 0, "rows were passed over"
    assert worst <= AT_MOST * BATCH


def _struck(run: Popen[str], moment: str, told: Path, chance: random.Random) -> bool:
    """Kills a run at a random moment of a part of it; False if it was over before."""

    def scored(row: int) -> bool:
        over = run.poll() is not None
        return over or any(end >= row for _, end in scored_rows(told, SHARD))

    if moment == "scoring":
        wait_for(lambda: scored(1))
        time.sleep(chance.uniform(0, BATCHES * PAUSE))
    elif moment == "publishing":
        wait_for(lambda: scored(ROWS))
        time.sleep(chance.uniform(0, 0.1))
    else:
        time.sleep(chance.uniform(0, 1))
    kill(run)
    return run.returncode != 0
