"""`/admin/v1/sessions`: search, look, speak, fork, freeze, read, move, verify."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from typing import IO, Annotated, cast

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from msgspec.structs import replace

from remanence.api.admin_access import REFUSALS, Admin, Paged
from remanence.api.admin_shapes import (
    CancelBody,
    ForkBody,
    ReasonBody,
    SendBody,
    json_answer,
    listed,
    page_answer,
    shown,
)
from remanence.api.auth import owned_session
from remanence.api.bodies import JsonRoute
from remanence.commands import sessions, transfer
from remanence.commands.sessions import Opening
from remanence.commands.shapes import RecordShape, SentShape, SessionRowShape, SessionShape
from remanence.commands.transfer import Imported, Verification
from remanence.ports import SessionQuery

__all__ = ["sessions_router"]

_CHUNK_BYTES = 1 << 16

sessions_router = APIRouter(tags=["sessions"], route_class=JsonRoute, responses=REFUSALS)


class Filters:
    """Which sessions: those that fit all that is given."""

    def __init__(
        self,
        agent: str | None = None,
        user: str | None = None,
        status: str | None = None,
        waiting_on: str | None = None,
        fork_of: str | None = None,
    ) -> None:
        self.query = SessionQuery(agent=agent, user=user, status=status, waiting_on=waiting_on, parent=fork_of)


# --- looking ----------------------------------------------------------------------------------------------------------


@sessions_router.get("/sessions", summary="Search sessions", response_model=listed(SessionRowShape))
async def search_sessions(caller: Admin, page: Paged, filters: Annotated[Filters, Depends()]) -> Response:
    """The sessions of the project that fit every filter, newest change first."""
    query = replace(filters.query, project=caller.project, before=page.before, limit=page.limit)
    rows = await caller.database.views.sessions(query)
    following = f"{rows[-1].updated_at}:{rows[-1].session}" if len(rows) == page.limit else None
    return page_answer([SessionRowShape.of(row) for row in rows], following=following)


@sessions_router.get("/sessions/{session}", summary="Get a session", response_model=shown(SessionShape))
async def get_session(caller: Admin, session: str) -> Response:
    """A session as it stands: what its turn does, what it waits for, what it cost."""
    return json_answer(SessionShape.of(await owned_session(caller, session), []))


@sessions_router.get("/sessions/{session}/records", summary="Read a journal", response_model=listed(RecordShape))
async def read_records(
    caller: Admin,
    session: str,
    after: Annotated[int, Query(ge=0, lt=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Response:
    """Records with a position over `after`, in order, through the forks they were inherited from."""
    await owned_session(caller, session)
    records = await caller.database.store.read(session, after=after, limit=limit)
    following = str(records[-1].position) if len(records) == limit else None
    return page_answer([RecordShape.of(record) for record in records], following=following)


@sessions_router.get("/sessions/{session}/verify", summary="Verify a journal", response_model=shown(Verification))
async def verify_session(caller: Admin, session: str) -> Response:
    """Check every record, link, blob and the row. `faults` is 0 when everything is as it was written."""
    await owned_session(caller, session)
    return json_answer(await transfer.verify_session(caller, session))


# --- acting -----------------------------------------------------------------------------------------------------------


@sessions_router.post(
    "/sessions/{session}/send", status_code=202, summary="Say something", response_model=shown(SentShape)
)
async def send_input(
    caller: Admin, session: str, body: SendBody, idempotency_key: Annotated[str | None, Header()] = None
) -> Response:
    """Accept an input. It is durable when this answers; the turn belongs to the server."""
    s = await owned_session(caller, session)
    if_busy = body.if_busy or (await caller.database.specs.get(s.version)).if_busy
    appended = await sessions.send(caller, session, body.text, if_busy=if_busy, key=idempotency_key)
    return json_answer(SentShape(session, appended.head, appended.replayed), status=202)


@sessions_router.post(
    "/sessions/{session}/cancel", status_code=202, summary="Cancel the turn", response_model=shown(SentShape)
)
async def cancel_turn(caller: Admin, session: str, body: CancelBody) -> Response:
    """Ask the running turn to stop, or the next one when its input is still queued."""
    await owned_session(caller, session)
    appended = await sessions.cancel(caller, session, reason=body.reason)
    return json_answer(SentShape(session, appended.head, appended.replayed), status=202)


@sessions_router.post("/sessions/{session}/fork", status_code=201, summary="Fork", response_model=shown(SessionShape))
async def fork_session(caller: Admin, session: str, body: ForkBody) -> Response:
    """A new session with the same past up to the end of a turn, or a position. Nothing is copied."""
    s = await owned_session(caller, session)
    opening = Opening(user=s.user, title=body.title or s.title, metadata=s.metadata)
    forked = await sessions.fork(caller, session, turn=body.turn, position=body.position, opening=opening)
    return json_answer(SessionShape.of(await owned_session(caller, forked), []), status=201)


@sessions_router.post("/sessions/{session}/freeze", summary="Freeze a session", response_model=shown(SessionShape))
async def freeze_session(caller: Admin, session: str, body: ReasonBody) -> Response:
    """No effect starts in it once this answers; `last_effect` is the proof."""
    await owned_session(caller, session)
    return json_answer(SessionShape.of(await sessions.freeze(caller, session, reason=body.reason), []))


@sessions_router.post("/sessions/{session}/thaw", summary="Thaw a session", response_model=shown(SessionShape))
async def thaw_session(caller: Admin, session: str, body: ReasonBody) -> Response:
    """Lift its freeze; it goes on where it was."""
    await owned_session(caller, session)
    return json_answer(SessionShape.of(await sessions.thaw(caller, session, reason=body.reason), []))


# --- moving -----------------------------------------------------------------------------------------------------------


@sessions_router.get(
    "/sessions/{session}/export",
    summary="Export a session",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/zip": {}}, "description": "The session in one file."}},
)
async def export_session(caller: Admin, session: str) -> Response:
    """The whole session in one file, checked while it is written: it ends as an error rather than damaged."""
    await owned_session(caller, session)
    file = cast("IO[bytes]", await asyncio.to_thread(tempfile.TemporaryFile))
    try:
        await transfer.export_session(caller, session, file)
    except BaseException:
        file.close()
        raise
    headers = {"content-disposition": f'attachment; filename="{_file_name(session)}.remanence"'}
    return StreamingResponse(_read(file), headers=headers, media_type="application/zip")


@sessions_router.post(
    "/sessions/import",
    status_code=201,
    summary="Import a session",
    response_model=shown(Imported),
    openapi_extra={"requestBody": {"required": True, "content": {"application/zip": {}}}},
)
async def import_session(caller: Admin, request: Request, as_session: str | None = None) -> Response:
    """Lay an exported session down, under its own id or another. Everything is checked before anything is written."""
    with tempfile.TemporaryFile() as file:
        async for chunk in request.stream():
            await asyncio.to_thread(file.write, chunk)
        made = await transfer.import_session(caller, cast("IO[bytes]", file), as_session=as_session)
    return json_answer(made, status=201)


async def _read(file: IO[bytes]) -> AsyncGenerator[bytes]:
    with file:
        file.seek(0)
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield chunk


def _file_name(session: str) -> str:
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "_" for letter in session)
