"""An actor of Ray's: holds a model and answers orders, in a process somewhere on a cluster.

Imports nothing of Ray's, which makes an actor of the class. One order is carried out at a time;
beside it `told` and `stop` are called in threads of their own. An answer and what was told on the
way to it are lost with the process, so all that was told is kept until it is known to have arrived.
"""

from __future__ import annotations

import io
import socket
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

from pipeline.errors import ConfigError, NotFoundError
from pipeline.layout import RUN
from pipeline.memory import share_one_heap
from pipeline.stop import Stop
from pipeline.storage.locate import has_scheme
from pipeline.telling import Telling, ending

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.job import RunRecord
    from pipeline.service import Service
    from pipeline.storage import ObjectInfo
    from pipeline.worker import Order
    from pipeline.workers import Answer

TELL_SECONDS = 0.5
"""How often an actor tells how far it is, at most: its driver may have hundreds."""

CACHE_SECONDS = 5.0
"""How long a network file system may show a folder as it was."""

SHARE_IT = (
    "put model, input and output where each node of the cluster reaches them by the same address: "
    "an object store, or a volume that is mounted everywhere"
)


class Told(NamedTuple):
    """What was told while one order was carried out.

    Attributes:
        call: The number of that order.
        answer: ("told", …) or ("said", line), as `pipeline.workers` has them.
    """

    call: int
    answer: Answer


class Log:
    """What is to be told, numbered from 0, until it is known to have arrived."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: deque[Told] = deque()
        self._first = 0
        self.call = 0

    def put(self, answer: Answer) -> None:
        """Adds what is told while the order at hand is carried out."""
        with self._changed:
            self._entries.append(Told(self.call, answer))
            self._changed.notify_all()

    def since(self, seen: int, seconds: float = 0.0) -> tuple[int, list[Told]]:
        """What was told behind the first `seen`, which are forgotten.

        Args:
            seen: How many have arrived.
            seconds: How long to wait for more, if there is nothing.

        Returns:
            The number of the first of them, and they.
        """
        with self._changed:
            while self._entries and self._first < seen:
                self._entries.popleft()
                self._first += 1
            if not self._entries:
                self._changed.wait(seconds)
            return self._first, list(self._entries)


class Said(io.TextIOBase):
    """A stream that passes on what is printed, and tells each line of it."""

    def __init__(self, stream: TextIO, tell: Callable[[Answer], None]) -> None:
        self._stream = stream
        self._tell = tell
        self._rest = ""

    def write(self, text: str) -> int:
        """Passes the text on; its lines are told when they are whole."""
        self._stream.write(text)
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                self._tell(("said", line.rstrip()))
        return len(text)

    def flush(self) -> None:
        """Nothing waits here but the beginning of a line."""
        self._stream.flush()

    def fileno(self) -> int:
        """Where C code writes to, of which nothing is told."""
        return self._stream.fileno()


class Reply(NamedTuple):
    """What an order comes to.

    Attributes:
        first: The number of the first of `told`.
        told: What may not have arrived yet.
        answer: The answer.
    """

    first: int
    told: list[Told]
    answer: Answer


class Scorer:
    """A worker of a cluster's.

    Args:
        threads: Threads in each of its pools.
    """

    def __init__(self, threads: int) -> None:
        share_one_heap()
        self._threads = threads
        self._stop = Stop()
        self._log = Log()
        self._service: Service | None = None
        sys.stdout = Said(sys.stdout, self._log.put)
        sys.stderr = Said(sys.stderr, self._log.put)

    def up(self) -> str:
        """Tells that it has been begun, and where: its node, in words."""
        return f"node {socket.gethostname()}"

    def warm(self) -> None:
        """Imports TensorFlow, ahead of `prepare`, which tells what is wrong with it."""
        from pipeline.runtime import bound_threads, tensorflow

        bound_threads(self._threads)
        tensorflow()

    def prepare(self, call: int, packed: bytes, record: RunRecord | None) -> Reply:
        """Carries out the order "prepare" of `pipeline.service`."""

        def prepared() -> Answer:
            self.warm()
            from pipeline.service import Service

            if self._service is None:
                service = Service(packed, Telling(self._log.put, TELL_SECONDS), self._stop)
                self._refuse_unseen(service)
                self._service = service
            return self._service.prepare(record)

        return self._reply(call, prepared)

    def score(self, call: int, order: Order, begun: ObjectInfo | None) -> Reply:
        """Carries out the order "score".

        Args:
            call: The number of the order.
            order: The unit.
            begun: The output's run.json, as the driver sees it, if it is to be looked for.

        Returns:
            As `pipeline.service`; or ("new",), if this process was begun in the place of the one
            that prepared, of whose end nobody has heard, since it had nothing in hand.
        """

        def scored() -> Answer:
            if self._service is None:
                return ("new",)
            if begun is not None:
                self._refuse_other_output(self._service, begun)
            return self._service.score(order)

        return self._reply(call, scored)

    def told(self, seen: int, seconds: float) -> tuple[int, list[Told]]:
        """What was told behind the first `seen`; waits for it some seconds."""
        return self._log.since(seen, seconds)

    def stop(self, signum: int) -> None:
        """Asks for a stop after the batch at hand."""
        self._stop.request(signum)

    def _reply(self, call: int, carried_out: Callable[[], Answer]) -> Reply:
        self._log.call = call
        # A model, or a hook of the user's, raises whatever it likes, SystemExit included.
        try:
            answer = carried_out()
        except (Exception, SystemExit) as error:
            answer = ending(error)
        return Reply(*self._log.since(0), answer)

    def _refuse_unseen(self, service: Service) -> None:
        """Raises ConfigError if the model or the input is somewhere that this node does not see."""
        job, shards = service.surveyed.job, service.surveyed.shards_at_hand
        for path in (job.model, *(shard.path for shard in shards[:1])):
            if not has_scheme(path) and not Path(path).exists():
                raise ConfigError(
                    f"{self.up()} of the cluster does not see what this machine sees",
                    path=path,
                    hint=SHARE_IT,
                )

    def _refuse_other_output(self, service: Service, begun: ObjectInfo) -> None:
        """Raises ConfigError if what this node sees at the output's address is another output."""
        output, until = service.surveyed.output, time.monotonic() + CACHE_SECONDS
        while True:
            try:
                there = output.info(RUN)
            except NotFoundError:
                there = None
            if there is not None and there.same_version(begun):
                return
            if time.monotonic() > until:
                raise ConfigError(
                    f"{self.up()} of the cluster does not see the output that this run has begun",
                    path=f"{output.url}/{RUN}",
                    expected=f"{begun.size:,} bytes, written by this run's driver or before it",
                    received="nothing is there" if there is None else "another file",
                    hint=SHARE_IT,
                )
            time.sleep(0.1)
