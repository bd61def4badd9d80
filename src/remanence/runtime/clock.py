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
        try:
            async with asyncio.timeout(timeout_s):
                await signal.wait()
        except TimeoutError:
            return signal.is_set()
        return True
