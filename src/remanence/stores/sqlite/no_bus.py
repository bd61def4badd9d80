"""No way to other processes: there are none, or none that could be told."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["NoBus"]


class NoBus:
    """`ports.Bus` that reaches nobody. Readers in other processes read the journal, by polling."""

    name = ""
    bytes_max = 0

    def listen(self, heard: Callable[[bytes], None], ready: Callable[[], None]) -> None:
        """Hear nothing."""

    def send(self, message: bytes, *, to: str = "") -> None:
        """Tell nobody."""

    async def close(self) -> None:
        """There is nothing to close."""
