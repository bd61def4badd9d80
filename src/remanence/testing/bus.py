"""A bus that makes use of everything it may do: it loses messages, doubles them, and changes their order.

around = DatabaseAround(database)
around.bus = UnreliableBus(database.bus, random.Random(7))
rt = Remanence(options=Options(database=around))
"""

from __future__ import annotations

import random
from collections.abc import Callable

from remanence.ports import Bus

__all__ = ["UnreliableBus"]


class UnreliableBus:
    """Another bus, both ways as unreliable as its `dice` say."""

    def __init__(self, bus: Bus, dice: random.Random, *, loses: float = 0.2) -> None:
        self._bus = bus
        self._dice = dice
        self._loses = loses
        self._late: list[tuple[Callable[[bytes], None], bytes]] = []
        self.name = bus.name
        self.bytes_max = bus.bytes_max

    def listen(self, heard: Callable[[bytes], None], ready: Callable[[], None]) -> None:
        """Listen, and hear some of it."""
        self._bus.listen(lambda message: self._pass(heard, message), ready)

    def send(self, message: bytes, *, to: str = "") -> None:
        """Send it, perhaps, or twice, or after the next one."""
        self._pass(lambda said: self._bus.send(said, to=to), message)

    async def close(self) -> None:
        """Close the other bus."""
        await self._bus.close()

    def _pass(self, on: Callable[[bytes], None], message: bytes) -> None:
        luck = self._dice.random()
        if luck < self._loses:
            return
        if luck < self._loses + 0.15:
            self._late.append((on, message))
            return
        on(message)
        late, self._late = self._late, []
        for later, held in late:
            later(held)
        if luck > 0.85:
            on(message)
