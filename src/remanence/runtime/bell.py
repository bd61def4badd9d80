"""A bell: set by one side, waited for by the other, cheaper than an event and a time-out together."""

from __future__ import annotations

from remanence.ports import Waiter

__all__ = ["Bell"]


class Bell:
    """`ports.Signal`: stays set until it is cleared."""

    __slots__ = ("_rung", "_waiters")

    def __init__(self) -> None:
        self._rung = False
        self._waiters: list[Waiter] = []

    def is_set(self) -> bool:
        return self._rung

    def set(self) -> None:
        """Ring: everybody who waits goes on."""
        self._rung = True
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(True)

    def clear(self) -> None:
        self._rung = False

    def attach(self, waiter: Waiter) -> None:
        """Resolve `waiter` with True at the next ring."""
        if self._rung:
            waiter.set_result(True)
        else:
            self._waiters.append(waiter)

    def detach(self, waiter: Waiter) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)
