"""`/admin/v1/sessions`: search, look, speak, fork, freeze, read, move, verify."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import IO, Annotated, Literal, cast
from urllib.parse import quote

import msgspec
from fastapi import Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from msgspec.structs import replace

from remanence.api.admin.access import REFUSALS, Admin, Paged
from remanence.api.admin.line import owned_row
from remanence.api.admin.shapes import (
    CancelBody,
    ForkBody,
    OpenBody,
    ReasonBody,
    SendBody,
    json_answer,
    listed,
    page_answer,
    shown,
)
from remanence.api.auth import owned_session
from remanence.api.bodies import JsonRoute
from remanence.api.once import IdempotencyKey, once, once_under, only_once
from remanence.api.router import Face
from remanence.commands import approvals, forks, sessions, transfer, verification, versions
from remanence.commands.chosen import chosen_id
from remanence.commands.lists import list_sessions, tag_of
from remanence.commands.prompts import PromptShape, past_prompt
from remanence.commands.sessions import Opening
from remanence.commands.shapes import RecordShape, SentShape, SessionRowShape, SessionShape
from remanence.commands.transfer import Imported
from remanence.commands.verification import Verification
from remanence.content import Text
from remanence.errors import NotFound
from remanence.ports import SessionQuery

__all__ = ["sessions_router"]

_CHUNK_BYTES = 1 << 16
EXPORTED = "x-remanence-exported"
"""What was exported (`Exported` as JSON, percent-encoded), beside the file itself."""

sessions_router = Face(tags=["sessions"], route_class=JsonRoute, responses=REFUSALS)


_Moment = Annotated[int | None, Query(ge=0, lt=2**62, description="Microseconds since 1970.")]
_Money = Annotated[int | None, Query(ge=0, lt=2**62, description="Millionths of a US dollar, included.")]


Status = Literal["idle", "queued", "in_progress", "waiting", "frozen", "budget_reached", "failed", "deleted"]
WaitsFor = Literal["approval", "answer", "doubt", "budget", "thaw", "client", "timer"]


class Filters:
    """Which sessions: those that fit all that is given."""

    def __init__(
        self,
        agent: str | None = None,
        user: str | None = None,
        status: Status | None = None,
        waiting_on: WaitsFor | None = None,
        fork_of: str | None = None,
    ) -> None:
        self.query = SessionQuery(agent=agent, user=user, status=status, waiting_on=waiting_on, parent=fork_of)


class Bounds:
    """Between which moments a session changed last, and what it cost."""

    def __init__(
        self, since: _Moment = None, until: _Moment = None, usd_micros_min: _Money = None, usd_micros_max: _Money = None
    ) -> None:
        self.between = (since, until)
        self.cost = (usd_micros_min, usd_micros_max)


class Details:
    """What else a session may be told by, and the order of the list."""

    def __init__(
        self,
        version: str | None = None,
        tag: Annotated[str | None, Query(description="A piece of metadata: key=value.")] = None,
        doubt: Annotated[bool, Query(description="Only those with an effect nobody can vouch for.")] = False,
        sort: Annotated[Literal["changed", "cost", "turns"], Query(description="The most of it first.")] = "changed",
    ) -> None:
        self.version, self.doubt = version, doubt
        self.tag = None if tag is None else tag_of(tag)
        self.sort: Literal["changed", "cost", "turns"] = sort


class Wish:
    """All of it as one query."""

    def __init__(
        self,
        filters: Annotated[Filters, Depends()],
        bounds: Annotated[Bounds, Depends()],
        details: Annotated[Details, Depends()],
    ) -> None:
        self.query = replace(
            filters.query,
            since=bounds.between[0],
            until=bounds.between[1],
            usd_micros_min=bounds.cost[0],
            usd_micros_max=bounds.cost[1],
            version=details.version,
            tag=details.tag,
            doubt=details.doubt,
            sort=details.sort,
        )


# --- looking ----------------------------------------------------------------------------------------------------------


@sessions_router.get("/sessions", summary="Search sessions", response_model=listed(SessionRowShape))
async def search_sessions(
    caller: Admin,
    page: Paged,
    wish: Annotated[Wish, Depends()],
    q: Annotated[str, Query(max_length=1_000, description="Words that were said in one record of it.")] = "",
) -> Response:
    """The sessions of the project that fit every filter, newest change first; with `q` the last opened first."""
    found = await list_sessions(caller, replace(wish.query, limit=page.limit), text=q, after=page.after)
    return page_answer(found.rows, following=found.next, unread=found.unread)


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


@sessions_router.get(
    "/sessions/{session}/prompts/{call}", summary="Rebuild a prompt", response_model=shown(PromptShape)
)
async def rebuild_prompt(caller: Admin, session: str, call: str) -> Response:
    """What a model call was sent, word for word, by its id or the position of its intent. `exact` is the proof."""
    await owned_session(caller, session)
    return json_answer(PromptShape.of(await past_prompt(caller, session, call)))


@sessions_router.get("/sessions/{session}/verify", summary="Verify a journal", response_model=shown(Verification))
async def verify_session(
    caller: Admin,
    session: str,
    inherited: Annotated[bool, Query(description="Also the records that a fork inherits.")] = True,
) -> Response:
    """Check every record, link, blob, the row, the snapshots. `faults` is 0 when the journal is as it was written."""
    await owned_row(caller, session)
    return json_answer(await verification.verify_session(caller, session, inherited=inherited))


@sessions_router.post("/sessions/{session}/mend", summary="Drop wrong snapshots", response_model=shown(Verification))
@once
async def mend_session(
    caller: Admin,
    session: str,
    inherited: Annotated[bool, Query(description="Also those of the sessions that a fork inherits from.")] = True,
) -> Response:
    """Verify it, and drop the snapshots that differ from what its records say, which hold all of it.

    Beside a damaged journal nothing is dropped.
    """
    await owned_row(caller, session)
    return json_answer(await verification.mend_session(caller, session, inherited=inherited))


# --- acting -----------------------------------------------------------------------------------------------------------


@sessions_router.post("/sessions", status_code=201, summary="Open a session", response_model=shown(SessionRowShape))
async def open_session(caller: Admin, body: OpenBody, idempotency_key: IdempotencyKey = None) -> Response:
    """A new session of a registered agent, in which nothing was said yet.

    An id that is chosen is the project's own: outside of the project `default` it is kept, and answered, as
    `PROJECT~ID`. What begins like the ids that the server makes cannot be chosen.
    """
    known = await versions.versions_of(caller, body.agent)
    found = [versions.newest(known)] if body.version is None else [v for v in known if v.version == body.version]
    if not found:
        raise NotFound(f"Agent {body.agent!r} has no version {body.version!r}. Nothing was opened.", param="version")
    session = None if body.session is None else chosen_id(caller.project, body.session)
    opening = Opening(body.user, body.title, body.metadata, session=session, key=idempotency_key)
    made = await sessions.open_session(caller, found[0].spec, opening)
    return json_answer(SessionRowShape.of(await caller.database.views.session(made)), status=201)


@sessions_router.post(
    "/sessions/{session}/send", status_code=202, summary="Say something", response_model=shown(SentShape)
)
async def send_input(caller: Admin, session: str, body: SendBody, idempotency_key: IdempotencyKey = None) -> Response:
    """Accept an input. It is durable when this answers; the turn belongs to the server."""
    s = await owned_session(caller, session)
    if body.answers is not None:
        said = (Text(body.text),)
        once_only = sessions.Once(idempotency_key, (body.answers, said)) if idempotency_key else None
        appended = await approvals.answer(caller, session, body.answers, said, once=once_only)
    else:
        if_busy = body.if_busy or (await caller.database.specs.get(s.version)).if_busy
        appended = await sessions.send(caller, session, body.text, if_busy=if_busy, key=idempotency_key)
    return json_answer(SentShape(session, appended.head, appended.replayed), status=202)


@sessions_router.post(
    "/sessions/{session}/cancel", status_code=202, summary="Cancel the turn", response_model=shown(SentShape)
)
@once
async def cancel_turn(
    caller: Admin, session: str, body: CancelBody, idempotency_key: IdempotencyKey = None
) -> Response:
    """Ask the running turn to stop, or the next one when its input is still queued."""
    await owned_session(caller, session)
    appended = await sessions.cancel(
        caller, session, reason=body.reason, once=once_under(idempotency_key, "cancel", body)
    )
    return json_answer(SentShape(session, appended.head, appended.replayed), status=202)


@sessions_router.post("/sessions/{session}/fork", status_code=201, summary="Fork", response_model=shown(SessionShape))
@once
async def fork_session(caller: Admin, session: str, body: ForkBody, idempotency_key: IdempotencyKey = None) -> Response:
    """A new session with the same past up to the end of a turn, or a position. Nothing is copied."""
    s = await owned_session(caller, session)
    opening = Opening(user=s.user, title=body.title or s.title, metadata=s.metadata, key=idempotency_key)
    forked = await forks.fork(caller, session, turn=body.turn, position=body.position, opening=opening)
    return json_answer(SessionShape.of(await owned_session(caller, forked), []), status=201)


@sessions_router.post("/sessions/{session}/freeze", summary="Freeze a session", response_model=shown(SessionShape))
@once
async def freeze_session(
    caller: Admin, session: str, body: ReasonBody, idempotency_key: IdempotencyKey = None
) -> Response:
    """No effect starts in it once this answers; `last_effect` is the proof."""
    await owned_session(caller, session)
    once_only = once_under(idempotency_key, "freeze", body)
    return json_answer(SessionShape.of(await sessions.freeze(caller, session, reason=body.reason, once=once_only), []))


@sessions_router.post("/sessions/{session}/thaw", summary="Thaw a session", response_model=shown(SessionShape))
@once
async def thaw_session(
    caller: Admin, session: str, body: ReasonBody, idempotency_key: IdempotencyKey = None
) -> Response:
    """Lift its freeze; it goes on where it was."""
    await owned_session(caller, session)
    once_only = once_under(idempotency_key, "thaw", body)
    return json_answer(SessionShape.of(await sessions.thaw(caller, session, reason=body.reason, once=once_only), []))


# --- moving -----------------------------------------------------------------------------------------------------------


@sessions_router.get(
    "/sessions/{session}/export",
    summary="Export a session",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/zip": {}}, "description": "The session in one file."}},
)
async def export_session(caller: Admin, session: str) -> Response:
    """The whole session in one file, checked while it is written: it ends as an error rather than damaged."""
    await owned_row(caller, session)
    file = cast("IO[bytes]", await asyncio.to_thread(tempfile.TemporaryFile))
    try:
        exported = await transfer.export_session(caller, session, file)
    except BaseException:
        file.close()
        raise
    headers = {
        "content-disposition": f'attachment; filename="{_file_name(session)}.remanence"',
        EXPORTED: quote(msgspec.json.encode(exported)),
    }
    return StreamingResponse(_read(file), headers=headers, media_type="application/zip")


@sessions_router.post(
    "/sessions/import",
    status_code=201,
    summary="Import a session",
    response_model=shown(Imported),
    openapi_extra={"requestBody": {"required": True, "content": {"application/zip": {}}}},
)
async def import_session(
    caller: Admin, request: Request, as_session: str | None = None, idempotency_key: IdempotencyKey = None
) -> Response:
    """Lay an exported session down, under its own id or another. Everything is checked before anything is written.

    An id that somebody chose is the project's own, as with a new session; one that was made is kept.
    """
    with tempfile.TemporaryFile() as file:
        digest = hashlib.sha256()
        with transfer.file_errors(Path(tempfile.gettempdir())):
            async for chunk in request.stream():
                digest.update(chunk)
                await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(file.flush)

        async def lay_down() -> Response:
            made = await transfer.import_session(caller, cast("IO[bytes]", file), as_session=as_session, apart=True)
            return json_answer(made, status=201)

        if idempotency_key is None:
            return await lay_down()
        request_digest = f"import {as_session} {digest.hexdigest()}"
        return await only_once(caller, idempotency_key, request_digest, lay_down)


async def _read(file: IO[bytes]) -> AsyncGenerator[bytes]:
    with file:
        file.seek(0)
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield chunk


def _file_name(session: str) -> str:
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "_" for letter in session)
