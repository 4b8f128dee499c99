"""Fresh processes: nothing of one order is seen by the next, and none outlives its caller."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ContractError, StoppedError
from pipeline.fresh import Died, Fresh, Raised
from pipeline.stop import Stop


@pytest.fixture(scope="module")
def stop() -> Stop:
    return Stop()


@pytest.fixture(scope="module")
def fresh(stop: Stop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fresh]:
    with Fresh(tmp_path_factory.mktemp("fresh"), stop, ["tests.e2e.orders"]) as processes:
        yield processes


def run(fresh: Fresh, name: str, **order: Any) -> Any:
    return fresh.run(f"tests.e2e.orders:{name}", order)


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ends(pid: int) -> bool:
    """Whether a process that is to end does; a kernel with much to do may take its time."""
    until = time.monotonic() + 60
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not alive(pid)


def test_an_order_sees_nothing_of_the_one_before(fresh: Fresh) -> None:
    first, second = (run(fresh, "look", number=number) for number in (1, 2))
    assert (first["seen"], second["seen"]) == ([1], [2])
    assert first["pid"] != second["pid"]
    assert first["tensorflow"]


def test_memory_of_one_is_not_that_of_the_next(fresh: Fresh) -> None:
    big, small = run(fresh, "fill", bytes=200 << 20), run(fresh, "fill", bytes=1)
    assert big - small > 190 << 20


def test_tensorflow_works_in_each_fork(fresh: Fresh) -> None:
    assert [run(fresh, "add", numbers=[1, 2, n]) for n in (3, 4)] == [6.0, 7.0]


def test_our_errors_come_back_with_their_facts(fresh: Fresh) -> None:
    with pytest.raises(ContractError, match="a column is missing") as caught:
        run(fresh, "refuse")
    assert caught.value.facts == {"column": "a", "hint": "find it"}


def test_other_errors_are_told(fresh: Fresh) -> None:
    told = run(fresh, "stumble")
    assert isinstance(told, Raised)
    assert told.text == "ZeroDivisionError: by zero"
    assert "in stumble" in told.trace


def test_a_killed_order_is_told_and_the_next_one_is_carried_out(fresh: Fresh) -> None:
    told = run(fresh, "die")
    assert isinstance(told, Died)
    assert told.signum == signal.SIGKILL
    assert told.said.endswith("about to die")
    assert run(fresh, "look", number=3)["seen"] == [3]


@pytest.mark.slow
def test_with_the_first_process_killed_another_one_takes_its_place(fresh: Fresh) -> None:
    assert isinstance(run(fresh, "die_with_all"), Died)
    assert run(fresh, "look", number=4)["seen"] == [4]


@pytest.mark.slow
def test_a_stop_ends_the_order_and_all_processes(tmp_path: Path) -> None:
    stop = Stop()
    with Fresh(tmp_path, stop, ["tests.e2e.orders"]) as fresh:
        run(fresh, "look", number=1)
        first = fresh._first
        assert first is not None
        threading.Timer(0.5, stop.request, [signal.SIGTERM]).start()
        with pytest.raises(StoppedError):
            run(fresh, "sleep")
        (fork,) = map(int, Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split())
        assert alive(fork)
    assert ends(fork)
    assert ends(first.pid)


@pytest.mark.slow
def test_a_killed_caller_leaves_no_process(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    if (caller := os.fork()) == 0:
        fresh = Fresh(tmp_path, Stop(), ["tests.e2e.orders"])
        fresh.__enter__()
        assert fresh._first is not None
        os.write(writing, f"{fresh._first.pid}\n".encode())
        run(fresh, "sleep")
        os._exit(1)
    first = int(os.read(reading, 100))
    children = Path(f"/proc/{first}/task/{first}/children")
    while not children.read_text():
        time.sleep(0.1)
    fork = int(children.read_text())
    os.kill(caller, signal.SIGKILL)
    os.waitpid(caller, 0)
    assert ends(first)
    assert ends(fork)
