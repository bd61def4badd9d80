"""Whoever stands between the command line and its server and hears what is asked: a port that hands every byte on."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

__all__ = ["Asked", "Overhearing"]

ASKED = re.compile(rb"(GET|POST|PUT|PATCH|DELETE) (\S+) HTTP/1\.1\r\n")
ANSWERED = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_PIECE_BYTES = 1 << 16

T = TypeVar("T")
Waiting = list[tuple[str, str]]


class Asked(NamedTuple):
    """One request and how it was answered."""

    method: str
    path: str
    status: int


class Overhearing:
    """Listens in front of a server meanwhile. On one connection a request follows the answer to the one before it."""

    def __init__(self, url: str) -> None:
        self._there = urlsplit(url)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._connections: set[asyncio.Task[Any]] = set()
        self.heard: list[Asked] = []
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._between, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *error: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _close(self) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _between(self, here: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """One connection, until either side closes it."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        there, on = await asyncio.open_connection(self._there.hostname, self._there.port)
        waiting: Waiting = []
        ways = [
            asyncio.create_task(way) for way in (self._asks(here, on, waiting), self._answers(there, back, waiting))
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            for writer in (on, back):
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
            self._connections.discard(task)

    async def _asks(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, waiting: Waiting) -> None:
        while piece := await source.read(_PIECE_BYTES):
            if found := ASKED.match(piece):
                waiting.append((found[1].decode(), found[2].decode()))
            to.write(piece)
            await to.drain()

    async def _answers(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, waiting: Waiting) -> None:
        while piece := await source.read(_PIECE_BYTES):
            if waiting and (found := ANSWERED.match(piece)):
                self.heard.append(Asked(*waiting.pop(), int(found[1])))
            to.write(piece)
            await to.drain()
