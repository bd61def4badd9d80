"""Writing to sockets in fewer pieces: what one step of the event loop writes to a connection leaves together.

An answer is handed to the socket piece by piece: its head, each event of a stream, the mark of its end. Each would be a
system call for us and a wake-up for whoever reads. They are held until the loop has run what is ready now, which is no
time that anybody could see, and sent as one. More than `HELD_BYTES_MAX` is not held, so that the flow control of the
connection learns of it.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

from remanence.cli.unreadable import AnswersUnreadable

__all__ = ["Gathering", "GatheringProtocol"]

HELD_BYTES_MAX = 64 * 1024


class Gathering:
    """A transport that holds what is written until the end of the loop's step. All else goes to the one beneath."""

    def __init__(self, beneath: asyncio.Transport) -> None:
        self._beneath = beneath
        self._loop = asyncio.get_running_loop()
        self._held: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Write soon, in order."""
        if not data:
            return
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(bytes(data))
        self._size += len(data)
        if self._size > HELD_BYTES_MAX:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if self._held:
            held, self._held, self._size = self._held, [], 0
            self._beneath.write(b"".join(held))

    def close(self) -> None:
        """Write what is held, then close."""
        self.flush()
        self._beneath.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._beneath, name)


class GatheringProtocol(AnswersUnreadable, H11Protocol):
    """The server's HTTP over such transports."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(cast("asyncio.Transport", Gathering(transport)))
