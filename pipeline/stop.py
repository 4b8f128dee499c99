"""A wish to stop, set by a signal handler and heeded where nothing is lost."""

from __future__ import annotations

import time

from pipeline.errors import StoppedError


class Stop:
    """A wish to stop. Setting it is safe in a signal handler."""

    def __init__(self) -> None:
        self._signum: int | None = None
        self._asked = 0.0

    def request(self, signum: int) -> None:
        """Asks the run to stop after what is at hand."""
        self._signum = signum
        self._asked = time.monotonic()

    def heed(self, grace: float = 0.0) -> None:
        """Raises StoppedError if a stop was asked for.

        Args:
            grace: Seconds that may pass first, for what is worth finishing.
        """
        if self._signum is None or time.monotonic() - self._asked < grace:
            return
        raise StoppedError(
            "stopped before all shards were scored",
            signum=self._signum,
            hint="run the same command again: it continues with what is left",
        )
