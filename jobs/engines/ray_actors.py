"""Actors of a Ray cluster as workers of a crew: begun, heard, told, and ended.

Ray places actors, and begins one anew, somewhere else if need be, when its process or its node is
gone (`max_restarts`). It repeats the call that tells that an actor is up, for as long as it takes.
It does not repeat the call that scores: that would be bound to the one actor, which may wait for a
place while others have nothing to do. The crew gives the unit to whoever is free, without what was
told of it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from jobs.engines import scorer
from pipeline.errors import ConfigError
from pipeline.layout import RUN
from pipeline.worker import unpacked
from pipeline.workers import Died

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobs.engines.ray_cluster import Head
    from jobs.engines.scorer import Reply, Told
    from pipeline.storage import ObjectInfo
    from pipeline.workers import Answer

POLL_SECONDS = 5.0
"""How long a call waits at an actor for news; what is said in that time arrives at once."""

PLACE_SECONDS = 30.0
"""How long no actor may be up anywhere before a word is said about it."""

MOST_LOSSES = 3
"""How often an actor may be lost without a unit scored in between, before it is given up. As often
as that a unit may be lost before it is set aside."""

_BESIDE = {"concurrency_group": "beside"}
"""What is called while an order is carried out."""


@dataclass(eq=False)
class _Actor:
    """An actor, and what is known of it.

    Attributes:
        handle: Ray's.
        place: Where it is, in words; "": nowhere yet.
        orders: Its calls that are under way: what Ray will answer → "up", "back" or "order".
        poll: The call that waits for news; None: there is none.
        poll_at: When the next may be made.
        call: The number of the order at hand, or the last one.
        seen: How much of what its process has told has arrived.
        losses: How often it was lost since it has scored a unit.
        shown: Whether it has proved that it sees the output.
    """

    handle: Any
    place: str = ""
    orders: dict[Any, str] = field(default_factory=dict)
    poll: Any = None
    poll_at: float = 0.0
    call: int = 0
    seen: int = 0
    losses: int = 0
    shown: bool = False


class Actors:
    """Actors, numbered from 1: `Workers` of a cluster. A context manager, which ends them.

    Args:
        ray: The connected module.
        head: Is asked whether the cluster is there.
        count: How many to begin.
        threads: Threads in each pool of each: as many CPUs of a node it takes.
    """

    tries = MOST_LOSSES

    def __init__(self, ray: Any, head: Head, count: int, threads: int) -> None:
        self._ray = ray
        self._head = head
        self._threads = threads
        self._nowhere_since: float | None = time.monotonic()
        self._calls = 0
        self._survey: tuple[bytes, Any] | None = None
        self._run_json: ObjectInfo | None = None
        kind = ray.remote(
            num_cpus=threads,
            max_restarts=-1,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
            concurrency_groups={"beside": 3},
        )(scorer.Scorer)
        self._actors = {number: _Actor(kind.remote(threads)) for number in range(1, count + 1)}
        for actor in self._actors.values():
            self._ask_whether_up(actor, "up")
            actor.handle.warm.remote()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for number in () if self._head.gone else self.alive:
            self.kill(number)

    @property
    def alive(self) -> tuple[int, ...]:
        """The numbers of the actors that have not been given up, nor ended."""
        return tuple(self._actors)

    def tell(self, number: int, *order: Any) -> None:
        """Gives an actor an order."""
        actor = self._actors[number]
        match order:
            case ("prepare", packed, record):
                call = actor.handle.prepare.remote(self._next(actor), self._stored(packed), record)
            case ("score", unit):
                begun = None if actor.shown else self._seen_here()
                call = actor.handle.score.remote(self._next(actor), unit, begun)
            case ("stop", signum):
                actor.handle.stop.options(**_BESIDE).remote(signum)
                return
        actor.orders[call] = "order"

    def dismiss(self, number: int) -> None:
        """Ends an actor, which has nothing in hand."""
        self.kill(number)

    def kill(self, number: int) -> None:
        """Ends an actor at once."""
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(self._actors.pop(number).handle, no_restart=True)

    def answers(self, seconds: float) -> Iterator[tuple[int, Answer]]:
        """What is heard of the actors.

        Args:
            seconds: How long to wait, if nothing is.

        Yields:
            The number of an actor, and what is heard of it.

        Raises:
            EngineError: The cluster is gone.
        """
        self._head.heed()
        waiting: dict[Any, int] = {}
        for number, actor in self._actors.items():
            if actor.place and actor.poll is None and time.monotonic() >= actor.poll_at:
                call = actor.handle.told.options(**_BESIDE)
                actor.poll = call.remote(actor.seen, POLL_SECONDS)
            waiting |= dict.fromkeys(actor.orders, number)
            if actor.poll is not None:
                waiting[actor.poll] = number
        if not waiting:
            time.sleep(seconds)
            return
        ready, _ = self._ray.wait(list(waiting), num_returns=1, timeout=seconds)
        if ready:
            ready, _ = self._ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        for call in ready:
            if waiting[call] in self._actors:  # else it was ended by who hears this
                yield from self._heard(waiting[call], call)
        yield from self._waits_for_a_place()

    def _heard(self, number: int, call: Any) -> Iterator[tuple[int, Answer]]:
        actor, errors = self._actors[number], self._ray.exceptions
        news = call is actor.poll
        kind = actor.orders.pop(call, "")
        if news:
            actor.poll = None
        elif not kind:
            return  # of an order that was lost with another
        try:
            value = self._ray.get(call)
        except (errors.RayTaskError, errors.RaySystemError) as error:
            yield number, ("bug", str(error).splitlines()[-1], str(error))
        except errors.RayError as error:
            if news and actor.orders:  # that order tells whether the actor is gone
                actor.poll_at = time.monotonic() + 1.0
            else:
                yield from self._lost(number, actor, error)
        else:
            match kind:
                case "up" | "back":
                    actor.place, actor.seen = value, 0
                    if kind == "back":
                        yield number, ("back",)
                case "order":
                    yield from self._replied(number, actor, value)
                case _:
                    yield from self._news(number, actor, *value)

    def _replied(self, number: int, actor: _Actor, reply: Reply) -> Iterator[tuple[int, Answer]]:
        if reply.answer[0] == "new":
            place, actor.seen, actor.shown, actor.call = actor.place, 0, False, 0
            yield number, ("lost", Died(None, None, "it was begun anew", place))
            yield number, ("back",)
            return
        yield from self._news(number, actor, reply.first, reply.told)
        if reply.answer[0] == "done":
            actor.shown, actor.losses = True, 0
        yield number, reply.answer

    def _news(
        self, number: int, actor: _Actor, first: int, told: list[Told]
    ) -> Iterator[tuple[int, Answer]]:
        new = told[max(0, actor.seen - first) :]
        actor.seen = max(actor.seen, first + len(told))
        for call, answer in new:
            if call == actor.call:  # else it is of a unit that counts as lost
                yield number, answer

    def _lost(self, number: int, actor: _Actor, error: Exception) -> Iterator[tuple[int, Answer]]:
        if getattr(error, "actor_init_failed", False):
            yield number, ("failed", _not_begun(error))
            return
        said = " ".join(str(error).split())
        died = Died(None, None, said, actor.place or "a node of the cluster")
        actor.orders.clear()
        actor.place, actor.poll, actor.shown = "", None, False
        actor.call = 0
        actor.losses += 1
        gone = isinstance(error, self._ray.exceptions.ActorDiedError)
        if gone or actor.losses > MOST_LOSSES:
            self.kill(number)
            yield number, ("died", died)
            return
        self._ask_whether_up(actor, "back")
        yield number, ("lost", died)

    def _ask_whether_up(self, actor: _Actor, kind: str) -> None:
        actor.orders[actor.handle.up.options(max_task_retries=-1).remote()] = kind

    def _waits_for_a_place(self) -> Iterator[tuple[int, Answer]]:
        now = time.monotonic()
        if not self._actors or any(actor.place for actor in self._actors.values()):
            self._nowhere_since = None
        elif self._nowhere_since is None:
            self._nowhere_since = now
        elif now - self._nowhere_since > PLACE_SECONDS:
            self._nowhere_since = now + 10 * PLACE_SECONDS
            free = self._ray.available_resources().get("CPU", 0)
            text = (
                f"Ray has no place for an actor now, which takes {self._threads} CPUs of one node; "
                f"{free:g} are free on all nodes together"
            )
            yield min(self._actors), ("said", text)

    def _next(self, actor: _Actor) -> int:
        self._calls += 1
        actor.call = self._calls
        return self._calls

    def _stored(self, packed: bytes) -> Any:
        """The survey, kept once for all actors."""
        if self._survey is None or self._survey[0] is not packed:
            self._survey = packed, self._ray.put(packed)
        return self._survey[1]

    def _seen_here(self) -> ObjectInfo:
        if self._run_json is None:
            assert self._survey is not None  # noqa: S101 - `prepare` comes first
            self._run_json = unpacked(self._survey[0]).output.info(RUN)
        return self._run_json


def _not_begun(error: Exception) -> ConfigError:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return ConfigError(
        "an actor cannot be begun on the cluster",
        received=lines[-1].strip() if lines else None,
        hint="pip install 'shardscore[ray]' on each node, in the versions that are here",
    )
