"""`/admin/v1`: what waits for people (approvals, questions, doubts), and freezes over many sessions."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response
from msgspec.structs import replace

from remanence.api.admin.access import REFUSALS, Admin
from remanence.api.admin.shapes import (
    AnswerBody,
    DecisionBody,
    FreezeBody,
    ResolutionBody,
    json_answer,
    listed,
    page_answer,
    shown,
)
from remanence.api.auth import access_of, owned_session
from remanence.api.bodies import JsonRoute
from remanence.api.once import IdempotencyKey, digest_of_request, mark_under, once, once_under
from remanence.api.router import Face
from remanence.commands import approvals, controls
from remanence.commands.approvals import Resolution, Ruling
from remanence.commands.caller import Caller
from remanence.commands.given import Key
from remanence.commands.shapes import ApprovalShape, DoubtShape, FreezeShape, SentShape, SettledShape
from remanence.content import Text
from remanence.errors import NotFound
from remanence.ports import Hold

__all__ = ["people_router"]

people_router = Face(tags=["people"], route_class=JsonRoute, responses=REFUSALS)
_Limit = Annotated[int, Query(ge=1, le=1_000, description="How many sessions to look at.")]


@people_router.get("/approvals", summary="List what waits for an answer", response_model=listed(ApprovalShape))
async def list_approvals(caller: Admin, session: str | None = None, limit: _Limit = 100) -> Response:
    """Calls that wait for an approval, and questions (`kind` is answer), in one session or in all of the project."""
    if session is not None:
        await owned_session(caller, session)
    found = await approvals.waiting(caller, session=session, limit=limit)
    return page_answer([ApprovalShape.of(one) for one in found])


@people_router.post("/approvals/{session}/{call}", summary="Approve or deny a call", response_model=shown(SettledShape))
@once
async def decide_approval(
    caller: Admin, session: str, call: str, body: DecisionBody, idempotency_key: IdempotencyKey = None
) -> Response:
    """Answer one exact call, in the name of the key: bound to its arguments and its policy, used once."""
    await owned_session(caller, session)
    ruling = Ruling(body.decision, body.note, body.expires_s)
    once_only = once_under(idempotency_key, f"decide:{call}", body)
    given = await approvals.rule(caller, session, call, ruling, once=once_only)
    return json_answer(SettledShape(session, call, body.decision, caller.actor, given.head))


@people_router.post("/questions/{session}/{call}", summary="Answer a question", response_model=shown(SentShape))
@once
async def answer_question(
    caller: Admin, session: str, call: str, body: AnswerBody, idempotency_key: IdempotencyKey = None
) -> Response:
    """Answer what the agent asked."""
    await owned_session(caller, session)
    once_only = once_under(idempotency_key, f"answer:{call}", body)
    given = await approvals.answer(caller, session, call, (Text(body.text),), once=once_only)
    return json_answer(SentShape(session, given.head, given.replayed))


@people_router.get("/doubts", summary="List effects in doubt", response_model=listed(DoubtShape))
async def list_doubts(caller: Admin, session: str | None = None, limit: _Limit = 100) -> Response:
    """Effects nobody can vouch for, in one session or in all of the project."""
    if session is not None:
        await owned_session(caller, session)
    found = await approvals.doubts(caller, session=session, limit=limit)
    return page_answer([DoubtShape.of(s.id, doubt) for s, doubt in found])


@people_router.post("/doubts/{session}/{call}", summary="Settle a doubt", response_model=shown(SettledShape))
@once
async def resolve_doubt(
    caller: Admin, session: str, call: str, body: ResolutionBody, idempotency_key: IdempotencyKey = None
) -> Response:
    """Say that it happened (with this result), that it did not and shall run, or give it up."""
    await owned_session(caller, session)
    resolution = Resolution(body.outcome, body.result, body.note)
    once_only = once_under(idempotency_key, f"resolve:{call}", body)
    given = await approvals.resolve(caller, session, call, resolution, once=once_only)
    return json_answer(SettledShape(session, call, body.outcome, caller.actor, given.head))


# --- freezes ----------------------------------------------------------------------------------------------------------


@people_router.get("/freezes", summary="List standing freezes", response_model=listed(FreezeShape))
async def list_freezes(request: Request, caller: Admin) -> Response:
    """Those that reach the key's project."""
    holds = await controls.freezes_of(caller)
    return page_answer([FreezeShape.of(await _without_strangers(request, caller, hold)) for hold in holds])


@people_router.post("/freezes", status_code=201, summary="Freeze", response_model=shown(FreezeShape))
@once
async def freeze_scope(
    request: Request, caller: Admin, body: FreezeBody, idempotency_key: IdempotencyKey = None
) -> Response:
    """No effect starts under the scope once this answers; the answer names the last one that did, if it is of the key's
    project."""
    _check(caller, body.scope)
    await controls.check_agent(caller, body.scope)
    mark = None
    if idempotency_key is not None:
        mark = await mark_under(caller, Key(f"freeze:{idempotency_key}", await digest_of_request(request)))
        if mark is None and not await _stands(caller, body.scope):  # whoever did it died before it answered
            return json_answer(FreezeShape(body.scope, False, caller.actor, "", None, None), status=201)
    hold = await controls.freeze_scope(caller, body.scope, reason=body.reason, mark=mark)
    return json_answer(FreezeShape.of(await _without_strangers(request, caller, hold)), status=201)


@people_router.delete("/freezes/{scope}", summary="Thaw", response_model=shown(FreezeShape))
async def thaw_scope(caller: Admin, scope: str) -> Response:
    """Lift a freeze; the sessions it stopped go on."""
    _check(caller, scope)
    await controls.thaw_scope(caller, scope)
    return json_answer(FreezeShape(scope, False, caller.actor, "", None, None))


async def _without_strangers(request: Request, caller: Caller, hold: Hold) -> Hold:
    """A freeze of everything, as a project may see it: another project's session is not named as the last that acted.

    The command line's own key sees every project.
    """
    if hold.last_effect is None:
        return hold
    principal = await access_of(request.app.state).identify(request.headers.get("authorization"))
    seen = principal.stands_in or await controls.has_scope(caller, f"session:{hold.last_effect[0]}")
    return hold if seen else replace(hold, last_effect=None)


async def _stands(caller: Caller, scope: str) -> bool:
    return any(hold.scope == scope for hold in await controls.freezes_of(caller))


def _check(caller: Caller, scope: str) -> None:
    kind, _, name = scope.partition(":")
    if kind == "project" and name != caller.project:
        raise NotFound(f"There is no {scope}. Nothing was changed; the key's project is {caller.project!r}.")
