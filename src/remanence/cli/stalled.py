"""Requests that stop in the middle, and connections on which none ever begins: they are ended.

A client that goes away without a word, or means no good, leaves a request without its end. The parser would wait for
the rest for ever, and the application for the body. So when nothing has come for `stall_s`, the request is answered
with 408, which clients take as leave to send it again, since nothing was done; a connection that never said anything is
closed. Who reads slowly has no part in this: what the server itself does not take in yet is nobody's silence.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools

__all__ = ["EndsStalled"]

STALL_S = 60.0


class Stalled(httptools.HttpParserError):
    """The rest of a request does not come."""

    error_status_hint = 408


class EndsStalled(asyncio.Protocol):
    """Before a protocol of uvicorn's."""

    stall_s = STALL_S
    transport: Any
    flow: Any
    cycle: Any
    loop: asyncio.AbstractEventLoop
    _coming = True
    """Whether the end of a request is still to come; at first, its beginning."""
    _heard_at: float | None = None
    _looking: asyncio.TimerHandle | None = None
    _ours = False
    """Whether it was the server that was waited for, when it was looked at last. The client has its whole time then."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._looking = self.loop.call_later(self.stall_s, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._looking is not None:
            self._looking.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """What came in; if it is not the end of a request, that is waited for."""
        self._heard_at = self.loop.time()
        super().data_received(data)
        if self._coming and self._looking is None:
            self._looking = self.loop.call_later(self.stall_s, self._look)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._coming = True
        super().on_message_begin()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]

    def on_message_complete(self) -> None:
        """It is all there."""
        self._coming = False
        super().on_message_complete()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]

    def _look(self) -> None:
        """Whether the rest has come, or something of it; else it is waited for no longer."""
        self._looking = None
        if not self._coming or self.transport.is_closing():
            return
        ours = self.flow.read_paused or (self.cycle is not None and self.cycle.waiting_for_100_continue)
        if ours or self._ours:
            self._heard_at = self.loop.time()
        self._ours = ours
        left_s = 0.0 if self._heard_at is None else self._heard_at + self.stall_s - self.loop.time()
        if left_s > 0:
            self._looking = self.loop.call_later(left_s, self._look)
        elif self._heard_at is None:
            self.transport.close()
        else:
            self._end_stalled()

    def _end_stalled(self) -> None:
        try:
            raise Stalled(f"the rest did not come for {self.stall_s:g} s")
        except Stalled as error:
            self.send_400_response(str(error))  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
