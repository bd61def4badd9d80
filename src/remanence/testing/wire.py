"""A real HTTP server on this machine that speaks the wire formats of model providers, for tests and for trying out.

    async with WireServer([Answer(text="Hello"), Answer(status=429, headers={"retry-after": "7"})]) as server:
        ...  # point a client at server.url; look at server.requests afterwards

It serves `POST /v1/chat/completions`, `POST /v1/responses` and `POST /v1/messages`, streaming or not, `GET /v1/models`
and `GET /api/tags`. What it answers is a list, used up in order, or a function of the request. It can stall, fail with
any status, cut the connection in mid-stream, and end a stream without saying that it ended. It listens on the loopback
address only, on a port of the system's choosing, and keeps every request it received.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec

from remanence.testing import wire_formats
from remanence.testing.wire_formats import Answer, WireCall

__all__ = ["Answer", "WireCall", "WireRequest", "WireServer", "listening"]

_PATHS = {"/v1/chat/completions": "chat", "/v1/responses": "responses", "/v1/messages": "anthropic"}
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


class WireRequest(msgspec.Struct, frozen=True):
    """One request as it arrived. Header names are in lower case; `body` is the parsed JSON, empty for a GET."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def api(self) -> str:
        """`chat`, `responses`, `anthropic`, or empty for the lists of models."""
        return _PATHS.get(self.path, "")

    @property
    def streams(self) -> bool:
        return bool(self.body.get("stream"))


Answers = Sequence[Answer] | Callable[[WireRequest], Answer]
"""Answers used up in order, or a function that makes one for each request."""


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(serve: Serve, *, port: int = 0, context: ssl.SSLContext | None = None) -> AsyncGenerator[int]:
    """Serve the connections to a port of the loopback address, which is yielded; none of them outlives this."""
    serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(served(reader, writer))
        serving[task] = writer
        task.add_done_callback(serving.pop)

    server = await asyncio.start_server(accept, "127.0.0.1", port, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in serving.values():
            writer.transport.abort()
        await asyncio.gather(*serving)
        await server.wait_closed()


class WireServer:
    """The server; an async context manager. `requests` are in the order of arrival.

    `hung_up` is set when a client closes its connection before it got its whole answer; `called` at every request.
    """

    def __init__(
        self,
        answers: Sequence[Answer] | Callable[[WireRequest], Answer] = (),
        *,
        models: Sequence[str] = ("test-model",),
    ) -> None:
        self._answers = answers if callable(answers) else self._in_turn(list(answers))
        self._models = tuple(models)
        self._open = contextlib.AsyncExitStack()
        self.requests: list[WireRequest] = []
        self.called = asyncio.Event()
        self.hung_up = asyncio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        """Scheme, host and port; the address of the API is `url + "/v1"`."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self.port = await self._open.enter_async_context(listening(self._serve, port=self.port))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    def answer_with(self, *answers: Answer) -> None:
        """From now on, answer with these, in order."""
        self._answers = self._in_turn(list(answers))

    @staticmethod
    def _in_turn(answers: list[Answer]) -> Callable[[WireRequest], Answer]:
        def next_answer(request: WireRequest) -> Answer:
            if not answers:
                return Answer(status=500, text="The server has no answer left.")
            return answers.pop(0)

        return next_answer

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read_request(reader)) is not None:
                self.requests.append(request)
                self.called.set()
                if not await self._answer(request, reader, writer):
                    break
        except ConnectionError:
            self.hung_up.set()

    async def _answer(self, request: WireRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection is over."""
        if request.method == "GET":
            await _send(writer, *self._list(request.path))
            return True
        if not request.api:
            await _send(writer, 404, {"error": {"message": f"no such path: {request.path}"}}, {})
            return True
        answer = self._answers(request)
        if answer.stall:
            await self._wait_for_end(reader)
            return False
        if answer.raw is not None:
            writer.write(answer.raw)
            await writer.drain()
            return False
        if answer.status != 200:
            await _send(writer, answer.status, wire_formats.error_body(request.api, answer), answer.headers)
            return True
        if not request.streams:
            await _send(writer, 200, wire_formats.body(request.api, answer, request.body), answer.headers)
            return True
        return await self._stream(request, answer, reader, writer)

    def _list(self, path: str) -> tuple[int, dict[str, Any], dict[str, str]]:
        if path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self._models]}, {}
        if path == "/api/tags":
            return 200, {"models": [{"name": name} for name in self._models]}, {}
        return 404, {"error": {"message": f"no such path: {path}"}}, {}

    async def _stream(
        self, request: WireRequest, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        writer.write(_head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"}))
        for count, event in enumerate(wire_formats.events(request.api, answer, request.body)):
            if count == answer.cut_after:
                await writer.drain()
                writer.transport.abort()
                return False
            if count == answer.end_after:
                break
            if count == answer.stall_after:
                await writer.drain()
                await self._wait_for_end(reader)
                return False
            content = (wire_formats.overloaded_event(request.api) if count == answer.error_after else event).encode()
            writer.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _wait_for_end(self, reader: asyncio.StreamReader) -> None:
        await reader.read(1)
        self.hung_up.set()


# --- HTTP/1.1, as much of it as a test needs --------------------------------------------------------------------------


async def _read_request(reader: asyncio.StreamReader) -> WireRequest | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    lines = head.decode("latin-1").split("\r\n")
    method, path, _ = lines[0].split(" ", 2)
    pairs = (line.split(":", 1) for line in lines[1:] if ":" in line)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    content = await reader.readexactly(int(headers.get("content-length", "0")))
    return WireRequest(method, path.split("?")[0], headers, json.loads(content) if content else {})


async def _send(writer: asyncio.StreamWriter, status: int, body: dict[str, Any], headers: dict[str, str]) -> None:
    content = json.dumps(body).encode()
    fixed = {"content-type": "application/json", "content-length": str(len(content))}
    writer.write(_head(status, {**fixed, **headers}) + content)
    await writer.drain()


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}", *(f"{k}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
