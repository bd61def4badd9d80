"""Clocks that a test moves by hand: one that stands still otherwise, and one that goes on by itself."""

from __future__ import annotations

import asyncio

from remanence.ports import Signal
from remanence.runtime.clock import SystemClock

__all__ = ["FakeClock", "LeapingClock"]

_MICROS = 1_000_000


class FakeClock:
    """`ports.Clock` whose time stands still until `advance` is called. Nothing sleeps: a wait ends when the clock is
    moved past it."""

    def __init__(self, now: int = 1_800_000_000 * _MICROS) -> None:
        self._now = now
        self._sleepers: list[tuple[int, asyncio.Future[bool]]] = []

    def now(self) -> int:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock and wake whoever waited for that."""
        self._now += int(seconds * _MICROS)
        due = [sleeper for at, sleeper in self._sleepers if at <= self._now]
        for sleeper in due:
            if not sleeper.done():
                sleeper.set_result(False)

    def set_back(self, seconds: float) -> None:
        """Let the clock jump backwards."""
        self._now -= int(seconds * _MICROS)

    async def sleep(self, seconds: float) -> None:
        await self._sleep(asyncio.get_running_loop().create_future(), seconds)

    async def wait(self, signal: Signal, timeout_s: float | None) -> bool:
        if signal.is_set():
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        signal.attach(waiter)
        try:
            return await (waiter if timeout_s is None else self._sleep(waiter, timeout_s))
        finally:
            signal.detach(waiter)

    async def _sleep(self, waiter: asyncio.Future[bool], seconds: float) -> bool:
        due = self._now + int(seconds * _MICROS)
        if due <= self._now:
            await asyncio.sleep(0)
            return waiter.done() and waiter.result()
        entry = (due, waiter)
        self._sleepers.append(entry)
        try:
            return await waiter
        finally:
            self._sleepers.remove(entry)


class LeapingClock(SystemClock):
    """The system's time, and as much later as it was told to leap: nobody waits for the lease of a dead worker."""

    def __init__(self) -> None:
        self._ahead = 0

    def now(self) -> int:
        return super().now() + self._ahead

    def leap(self, seconds: float) -> None:
        """Let the time jump forwards. Who sleeps sleeps on."""
        self._ahead += int(seconds * _MICROS)
