"""`/admin/v1`: what the command line asks when it speaks HTTP, besides what everybody does.

The state of a session is given as the runtime folds it, and its journal as it is followed: whoever asks folds on from
there. Both are the shapes of one release; `GET /admin/v1/server` says which release this is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from importlib.metadata import version as version_of
from typing import Annotated, Any, Protocol

import msgspec
from fastapi import Query, Request, Response
from fastapi.responses import StreamingResponse

from remanence.api.admin.access import REFUSALS, Admin
from remanence.api.admin.shapes import json_answer, shown
from remanence.api.auth import owned_session
from remanence.api.bodies import JsonRoute
from remanence.api.lookout import Lookout
from remanence.api.router import Face
from remanence.api.stream import BEAT, BEAT_S, EventStream
from remanence.commands.caller import Caller
from remanence.commands.follow import follow_batches
from remanence.commands.shapes import RecordShape, ServerShape, SessionRowShape, StandingShape
from remanence.errors import NotFound
from remanence.events import Recorded
from remanence.ports import Delta, SessionRow
from remanence.runtime.worker import Worker
from remanence.spec import AgentSpec, spec_digest

__all__ = ["line_router", "owned_row"]

LOOK_S = 0.25
"""How often a stream looks whether the server is about to stop."""

line_router = Face(tags=["command line"], route_class=JsonRoute, responses=REFUSALS)


class _Shelf(Protocol):
    def agents(self) -> Any: ...


class _Served(Protocol):
    @property
    def worker(self) -> Worker | None: ...
    @property
    def shelf(self) -> _Shelf: ...
    async def spec_of(self, agent: str) -> AgentSpec: ...


@line_router.get("/server", summary="What this server is", response_model=shown(ServerShape))
async def describe_server(request: Request, caller: Admin) -> Response:
    """Its release, whether sessions are run here, and which agents it has the functions of, by version."""
    served: _Served = request.app.state.runtime
    agents = {name: spec_digest(await served.spec_of(name)) for name in served.shelf.agents()}
    worker = served.worker is not None and not request.app.state.serving.draining
    return json_answer(ServerShape(version_of("remanence"), worker, agents, caller.project))


@line_router.get("/sessions/{session}/row", summary="Get a session's row", response_model=shown(SessionRowShape))
async def get_row(caller: Admin, session: str) -> Response:
    """A session as it stands in lists. Reads no journal."""
    return json_answer(SessionRowShape.of(await owned_row(caller, session)))


@line_router.get("/sessions/{session}/state", summary="Get a session's state", response_model=shown(StandingShape))
async def get_state(caller: Admin, session: str) -> Response:
    """The state as the runtime folds it, to be folded on from; and until when a worker has it."""
    s = await owned_session(caller, session)
    row = await caller.database.views.session(session)
    state = msgspec.json.decode(msgspec.json.encode(s), type=dict[str, Any])
    return json_answer(StandingShape(state, row.lease_until))


@line_router.get(
    "/sessions/{session}/follow",
    summary="Follow a session",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Records, and pieces of running calls."}},
)
async def follow_session(
    request: Request, caller: Admin, session: str, after: Annotated[int, Query(ge=0, lt=2**62)] = 0
) -> Response:
    """Server-sent events: `record`, whose id is its position, and `delta`, a piece of a call that runs.

    A delta may be lost; the record that settles it is what counts. Go on after the last record.
    """
    await owned_row(caller, session)
    return EventStream(_frames(caller, session, after, request.app.state.lookout), on_end=lambda: None)


async def _frames(caller: Caller, session: str, after: int, lookout: Lookout) -> AsyncGenerator[bytes]:
    batches = follow_batches(caller, session, after=after)
    coming: asyncio.Task[Any] | None = None
    silent_s = 0.0
    try:
        yield BEAT
        while not lookout.closed:
            coming = coming or asyncio.ensure_future(anext(batches))
            done, _ = await asyncio.wait([coming], timeout=LOOK_S)
            silent_s = 0.0 if done else silent_s + LOOK_S
            if done:
                items, coming = coming.result(), None
                yield b"".join(_frame(item) for item in items)
            elif silent_s >= BEAT_S:
                silent_s = 0.0
                yield BEAT
    finally:
        if coming is not None:
            coming.cancel()
            with suppress(asyncio.CancelledError):
                await coming
        await batches.aclose()


def _frame(item: Recorded | Delta) -> bytes:
    if isinstance(item, Delta):
        return b"event: delta\ndata: %b\n\n" % msgspec.json.encode(item)
    return b"event: record\nid: %d\ndata: %b\n\n" % (item.position, msgspec.json.encode(RecordShape.of(item)))


async def owned_row(caller: Caller, session: str) -> SessionRow:
    """A session's row. One of another project is not found, like one that is not."""
    row = await caller.database.views.session(session)
    if row.summary.project != caller.project:
        raise NotFound(f"There is no session {session!r}. `remanence sessions list` shows those there are.")
    return row
