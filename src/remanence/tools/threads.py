"""Blocking functions off the loop: a bounded number at once, and none that can hold up the rest for ever.

The standard pools fail a worker in two ways: a function that hangs keeps its place in the pool for good, and the
process cannot leave before it returns. Here a call that nobody waits for any more (cancelled, out of time) gives its
place up while its thread runs on, and threads are daemons: a process that must go, goes. A call that is cancelled
before it started never starts, because an effect after its cancellation would be a lie.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

__all__ = ["Threads"]

T = TypeVar("T")

IDLE_S: Final = 30.0
ABANDONED_MAX: Final = 256


class _Job:
    """One call: its function, and whether anybody still waits for it."""

    __slots__ = ("abandoned", "function", "future")

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.future: Future[Any] = Future()
        self.abandoned = False


class Threads:
    """At most `limit` calls run at once; the rest wait in order. Usable from any event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._state = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._threads = 0
        self._idle = 0
        self._abandoned = 0

    async def run(self, function: Callable[[], T]) -> T:
        """Call `function` in a thread, in a copy of this context. It must not raise: hand errors back as values."""
        job = _Job(_in_context(function))
        with self._state:
            self._jobs.append(job)
            self._serve()
        try:
            return await asyncio.wrap_future(job.future)
        except asyncio.CancelledError:
            if not job.future.cancel():
                self._abandon(job)
            raise

    def _abandon(self, job: _Job) -> None:
        with self._state:
            if job.future.running() and not job.abandoned:
                job.abandoned = True
                self._abandoned += 1
                self._serve()

    def _serve(self) -> None:
        """See that somebody takes the jobs. Called with the lock held."""
        places = self._limit + min(self._abandoned, ABANDONED_MAX)
        if self._idle >= len(self._jobs):
            self._state.notify()
        elif self._threads < places:
            self._threads += 1
            try:
                threading.Thread(target=self._work, name="remanence-tool", daemon=True).start()
            except RuntimeError:
                # The system has no thread to give. One that runs takes the job; when there is none, nobody would.
                self._threads -= 1
                if not self._threads:
                    self._jobs.pop()
                    raise

    def _work(self) -> None:
        while (job := self._next()) is not None:
            if job.future.set_running_or_notify_cancel():
                job.future.set_result(job.function())
            with self._state:
                if job.abandoned:
                    self._abandoned -= 1
                if self._threads > self._limit + min(self._abandoned, ABANDONED_MAX):
                    self._threads -= 1
                    return

    def _next(self) -> _Job | None:
        with self._state:
            while not self._jobs:
                self._idle += 1
                woken = self._state.wait(IDLE_S)
                self._idle -= 1
                if not woken and not self._jobs:
                    self._threads -= 1
                    return None
            return self._jobs.popleft()


def _in_context(function: Callable[[], T]) -> Callable[[], T]:
    context = contextvars.copy_context()
    return lambda: context.run(function)
