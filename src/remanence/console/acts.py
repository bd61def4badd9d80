"""What a person does in a session: say something, answer, approve, settle, stop, freeze, fork, raise, take it along.

Each act is one verb of `commands/`, in the name of whoever is signed in, and answers with one sentence; what it changed
reaches the page like everything else that happens, through the page's stream.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from typing import IO, Annotated, cast

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from remanence.commands import approvals, controls, forks, sessions, transfer
from remanence.commands.caller import state_of
from remanence.commands.sessions import Opening
from remanence.console.cost import amount_of
from remanence.console.entry import Deciding, Looking, Sent, Talking
from remanence.console.failures import ConsoleRoute
from remanence.console.frame import Frame, owned
from remanence.content import Text
from remanence.core.state import Session
from remanence.errors import Conflict, InvalidInput

__all__ = ["acts_router"]

acts_router = APIRouter(prefix="/sessions/{session}", route_class=ConsoleRoute, include_in_schema=False)

_CHUNK_BYTES = 1 << 16
_Place = Annotated[int | None, Query(ge=1, lt=2**62)]


async def _owned(frame: Frame, session: str) -> Session:
    return owned(frame, await state_of(frame.caller, session))


# --- talking ----------------------------------------------------------------------------------------------------------


@acts_router.post("/send")
async def send(frame: Talking, session: str, fields: Sent) -> Response:
    """Say something. It is durable when this answers."""
    await _owned(frame, session)
    if_busy = fields.one_of("if_busy", ("queue", "steer", "interrupt", "reject"))
    appended = await sessions.send(frame.caller, session, fields.text("text"), if_busy=if_busy)
    return frame.said("did.sent", position=appended.head)


@acts_router.post("/calls/{call}/answer")
async def answer(frame: Talking, session: str, call: str, fields: Sent) -> Response:
    """Answer what the agent asked."""
    await _owned(frame, session)
    appended = await approvals.answer(frame.caller, session, call, (Text(fields.text("text")),))
    return frame.said("did.answered", position=appended.head)


@acts_router.post("/cancel")
async def cancel(frame: Talking, session: str) -> Response:
    """Ask the turn to stop."""
    await _owned(frame, session)
    await sessions.cancel(frame.caller, session)
    return frame.said("did.cancelled")


@acts_router.post("/fork")
async def fork(frame: Talking, session: str, turn: _Place = None, position: _Place = None) -> Response:
    """A new session with the same past, up to the end of a turn, a record, or now; go there."""
    s = await _owned(frame, session)
    opening = Opening(user=s.user, title=s.title, metadata=s.metadata)
    forked = await forks.fork(frame.caller, session, turn=turn, position=position, opening=opening)
    return frame.go(f"/sessions/{forked}")


# --- deciding ---------------------------------------------------------------------------------------------------------


@acts_router.post("/calls/{call}")
async def decide(frame: Deciding, session: str, call: str, fields: Sent) -> Response:
    """Approve or deny one exact call, in the name of whoever is signed in."""
    await _owned(frame, session)
    decision = fields.one_of("decision", ("approve", "deny"))
    await approvals.approve(frame.caller, session, call, decision=decision, note=fields.text("note"))
    return frame.said(f"did.{decision}", name=frame.visitor.name)


@acts_router.post("/doubts/{call}")
async def resolve(frame: Deciding, session: str, call: str, fields: Sent) -> Response:
    """Say what became of an effect nobody can vouch for."""
    await _owned(frame, session)
    outcome = fields.one_of("outcome", ("happened", "run_again", "give_up"))
    resolution = approvals.Resolution(outcome, fields.text("result"), fields.text("note"))
    await approvals.resolve(frame.caller, session, call, resolution)
    return frame.said("did.resolved", outcome=frame.words(f"act.{outcome}"))


@acts_router.post("/freeze")
async def freeze(frame: Deciding, session: str) -> Response:
    """No effect starts in it once this answers."""
    await _owned(frame, session)
    s = await sessions.freeze(frame.caller, session)
    return frame.said("did.frozen", position=s.last_effect)


@acts_router.post("/thaw")
async def thaw(frame: Deciding, session: str) -> Response:
    """Let it go on."""
    await _owned(frame, session)
    await sessions.thaw(frame.caller, session)
    return frame.said("did.thawed")


@acts_router.post("/raise")
async def raise_budget(frame: Deciding, session: str, fields: Sent) -> Response:
    """Raise the budget that the session waits for."""
    pause = (await _owned(frame, session)).pause
    if pause is None:
        raise Conflict("This session does not wait for a budget any more. Nothing was changed.").because("no_pause")
    amount = amount_of(fields.text("amount"), pause.unit)
    if not amount:
        raise InvalidInput("A budget is raised by more than nothing. Nothing was changed.", param="amount").because(
            "not_raised", scope=pause.scope
        )
    budget = await controls.raise_budget(frame.caller, pause.scope, pause.unit, by=amount)
    limit = frame.words.money(budget.limit) if pause.unit == "usd_micros" else frame.words.number(budget.limit)
    return frame.said("did.raised", scope=pause.scope, limit=limit)


# --- taking along -----------------------------------------------------------------------------------------------------


@acts_router.get("/export")
async def export(frame: Looking, session: str) -> Response:
    """The whole session in one file, checked while it is written."""
    await _owned(frame, session)
    file = cast("IO[bytes]", await asyncio.to_thread(tempfile.TemporaryFile))
    try:
        await transfer.export_session(frame.caller, session, file)
    except BaseException:
        file.close()
        raise
    name = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "_" for letter in session)
    headers = {"content-disposition": f'attachment; filename="{name}.remanence"', "cache-control": "no-store"}
    return StreamingResponse(_read(file), headers=headers, media_type="application/zip")


async def _read(file: IO[bytes]) -> AsyncGenerator[bytes]:
    with file:
        file.seek(0)
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield chunk
