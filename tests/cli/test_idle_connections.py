"""A connection that rests between two requests stays open for longer than whoever has it keeps it to use it again.

Clocks here run sixty times as fast as usual, so that a minute of rest is a second.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
from pathlib import Path

from remanence import Remanence
from remanence.api.app import build_app
from remanence.cli.serving import KEEP_ALIVE_S, served

HASTE = 60
CLIENTS_KEEP_S = 5
"""The vendors' client, and most others, use a connection again that rested for less."""
PROXIES_KEEP_S = 60


class Selector(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout / HASTE if timeout else timeout)


class Loop(asyncio.SelectorEventLoop):
    def time(self) -> float:
        return super().time() * HASTE


def test_a_connection_outlives_those_who_would_use_it_again(tmp_path: Path) -> None:
    async def rests() -> None:
        async with Remanence(f"sqlite:///{tmp_path}/a.db", worker=False) as rt:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                async with served(build_app(rt), listener):
                    reader, writer = await asyncio.open_connection(*listener.getsockname())
                    for rest_s in (0, CLIENTS_KEEP_S, PROXIES_KEEP_S, KEEP_ALIVE_S + 30):
                        await asyncio.sleep(rest_s)
                        writer.write(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
                        if rest_s > KEEP_ALIVE_S:
                            break
                        assert b"200 OK" in await reader.readuntil(b'"ok"}'), rest_s
                    assert await reader.read() == b""  # it is not kept for ever
                    writer.close()

    with asyncio.Runner(loop_factory=lambda: Loop(Selector())) as runner:
        runner.run(rests())
