"""The Agents API: what happens in a session. Events in and out, items, turns, traces."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Query, Request, Response

from remanence.api.agents.agents import Asker, IdempotencyKey
from remanence.api.agents.bodies import EventsBody, MessageInput
from remanence.api.agents.history import PastTurn, item_page, past_turn, past_turns, queued_turns, turn_number
from remanence.api.agents.inputs import perform
from remanence.api.agents.objects import turn_object
from remanence.api.agents.sessions import BusyChoice, event_stream, visible_session
from remanence.api.agents.stream import StreamChoice
from remanence.api.agents.traces import trace_object
from remanence.api.bodies import JsonRoute
from remanence.api.described import REFUSES, answers
from remanence.api.lane import Lane
from remanence.api.lists import Page, Paged, list_answer
from remanence.api.lists import answer as answered
from remanence.api.router import Face
from remanence.api.stream import EventStream, Place, from_header
from remanence.commands.caller import Caller
from remanence.core.state import Session
from remanence.errors import Conflict, InvalidInput, NotFound
from remanence.spec import IfBusy

__all__ = ["events_router"]


events_router = Face(prefix="/agents/sessions/{session_id}", tags=["agent sessions"], route_class=JsonRoute)


# --- events -----------------------------------------------------------------------------------------------------------


@events_router.post("/events", status_code=202, response_class=Response, summary="Put something into a session")
async def create_events(
    session_id: str,
    body: EventsBody,
    caller: Asker,
    idempotency_key: IdempotencyKey = None,
    if_busy: BusyChoice = None,
) -> Response:
    """Messages, results, answers to approvals, a cancel: in order, all or none, durable when this answers."""
    says = len(body.events) == 1 and isinstance(body.events[0], MessageInput)
    guessed = _guessed(caller, session_id) if says else None
    if guessed is not None:
        try:
            await _perform(guessed, body, caller, if_busy, idempotency_key, seen=True)
        except Conflict:
            pass  # it moved, or it is refused: then it is, by the session as it is
        else:
            return Response(status_code=202)
    await _perform(await visible_session(caller, session_id), body, caller, if_busy, idempotency_key)
    return Response(status_code=202)


async def _create(_request: Request, session_id: str, body: EventsBody, caller: Caller) -> Response:
    return await create_events(session_id, body, caller)


events_router.lanes.append(Lane("/agents/sessions/", "/events", EventsBody, _create))


def _guessed(caller: Caller, session: str) -> Session | None:
    """The session as this process saw it last: for a write that expects its head."""
    s = caller.states.guess(session) if caller.states is not None else None
    return s if s is not None and s.project == caller.project and not s.deleted else None


async def _perform(
    s: Session, body: EventsBody, caller: Caller, if_busy: IfBusy | None, key: str | None, *, seen: bool = False
) -> None:
    spec = await caller.database.specs.get(s.version)
    await perform(caller, s, body.events, if_busy=if_busy or spec.if_busy, key=key, seen=seen)


@events_router.get(
    "/events",
    summary="The events of a session, as they happen",
    openapi_extra=answers("AgentSessionEvent", stream=True),
)
async def stream_events(
    session_id: str,
    request: Request,
    caller: Asker,
    include_obfuscation: bool = True,
    starting_after: Annotated[str | None, Query(max_length=10_000, description="Go on after this event id.")] = None,
    last_event_id: Annotated[str | None, Header(max_length=10_000)] = None,
) -> EventStream:
    """Server-sent events. Each has an `id`; `starting_after` or `Last-Event-ID` gives exactly what follows it.

    With both, the header counts: who connects again to the same address says there what they have seen since.
    Without either it begins with how the session stands now. A comment every 15 s keeps the connection alive.
    """
    s = await visible_session(caller, session_id)
    after = last_event_id or starting_after
    with from_header(last_event_id or None):
        place = Place.of(after) if after else None
        return await event_stream(request, caller, s.id, place, StreamChoice(include_obfuscation))


# --- items and turns --------------------------------------------------------------------------------------------------


@events_router.get(
    "/items", summary="What was said and done in a session", openapi_extra=answers("AgentSessionItem", many=True)
)
async def list_items(session_id: str, caller: Asker, page: Paged) -> Response:
    """Messages, thoughts, calls and their results, of every turn."""
    s = await visible_session(caller, session_id)
    data, more = await item_page(caller, s, page)
    return list_answer(data, has_more=more)


@events_router.get("/turns", summary="Turns of a session", openapi_extra=answers("Turn", many=True))
async def list_turns(session_id: str, caller: Asker, page: Paged) -> Response:
    """Turns, the running one and those that wait to begin among them."""
    s = await visible_session(caller, session_id)
    queued = await queued_turns(caller, s)
    number = _first_number(s, page, len(queued))
    facts = queued[max(0, number - s.turns - 1) :] if page.forward else queued[: max(0, number - s.turns)][::-1]
    past, more = await _turns_from(caller, s, number if page.forward else min(number, s.turns), page)
    told = [one.turn.facts for one in past]
    shown, left = page.cut([*told, *(() if more else facts)] if page.forward else [*facts, *told])
    return list_answer([turn_object(s, one) for one in shown], has_more=more or left)


@events_router.get("/turns/{turn_id}", summary="One turn", openapi_extra=answers("Turn"))
async def retrieve_turn(session_id: str, turn_id: str, caller: Asker) -> Response:
    """A turn, whole or as far as it has come."""
    s = await visible_session(caller, session_id)
    queued = await queued_turns(caller, s)
    number = turn_number(s, turn_id, len(queued))
    if number > s.turns:
        return answered(turn_object(s, queued[number - s.turns - 1]))
    found = await past_turn(caller, s, number)
    return answered(turn_object(s, found.turn.facts))


@events_router.get(
    "/turns/{turn_id}/items",
    summary="What was said and done in a turn",
    openapi_extra=answers("AgentSessionItem", many=True),
)
async def list_turn_items(session_id: str, turn_id: str, caller: Asker, page: Paged) -> Response:
    """Messages, thoughts, calls and their results, of one turn. One that waits to begin has none yet."""
    s = await visible_session(caller, session_id)
    number = turn_number(s, turn_id, len(await queued_turns(caller, s)))
    data, more = await item_page(caller, s, page, only=number)
    return list_answer(data, has_more=more)


@events_router.get("/traces", summary="Traces of a session", openapi_extra=answers("SessionTrace", many=True))
async def list_traces(session_id: str, caller: Asker, page: Paged) -> Response:
    """One trace for each turn, as OpenTelemetry has it, made from the journal."""
    s = await visible_session(caller, session_id)
    data, more = await _turns_from(caller, s, _first_number(s, page), page)
    return list_answer([trace_object(s, one) for one in data], has_more=more)


def _first_number(s: Session, page: Page, queued: int = 0) -> int:
    """The turn that a page begins with, those that wait to begin counted in."""
    if page.after is None:
        return 1 if page.forward else s.turns + queued
    try:
        return turn_number(s, page.after, queued) + (1 if page.forward else -1)
    except NotFound as error:
        raise InvalidInput(f"after: {error.message}", param="after") from None


async def _turns_from(caller: Caller, s: Session, number: int, page: Page) -> tuple[list[PastTurn], bool]:
    found: list[PastTurn] = []
    async for turn in past_turns(caller, s, number, page.order):
        found.append(turn)
        if len(found) > page.limit:
            break
    return page.cut(found)


# --- what no session has yet ------------------------------------------------------------------------------------------


@events_router.get("/subagents", summary="Subagents of a session", openapi_extra=answers("Subagent", many=True))
async def list_subagents(session_id: str, caller: Asker, page: Paged) -> Response:
    """None: sessions have no subagents in this release."""
    return await _nothing(caller, session_id, page.after)


@events_router.get("/artifacts", summary="Artifacts of a session", openapi_extra=answers("SessionArtifact", many=True))
async def list_artifacts(session_id: str, caller: Asker, page: Paged, environment_id: str | None = None) -> Response:
    """None: sessions publish no files in this release."""
    return await _nothing(caller, session_id, page.after)


async def _nothing(caller: Caller, session: str, after: str | None) -> Response:
    await visible_session(caller, session)
    if after is not None:
        raise InvalidInput(f"after: there is no {after[:100]!r} here.", param="after")
    return list_answer([], has_more=False)


@events_router.get("/subagents/{subagent_id}", summary="One subagent", openapi_extra=REFUSES)
@events_router.get("/subagents/{subagent_id}/items", summary="What a subagent said and did", openapi_extra=REFUSES)
@events_router.get("/subagents/{subagent_id}/turns", summary="Turns of a subagent", openapi_extra=REFUSES)
async def retrieve_subagent(session_id: str, subagent_id: str, caller: Asker) -> Response:
    """Not found: sessions have no subagents in this release."""
    return await _none(caller, session_id, "subagent", subagent_id)


@events_router.get("/subagents/{subagent_id}/turns/{turn_id}", summary="One turn of a subagent", openapi_extra=REFUSES)
@events_router.get(
    "/subagents/{subagent_id}/turns/{turn_id}/items", summary="What was said and done in it", openapi_extra=REFUSES
)
async def retrieve_subagent_turn(session_id: str, subagent_id: str, turn_id: str, caller: Asker) -> Response:
    """Not found: sessions have no subagents in this release."""
    return await _none(caller, session_id, "subagent", subagent_id)


@events_router.get("/artifacts/{artifact_id}", summary="One artifact", openapi_extra=REFUSES)
@events_router.get("/artifacts/{artifact_id}/content", summary="The content of an artifact", openapi_extra=REFUSES)
@events_router.delete("/artifacts/{artifact_id}", summary="Remove an artifact", openapi_extra=REFUSES)
async def retrieve_artifact(session_id: str, artifact_id: str, caller: Asker) -> Response:
    """Not found: sessions publish no files in this release."""
    return await _none(caller, session_id, "artifact", artifact_id)


async def _none(caller: Caller, session: str, what: str, name: str) -> Response:
    await visible_session(caller, session)
    raise NotFound(f"Session {session} has no {what} {name[:100]!r}.")
