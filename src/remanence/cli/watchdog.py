"""The end of a server process that cannot end by itself, because somebody's code does not let it.

An event loop that is blocked (`while True: pass` in an async tool) runs no signal handler, and the end of a process
waits for threads that nobody can stop. So a thread of its own hears of the signals as well: C code writes their numbers
to a socket, which it reads and hands on to the loop. When the loop does not answer once the time to drain is over, or
after a second signal, and when the process is still there some time after everything was closed, it says which calls
were running, and ends the process. Nothing is lost by that: their intents are in the journal.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress

from remanence.runtime.running import Running

__all__ = ["Watchdog", "follows"]

ANSWER_S = 2.0
"""A loop that has not answered for so long is blocked: no tool may take longer between two awaits."""
LEAVE_S = 15.0
"""How long a process may take to go once its worker has ended: the last requests, the database, threads."""
_ENDS = (signal.SIGINT, signal.SIGTERM)
_FOLLOWS = {
    "safe": "runs again",
    "keyed": "runs again under its key",
    "never": "is in doubt until its outcome is looked up",
}


def follows(call: Running) -> str:
    """Which call it is, and what becomes of it when another worker takes its session."""
    return f"{call.tool} of session {call.session} ({call.effect_key}) {_FOLLOWS[call.replay]}"


class Watchdog:
    """Watches one event loop. `calls` says what runs; it is asked from another thread, when the loop may be blocked."""

    def __init__(self, drain_s: float, calls: Callable[[], Sequence[Running]], leave_s: float = LEAVE_S) -> None:
        self._loop = asyncio.get_running_loop()
        self._drain_s = drain_s
        self._calls = calls
        self._leave_s = leave_s
        self._heard, self._wake = socket.socketpair()
        self._code: int | None = None
        self._unheard: list[int] = []
        """Signals that were read together with one that came before them."""

    @contextmanager
    def watching(self) -> Generator[None]:
        """Hear of signals meanwhile. The loop must have its handlers by now."""
        self._wake.setblocking(False)
        loops_own = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        thread = threading.Thread(target=self._watch, args=(loops_own,), name="remanence-watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(loops_own)

    def leaving(self, code: int) -> None:
        """The worker has ended: what is left is to close and to go, with this exit code."""
        self._code = code
        self._wake.send(b"\0")

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _watch(self, loops_own: int) -> None:
        number, asked_at = 0, time.monotonic()
        while self._code is None:
            again = self._wait(None if not number else ANSWER_S, loops_own)
            if not number and again:
                number = again
                asked_at = time.monotonic()
                again = self._wait(self._drain_s, loops_own)
            if number and self._code is None and not self._answers():
                waited_s = time.monotonic() - asked_at
                self._end(128 + number, f"The event loop does not answer, {waited_s:.0f} s after it was asked to end")
        self._see_it_leave()

    def _wait(self, timeout_s: float | None, loops_own: int) -> int:
        """The next signal that asks for the end, or 0 when none came in time or everything is closed."""
        if self._unheard:
            return self._unheard.pop(0)
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while self._code is None:
            left_s = None if until is None else max(0.0, until - time.monotonic())
            if not select.select([self._heard], [], [], left_s)[0]:
                return 0
            numbers = self._heard.recv(64)
            with suppress(OSError):  # its own buffer is full: it has been told
                os.write(loops_own, numbers)
            if found := [number for number in numbers if number in _ENDS]:
                self._unheard += found[1:]
                return found[0]
        return 0

    def _answers(self) -> bool:
        answered = threading.Event()
        try:
            self._loop.call_soon_threadsafe(answered.set)
        except RuntimeError:
            return True  # it is closed
        return answered.wait(ANSWER_S)

    def _see_it_leave(self) -> None:
        threading.Event().wait(self._leave_s)
        if not self._loop.is_closed() or not threading.main_thread().is_alive():
            what = f"A thread that somebody's code began has not ended, {self._leave_s:g} s after everything was closed"
            self._end(self._code or 1, what)

    def _end(self, code: int, what: str) -> None:
        """End at once. Written past Python's buffers, whose locks somebody may hold."""
        calls = self._calls()
        if (task := asyncio.current_task(self._loop)) is not None:
            calls = [call for call in calls if call.effect_key == task.get_name()] or calls
        words = "".join(f"\nThe call {follows(call)}." for call in calls)
        said = f"{what}: stopped at once.{words}\nWhat was acknowledged is kept.\n"
        with suppress(OSError):
            os.write(2, said.encode(errors="replace"))
        os._exit(code)
