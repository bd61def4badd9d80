"""The machine's clock, as `ports.Clock`."""

from __future__ import annotations

import asyncio
import time

from remanence.ports import Signal

__all__ = ["SystemClock"]


class SystemClock:
    """Wall time for dates, the event loop's monotonic time for waits: a clock that is set back delays nothing."""

    def now(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def wait(self, signal: Signal, timeout_s: float | None) -> bool:
        """Wait until the signal is set (True) or the time is over (False)."""
        if signal.is_set():
            return True
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        signal.attach(waiter)
        timer = loop.call_later(timeout_s, _expire, waiter) if timeout_s is not None else None
        try:
            return await waiter
        finally:
            signal.detach(waiter)
            if timer is not None:
                timer.cancel()


def _expire(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)
