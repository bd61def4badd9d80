"""What one step of the event loop writes to a connection leaves together; the head of a request has a limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import cast

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from remanence.cli.gathering import HEAD_BYTES_MAX, HELD_BYTES_MAX, Gathering, GatheringProtocol
from remanence.testing.wire import listening


@asynccontextmanager
async def connected(act: Callable[[Gathering], None]) -> AsyncGenerator[asyncio.StreamReader]:
    """A client of a server that acts on its end of the connection in one step of the loop."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gathering = Gathering(cast("asyncio.Transport", writer.transport))
        act(gathering)
        gathering.close()
        await writer.wait_closed()

    async with listening(serve) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        yield reader
        writer.close()
        await writer.wait_closed()


async def test_pieces_of_one_step_come_as_one() -> None:
    def act(gathering: Gathering) -> None:
        for piece in (b"head ", b"", b"event ", b"end"):
            gathering.write(piece)

    async with connected(act) as reader:
        assert await reader.read(1_000) == b"head event end"


async def test_nothing_is_lost_when_it_closes() -> None:
    def act(gathering: Gathering) -> None:
        gathering.write(b"last words")
        gathering.close()
        assert gathering.is_closing()

    async with connected(act) as reader:
        assert await reader.read() == b"last words"


async def test_much_is_not_held() -> None:
    seen: list[int] = []

    def act(gathering: Gathering) -> None:
        gathering.set_write_buffer_limits(0)
        for _ in range(400):
            gathering.write(b"x" * HELD_BYTES_MAX)
            gathering.write(b"y")
        seen.append(gathering.get_write_buffer_size())

    async with connected(act) as reader:
        assert len(await reader.read()) == 400 * (HELD_BYTES_MAX + 1)
    assert seen[0] > 0


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that says hello to any request."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@asynccontextmanager
async def greeted() -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server of that application."""
    config = uvicorn.Config(hello, http=GatheringProtocol, log_config=None, lifespan="off")
    state = ServerState()
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: GatheringProtocol(config, state, {}), "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        yield reader, writer
        writer.close()
        await writer.wait_closed()


async def test_a_head_without_an_end_is_refused() -> None:
    async with greeted() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n")
        writer.write(b"x-more: " + b"m" * HEAD_BYTES_MAX)
        assert (await reader.read(12)).startswith(b"HTTP/1.1 4")


async def test_many_requests_over_one_connection_and_large_bodies_are_none() -> None:
    head = b"POST / HTTP/1.1\r\nhost: a\r\nx-more: " + b"m" * 4_000 + b"\r\ncontent-length: 90000\r\n\r\n"
    async with greeted() as (reader, writer):
        for _ in range(40):
            writer.write(head + b"b" * 90_000)
            assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
