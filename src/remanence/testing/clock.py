"""A clock that a test moves by hand. Nothing sleeps: a wait ends when the clock is moved past it."""

from __future__ import annotations

import asyncio

from remanence.ports import Signal

__all__ = ["FakeClock"]

_MICROS = 1_000_000


class FakeClock:
    """`ports.Clock` whose time stands still until `advance` is called."""

    def __init__(self, now: int = 1_800_000_000 * _MICROS) -> None:
        self._now = now
        self._sleepers: list[tuple[int, asyncio.Event]] = []

    def now(self) -> int:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock and wake whoever waited for that."""
        self._now += int(seconds * _MICROS)
        for due, woken in self._sleepers:
            if due <= self._now:
                woken.set()

    def set_back(self, seconds: float) -> None:
        """Let the clock jump backwards."""
        self._now -= int(seconds * _MICROS)

    async def sleep(self, seconds: float) -> None:
        await self._until(self._now + int(seconds * _MICROS), asyncio.Event())

    async def wait(self, signal: Signal, timeout_s: float | None) -> bool:
        if signal.is_set():
            return True
        if timeout_s is None:
            return await signal.wait()
        timer = asyncio.ensure_future(self._until(self._now + int(timeout_s * _MICROS), asyncio.Event()))
        waiter = asyncio.ensure_future(signal.wait())
        try:
            await asyncio.wait((timer, waiter), return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            waiter.cancel()
        return signal.is_set()

    async def _until(self, due: int, woken: asyncio.Event) -> None:
        if due <= self._now:
            await asyncio.sleep(0)
            return
        entry = (due, woken)
        self._sleepers.append(entry)
        try:
            await woken.wait()
        finally:
            self._sleepers.remove(entry)
