"""Workers, as the crew that hands out units sees them, wherever they are.

Owns the protocol alone. `pipeline.pool` has workers that are processes of this machine; an engine
may have others, on machines of its own. A worker takes orders and answers them in the words of
`pipeline.service`; what else is heard of one is said here:

    ("told", [(name, arguments), …],  what a `Listener` is to be told of the unit at hand, and how
             resident bytes)          much memory the worker has now
    ("said", line)                    a line that the worker, its model or a hook printed
    ("lost", Died)                    it is gone with what it had in hand, and will be begun anew
    ("back",)                         that has been done: it knows nothing of the job
    ("died", Died)                    it is gone for good
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

Answer = tuple[Any, ...]
"""What is heard of a worker: a word, and what belongs to it."""


@dataclass(frozen=True, slots=True)
class Died:
    """A worker that ended without having been told to.

    Attributes:
        signum: The signal that killed it, if that is known.
        code: What it ended with, if no signal killed it and if that is known.
        said: What it, or who watched over it, said last.
        place: Where it was, in words; "": on this machine.
    """

    signum: int | None
    code: int | None
    said: str
    place: str = ""


class Workers(Protocol):
    """Workers, by number."""

    @property
    def tries(self) -> int:
        """How many workers a unit may take with it before no other is given it. On one machine a
        worker dies of what it has in hand; of several, one may go for reasons of its own."""

    @property
    def alive(self) -> tuple[int, ...]:
        """The numbers of the workers that have not ended for good, nor been told to."""

    def tell(self, number: int, *order: Any) -> None:
        """Gives a worker an order. One that has died is heard of by `answers`."""

    def dismiss(self, number: int) -> None:
        """Tells a worker to leave; it is not heard any more."""

    def kill(self, number: int) -> None:
        """Ends a worker at once."""

    def answers(self, seconds: float) -> Iterator[tuple[int, Answer]]:
        """What is heard of the workers.

        Args:
            seconds: How long to wait, if nothing is.

        Yields:
            The number of a worker, and what is heard of it.

        Raises:
            EngineError: Where they are cannot be reached any more.
        """
