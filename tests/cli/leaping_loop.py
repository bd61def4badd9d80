"""An event loop on which time passes only while nobody has anything to do: then it leaps to the next thing that is due.

What waits for seconds waits for some milliseconds, and a machine that is held up for longer than what is measured
makes nobody late: no time passes meanwhile.
"""

from __future__ import annotations

import asyncio
import selectors

__all__ = ["LeapingLoop"]


class _Selector(selectors.DefaultSelector):
    loop: LeapingLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or (timeout is not None and timeout <= 0):
            return found
        if timeout is None:
            return super().select()
        found = super().select(min(timeout, self.loop.grace_s) if self.loop.leaps else timeout)
        if not found:
            self.loop.passed_s += timeout
        return found


class LeapingLoop(asyncio.SelectorEventLoop):
    """It leaps once nothing has come for `grace_s`: what was sent within this process may still be on its way. While it
    may not leap, what waits for seconds does so."""

    def __init__(self, grace_s: float = 0.02, *, leaps: bool = True) -> None:
        self.grace_s = grace_s
        self.leaps = leaps
        self.passed_s = 0.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.passed_s
