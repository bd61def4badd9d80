"""Time as an argument, and what can be waited for."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Clock", "Signal", "Waiter"]


class Waiter(Protocol):
    """Somebody who waits: a future of the event loop."""

    def done(self) -> bool: ...

    def set_result(self, result: bool, /) -> None: ...


class Signal(Protocol):
    """What can be waited for: `runtime/bell.py` has one."""

    def is_set(self) -> bool: ...

    def attach(self, waiter: Waiter) -> None:
        """Resolve `waiter` with True when the signal is set."""
        ...

    def detach(self, waiter: Waiter) -> None: ...


class Clock(Protocol):
    """Time as an argument. Tests hand in one that they move by hand."""

    def now(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    async def wait(self, signal: Signal, timeout_s: float | None) -> bool:
        """Wait until the signal is set (True) or the time is over (False)."""
        ...
