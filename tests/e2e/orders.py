"""Orders for fresh processes, and what they find there."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from pipeline.errors import ContractError
from pipeline.memory import resident_bytes

_seen: list[int] = []


def look(order: dict[str, Any]) -> dict[str, Any]:
    """Says what this process is, and leaves a trace that a process after it must not find."""
    _seen.append(order["number"])
    sys.stdout.write("a module of the user's may print\n")
    return {
        "pid": os.getpid(),
        "seen": _seen,
        "tensorflow": "tensorflow" in sys.modules,
        "folder": sys.path[0],
    }


def fill(order: dict[str, Any]) -> int:
    """Resident bytes, once that many more have been asked for."""
    held = bytearray(b"x" * order["bytes"])
    return resident_bytes() if held else 0


def add(order: dict[str, Any]) -> float:
    from pipeline.runtime import tensorflow

    tf = tensorflow()
    return float(tf.reduce_sum(tf.constant(order["numbers"], tf.float32)))


def refuse(order: dict[str, Any]) -> None:
    raise ContractError("a column is missing", column="a", hint="find it")


def stumble(order: dict[str, Any]) -> None:
    raise ZeroDivisionError("by zero\nand more")


def die(order: dict[str, Any]) -> None:
    sys.stderr.write("about to die\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def die_with_all(order: dict[str, Any]) -> None:
    """As the kernel may when memory is out: the process that forks goes first."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def sleep(order: dict[str, Any]) -> None:
    time.sleep(600)
