"""What one step of the event loop writes to a connection leaves together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import cast

from remanence.cli.gathering import HELD_BYTES_MAX, Gathering


@asynccontextmanager
async def connected(act: Callable[[Gathering], None]) -> AsyncGenerator[asyncio.StreamReader]:
    """A client of a server that acts on its end of the connection in one step of the loop."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gathering = Gathering(cast("asyncio.Transport", writer.transport))
        act(gathering)
        gathering.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
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
