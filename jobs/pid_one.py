"""What the first process of a container has to do besides its work.

To process 1 of a PID namespace the kernel gives no signal that it has no handler for: a SIGTERM
while Python is still importing would be lost, and a second one, which is to end a run at once,
would do nothing. It also becomes the parent of each process whose own has ended, and what it does
not wait for stays a zombie. So the work is done by a child, which is a process like any other.
Process 1 hands signals on, waits for whoever has ended, and ends with what the child ended with.

The child is a fork, made before anything is imported, which costs a few milliseconds. What is left:
a signal while Python itself starts up, before it runs a line of ours, is lost.
"""

from __future__ import annotations

import os
import signal
from typing import NoReturn

_SI_KERNEL = 0x80  # asm-generic/siginfo.h: not sent by a process

_ITS_OWN = {signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP}
_OF_ITS_FAULTS = {
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGSYS,
}
HANDED_ON = signal.valid_signals() - _ITS_OWN - _OF_ITS_FAULTS
"""The signals that are the child's to answer."""


def stand_in() -> None:
    """Returns in a child process; this one stands in for it, and ends with its exit code.

    The code is 128 + n if signal n has killed the child, as a shell would have it: process 1 itself
    cannot die of a signal of its own.
    """
    # Held back from before the fork on, so that none comes between it and the waiting.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDED_ON | {signal.SIGCHLD})
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    _stand_in_for(child)


def _stand_in_for(child: int) -> NoReturn:
    while True:
        info = signal.sigwaitinfo(HANDED_ON | {signal.SIGCHLD})
        if info.si_signo == signal.SIGCHLD:
            status = _reaped(child)
            if status is not None:
                code = os.waitstatus_to_exitcode(status)
                # Nothing of Python's is to be cleaned up. What still runs, the kernel ends.
                os._exit(code if code >= 0 else 128 - code)
        elif info.si_code != _SI_KERNEL:
            # The terminal's Ctrl-C is the kernel's, and has reached the child too: one that came
            # twice would end a run that is to save first.
            os.kill(child, info.si_signo)


def _reaped(child: int) -> int | None:
    """Waits for all that have ended, the orphans too; the child's status if it is among them."""
    status = None
    while True:
        try:
            pid, ended_with = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == child:
            status = ended_with
