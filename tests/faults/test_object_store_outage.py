"""A real S3 server as output and input, which dies in the middle of a run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from pipeline.storage import LocalStorage, storage_at
from tests.faults.lake import (
    Lake,
    assert_finished,
    assert_whole,
    begin,
    contents,
    ended,
    make_lake,
    scored_rows,
    wait_for,
)
from tests.services import SeaweedServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.faults

SHARDS: dict[str, tuple[int, tuple[int, ...]]] = {
    "big": (203, (3, 90)),
    "small-1": (5, ()),
    "small-2": (6, (1, 4)),
}
BIG = "big.parquet"
GROUP = "100000"
BOUND = 90.0
"""Seconds: twice the time that retries may take, and what else a run does on a slow machine."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    """A server of this module's own: it dies."""
    server = SeaweedServer(tmp_path_factory.mktemp("seaweed"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return make_lake(tmp_path_factory.mktemp("lake"), SHARDS)


@pytest.fixture(scope="module")
def reference(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    whole = tmp_path_factory.mktemp("whole") / "out"
    done = ended(begin(lake.arguments(whole)))
    assert done.code == 0, done.err
    return contents(LocalStorage(whole))


@pytest.fixture(autouse=True)
def _reached(server: SeaweedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


def test_a_disk_and_an_object_store_hold_the_same_bytes(
    lake: Lake, reference: dict[str, bytes], server: SeaweedServer
) -> None:
    output = server.url("same")
    done = ended(begin(lake.arguments(output)))
    assert done.code == 0, done.err
    assert_finished(storage_at(output), reference)


def test_an_output_whose_server_dies_is_resumed_to_the_same_bytes(
    lake: Lake, reference: dict[str, bytes], server: SeaweedServer, tmp_path: Path
) -> None:
    output, told = server.url("dies"), tmp_path / "told"
    run = begin(lake.arguments(output), PAUSE="0.1", SCORED=str(told))
    wait_for(lambda: len(scored_rows(told, BIG)) >= 4, run)
    server.kill()
    died = time.monotonic()
    done = ended(run)
    took = time.monotonic() - died
    server.start()
    assert done.code == 74, done.err
    assert took < BOUND
    assert output in done.err
    assert_whole(storage_at(output), reference)
    later = tmp_path / "later"
    done = ended(begin(lake.arguments(output), SCORED=str(later)))
    assert done.code == 0, done.err
    assert scored_rows(later, BIG)[0][0] > 0, "its checkpoints were lost"
    assert_finished(storage_at(output), reference)
    print(f"exit 74 after {took:.0f} s")


def test_an_input_whose_server_dies_costs_nothing_that_was_scored(
    lake: Lake, reference: dict[str, bytes], server: SeaweedServer, tmp_path: Path
) -> None:
    shards = storage_at(server.url("input"))
    # Bigger than what is read ahead, so that the server is missed.
    big = make_lake(tmp_path / "big", {"big": (1_200_000, ())}, batch_size=24_000, every=3600.0)
    for path in big.shards.iterdir():
        shards.create(path.name, path.read_bytes())
    arguments = big.arguments(tmp_path / "whole")
    whole = [a.replace(str(big.shards), server.url("input/")) for a in arguments]
    assert ended(begin(whole, GROUP_ROWS=GROUP)).code == 0
    output, told, later = tmp_path / "out", tmp_path / "told", tmp_path / "later"
    remote = [a.replace(str(tmp_path / "whole"), str(output)) for a in whole]
    run = begin(remote, PAUSE="0.1", GROUP_ROWS=GROUP, SCORED=str(told))
    wait_for(lambda: len(scored_rows(told, BIG)) >= 4, run)
    server.kill()
    died = time.monotonic()
    done = ended(run)
    took = time.monotonic() - died
    server.start()
    assert done.code == 74, done.err
    assert took < BOUND
    assert server.url("input") in done.err
    reached = scored_rows(told, BIG)[-1][1]
    assert reached < 1_200_000
    done = ended(begin(remote, GROUP_ROWS=GROUP, SCORED=str(later)))
    assert done.code == 0, done.err
    assert scored_rows(later, BIG)[0][0] == reached, "scored rows were lost"
    assert_finished(output, contents(LocalStorage(tmp_path / "whole")))
    print(f"exit 74 after {took:.0f} s; went on at row {reached:,}")
