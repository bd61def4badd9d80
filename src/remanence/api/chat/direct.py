"""One model call without a session: what is sent, and the pieces that come back."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Iterable

from remanence.api.chat.answer import Done, Finish, Piece, ReplyPieces, Stopper, Words, finish_of, likely_in
from remanence.api.chat.request import Asked
from remanence.commands.caller import Caller
from remanence.commands.metering import Meter
from remanence.errors import ModelError
from remanence.ports import DeltaKind, ModelReply, ModelRequest
from remanence.spec import Limits

__all__ = ["check_json", "direct"]

Told = tuple[int, DeltaKind, str]


async def direct(meter: Meter, caller: Caller, asked: Asked, *, live: bool) -> AsyncGenerator[Piece]:
    """The pieces of one reply; `live`: as they come. Closing the generator aborts the call."""
    told: asyncio.Queue[Told | None] = asyncio.Queue()

    def on_delta(index: int, kind: DeltaKind, text: str) -> None:
        told.put_nowait((index, kind, text))

    call = meter.reply(caller, _request(asked), on_delta if live else None, user=asked.user)
    task = asyncio.create_task(call)
    task.add_done_callback(lambda _: told.put_nowait(None))
    reply, stopper = ReplyPieces(lambda place: caller.make_id("call"), lambda name: True), Stopper(asked.stops)
    try:
        while (first := await told.get()) is not None:
            for index, kind, text in _together(first, told):
                for piece in _cut(reply.delta(index, kind, text), stopper):
                    yield piece
        for piece in _end(await task, asked, reply, stopper):
            yield piece
    finally:
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ModelError):
                await task


def _request(asked: Asked) -> ModelRequest:
    return ModelRequest(
        model=asked.model,
        instructions=asked.instructions,
        messages=asked.messages,
        tools=asked.tools,
        settings=asked.settings,
        output_tokens=asked.output_tokens,
        timeout_s=Limits().model_timeout_s,
        effect_key="",
    )


def _together(first: Told, told: asyncio.Queue[Told | None]) -> Iterable[Told]:
    """What has come meanwhile, neighbours of one kind as one: a slow reader gets larger pieces, not more of them."""
    index, kind, text = first
    while not told.empty():
        following = told.get_nowait()
        if following is None:
            told.put_nowait(None)
            break
        if following[:2] == (index, kind) and kind != "tool_name":
            text += following[2]
            continue
        yield index, kind, text
        index, kind, text = following
    yield index, kind, text


def _cut(pieces: list[Piece], stopper: Stopper) -> Iterable[Piece]:
    for piece in pieces:
        if isinstance(piece, Words):
            shown = stopper.feed(piece.text)
            if shown:
                yield Words(shown)
        elif not stopper.stopped:
            yield piece


def _end(made: ModelReply, asked: Asked, reply: ReplyPieces, stopper: Stopper) -> Iterable[Piece]:
    yield from _cut(reply.settle(made.parts), stopper)
    if rest := stopper.rest():
        yield Words(rest)
    finish: Finish = "stop" if stopper.stopped else "tool_calls" if reply.calls else finish_of(made.stop)
    wanted = asked.in_words or asked.settings.output_json
    if wanted and finish == "stop" and not stopper.stopped:
        check_json(reply.text)
    likely = None if asked.settings.logprobs is None else likely_in(made.parts)
    yield Done(finish, made.usage, made.service_tier, likely)


def check_json(text: str) -> None:
    """Raise ModelError unless the text is a JSON object, which was asked for."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ModelError("The model was asked for a JSON object and said something else. Ask again.", kind="content")
