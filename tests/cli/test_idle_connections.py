"""A connection that rests between two requests stays open for longer than whoever has it keeps it to use it again.

Time here passes while nothing happens: a minute of rest takes a second or two.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from leaping_loop import LeapingLoop

from remanence import Remanence
from remanence.api.app import build_app
from remanence.cli.serving import KEEP_ALIVE_S, served

CLIENTS_KEEP_S = 5
"""The vendors' client, and most others, use a connection again that rested for less."""
PROXIES_KEEP_S = 60


def test_a_connection_outlives_those_who_would_use_it_again(tmp_path: Path) -> None:
    loop = LeapingLoop(grace_s=0.001, leaps=False)

    async def rests() -> None:
        async with Remanence(f"sqlite:///{tmp_path}/a.db", worker=False) as rt:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                async with served(build_app(rt), listener):
                    loop.leaps = True
                    reader, writer = await asyncio.open_connection(*listener.getsockname())
                    for rest_s in (0, CLIENTS_KEEP_S, PROXIES_KEEP_S, KEEP_ALIVE_S + 30):
                        await asyncio.sleep(rest_s)
                        writer.write(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
                        if rest_s > KEEP_ALIVE_S:
                            break
                        assert b"200 OK" in await reader.readuntil(b'"ok"}'), rest_s
                    assert await reader.read() == b""  # it is not kept for ever
                    writer.close()
                    loop.leaps = False

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(rests())
