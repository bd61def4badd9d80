"""The way that what happens now takes to other processes. Nothing that travels here is truth: the journal is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Bus"]


class Bus(Protocol):
    """Short messages among the processes that have one database open, on as many machines as can reach it.

    It may lose messages, double them, and change their order. It never fails: where there is none, nobody is told.
    """

    @property
    def name(self) -> str:
        """The address of this process, unlike that of any other; empty when it cannot be told anything."""
        ...

    @property
    def bytes_max(self) -> int:
        """How long a message may be, in bytes of UTF-8 without a NUL."""
        ...

    def listen(self, heard: Callable[[bytes], None], ready: Callable[[], None]) -> None:
        """From now on call `heard` with what others send, in the event loop; `ready` each time that it has begun to
        listen. Asked again, it looks whether it still does."""
        ...

    def send(self, message: bytes, *, to: str = "") -> None:
        """Tell the process of that name, or every other one that listens. Never waits."""
        ...

    async def close(self) -> None: ...
