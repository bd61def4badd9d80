"""The Responses API: `/v1/responses`.

One response is one turn of a session, or the part of a turn between two words of the client. What it came to is read
from the journal each time (`responses/fold.py`), so a response that is retrieved, streamed again or looked at after a
restart is the same. A response in progress whose turn waits for a person says so in `waiting_on`; creating it without
`stream` answers at that moment, with status `in_progress`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from fastapi import Depends, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from remanence.api.auth import may
from remanence.api.bodies import JsonRoute
from remanence.api.bound_keys import keep_key
from remanence.api.described import answers
from remanence.api.lane import Lane
from remanence.api.leaving import unless_left
from remanence.api.lists import Limit, Ordered, Page
from remanence.api.lookout import Lookout
from remanence.api.named import Served
from remanence.api.once import IdempotencyKey, LastEventId, check_heard, once
from remanence.api.responses.endings import Endings
from remanence.api.responses.fold import Fold, WireEvent
from remanence.api.responses.input import refuse
from remanence.api.responses.items import Item, input_item, spoken_item
from remanence.api.responses.kept import Kept, find, fold_of, forget, make_fold, read_all, response_object
from remanence.api.responses.lists import page_within
from remanence.api.responses.place import Placed, Submission, ask, history_of, place
from remanence.api.responses.private import Private
from remanence.api.responses.refusals import refusal_of
from remanence.api.responses.request import CompactBody, CountBody, ResponseBody, check_include
from remanence.api.responses.stream import Following, events_of, frames_of, settled
from remanence.api.responses.sums import check_fits, compact, counted
from remanence.api.router import Face
from remanence.api.stream import EventStream, paced
from remanence.commands import sessions
from remanence.commands.caller import Caller, body_digest, state_of
from remanence.commands.given import Key, erase
from remanence.commands.metering import Meter
from remanence.errors import Conflict, InvalidInput
from remanence.events import CancelAsked, InputReceived, ModelReplied, ToolReturned
from remanence.ports import SessionQuery
from remanence.spec import IfBusy

__all__ = ["following_of", "lookout_of", "meter_of", "responses_router"]

responses_router = Face(tags=["responses"], route_class=JsonRoute)

Asking = Annotated[Caller, Depends(may("api"))]
Include = Annotated[list[str] | None, Query(alias="include[]")]
IfBusyHeader = Annotated[
    IfBusy | None, Header(description="What the input does while a turn runs. Default: as the agent says.")
]
_CANCEL_WAIT_S = 5.0
_NUMBER = re.compile("[0-9]{1,18}")


class Retrieving(BaseModel):
    """How to retrieve a response."""

    model_config = ConfigDict(extra="forbid")

    stream: bool = False
    starting_after: int | None = Field(default=None, ge=0)
    include_obfuscation: bool = False
    beta: bool = False  # what the client's `beta.responses` adds; the answer is the same
    include: list[str] | None = Field(default=None, alias="include[]")


def lookout_of(request: Any) -> Lookout:
    """The one look at followed sessions that this process has."""
    state = request.app.state
    if not hasattr(state, "lookout"):
        state.lookout = Lookout(state.runtime.caller)
    return state.lookout


def following_of(request: Any) -> Following:
    """What this process follows responses with."""
    state = request.app.state
    if not hasattr(state, "endings"):
        state.endings = Endings()
    return Following(lookout_of(request), state.endings)


def meter_of(request: Any) -> Meter:
    """The meter of this process."""
    state = request.app.state
    if not hasattr(state, "meter"):
        state.meter = Meter(state.runtime.model)
    return state.meter


def _json(value: object, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), headers=headers, media_type="application/json")


@responses_router.post("/responses", summary="Create a response", openapi_extra=answers("Response", streams=True))
async def create_response(
    request: Request,
    body: ResponseBody,
    caller: Asking,
    x_if_busy: IfBusyHeader = None,
    idempotency_key: IdempotencyKey = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Answer an input. With `stream`, server-sent events; with `background`, at once, while it is answered. Without
    either, a provider that refuses before anything came is an error, and the response is kept as failed.

    The header `x-session-id` of the answer names the session. `store: false` keeps nothing but what it cost.
    """
    if body.stream_options is not None and not body.stream:
        refuse("stream_options", "only with `stream`")
    check_heard(last_event_id, idempotency_key, streamed=bool(body.stream))
    served: Served = request.app.state.runtime
    following = following_of(request)
    asked = await ask(served, caller, body, endings=None if body.store is False else following.endings)
    await check_fits(served, caller, asked, following.endings)
    if body.store is False:
        if idempotency_key is not None:
            refuse("idempotency-key", "with `store: false` no answer is kept that could be given again")
        private = Private(caller, meter_of(request), asked, body, await history_of(caller, asked))
        return await _answer_private(request, caller, private, body)
    key = None
    if idempotency_key is not None:
        key = Key(idempotency_key, body_digest(body.model_dump(mode="json", exclude_unset=True, exclude={"stream"})))
    heard = None if last_event_id is None else _number(last_event_id)
    submission = Submission(body, x_if_busy or asked.spec.if_busy, key, heard is not None)
    placed = await place(caller, asked, submission, following.endings)
    keep_key(request)
    headers = {"x-session-id": placed.kept.session}
    if body.stream:
        if heard is not None:
            _check_place("last-event-id", heard, await fold_of(caller, placed.kept))
        batches = events_of(caller, placed, following, after=-1 if heard is None else heard)
        return _stream(caller, batches, _How(headers, placed.close, _padded(body)))
    try:
        fold = await (_begun(caller, placed) if body.background else settled(caller, placed, following))
    finally:
        placed.close()
    if not body.background and (refusal := refusal_of(request, placed.kept, fold)) is not None:
        refusal.headers.update(headers)
        return refusal
    return _json(response_object(placed.kept, fold), headers)


async def _begun(caller: Caller, placed: Placed) -> Fold:
    """A response in the background as it begins, which is queued; one that was made before as it stands."""
    return await fold_of(caller, placed.kept) if placed.reader is None else make_fold(placed.kept)


async def _create(request: Request, _: str, body: ResponseBody, caller: Caller) -> Response:
    return await create_response(request, body, caller)


responses_router.lanes.append(Lane("/responses", "", ResponseBody, _create))


async def _answer_private(request: Request, caller: Caller, private: Private, body: ResponseBody) -> Response:
    if body.stream:
        return _stream(caller, private.events(following_of(request).lookout.stopped), _How({}, padded=_padded(body)))
    await unless_left(request, _whole(private))
    refusal = refusal_of(request, private.kept, private.fold)
    return refusal or _json(response_object(private.kept, private.fold))


async def _whole(private: Private) -> None:
    async with aclosing(private.events()) as batches:
        async for _ in batches:
            pass


def _nothing() -> None:
    """There is nothing to close."""


class _How(NamedTuple):
    """How a stream is sent: with which headers, what is closed at its end, and whether its pieces are padded."""

    headers: dict[str, str]
    on_end: Callable[[], None] = _nothing
    padded: bool = False


def _padded(body: ResponseBody) -> bool:
    return bool(body.stream_options and body.stream_options.include_obfuscation)


def _stream(caller: Caller, batches: AsyncGenerator[Sequence[WireEvent]], how: _How) -> Response:
    frames = frames_of(batches, padded=how.padded)
    return EventStream(paced(caller.clock, frames), on_end=how.on_end, headers=how.headers)


@responses_router.post(
    "/responses/input_tokens",
    summary="Estimate the tokens of an input",
    openapi_extra=answers("InputTokenCountResponse"),
)
async def count_input_tokens(request: Request, body: CountBody, caller: Asking) -> Response:
    """An estimate: no provider's tokenizer is at hand. Four bytes are taken for a token."""
    asked = await ask(request.app.state.runtime, caller, body)
    return _json(counted(asked, await history_of(caller, asked)))


@responses_router.post(
    "/responses/compact", summary="Sum up a conversation", openapi_extra=answers("CompactedResponse")
)
@once
async def compact_response(
    request: Request, body: CompactBody, caller: Asking, idempotency_key: IdempotencyKey = None
) -> Response:
    """One item that stands for a conversation, written by the model. Nothing of it is kept here."""
    made = compact(request.app.state.runtime, caller, meter_of(request), body)
    return _json(await (made if idempotency_key else unless_left(request, made)))


@responses_router.get(
    "/responses/{response_id}", summary="Retrieve a response", openapi_extra=answers("Response", streams=True)
)
async def retrieve_response(
    request: Request,
    response_id: str,
    caller: Asking,
    wanted: Annotated[Retrieving, Query()],
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """A response as it stands. With `stream`, its events, from the beginning or after a sequence number."""
    check_include(wanted.include)
    if wanted.include_obfuscation and not wanted.stream:
        refuse("include_obfuscation", "only with `stream`")
    kept = await find(caller, response_id)
    after = wanted.starting_after
    if not wanted.stream:
        if after is not None:
            refuse("starting_after", "only with `stream`")
        return _json(response_object(kept, await fold_of(caller, kept)), {"x-session-id": kept.session})
    if last_event_id:  # who connects again to the same address says here what they have seen since
        after = _number(last_event_id)
    if after is not None:
        named = "last-event-id" if last_event_id else "starting_after"
        _check_place(named, after, await fold_of(caller, kept))
    batches = events_of(caller, Placed(kept), following_of(request), after=-1 if after is None else after)
    how = _How({"x-session-id": kept.session}, padded=wanted.include_obfuscation)
    return _stream(caller, batches, how)


def _number(last_event_id: str) -> int:
    if _NUMBER.fullmatch(last_event_id) is None:
        refuse("last-event-id", "it is no sequence number")
    return int(last_event_id)


def _check_place(named: str, after: int, fold: Fold) -> None:
    if after > fold.number_max:
        state = "ended" if fold.done else "has come"
        refuse(named, f"no event of this response has that number: it {state} at {fold.number_max} at most")


@responses_router.post(
    "/responses/{response_id}/cancel", summary="Cancel a response", openapi_extra=answers("Response")
)
async def cancel_response(request: Request, response_id: str, caller: Asking) -> Response:
    """Stop a response that has not ended; what happened already stays."""
    kept = await find(caller, response_id)
    fold = await fold_of(caller, kept)
    if not fold.done and (turn := await _turn_of(caller, kept, fold.turn)) is not None:
        await sessions.tell(caller, kept.session, CancelAsked(caller.actor, "", turn))
        fold = await _ended(request, caller, kept)
    elif not fold.done:
        fold = await fold_of(caller, kept)  # it ended while we looked
    if fold.done and fold.status != "cancelled":
        raise InvalidInput("Cannot cancel a completed response.", param="response_id")
    return _json(response_object(kept, fold))


async def _turn_of(caller: Caller, kept: Kept, turn: int | None) -> int | None:
    """The turn to cancel; None when the response has ended meanwhile. `turn` is known once it has begun."""
    while turn is None:
        s = await state_of(caller, kept.session)
        if any(queued.position == kept.position for queued in s.queue):
            if s.turn is not None or len(s.queue) != 1:
                raise Conflict(
                    f"{kept.id} waits behind other inputs of session {s.id}, and only the next turn can be cancelled. "
                    "Nothing was written; cancel it when it is its turn."
                )
            return s.turns + 1
        fold = await fold_of(caller, kept)
        if fold.done:
            return None
        turn = fold.turn
    return turn


async def _ended(request: Request, caller: Caller, kept: Kept) -> Any:
    """The response once its turn has ended, or as it stands after a while: a tool may have to be waited for."""
    deadline = caller.clock.now() + int(_CANCEL_WAIT_S * 1_000_000)
    async with aclosing(events_of(caller, Placed(kept), following_of(request))) as batches:
        async for events in batches:
            if not events and caller.clock.now() >= deadline:
                break
    return await fold_of(caller, kept)


class DeletedResponse(BaseModel):
    """It is gone."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


@responses_router.delete(
    "/responses/{response_id}", summary="Delete a response", responses={200: {"model": DeletedResponse}}
)
async def delete_response(response_id: str, caller: Asking) -> Response:
    """Remove a response. It is not found any more, and nothing can go on from it.

    Its words are erased from the journal when nothing stands on them: when it is the newest of its session, and no
    other session was forked from that one. Otherwise they remain part of the later conversation.
    """
    kept = await find(caller, response_id)
    fold = await fold_of(caller, kept)
    if not fold.done:
        raise Conflict(f"{kept.id} is in progress. Nothing was deleted; cancel it first, or wait.")
    await forget(caller, kept)
    await _erase_if_last(caller, kept, fold.end)
    return _json({"id": kept.id, "object": "response", "deleted": True})


async def _erase_if_last(caller: Caller, kept: Kept, end: int) -> None:
    """Erase its words if nothing stands on them. In any case the session's head moves on from where it ended: that is
    how every process learns that nothing goes on from it (`responses/endings.py`)."""
    s = await state_of(caller, kept.session)
    records = await read_all(caller, kept.session, after=kept.position - 1)
    forks = await caller.database.views.sessions(SessionQuery(parent=kept.session, limit=1))
    later = [record for record in records if record.position > end and isinstance(record.event, InputReceived)]
    if forks or later or s.turn is not None:
        if s.head == end:
            with suppress(Conflict):  # somebody wrote meanwhile
                await sessions.annotate(caller, s.id, s.metadata, s.face, seen=s.head)
        return
    words = InputReceived | ModelReplied | ToolReturned
    await erase(
        caller,
        kept.session,
        [record.position for record in records if record.position <= end and isinstance(record.event, words)],
        reason=f"{kept.id} was deleted",
    )


@responses_router.get(
    "/responses/{response_id}/input_items",
    summary="List the input of a response",
    openapi_extra=answers("ResponseItem", many=True),
)
async def list_input_items(
    response_id: str,
    caller: Asking,
    after: str | None = None,
    limit: Limit = 20,
    order: Ordered = "desc",
    include: Include = None,
) -> Response:
    """What was put in for this response, without what was said before it."""
    check_include(include)
    kept = await find(caller, response_id)
    return _json(page_within(await _input_of(caller, kept), Page(after, limit, order)))


async def _input_of(caller: Caller, kept: Kept) -> list[Item]:
    records = await caller.database.store.read(kept.session, after=kept.position - 1, limit=kept.inputs)
    items = [spoken_item(kept.id, index, spoken.role, spoken.text) for index, spoken in enumerate(kept.spoken)]
    return items + [item for record in records for item in input_item(kept.shown, record)]
