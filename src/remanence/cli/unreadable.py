"""What is answered to bytes that are no request: the error object, like everywhere, not a line of plain text.

A request line that is none, a header that is none, a chunk without a size, a head without an end, the preface of
HTTP/2: the parser gives up on the connection, and no application hears of it. So the answer is made here, and it is the
last one on that connection. What still comes is taken and dropped for a moment before it is closed, since a connection
that is closed with unread bytes is reset, and the answer with it.

**Offers of another protocol.** Clients that would rather speak HTTP/2 offer it with their first request (an `Upgrade`
to `h2c`, as those of Java do by default), and a server may go on as if they had not. The parser would take the body of
such a request for words of the other protocol, so it is not shown the offer. An offer of a WebSocket without a whole
handshake is none.
"""

from __future__ import annotations

import asyncio
import base64
import re
import sys
from http import HTTPStatus
from typing import Any

import httptools

__all__ = ["AnswersUnreadable"]

LINGER_S = 1.0
_HTTP_2 = b"PRI * HTTP/2"
"""How a client of HTTP/2 begins; a parser may take its first line for a request."""
_WORDS_MAX = 120
_KEY_BYTES = 16
_OFFER = b"h2c"
_OFFERS = re.compile(rb"\r\nupgrade(:[ \t]*h2c[ \t]*\r\n)", re.IGNORECASE)


class AnswersUnreadable(asyncio.Protocol):
    """Before a protocol of uvicorn's."""

    transport: Any
    cycle: Any
    server_state: Any
    scope: Any
    headers: Any
    loop: asyncio.AbstractEventLoop
    _given_up = False
    _last_words = b""

    def data_received(self, data: bytes) -> None:
        """What came in, as long as it can be read."""
        if self._given_up:
            return
        if self.cycle is None and data.startswith(_HTTP_2):
            self.send_400_response("the preface of HTTP/2")
            return
        if _OFFER in data and (self.cycle is None or self.cycle.response_complete):
            data = _without_offer(data)
        super().data_received(data)

    def _should_upgrade(self) -> bool:
        """Whether the request begins a WebSocket."""
        asks = bool(super()._should_upgrade())  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]
        return asks and _is_handshake(self.scope["method"], dict(self.headers))

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser gave up on. Called while its complaint is being handled."""
        self._given_up = True
        answer = _answer(sys.exception(), msg, self.server_state.default_headers)
        running = self.cycle if self.cycle is not None and not self.cycle.response_complete else None
        if running is not None and not running.more_body:
            self._last_words = answer  # what came before it was a whole request, and is answered first
            return
        if running is not None and running.response_started:
            self.transport.close()  # in the middle of another answer there is no place for this one
            return
        if running is not None:  # a body that broke off: whoever waits for it hears that its client is gone
            running.disconnected = True
            running.message_event.set()
        self._end(answer)

    def on_response_complete(self) -> None:
        """An answer has left."""
        super().on_response_complete()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        if self._last_words:
            self._end(self._last_words)

    def _end(self, answer: bytes) -> None:
        self.transport.write(answer)
        self.loop.call_later(LINGER_S, self.transport.close)


def _without_offer(data: bytes) -> bytes:
    """The beginning of a request, the name of the header that offers HTTP/2 made one that says nothing."""
    head, end, body = data.partition(b"\r\n\r\n")
    return _OFFERS.sub(rb"\r\nx-grade\1", head + end[:2]) + end[2:] + body


def _is_handshake(method: str, headers: dict[bytes, bytes]) -> bool:
    """Whether these are all that a WebSocket begins with."""
    try:
        key = base64.b64decode(headers.get(b"sec-websocket-key", b""), validate=True)
    except ValueError:
        return False
    return method == "GET" and headers.get(b"sec-websocket-version") == b"13" and len(key) == _KEY_BYTES


def _answer(complaint: BaseException | None, words: str, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The whole answer as it is sent."""
    from remanence.api.failures import failure
    from remanence.app import make_id
    from remanence.errors import InvalidInput

    if isinstance(complaint, httptools.HttpParserCallbackError):
        complaint = complaint.__context__ or complaint  # what was raised while the parser handed on what it had read
    why = "".join(letter for letter in str(complaint or words)[:_WORDS_MAX] if letter.isprintable()).rstrip(".")
    status = HTTPStatus(getattr(complaint, "error_status_hint", HTTPStatus.BAD_REQUEST))
    request_id = make_id("req")
    if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
        code, text = "headers_too_large", "The headers are larger than this server takes. Nothing was done; send less."
    elif status == HTTPStatus.REQUEST_TIMEOUT:
        code, text = "request_timeout", f"The request has no end: {why}. Nothing was done; send it again."
    else:
        status, code = HTTPStatus.BAD_REQUEST, InvalidInput.code
        text = f"This is not a request of HTTP/1.1 ({why}). Nothing was done, and the connection is closed."
    answer = failure(status, code, text, request_id=request_id)
    answer.headers.update({"x-request-id": request_id, "x-content-type-options": "nosniff", "connection": "close"})
    head = b"".join(b"%s: %s\r\n" % pair for pair in (*headers, *answer.raw_headers))
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (status, status.phrase.encode(), head, answer.body)
