"""What every request passes before a route sees it: its name, its host, its size; and what nobody foresaw.

* **Name.** Each request has an id, its own `x-request-id` or a new one; it is in the answer, in the logs and in errors.
* **Host.** A page of another site can send requests to this machine through the browser of whoever looks at it, under a
  name that it lets point here. So a request for a host that is not ours is refused (421): ours are the names of this
  machine for itself, the address the server listens on, and those that were configured.
* **Place.** Ids that older releases took may hold a `/`. One that comes encoded (`%2F`) parts no path: it travels as
  `SLASH`, which no id can hold, and is a `/` again when a route takes the id (`ids_in_path`).
* **Size.** A body over the limit is refused (413), by what it says about itself or as soon as more has come. A session
  that is imported is written to a file as it comes, so it has a limit of its own.
* **HEAD.** Under the paths for programs it is what HTTP says: the answer of a GET, without its content. A stream ends
  where it would begin.
* **The end.** What the server cannot wait for when it stops is answered (503), so that it is sent again.
* **The unforeseen** is logged whole and answered as an error with the id, never with a traceback.

Plain ASGI, so that streams pass through untouched.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import unquote

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from remanence.api.bodies import of_api
from remanence.api.bound_keys import is_begun_once
from remanence.api.failures import BrokenOff, failure, unforeseen
from remanence.commands.caller import SLASH
from remanence.errors import AccessDenied, InvalidInput, TooLarge

__all__ = ["BODY_BYTES_MAX", "IMPORT_BYTES_MAX", "IMPORT_PATH", "Guard", "is_ours"]

log = structlog.get_logger("remanence.http")

BODY_BYTES_MAX = 8 * 1024 * 1024
"""Twice the largest input, so that it is the input's own limit that speaks, whatever its encoding."""

IMPORT_BYTES_MAX = 4 * 1024**3
IMPORT_PATH = "/admin/v1/sessions/import"
_ENCODED_SLASH = re.compile("%2f", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::\d{1,5})?")


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        make_id: Callable[[str], str],
        hosts: Iterable[str] = (),
        body_bytes_max: int = BODY_BYTES_MAX,
    ) -> None:
        self.app = app
        self.make_id = make_id
        self.hosts = frozenset(host.lower().rstrip(".") for host in hosts)
        self.body_bytes_max = body_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await (self.app if scope["type"] == "lifespan" else self._connect)(scope, receive, send)
            return
        if b"%2f" in scope.get("raw_path", b"").lower():
            scope = {**scope, "path": unquote(_ENCODED_SLASH.sub(SLASH, scope["raw_path"].decode("latin-1")))}
        if scope["method"] == "HEAD" and of_api(scope["path"]):
            scope, receive, send = _as_get(scope, send)
        imports = scope["method"] == "POST" and scope["path"].endswith(IMPORT_PATH)
        most = IMPORT_BYTES_MAX if imports else self.body_bytes_max
        request = _Request(scope, receive, send, self._request_id(scope), most)
        structlog.contextvars.bind_contextvars(request_id=request.id)  # each request has a task, and so a context
        await self._pass(request)

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A web socket: opened under a name of ours, and not by a page of another site."""
        scope["request_id"] = self._request_id(scope)
        origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
        refusal = self._misdirected([value.decode("latin-1") for name, value in scope["headers"] if name == b"host"])
        if refusal is None and not all(is_ours(origin.partition("://")[2], self.hosts) for origin in origins):
            words = "A page of another site may not connect to this server. Nothing was done."
            refusal = (AccessDenied.status, AccessDenied.code, words)
        if refusal is None:
            await self.app(scope, receive, _named(scope, receive, send))
        elif "websocket.http.response" in scope.get("extensions", {}):
            await failure(*refusal, request_id=scope["request_id"])(scope, receive, _named(scope, receive, send))
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": "This server does not answer for that."})

    async def _pass(self, request: _Request) -> None:
        refusal = self._refusal(request)
        if refusal is not None:
            await request.fail(*refusal)
            return
        try:
            await self.app(request.scope, request.receive, request.send)
            if request.over:
                error = too_large(request.body_bytes_max)
                await request.fail(error.status, error.code, error.message)
        except asyncio.CancelledError:
            # Only the end of the server cancels a request, and nobody awaits this one any more: it ends here.
            log.warning("a request was cut off by the end of the server", path=request.scope["path"])
            await request.fail(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "stopping",
                "The server stopped before this was answered. What it had acknowledged is kept; this may have been "
                "done or not. Send it again, under the same `Idempotency-Key` if it had one.",
            )
        except BrokenOff as error:
            log.warning("a stream broke off; it can be gone on with", path=request.scope["path"], why=str(error))
        except Exception:
            log.exception("a request met something that should not happen", path=request.scope["path"])
            await request.answer(unforeseen(request.id))

    def _refusal(self, request: _Request) -> tuple[int, str, str] | None:
        """Why a request may not pass, judged by its headers alone."""
        misdirected = self._misdirected(request.header(b"host"))
        if misdirected is not None:
            return misdirected
        if len(set(request.header(b"authorization"))) > 1:
            words = "It came with two keys, and has to have one. Nothing was done; look what a proxy adds."
            return (HTTPStatus.BAD_REQUEST, InvalidInput.code, words)
        length = request.header(b"content-length")
        if length and not (len(length) == 1 and length[0].isdigit()):
            return (HTTPStatus.BAD_REQUEST, InvalidInput.code, "The content-length is not a number. Nothing was done.")
        if length and int(length[0]) > request.body_bytes_max:
            error = too_large(request.body_bytes_max)
            return (error.status, error.code, error.message)
        return None

    def _misdirected(self, given: list[str]) -> tuple[int, str, str] | None:
        """Why these `Host` headers are refused."""
        if len(given) == 1 and is_ours(given[0], self.hosts):
            return None
        shown = repr(given[0][:100]) if len(given) == 1 else "a request that names no one host"
        return (
            HTTPStatus.MISDIRECTED_REQUEST,
            "misdirected",
            f"This server does not answer for {shown}. Nothing was done. Use the address it printed when it started; "
            "to serve it under a name, add the name to the setting `hosts`.",
        )

    def _request_id(self, scope: Scope) -> str:
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        return given.decode() if _REQUEST_ID.fullmatch(given) else self.make_id("req")


def _as_get(scope: Scope, send: Send) -> tuple[Scope, Receive, Send]:
    """A HEAD as a GET whose reader leaves when the head has come."""
    told = asyncio.Event()
    coming: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def received() -> Message:
        if coming:
            return coming.pop()
        await told.wait()
        return {"type": "http.disconnect"}

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            told.set()

    return {**scope, "method": "GET"}, received, sent


def _named(scope: Scope, receive: Receive, send: Send) -> Send:
    """Sends what a web socket is answered, with the name of the request; routing that knows no such path says so like
    any other request's."""

    async def sent(message: Message) -> None:
        nowhere = message["type"] == "websocket.close" and message.get("code", 1000) == 1000
        if not nowhere or opened or "websocket.http.response" not in scope.get("extensions", {}):
            opened.append(message["type"])
            if message["type"] in ("websocket.accept", "websocket.http.response.start"):
                name = (b"x-request-id", scope["request_id"].encode())
                message = {**message, "headers": [*message.get("headers", ()), name]}
            await send(message)
            return
        words = f"There is no web socket at {scope['path']}. See /docs for what there is."
        await failure(HTTPStatus.NOT_FOUND, "not_found", words, request_id=scope["request_id"])(scope, receive, sent)

    opened: list[str] = []
    return sent


class _Request:
    """One request on its way: counts what comes in, marks what goes out."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str, body_bytes_max: int) -> None:
        self.scope = scope
        self.id = request_id
        self.scope["request_id"] = request_id
        self._receive = receive
        self._send = send
        self.body_bytes_max = body_bytes_max
        self._received = 0
        self._answered = False
        self.over = False
        """More came than is allowed. What the application makes of a body that breaks off is not sent."""

    def header(self, name: bytes) -> list[str]:
        """The values of a header."""
        return [value.decode("latin-1") for given, value in self.scope["headers"] if given == name]

    async def receive(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if self._received > self.body_bytes_max and not self._answered:
            self.over = True
            return {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        if self.over:
            return
        if message["type"] == "http.response.start":
            self._answered = True
            headers = [*message.get("headers", ()), (b"x-request-id", self.id.encode())]
            message = {**message, "headers": [*headers, (b"x-content-type-options", b"nosniff")]}
        await self._send(message)

    async def fail(self, status: int, code: str, message: str) -> None:
        """Answer with an error."""
        await self.answer(failure(status, code, message, request_id=self.id))

    async def answer(self, response: Response) -> None:
        """Answer this, unless the answer has begun: then the connection is cut, which the client notices."""
        if not self._answered:
            self.over = False
            if is_begun_once(self.scope):
                response.headers["x-should-retry"] = "false"
            await response(self.scope, self._receive, self.send)


def too_large(body_bytes_max: int) -> TooLarge:
    """What is said of a body over the limit."""
    if body_bytes_max == IMPORT_BYTES_MAX:
        return TooLarge(
            f"The file is over the limit of {body_bytes_max:,} bytes. Nothing was written. Import it on the machine of "
            "the database, with `remanence sessions import FILE --direct`."
        )
    return TooLarge(
        f"The body is over the limit of {body_bytes_max:,} bytes. Nothing was written. Send it in parts, or raise "
        "`input_bytes_max` in the settings."
    )


def is_ours(host: str, hosts: frozenset[str]) -> bool:
    """Whether a `Host` header names this server: this machine's names for itself, or one of `hosts`."""
    found = _HOST.fullmatch(host.lower())
    if found is None:
        return False
    name = found[1].strip("[]").rstrip(".")
    if name in hosts or name == "localhost" or name.endswith(".localhost"):
        return True
    return _is_loopback(name)


@lru_cache(maxsize=256)
def _is_loopback(name: str) -> bool:
    """Whether this is an address of this machine for itself. Every request asks."""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
