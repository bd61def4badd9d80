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
