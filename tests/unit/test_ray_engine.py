"""What of the engine for Ray needs no Ray: how many actors, and what they have told."""

from __future__ import annotations

import socket
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.engines import engine_named, ray_cluster
from jobs.engines.ray_actors import Actors, _Actor
from jobs.engines.ray_cluster import Head
from jobs.engines.ray_engine import RayEngine
from jobs.engines.scorer import Log, Reply, Scorer, Told
from pipeline.capacity import Capacity, Work
from pipeline.errors import ConfigError, EngineError, UsageError

PLENTY = Work(shards=1000, bytes=1 << 40, model_bytes=0, shared=True)


def engine_with(*cpus: float, dead: float = 0.0) -> RayEngine:
    """An engine that finds nodes with so many CPUs."""
    nodes = [{"Alive": True, "Resources": {"CPU": count}} for count in cpus]
    nodes.append({"Alive": False, "Resources": {"CPU": dead} if dead else {}})
    engine = RayEngine("head:6379")
    vars(engine)["_ray"] = SimpleNamespace(nodes=lambda: nodes)
    return engine


@pytest.mark.parametrize(
    ("cpus", "workers", "threads", "expected"),
    [
        ((4.0, 4.0, 4.0), "auto", "auto", (12, 1)),
        ((4.0, 4.0, 4.0), "auto", 2, (6, 2)),
        ((4.0, 4.0, 4.0), 3, "auto", (3, 4)),
        ((4.0, 4.0, 4.0), 1, "auto", (1, 4)),  # not 12: no node has them
        ((1.0, 1.0), 16, 1, (16, 1)),  # more than there are places now
        ((0.0, 2.0), "auto", "auto", (2, 1)),  # a head without CPUs
    ],
)
def test_a_cluster_counts_as_one_machine_whose_actors_fit_on_a_node(
    cpus: tuple[float, ...], workers: Any, threads: Any, expected: tuple[int, int]
) -> None:
    engine = engine_with(*cpus, dead=64.0)
    assert engine.capacity(workers, threads, PLENTY) == Capacity(*expected)


def test_what_is_in_this_process_alone_cannot_be_scored_elsewhere() -> None:
    here = Work(shards=3, bytes=1, model_bytes=0, shared=False)
    with pytest.raises(ConfigError, match="memory of this process"):
        engine_with(1.0).capacity("auto", "auto", here)


def test_without_an_engine_there_is_no_address() -> None:
    with pytest.raises(UsageError, match="--engine ray"):
        engine_named("local", "head:6379")


SAID = [("said", str(number)) for number in range(5)]


def test_what_was_told_is_kept_until_it_has_arrived() -> None:
    log = Log()
    for answer in SAID[:3]:
        log.put(answer)
    everything = [Told(0, answer) for answer in SAID[:3]]
    assert log.since(0) == (0, everything)
    assert log.since(0) == (0, everything), "the answer was lost on its way"
    assert log.since(2) == (2, everything[2:])
    assert log.since(0) == (2, everything[2:]), "what has arrived is forgotten"
    log.put(SAID[3])
    assert log.since(3) == (3, [Told(0, SAID[3])])
    assert log.since(4) == (4, [])


def test_what_is_told_carries_the_number_of_its_order() -> None:
    log = Log()
    log.put(SAID[0])
    log.call = 7
    log.put(SAID[1])
    assert [told.call for told in log.since(0)[1]] == [0, 7]


def test_who_waits_for_news_is_told_as_soon_as_there_are_any() -> None:
    log = Log()
    later = threading.Timer(0.05, log.put, [SAID[0]])
    later.start()
    assert log.since(0, seconds=60) == (0, [Told(0, SAID[0])])
    later.join()


def test_a_head_that_is_away_for_a_while_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "KNOCK_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        head = Head(f"127.0.0.1:{port}")
        monkeypatch.setattr(ray_cluster, "GONE_SECONDS", 0.0)
        head.heed()
    monkeypatch.setattr(ray_cluster, "GONE_SECONDS", 3600.0)
    head.heed()
    assert not head.gone, "it may come back"
    monkeypatch.setattr(ray_cluster, "GONE_SECONDS", 0.0)
    with pytest.raises(EngineError, match=f"is gone, which was at 127.0.0.1:{port}"):
        head.heed()
    assert head.gone


def test_an_actor_that_was_begun_anew_unheard_has_lost_its_unit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its process ended while it had nothing in hand, and before news were asked for again."""
    for stream in ("stdout", "stderr"):  # an actor takes them over
        monkeypatch.setattr(sys, stream, getattr(sys, stream))
    reply = Scorer(1).score(9, (), None)  # type: ignore[arg-type] - it is not looked at
    assert reply == Reply(0, [], ("new",))
    actor = _Actor(None, place="node a", call=9, seen=40, shown=True)
    heard = list(Actors._replied(object.__new__(Actors), 1, actor, reply))
    assert [(number, word) for number, (word, *_) in heard] == [(1, "lost"), (1, "back")]
    assert (actor.place, actor.seen, actor.shown) == ("node a", 0, False)
