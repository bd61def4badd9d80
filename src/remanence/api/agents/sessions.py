"""The Agents API: sessions, made, shown, changed, listed and removed.

A session made with an `Idempotency-Key` gets its id from the key, so the request sent again finds what it made, however
far it came: the session, which is never without its limit, and its first input. Each is written once.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import Header, Request, Response
from msgspec.structs import replace
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from remanence.api.agents.agents import Asker, IdempotencyKey, Serves, checked_model, fitting, saved_agent, servers_for
from remanence.api.agents.bodies import Metadata, SessionBody, SessionChanges, SpendControl
from remanence.api.agents.config import (
    blank_config,
    changed_config,
    config_of,
    environment_of,
    inline_name,
    spec_of_config,
)
from remanence.api.agents.inputs import messages_in, parts_of
from remanence.api.agents.mcp import asked_again, check_required
from remanence.api.agents.memory import MEMORY, STORE, USER, check_session, memory_of, user_of
from remanence.api.agents.objects import MICROS_PER_CENT, UNLIMITED, tail_of
from remanence.api.agents.stream import SessionStream, StreamChoice, shown_session
from remanence.api.auth import owned_session
from remanence.api.bodies import JsonRoute
from remanence.api.bound_keys import keep_key
from remanence.api.described import answers
from remanence.api.lists import Page, Paged, answer, list_answer
from remanence.api.lookout import Lookout
from remanence.api.named import Served
from remanence.api.once import LastEventId, check_heard, once
from remanence.api.router import Face
from remanence.api.stream import EventStream, Place, from_header, paced
from remanence.commands import controls, sessions
from remanence.commands.caller import Caller, body_digest, in_line, state_of
from remanence.commands.given import naming
from remanence.commands.sessions import Opening
from remanence.content import digest_of
from remanence.core.state import Session
from remanence.errors import Conflict, InvalidInput, KeyReused, NotFound, Unsupported
from remanence.ports import SessionQuery, SessionRow
from remanence.spec import AgentSpec, IfBusy

__all__ = ["BusyChoice", "event_stream", "sessions_router", "visible_session"]

_BUSY = "What a message does while a turn runs; else as the agent says."
BusyChoice = Annotated[IfBusy | None, Header(alias="x-if-busy", description=_BUSY)]
_SCANNED = 200
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_BY_METADATA: dict[str, Any] = {
    "parameters": [
        {"name": "metadata", "in": "query", "style": "deepObject", "explode": True, "required": False, "schema": _TEXTS}
    ]
}
_TRIES = 8
_METADATA = TypeAdapter(Metadata)


class OpeningHeaders(BaseModel):
    """What the opening of a session reads besides its body."""

    x_if_busy: IfBusy | None = Field(None, description=_BUSY)
    last_event_id: LastEventId = None


sessions_router = Face(prefix="/agents/sessions", tags=["agent sessions"], route_class=JsonRoute)


@sessions_router.post("", summary="Open a session", openapi_extra=answers("AgentSession"))
async def create_session(
    body: SessionBody,
    request: Request,
    caller: Asker,
    served: Serves,
    heard: Annotated[OpeningHeaders, Header()],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """A session of a saved agent (`agent_id`), changed for this session by `agent`, or of `agent` alone.

    With `input` its first turn begins at once. With `stream` the answer is the events from the opening on; it ends
    when that turn is over and nothing more is to come. The same request again under its `Idempotency-Key`, with the
    `Last-Event-ID` that was heard, is told the rest.
    """
    check_heard(heard.last_event_id, idempotency_key, streamed=bool(body.stream))
    with from_header(heard.last_event_id):
        place = None if heard.last_event_id is None else Place.of(heard.last_event_id)
    opening = _opening(caller, body, idempotency_key, str(request.base_url))
    said = None if body.input is None else parts_of(caller, body.input, "input")
    session = await _opened(served, caller, body, opening, again=place is not None)
    keep_key(request)
    if said is not None and body.input is not None:
        counts, busy = messages_in(body.input), heard.x_if_busy or "queue"
        with naming(session):
            await sessions.send(caller, session, said, if_busy=busy, key=idempotency_key, messages=counts)
    if not body.stream:
        return answer(await shown_session(caller, await state_of(caller, session)))
    options = body.stream_options
    choice = StreamChoice(options is None or options.include_obfuscation, until_rest=said is not None)
    with from_header(heard.last_event_id):
        return await event_stream(request, caller, session, place or Place(1, 0), choice)


@sessions_router.get("/{session_id}", summary="One session", openapi_extra=answers("AgentSession"))
async def retrieve_session(session_id: str, caller: Asker) -> Response:
    """The session as it stands."""
    return answer(await shown_session(caller, await visible_session(caller, session_id)))


@sessions_router.post("/{session_id}", summary="Change a session", openapi_extra=answers("AgentSession"))
@once
async def update_session(session_id: str, body: SessionChanges, caller: Asker, served: Serves) -> Response:
    """Model, reasoning and tools hold from the next model call on. What is left out stays."""
    s = await visible_session(caller, session_id)
    _check_review(body.review)
    given = body.model_fields_set
    if "metadata" in given:
        _check_still(s, body.metadata or {})
    if body.agent is not None:
        known = await caller.database.specs.get(s.version)
        config = changed_config(config_of(known), body.agent, at="agent.")
        checked_model(served, config, "agent.model")
        servers = await servers_for(served, body.agent, known=known, at="agent.")
        spec = await fitting(served, spec_of_config(config, s.agent, servers=servers, base=known), at="agent.")
        if spec != known:
            await sessions.upgrade(caller, s.id, spec)
    if "spend_control" in given:
        await _limit(caller, s.id, body.spend_control or SpendControl(limit=None))
    if given & {"metadata", "prompt_cache_options"}:
        await _annotate(caller, s.id, body)
    return answer(await shown_session(caller, await state_of(caller, s.id)))


@sessions_router.get("", summary="Sessions", openapi_extra=answers("AgentSession", many=True) | _BY_METADATA)
async def list_sessions(request: Request, caller: Asker, page: Paged, agent_id: str | None = None) -> Response:
    """Sessions of the project in the order they were opened; `metadata[key]=value` must all match."""
    if page.after is not None:
        await _known_after(caller, page.after)
    wanted = _wanted_metadata(request)
    found: list[dict[str, Any]] = []
    async for row in _rows(caller, page, agent_id):
        s = await state_of(caller, row.session)
        if all(s.metadata.get(name) == value for name, value in wanted.items()):
            found.append(await shown_session(caller, s))
        if len(found) > page.limit:
            break
    data, more = page.cut(found)
    return list_answer(data, has_more=more)


@sessions_router.delete("/{session_id}", summary="Remove a session", openapi_extra=answers("AgentSessionDeleted"))
async def delete_session(session_id: str, caller: Asker) -> Response:
    """A turn that runs is cancelled, nothing starts in it any more, and it is not shown again."""
    s = await visible_session(caller, session_id)
    await sessions.delete(caller, s.id)
    return answer({"id": s.id, "object": "agent.session.deleted", "deleted": True})


# --- what routes share ------------------------------------------------------------------------------------------------


async def visible_session(caller: Caller, session: str) -> Session:
    """A session of the caller's project that was not removed. Raises NotFound."""
    s = await owned_session(caller, session)
    if s.deleted:
        raise NotFound(f"There is no session {session!r}: it was removed.")
    return s


async def event_stream(
    request: Request, caller: Caller, session: str, place: Place | None, choice: StreamChoice
) -> EventStream:
    """The events of a session as a response, from a place on."""
    stream = SessionStream(caller, session, choice)
    try:
        await stream.begin(place)
    except BaseException:
        stream.close()
        raise
    lookout: Lookout = request.app.state.lookout
    return EventStream(paced(caller.clock, stream.frames(lookout)), on_end=stream.close)


# --- opening ----------------------------------------------------------------------------------------------------------


async def _opened(served: Served, caller: Caller, body: SessionBody, opening: Opening, *, again: bool) -> str:
    """The session of an opening: a new one, or the one that the same request made under the same idempotency key.

    `again`: it can only be that one.
    """
    asked = opening.face.get("request")
    before = await _session_or_none(caller, str(opening.session)) if asked is not None else None
    if before is None and again:
        raise InvalidInput(
            "last-event-id: nothing was asked for under this idempotency key, so nothing of it was heard. Nothing was "
            "written.",
            param="last-event-id",
        )
    if before is None:
        spec = await _spec_for(served, caller, body)
        try:
            return await sessions.open_session(caller, spec, replace(opening, limit=_own_limit(spec, body)))
        except Conflict:
            before = await state_of(caller, str(opening.session))
    if before.project != caller.project or before.face.get("request") != asked:
        raise KeyReused(
            "The idempotency key was used before with another request. The session it opened stands; nothing of this "
            "one was kept. Send it again under a key of its own."
        )
    return before.id


async def _session_or_none(caller: Caller, session: str) -> Session | None:
    try:
        return await state_of(caller, session)
    except NotFound:
        return None


async def _spec_for(served: Served, caller: Caller, body: SessionBody) -> AgentSpec:
    if body.agent_id is None:
        if body.agent is None or body.agent.model is None:
            raise InvalidInput(
                "agent.model: which model? Nothing was opened; name one, or the `agent_id` of a saved agent.",
                param="agent.model",
            )
        config = changed_config(blank_config(body.agent.model), body.agent, at="agent.")
        checked_model(served, config, "agent.model")
        servers, memory = await servers_for(served, body.agent, at="agent."), memory_of(body.metadata or {})
        spec = spec_of_config(config, inline_name(config), servers=servers, memory=memory)
        return await fitting(served, spec, at="agent.")
    try:
        known = await saved_agent(served, caller, body.agent_id)
    except NotFound as error:
        raise NotFound(f"agent_id: {error.message}", param="agent_id") from None
    if body.agent is None or "tools" not in body.agent.model_fields_set:
        await check_required(served.shelf, config_of(known.spec)["tools"])
    base = known.spec
    if body.agent is None or "tools" not in body.agent.model_fields_set:
        again = await asked_again(served.shelf, base)
        base = spec_of_config(config_of(base), known.id, servers=again, base=base) if again else base
    if body.agent is None:
        return base
    config = changed_config(config_of(base), body.agent, at="agent.")
    checked_model(served, config, "agent.model")
    servers = await servers_for(served, body.agent, known=base, at="agent.")
    return await fitting(served, spec_of_config(config, known.id, servers=servers, base=base), at="agent.")


def _opening(caller: Caller, body: SessionBody, key: str | None, base_url: str) -> Opening:
    _check_review(body.review)
    if body.vault_ids:
        raise NotFound(
            f"vault_ids[0]: there is no vault {body.vault_ids[0][:100]!r}, because vaults are not available in this "
            "release. Nothing was opened; leave it out.",
            param="vault_ids[0]",
        )
    if body.stream_options is not None and not body.stream:
        raise InvalidInput("stream_options: only with `stream`. Nothing was opened.", param="stream_options")
    if body.stream and body.input is None and body.environment.type != "self_hosted":
        raise InvalidInput("input: a stream needs something to happen. Nothing was opened.", param="input")
    session, request = caller.make_id("sess"), None
    if key is not None:
        session = f"sess_{digest_of(caller.project.encode(), key.encode())[:30]}"
        request = body_digest(body.model_dump(mode="json", exclude_unset=True))
    environment_id = f"env_{tail_of(session)}"
    remote_url = f"{base_url}v1/agents/environments/{environment_id}/connection"
    face: dict[str, Any] = {"environment": environment_of(body.environment, environment_id, remote_url)}
    if body.prompt_cache_options is not None:
        face["prompt_cache_options"] = body.prompt_cache_options.model_dump()
    if request is not None:
        face["request"] = request
    metadata = body.metadata or {}
    check_session(metadata, inline=body.agent_id is None)
    return Opening(user=user_of(metadata), metadata=metadata, face=face, session=session)


def _check_review(review: str | None) -> None:
    if review == "auto_review":
        raise Unsupported(
            "review: this release does not review actions by itself. Nothing was written; give the agent rules.",
            param="review",
        )


async def _limit(caller: Caller, session: str, control: SpendControl) -> None:
    """Set or lift the limit of a session, in cents. Setting one that stands changes nothing."""
    limit, scope = _micros(control), f"session:{session}"
    standing = [budget for budget in await caller.database.controls.budgets(scope) if budget.unit == "usd_micros"]
    if (standing or control.limit is not None) and [budget.limit for budget in standing] != [limit]:
        await controls.set_budget(caller, scope, "usd_micros", limit)


def _own_limit(spec: AgentSpec, body: SessionBody) -> int | None:
    """The limit that a session is opened with, if it has one of its own; it may also lift that of its agent."""
    control = body.spend_control
    if control is None or (control.limit is None and spec.limits.session_usd_micros is None):
        return None
    return _micros(control)


def _micros(control: SpendControl) -> int:
    return UNLIMITED if control.limit is None else control.limit * MICROS_PER_CENT


async def _annotate(caller: Caller, session: str, body: SessionChanges) -> None:
    async with in_line(caller, session):
        for _ in range(_TRIES):
            s = await state_of(caller, session)
            metadata = (body.metadata or {}) if "metadata" in body.model_fields_set else s.metadata
            _check_still(s, metadata)
            face = dict(s.face)
            if "prompt_cache_options" in body.model_fields_set:
                options = body.prompt_cache_options
                face["prompt_cache_options"] = options.model_dump() if options is not None else None
            try:
                await sessions.annotate(caller, session, metadata, face, seen=s.head)
            except Conflict:
                continue
            return
    raise Conflict(f"Session {session} changed {_TRIES} times meanwhile. Nothing was changed; send it again.")


def _check_still(s: Session, metadata: dict[str, str]) -> None:
    """Whose a session is, and what its agent remembers, is said when it is opened; afterwards it is only shown."""
    for name in {*s.metadata, *metadata}:
        if name in (MEMORY, STORE, USER) and metadata.get(name) != s.metadata.get(name):
            raise InvalidInput(
                f"metadata.{name}: it was said when the session was opened, and holds. Nothing was changed; open a "
                "session of its own.",
                param=f"metadata.{name}",
            )
    check_session({name: value for name, value in metadata.items() if name not in s.metadata}, inline=False)


# --- lists ------------------------------------------------------------------------------------------------------------


async def _known_after(caller: Caller, after: str) -> None:
    try:
        await owned_session(caller, after)
    except NotFound:
        raise InvalidInput(f"after: there is no session {after[:100]!r} here.", param="after") from None


def _wanted_metadata(request: Request) -> dict[str, str]:
    """What the metadata must say. Raises InvalidInput for what no metadata can say, with the parameter's name."""
    wanted: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        match = re.fullmatch(r"(?s)metadata\[(.*)\]", name)
        if match is None:
            continue
        if wanted.setdefault(match[1], value) != value:
            raise InvalidInput(f"{name}: one key cannot have two values.", param=name)
        try:
            _METADATA.validate_python(wanted)
        except ValidationError as error:
            raise InvalidInput(f"{name}: {error.errors()[0]['msg']}.", param=name) from None
    return wanted


async def _rows(caller: Caller, page: Page, agent: str | None) -> AsyncGenerator[SessionRow]:
    query = SessionQuery(
        project=caller.project,
        agent=agent,
        opened="oldest_first" if page.forward else "newest_first",
        without_status="deleted",
        after=page.after,
        limit=page.limit + 1,
    )
    while rows := await caller.database.views.sessions(query):
        for row in rows:
            yield row
        query = replace(query, after=rows[-1].session, limit=_SCANNED)
