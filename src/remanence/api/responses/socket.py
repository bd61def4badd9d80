"""Responses over a WebSocket: `/v1/responses`, many responses on one connection.

A client sends `response.create` with the fields of `POST /v1/responses`; each event of the response comes back as one
text frame. Responses of one lane (`stream_id`) come one after another, lanes run side by side. What is wrong with a
request is an `error` frame, and the connection stays open.

Each request is admitted like one over HTTP: it counts for the rate of its key. When the key opens nothing any more, the
connection is told so in an `error` frame, and ends.

With `store: false` what was said is held in memory, for as long as the connection lives: a later response of the same
connection can go on from it, no other can, and when the connection ends it is gone. It is gone too when going on from
it failed: whoever tries again starts from what it knows itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Any, cast, get_args

import msgspec
import structlog
from msgspec.structs import replace
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from remanence.api.auth import access_of
from remanence.api.complaints import InvalidValue, complaint, no_json
from remanence.api.decoding import decoded
from remanence.api.failures import error_detail, refused
from remanence.api.held import held_by
from remanence.api.responses.fold import WireEvent
from remanence.api.responses.history import renamed
from remanence.api.responses.input import refuse
from remanence.api.responses.place import Asked, Submission, ask, history_of, place
from remanence.api.responses.private import Private
from remanence.api.responses.request import ResponseBody
from remanence.api.responses.responses import following_of, lookout_of, meter_of
from remanence.api.responses.stream import LAST, events_of, obfuscated
from remanence.api.responses.sums import check_fits
from remanence.api.responses.warm import Held, Warm
from remanence.api.router import Face
from remanence.commands.caller import Caller
from remanence.content import Message
from remanence.errors import InvalidInput, RateLimited, RemanenceError
from remanence.spec import IfBusy

__all__ = ["socket_router"]

log = structlog.get_logger("remanence.http")

socket_router = Face()
LANES_MAX = 32
WAITING_MAX = 128
"""How many requests of one connection may be worked on or wait for their turn in a lane."""
HELD_MAX = 256
"""How many responses of one connection that were not stored can still be continued; older ones are forgotten."""
GOING_AWAY = 1001
POLICY = 1008


class _Unforeseen(RemanenceError):
    """A fault of ours."""

    code = "internal_error"


@socket_router.websocket("/responses")
async def responses_socket(socket: WebSocket) -> None:
    """Create and follow responses over one connection."""
    try:
        caller = await _admitted(socket)
        if_busy = _if_busy(socket.headers.get("x-if-busy"))
    except RemanenceError as error:
        await socket.send_denial_response(refused(error, request_id=_request_id(socket)))
        return
    await socket.accept()
    with held_by(socket.scope) as over:
        await _Connection(socket, caller, if_busy).run(over)


async def _admitted(socket: WebSocket) -> Caller:
    """Who asks. Raises Unauthenticated, AccessDenied, RateLimited."""
    return await access_of(socket.app.state).admit(socket.headers.get("authorization"), "api")


def _if_busy(given: str | None) -> IfBusy | None:
    """What inputs of this connection do while a turn runs; None: as the agent says."""
    if given is None:
        return None
    try:
        return msgspec.convert(given, IfBusy)
    except msgspec.ValidationError:
        words = f"x-if-busy: {given[:40]!r} is not one of {', '.join(get_args(IfBusy))}. Nothing was written."
        raise InvalidValue(words, param="x-if-busy") from None


def _request_id(socket: WebSocket) -> str:
    return socket.scope.get("request_id", "")


class _Connection:
    """One connection: its lanes, and what it holds of responses that are not stored."""

    def __init__(self, socket: WebSocket, caller: Caller, if_busy: IfBusy | None) -> None:
        self._socket = socket
        self._if_busy: IfBusy | None = if_busy
        self._caller = caller
        self._lanes: dict[str | None, asyncio.Lock] = {}
        self._held: dict[str, Held] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._working = 0
        self._sending = asyncio.Lock()

    async def run(self, over: asyncio.Future[None]) -> None:
        """Serve until the client leaves, or its key opens nothing any more: then this is done."""
        listening = asyncio.create_task(self._listen())
        try:
            await asyncio.wait((listening, over), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (listening, *self._tasks):
                task.cancel()
            await asyncio.gather(listening, *self._tasks, return_exceptions=True)
        if not listening.cancelled():
            listening.result()  # it left, or something happened that should not
        elif over.done():
            await self._dismiss()

    async def _listen(self) -> None:
        while True:
            try:
                text = await self._heard()
            except WebSocketDisconnect:  # stored responses go on without us; the others end here
                return
            if len(self._tasks) >= 2 * WAITING_MAX:  # it does not read what it is told: then nothing more is read
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            task = asyncio.create_task(self._serve(text))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _dismiss(self) -> None:
        """Say why its key opens nothing any more, and close."""
        with suppress(WebSocketDisconnect):
            try:
                await access_of(self._socket.app.state).identify(self._socket.headers.get("authorization"))
            except RemanenceError as error:
                await self._fail(error, None)
            await self._socket.close(POLICY)

    async def _heard(self) -> str:
        """The next message. One that is sent as bytes is read like a text; what is none is refused as no JSON."""
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        text: str | None = message.get("text")
        return text if text is not None else bytes(message["bytes"]).decode(errors="replace")

    async def _serve(self, text: str) -> None:
        lane: str | None = None
        try:
            message = _decoded(text)
            given = message.pop("stream_id", None)
            lane = given if isinstance(given, str) else None
            if given is not None and (lane is None or len(lane) > 128):
                refuse("stream_id", "a text of at most 128 characters is expected")
            match message.pop("type", None):
                case "response.create":
                    await self._admitted_create(message, lane)
                case "response.steer":
                    await self._no_steering(message)
                case _:
                    refuse("type", "response.create or response.steer is expected")
        except RemanenceError as error:
            await self._fail(error, lane)
        except WebSocketDisconnect:
            return  # it left while it was being told
        except Exception:
            log.exception("a message of a web socket met something that should not happen")
            await self._fail(_Unforeseen("Something happened that should not. What was stored is kept."), lane)

    async def _admitted_create(self, message: dict[str, Any], lane: str | None) -> None:
        if self._working >= WAITING_MAX:
            raise RateLimited(
                f"{WAITING_MAX} requests of this connection are waiting already. Nothing was done; send it again when "
                "one of them is answered.",
                retry_after_s=1,
            )
        self._working += 1
        try:
            await _admitted(self._socket)  # each request counts, and a key may have been revoked meanwhile
            with lookout_of(self._socket).saying():
                await self._create(message, lane)
        finally:
            self._working -= 1

    async def _create(self, message: dict[str, Any], lane: str | None) -> None:
        if len(self._lanes) >= LANES_MAX and lane not in self._lanes:
            refuse("stream_id", f"at most {LANES_MAX} lanes are served on one connection")
        generate = message.pop("generate", None)
        if not isinstance(generate, bool | None):
            refuse("generate", "true or false is expected")
        body = _body(message)
        async with self._lanes.setdefault(lane, asyncio.Lock()):
            last, padded = "", bool(body.stream_options and body.stream_options.include_obfuscation)
            try:
                async with aclosing(await self._answer(body, generate=generate is not False)) as batches:
                    async for events in batches:
                        for event in events:
                            last = event["type"]
                            told = obfuscated(event) if padded else event
                            await self._send({**told, "stream_id": lane} if lane is not None else told)
            except RemanenceError:
                self._held.pop(body.previous_response_id or "", None)
                raise
            if last == "response.failed":
                self._held.pop(body.previous_response_id or "", None)
            if last not in LAST:
                await self._socket.close(GOING_AWAY)  # the server is about to stop; the turn goes on elsewhere

    async def _answer(self, body: ResponseBody, *, generate: bool) -> AsyncGenerator[Sequence[WireEvent]]:
        held = self._held.get(body.previous_response_id or "")
        if held is not None and body.store is not False and not held.storable:
            refuse("store", f"{body.previous_response_id} was not stored, so what follows it cannot be either")
        following = following_of(self._socket)
        if not generate and body.input is None:
            body = body.model_copy(update={"input": []})
        served, endings = self._socket.app.state.runtime, None if body.store is False else following.endings
        if held is None:
            asked = await ask(served, self._caller, body, endings=endings)
        else:
            asked = await self._after(body, held)
        await check_fits(served, self._caller, asked, following.endings)
        if not generate:
            warm = Warm(self._caller, asked, body, held)
            self._hold(warm.id, warm.held)
            return warm.events()
        if body.store is not False:
            submission = Submission(body, self._if_busy or asked.spec.if_busy)
            placed = await place(self._caller, asked, submission, following.endings)
            return events_of(self._caller, placed, following)
        history = await history_of(self._caller, asked)
        private = Private(self._caller, meter_of(self._socket), asked, body, history)
        return self._followed(private)

    async def _after(self, body: ResponseBody, held: Held) -> Asked:
        """The request with what was said before it, answered under what systems and developers said before it too."""
        spoken = [{"role": one.role, "content": one.text} for one in held.spoken]
        if body.input is None:
            refuse("input", "it is missing")
        given: Any = body.input if isinstance(body.input, list) else [{"role": "user", "content": body.input}]
        whole = body.model_copy(update={"previous_response_id": held.after, "input": [*spoken, *given]})
        asked = await ask(self._socket.app.state.runtime, self._caller, whole)
        messages = (*held.messages, *asked.given.messages)
        return replace(asked, given=replace(asked.given, messages=messages))

    async def _followed(self, private: Private) -> AsyncGenerator[Sequence[WireEvent]]:
        async with aclosing(private.events(lookout_of(self._socket).stopped)) as batches:
            async for events in batches:
                if private.fold.done and private.fold.status != "failed":
                    reply = renamed(private.kept.session, (Message("assistant", private.said),))
                    spoken = (*private.kept.carried, *private.kept.spoken)
                    self._hold(private.kept.id, Held((*private.messages, *reply), spoken))
                yield events

    def _hold(self, name: str, held: Held) -> None:
        self._held[name] = held
        while len(self._held) > HELD_MAX:
            del self._held[next(iter(self._held))]

    async def _no_steering(self, message: dict[str, Any]) -> None:
        previous, given = message.get("previous_response_id"), message.get("input")
        if not isinstance(previous, str) or not isinstance(given, str | list):
            refuse("previous_response_id", "a steer names a response and has an input")
        words = "Steering is not served here. Nothing was kept of it; send it as the input of the next response."
        error = {"type": "invalid_request_error", "code": "steering_not_supported", "message": words}
        steer: dict[str, Any] = {"previous_response_id": previous, "input": given}
        await self._send({"type": "response.steer.failed", "sequence_number": 0, "error": error, "steer": steer})

    async def _fail(self, error: RemanenceError, lane: str | None) -> None:
        detail = error_detail(
            error.status,
            error.code,
            error.message,
            request_id=_request_id(self._socket),
            param=getattr(error, "param", None),
        )
        frame: dict[str, Any] = {"type": "error", "status": error.status, "error": detail}
        await self._send({**frame, "stream_id": lane} if lane is not None else frame)

    async def _send(self, event: dict[str, Any]) -> None:
        async with self._sending:
            await self._socket.send_text(msgspec.json.encode(event).decode())


def _decoded(text: str) -> dict[str, Any]:
    try:
        message = decoded(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        why = no_json(error, text.encode(errors="replace"))
        raise InvalidInput(f"The message is not valid JSON ({why}). Nothing was written.") from None
    if not isinstance(message, dict):
        raise InvalidInput("The message is not a JSON object. Nothing was written.")
    return cast("dict[str, Any]", message)


def _body(message: dict[str, Any]) -> ResponseBody:
    if message.get("background"):
        refuse("background", "over a WebSocket a response is not in the background; it goes on if you leave, too")
    try:
        return ResponseBody.model_validate(message)
    except ValidationError as error:
        path, said, kind = complaint([{**one, "loc": ("body", *one["loc"])} for one in error.errors()], message)
        raise kind(f"{path}: {said}. Nothing was written.", param=path) from None
