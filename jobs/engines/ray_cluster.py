"""The way to a cluster of Ray's, and what is kept from disturbing this process on it.

Ray takes over a process that it connects: it sets handlers for SIGTERM, in Python and in C++, and a
hook for exceptions, and prints what happens on the cluster to standard output, where only results
belong. Its attempt to connect can hang, or end the process from within C++: another tries first.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from pipeline.errors import ConfigError, EngineError, shortened

CONNECT_SECONDS = 20.0
"""How long the way to a cluster may take. A second or two is usual."""

KNOCK_SECONDS = 5.0
"""How often it is asked whether the head is there."""

GONE_SECONDS = 25.0
"""How long it may be away. After 60 Ray ends this process from C++, with a code of its own."""

_TRY = (
    "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR'); "
    "print('connected')"
)


def connected(address: str | None) -> tuple[Any, bool]:
    """The `ray` module, connected to a cluster, and whether that is our doing.

    Args:
        address: `host:port` of its head; None, or "auto": what RAY_ADDRESS says, or the cluster
            that this machine is a node of.

    Raises:
        ConfigError: Ray is not installed, or the address is of a kind that is not served.
        EngineError: There is no answer.
    """
    wanted = address or os.environ.get("RAY_ADDRESS") or "auto"
    if "://" in wanted:
        raise ConfigError(
            "a driver of Ray's runs on a node of the cluster",
            expected="host:port of the cluster's head, or auto",
            received=wanted,
            hint="run the same command on a node, as a RayJob does (jobs/ray/), or with "
            "`ray job submit`; leave --ray-address out there",
        )
    ray = _imported()
    if ray.is_initialized():
        return ray, False
    _knock(wanted)
    _try(wanted)
    failed: list[BaseException] = []

    def connect() -> None:
        try:
            ray.init(address=wanted, log_to_driver=False, logging_level="ERROR")
        except BaseException as error:
            failed.append(error)

    # In the main thread it would take SIGTERM for itself.
    thread = threading.Thread(target=connect, name="connect to Ray", daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    if failed or thread.is_alive():
        raise _unreachable(wanted, str(failed[0]) if failed else None)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.getsignal(number))  # in the place of C++'s, which prints
    return ray, True


def _imported() -> Any:
    hook = sys.excepthook
    try:
        import ray
        from ray._private import worker
    except ImportError as error:
        raise ConfigError(
            "Ray is not installed here",
            received=str(error),
            hint="pip install 'shardscore[ray]', here and on the nodes of the cluster",
        ) from error
    finally:
        sys.excepthook = hook
    # What Ray would print of the cluster; it is in Ray's own logs, and what matters is told by us.
    worker.print_to_stdstream = lambda *_data, **_how: None
    return ray


def _knock(address: str) -> None:
    """Raises EngineError if nobody listens at `host:port`, where Ray would go on trying."""
    try:
        _call_on(address, CONNECT_SECONDS)
    except (OSError, OverflowError) as error:
        raise _unreachable(address, str(error)) from error


def _call_on(address: str, seconds: float) -> None:
    """Raises OSError if nobody listens at `host:port`; of other addresses nothing is known."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), seconds).close()


class Head:
    """Sees whether the head of the cluster is there, now and then.

    Args:
        address: Its `host:port`.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._seen = self._asked = time.monotonic()
        self.gone = False

    def heed(self) -> None:
        """Raises EngineError once nobody has answered there for a while."""
        now = time.monotonic()
        if now - self._asked < KNOCK_SECONDS:
            return
        self._asked = now
        try:
            _call_on(self._address, 1.0)
        except OSError as error:
            if now - self._seen < GONE_SECONDS:
                return
            self.gone = True
            raise EngineError(
                f"the head of the Ray cluster is gone, which was at {self._address}",
                received=str(error),
                hint="run the same command again when there is a cluster: it continues with what "
                "is left",
            ) from error
        self._seen = now


def _try(address: str) -> None:
    """Has another process connect. Raises EngineError if it cannot."""
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and code
            [sys.executable, "-P", "-c", _TRY, address],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CONNECT_SECONDS,
            check=False,
            start_new_session=True,  # Ctrl-C is this process's to hear
        )
    except subprocess.TimeoutExpired:
        raise _unreachable(address, f"no answer within {CONNECT_SECONDS:.0f} s") from None
    if done.returncode or "connected" not in done.stdout:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise _unreachable(address, lines[-1] if lines else f"Ray ended with {done.returncode}")


def _unreachable(address: str, said: str | None) -> EngineError:
    return EngineError(
        f"no cluster of Ray's answers at {shortened([address])}",
        received=said or f"no answer within {CONNECT_SECONDS:.0f} s",
        hint="is its head up, is this machine one of its nodes, and is Ray of the same version "
        "there? --ray-address, or RAY_ADDRESS, says where it is",
    )


def disconnect(ray: Any) -> None:
    """Leaves the cluster."""
    with suppress(Exception):  # it may be gone, which is no news at the end
        ray.shutdown()
