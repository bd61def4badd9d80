"""Streams as bytes, over servers that come and go: what a test needs to cut them anywhere.

The servers are applications over real databases and real workers, called in this process without a socket, so that a
connection can be broken after any byte. `Stage` has two of them: one that works, and is killed or started again as the
test likes; and one beside it that never ends, where somebody listens to everything without a break.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec
from fastapi import FastAPI

from remanence import Agent, Remanence, tool
from remanence.api.agents.events import events_router
from remanence.api.agents.sessions import sessions_router
from remanence.api.app import build_app
from remanence.api.auth import Access, development_principal
from remanence.api.lookout import Lookout
from remanence.api.responses.responses import responses_router
from remanence.api.router import Face
from remanence.app import Options, open_database
from remanence.content import Part, Text, Thinking, ToolCall, Usage
from remanence.errors import ModelError
from remanence.ports import Database, ModelReply, ModelRequest, OnDelta
from remanence.runtime.around import DatabaseAround
from remanence.runtime.services import Times
from remanence.spec import Limits
from remanence.testing.bus import UnreliableBus
from remanence.testing.clock import LeapingClock

__all__ = ["Event", "Line", "Request", "Stage", "Told", "events_in"]

KEY = "rmn_test_key"
TIMES = Times(lease_s=20.0, linger_s=0.1, drain_s=0.1, poll_s=0.02, retry_base_s=0.001, retry_cap_s=0.002)
Event = tuple[str, dict[str, Any]]
"""The id of an event and its data."""


# --- what is said -----------------------------------------------------------------------------------------------------


@dataclass
class Told:
    """What a model says, piece by piece as it is let: first the attempts that break, then one that does not; then, if
    it `looks`, a tool runs and it says `last`. Every attempt says which it is, so that no two say the same."""

    broken: Sequence[Sequence[Part]]
    first: Sequence[Part]
    last: Sequence[Part] = ()
    looks: bool = False
    cut: int = 2
    calls: int = 0
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    def let(self, pieces: int) -> None:
        """Let it say so many more pieces; the end of a reply, and of the tool, counts as one."""
        for _ in range(pieces):
            self.gate.release()

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        self.calls += 1
        again = request.messages[-1].role == "tool"
        breaks = not again and self.calls <= len(self.broken)
        said = self.last if again else self.broken[self.calls - 1] if breaks else self.first
        parts = [type(part)(f"{part.text} by {self.calls}") for part in said if isinstance(part, Text | Thinking)]
        for index, part in enumerate(parts):
            for at in range(0, len(part.text), self.cut):
                await self.gate.acquire()
                if on_delta is not None:
                    on_delta(index, "text" if isinstance(part, Text) else "thinking", part.text[at : at + self.cut])
        await self.gate.acquire()
        if breaks:
            raise ModelError("the line broke", kind="connection")
        call = (ToolCall("x", "look", "{}"),) if self.looks and not again else ()
        return ModelReply((*parts, *call), Usage(3, 5), stop="tool_calls" if call else "stop")


class Voice:
    """The model of every server of a stage: it says what is `told` now."""

    def __init__(self) -> None:
        self.told = Told((), ())

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        return await self.told.reply(request, on_delta)

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        return 0

    def agent(self) -> Agent:
        voice = self

        @tool(replay="safe")
        async def look() -> str:
            """Look around, when it is let."""
            await voice.told.gate.acquire()
            return "seen"

        return Agent("ada", model="voice", tools=[look], limits=Limits(model_attempts=50))


# --- servers ----------------------------------------------------------------------------------------------------------


class Stage:
    """A database, the server that works on it, and one beside it, to which messages come as they may: not at all,
    twice, or late."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.voice, self.clock = Voice(), LeapingClock()
        self.agent = self.voice.agent()
        self.lines: list[Line] = []

    async def open(self) -> None:
        self.near, self.near_app = await self._server(worker=True)
        self._beside = await open_database(self.url)
        around = DatabaseAround(self._beside)
        around.bus = UnreliableBus(self._beside.bus, random.Random(7))
        self.far, self.far_app = await self._server(worker=False, database=around)

    async def close(self) -> None:
        await self.hang_up(self.far_app)
        await self.hang_up(self.near_app)
        await self.far.stop()
        await self._beside.close()
        await self.near.stop()

    async def _server(self, *, worker: bool, database: Database | None = None) -> tuple[Remanence, FastAPI]:
        options = Options(times=TIMES, clock=self.clock, database=database)
        rt = Remanence(self.url, agents=[self.agent], models={"voice": self.voice}, worker=worker, options=options)
        await rt.start()
        face = Face(prefix="/v1")
        face.include_router(events_router)
        face.include_router(sessions_router)
        face.include_router(responses_router)
        access = Access(rt.caller, own={KEY: development_principal("default")})
        app = build_app(rt, faces=[face], access=access)
        app.state.lookout = Lookout(rt.caller, every_s=0.02)
        return rt, app

    async def hang_up(self, app: FastAPI) -> None:
        """Break every connection to a server."""
        for line in [line for line in self.lines if line.app is app]:
            await line.hang_up()

    async def crash(self) -> None:
        """The server that works vanishes, with every connection to it, and another one starts when its leases end."""
        assert self.near.worker is not None
        await self.near.worker.abandon()
        await self.hang_up(self.near_app)
        await self.near.stop()
        self.clock.leap(TIMES.lease_s)
        self.near, self.near_app = await self._server(worker=True)

    async def restart(self) -> None:
        """The server that works ends in order, and so does every stream of it."""
        self.near_app.state.lookout.close()
        for line in [line for line in self.lines if line.app is self.near_app]:
            await line.ended()
        await self.near.stop()
        self.near, self.near_app = await self._server(worker=True)

    def call(self, app: FastAPI, request: Request) -> Line:
        """Ask a server for something."""
        line = Line(app, request)
        self.lines = [*(one for one in self.lines if not one.over), line]
        return line


class Request(NamedTuple):
    """What is asked for; the key of the project is added."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any = None


class Line:
    """One request and what came back, byte by byte, until somebody hangs up."""

    def __init__(self, app: FastAPI, request: Request) -> None:
        self.app = app
        self.status = 0
        self.headers: dict[str, str] = {}
        self.raw = b""
        self.news = asyncio.Event()
        self._left = asyncio.Event()
        self._body: bytes | None = b"" if request.body is None else msgspec.json.encode(request.body)
        mine = {"host": "127.0.0.1", "authorization": f"Bearer {KEY}", "content-type": "application/json"}
        given = {**mine, **request.headers}
        self._scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": request.path,
            "raw_path": request.path.encode(),
            "root_path": "",
            "query_string": urlencode(request.query).encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 50_000),
            "server": ("127.0.0.1", 7410),
        }
        self._task = asyncio.create_task(self._run())

    @property
    def over(self) -> bool:
        return self._task.done()

    async def hang_up(self) -> None:
        """The connection breaks: nothing more arrives."""
        self._left.set()
        await self._task

    async def event(self) -> Event:
        """The first event, when it is there."""
        while not (events := events_in(self.raw)):
            assert not self.over, (self.status, self.raw[:500])
            self.news.clear()
            await self.news.wait()
        return events[0]

    async def ended(self) -> None:
        """Until the other side ends it."""
        await asyncio.shield(self._task)

    async def _run(self) -> None:
        try:
            await self.app(self._scope, self._receive, self._send)
        finally:
            self.news.set()

    async def _receive(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        elif not self._left.is_set():
            self.raw += message.get("body", b"")
            self.news.set()


def events_in(raw: bytes) -> list[Event]:
    """The events that arrived whole; what stands behind the last blank line did not."""
    whole, *_ = raw.rpartition(b"\n\n")
    found: list[Event] = []
    for one in whole.split(b"\n\n"):
        lines = dict(line.split(b": ", 1) for line in one.split(b"\n") if line and not line.startswith(b":"))
        if lines and lines[b"data"] != b"[DONE]":
            found.append((lines[b"id"].decode(), msgspec.json.decode(lines[b"data"])))
    return found
