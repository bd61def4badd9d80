"""A real server in this process for tests of the faces with models: uvicorn on a free port, over a real database."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import APIRouter
from openai import AsyncOpenAI, OpenAI

from remanence import Remanence
from remanence.api.app import build_app
from remanence.api.auth import Access, development_principal
from remanence.api.router import Face
from remanence.cli.serving import KEEP_ALIVE_S
from remanence.commands.keys import Principal

KEY = "rmn_test_key"
OTHER = "rmn_other_key"
READER = "rmn_reader_key"


@dataclass
class Server:
    """Where it listens, and what it serves."""

    url: str
    rt: Remanence
    clients: list[AsyncOpenAI] = field(default_factory=list[AsyncOpenAI])

    def client(self, key: str = KEY, **options: Any) -> AsyncOpenAI:
        """The vendor's client, strict; it is closed with the server."""
        made = AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, _strict_response_validation=True, **options)
        self.clients.append(made)
        return made

    def sync_client(self, key: str = KEY) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, _strict_response_validation=True)


@asynccontextmanager
async def serving(rt: Remanence, faces: Sequence[tuple[str, APIRouter]]) -> AsyncIterator[Server]:
    """Serve these routers, each under its prefix, until the block is left."""
    own = {
        KEY: development_principal("default"),
        OTHER: development_principal("other"),
        READER: Principal("reader", "key:reader", "default", frozenset(("read",))),
    }
    mounted: list[APIRouter] = []
    for prefix, router in faces:
        if not prefix:
            mounted.append(router)
            continue
        outer = Face(at=prefix)
        outer.include_router(router)
        mounted.append(outer)
    app = build_app(rt, faces=mounted, access=Access(rt.caller, own=own))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app, log_level="warning", lifespan="off", timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=2
        )
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[listening]))
        async with asyncio.timeout(60):
            while not server.started:  # noqa: ASYNC110 - uvicorn says so by nothing else
                await asyncio.sleep(0.01)
        made = Server(f"http://127.0.0.1:{listening.getsockname()[1]}", rt)
        try:
            yield made
        finally:
            for client in made.clients:
                await client.close()
            server.should_exit = True
            await running
