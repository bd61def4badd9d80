"""A terminal that is closed while a command runs counts as Ctrl-C in it.

Left to itself the signal (SIGHUP) would kill the process on the spot: what its tools do would be in doubt, and its
sessions would wait for the end of their leases. So it is handed on as the interrupt that every command knows how to
take: what runs is given time to finish, and sessions are given back. Nobody reads what is said then, and writing it to
a terminal that is gone would be an error: those of stdin, stdout and stderr that were the terminal become nothing.

Closing sends the signal more than once (the kernel does, and the shell), which is no second Ctrl-C: later ones are not
heard. Who asked not to be hung up (`nohup`) is not.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["taking_a_hang_up"]


@contextmanager
def taking_a_hang_up() -> Generator[None]:
    """Take the end of the terminal for Ctrl-C meanwhile."""
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL:
        yield
        return
    # Asked now: of a terminal that is gone nobody can tell that it was one.
    terminals = [fd for fd in (0, 1, 2) if os.isatty(fd)]

    def hung_up(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        nothing = os.open(os.devnull, os.O_RDWR)
        for fd in terminals:
            os.dup2(nothing, fd)
        os.close(nothing)
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGHUP, hung_up)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGHUP) is hung_up:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
