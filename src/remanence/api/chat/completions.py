"""Chat Completions: `POST /v1/chat/completions`.

**A model, no session.** The client sends the whole conversation and gets one reply. The call goes straight to the model
and nothing of it is kept but what it cost (`commands/metering.py`). A client that leaves aborts the call: there is
nowhere to come back to, but for an answer in one piece that an `Idempotency-Key` keeps.

**An agent, or a session.** A turn of an agent may do things in the world, so it is journaled. The answer's header
`x-session-id` names the session; sent with the next request (`x-session-id: new` opens one for a mere model too), the
server reconciles the history it is sent with the journal (`commands/history.py`): the same past is continued, another
one is a fork, whose id the answer has. Such a turn belongs to the server: it goes on when the client goes away.
`x-if-busy` says what a message does while a turn runs.

The events of a session's stream have ids, and the same request under the same key goes on after one (`chat/place.py`).

An `Idempotency-Key` makes a request once: in a session the same request again is given the answer of the same turn,
from the journal; without one the answer is kept for a day, a stream once it has ended.

Errors before the first piece are answers with their status; later ones are the last event of the stream. So is the end
of the server: for a session at once, since its turn goes on elsewhere; an answer without one has a while to end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Annotated, Literal, TypeVar

import msgspec
import structlog
from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from remanence.api.auth import may
from remanence.api.bodies import JsonRoute
from remanence.api.bound_keys import keep_key
from remanence.api.chat.answer import Heading, Piece, chunks, completion, padded
from remanence.api.chat.choices import Answers, begun, choices, choices_in_chunks
from remanence.api.chat.direct import direct
from remanence.api.chat.place import Tally, beyond
from remanence.api.chat.request import Asked, asked_of, fitted
from remanence.api.chat.session import Wanted, answer, tell
from remanence.api.chat.shapes import ChatAnswer, ChatBody, ChatChunk, ChatStreamOptions
from remanence.api.failures import deserved, known
from remanence.api.leaving import unless_left
from remanence.api.lookout import CLOSE_S, Lookout
from remanence.api.named import Served, named
from remanence.api.once import IdempotencyKey, LastEventId, check_heard, digest_of_request, only_once
from remanence.api.router import Face
from remanence.api.stream import BEAT, BEAT_S, EventStream
from remanence.api.unfit import check_pictures
from remanence.commands.caller import Caller
from remanence.commands.given import Key
from remanence.commands.metering import Meter
from remanence.errors import InvalidInput, ModelError, RemanenceError

__all__ = ["chat_router"]

log = structlog.get_logger("remanence.http")

_T = TypeVar("_T")
End = Callable[[], Awaitable[None]]
_STOPPED = (
    "The server stopped before the answer was whole. In a session the turn goes on, and the same request under the "
    "same `Idempotency-Key` is given its answer; without one nothing was kept: ask again."
)
IfBusyHeader = Literal["queue", "steer", "interrupt", "reject"]


class SessionHeaders(BaseModel):
    """What says that a conversation is a session."""

    x_session_id: str | None = Field(None, description="A session to continue, or `new`.")
    x_if_busy: IfBusyHeader | None = Field(None, description="With a session: while a turn runs.")
    last_event_id: LastEventId = None


class _Stopping(RemanenceError):
    """The server stops."""

    code = "stopping"
    status = 503


chat_router = Face(tags=["chat"], route_class=JsonRoute)


@chat_router.post(
    "/chat/completions",
    summary="Answer a conversation",
    response_model=ChatAnswer,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "The answer, or with `stream` its chunks."},
        402: {"description": "A budget would be overshot; nothing was sent."},
        404: {"description": "There is no such model, agent or session in the key's project."},
        409: {"description": "A freeze stands, the session is busy, or its turn waits for a person."},
        429: {"description": "The key asks too often, or the provider is busy: see `Retry-After`."},
        502: {"description": "The model failed."},
    },
)
async def create_chat_completion(
    request: Request,
    body: ChatBody,
    caller: Annotated[Caller, Depends(may("api"))],
    heard: Annotated[SessionHeaders, Header()],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """One answer to the conversation in `messages`; with `stream`, server-sent events that end with `[DONE]`.

    Without a session, a model is called directly and nothing of the conversation is kept. With `x-session-id` (`new`
    opens one; an agent always has one) the conversation is a session, named in the answer's header, and `messages` are
    laid beside its journal, by meaning and without regard to the ids of calls:

    `messages` begin with all that the journal says: what follows is appended and answered.

    They tell another past, or repeat a question that was answered: the session is forked at the end of the last turn
    both agree on, and what follows there is journaled in the fork as brought along, then answered. The answer's header
    names the fork; the session stays as it was.
    """
    if body.stream_options is not None and not body.stream:
        raise InvalidInput("stream_options: only with `stream`. Nothing was sent.", param="stream_options")
    served: Served = request.app.state.runtime
    asked, found = asked_of(body), await named(served, caller, body.model)
    if found.agent is None:
        asked = await fitted(served, asked, session=heard.x_session_id is not None)
    model = found.agent.model if found.agent is not None else asked.model
    await check_pictures(served, model, asked.messages, body.messages, "messages")
    digest = await digest_of_request(request, heard.x_session_id, heard.x_if_busy) if idempotency_key else ""
    check_heard(heard.last_event_id, idempotency_key, streamed=bool(body.stream))
    if found.agent is None and heard.x_session_id is None:
        if heard.last_event_id is not None:
            words = "outside a session an answer is given again as a whole: leave this out. Nothing was sent."
            raise InvalidInput(f"last-event-id: {words}", param="last-event-id")
        made = partial(_ask_model, request, body, caller, asked, kept=bool(idempotency_key) and not body.stream)
        return await (only_once(caller, idempotency_key, digest, made) if idempotency_key else made())
    if body.n not in (None, 1):
        words = "a session goes on from one answer, so only 1 is given in one, and by an agent. Nothing was sent."
        raise InvalidInput(f"n: {words}", param="n")
    key = Key(f"chat:{idempotency_key}", digest) if idempotency_key else None
    tally = Tally() if heard.last_event_id is None else Tally.of(heard.last_event_id)
    told = await tell(caller, found, asked, Wanted(heard.x_session_id, heard.x_if_busy, key))
    keep_key(request)
    pieces = answer(caller, told) if not tally.begun else beyond(answer(caller, told), tally)
    heading = _heading(body, f"chatcmpl-{told.session}-{told.position}".replace("_", "-"), told.at)
    named_in = {"x-session-id": told.session}
    try:
        return await _answer(heading, body, pieces, _end_of(request, 0), named_in, tally)
    except RemanenceError as error:  # what was said is kept: where, whoever said it in a new session must hear
        refusal = await known(request, error)
        refusal.headers.update(named_in)
        return refusal


async def _ask_model(request: Request, body: ChatBody, caller: Caller, asked: Asked, *, kept: bool) -> Response:
    """An answer of a model, outside of any session. Unless it is `kept` nobody needs it once its caller has left."""
    name = caller.make_id("chatcmpl").replace("_", "-")
    heading, end = _heading(body, name, caller.clock.now()), _end_of(request, CLOSE_S)
    answers = [direct(_meter(request), caller, asked, live=bool(body.stream)) for _ in range(body.n or 1)]
    if len(answers) > 1:
        made = _answer_often(heading, body, answers, end)
    else:
        made = _answer(heading, body, answers[0], end, {})
    return await (made if kept else unless_left(request, made))


def _heading(body: ChatBody, name: str, at: int) -> Heading:
    """What stands above an answer that was asked for at a moment: the same whenever it is given again."""
    return Heading(name, at // 1_000_000, body.model, body.service_tier)


def _end_of(request: Request, grace_s: float) -> End:
    """The end of the server, and a while."""
    lookout: Lookout = request.app.state.lookout

    async def end() -> None:
        await lookout.closing()
        await asyncio.sleep(grace_s)

    return end


def _meter(request: Request) -> Meter:
    """The meter of this process."""
    state = request.app.state
    if not hasattr(state, "meter"):
        state.meter = Meter(state.runtime.model)
    return state.meter


async def _answer(
    heading: Heading,
    body: ChatBody,
    pieces: AsyncGenerator[Piece],
    end: End,
    headers: dict[str, str],
    tally: Tally | None = None,
) -> Response:
    """The answer. `tally`: what its reader was told of it before; its events get ids then."""
    if not body.stream:
        async with contextlib.aclosing(pieces):
            made = await _or_status(completion(msgspec.structs.replace(heading, metadata=body.metadata), pieces))
        return Response(made.model_dump_json(), headers=headers, media_type="application/json")
    first = await _or_status(anext(pieces))
    options = body.stream_options or ChatStreamOptions()
    told = _from(first, pieces)
    made = chunks(heading, told, usage=options.include_usage, begins=tally is None or not tally.begun)
    if options.include_obfuscation:
        made = padded(made)
    return _Chunks(_events(made, end, tally), headers, held=(made, pieces))


async def _answer_often(heading: Heading, body: ChatBody, answers: Answers, end: End) -> Response:
    """Several answers, as the choices of one."""
    if not body.stream:
        made = await _or_status(choices(msgspec.structs.replace(heading, metadata=body.metadata), answers))
        return Response(made.model_dump_json(), media_type="application/json")
    told = await _or_status(begun(answers))
    options = body.stream_options or ChatStreamOptions()
    pieces = choices_in_chunks(heading, told, usage=bool(options.include_usage))
    shown = padded(pieces) if options.include_obfuscation else pieces
    return _Chunks(_events(shown, end, None), {}, held=(shown, pieces, *told, *answers))


async def _or_status(made: Awaitable[_T]) -> _T:
    """Await it; a model's failure becomes the answer its kind deserves."""
    try:
        return await made
    except ModelError as error:
        raise deserved(error) from error


def _told(error: RemanenceError) -> dict[str, object]:
    shown = deserved(error) if isinstance(error, ModelError) else error
    return {"message": shown.message, "type": "server_error", "code": shown.code, "param": shown.param}


async def _from(first: Piece, pieces: AsyncIterator[Piece]) -> AsyncGenerator[Piece]:
    yield first
    async for piece in pieces:
        yield piece


class _Chunks(EventStream):
    """The stream. What it holds is let go of when it is over, even if it never began: the pieces have begun already."""

    def __init__(
        self, frames: AsyncGenerator[bytes], headers: dict[str, str], *, held: tuple[AsyncGenerator[object], ...]
    ) -> None:
        super().__init__(frames, on_end=lambda: None, headers=headers)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            for one in self._held:
                await one.aclose()


async def _events(made: AsyncGenerator[ChatChunk], end: End, tally: Tally | None) -> AsyncGenerator[bytes]:
    """The chunks as server-sent events, `[DONE]` at the end; a comment when nothing happens for a while."""
    coming: asyncio.Future[ChatChunk] | None = None
    ending = asyncio.ensure_future(end())
    try:
        while True:
            coming = asyncio.ensure_future(anext(made))
            while not coming.done():
                await asyncio.wait({coming, ending}, timeout=BEAT_S, return_when=asyncio.FIRST_COMPLETED)
                if ending.done() and not coming.done():
                    raise _Stopping(_STOPPED)
                if not coming.done():
                    yield BEAT
            chunk, event_id = coming.result(), b""
            if tally is not None:
                tally.take(chunk)
                event_id = b"id: %b\n" % str(tally).encode()
            yield b"%bdata: %b\n\n" % (event_id, chunk.model_dump_json(exclude_unset=True).encode())
    except StopAsyncIteration:
        yield b"data: [DONE]\n\n"
    except RemanenceError as error:
        yield b"data: " + msgspec.json.encode({"error": _told(error)}) + b"\n\n"
    except Exception:
        log.exception("a stream met something that should not happen")
        words = "Something happened that should not. Please report it with the request id."
        yield b"data: " + msgspec.json.encode({"error": {"code": "internal_error", "message": words}}) + b"\n\n"
    finally:
        ending.cancel()
        if coming is not None and not coming.done():
            coming.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration, RemanenceError):
                await coming
