"""The server's HTTP: requests are read by a parser in C, and answers leave in few pieces.

An answer is handed to the socket piece by piece: its head, each event of a stream, the mark of its end. Each would be a
system call for us and a wake-up for whoever reads. They are held until the loop has run what is ready now, which is no
time that anybody could see, and sent as one. More than `HELD_BYTES_MAX` is not held, so that the flow control of the
connection learns of it.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from remanence.cli.stalled import EndsStalled
from remanence.cli.unreadable import AnswersUnreadable

__all__ = ["Gathering", "GatheringProtocol"]

HELD_BYTES_MAX = 64 * 1024
HEAD_BYTES_MAX = 64 * 1024
"""What a request line and headers may come to; the parser itself would gather them for ever."""


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


class HeadTooLarge(httptools.HttpParserError):
    """The head of a request does not end."""

    error_status_hint = 431


class GatheringProtocol(EndsStalled, AnswersUnreadable, HttpToolsProtocol):
    """The server's HTTP over such transports."""

    _in_head = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(cast("asyncio.Transport", Gathering(transport)))

    def data_received(self, data: bytes) -> None:
        """What came in. A head may be as large as one piece that came, or as `HEAD_BYTES_MAX`."""
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES_MAX and not self._given_up:
            try:
                raise HeadTooLarge(f"the head has more than {HEAD_BYTES_MAX} bytes")
            except HeadTooLarge as error:
                self.send_400_response(str(error))

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its body begins."""
        self._in_head = False
        if sum(name == b"host" for name, _ in self.headers) != 1:
            raise httptools.HttpParserError("it has to name one host")
        super().on_headers_complete()
