"""Following a response: until it has ended, event by event, or by the moment a person has to do something about it.

A stream ends with `data: [DONE]`. Each event's `id:` is its sequence number, which is where a stream can be resumed
after (`starting_after`, `Last-Event-ID`). When the server is about to stop, streams end without a last event; the turn
goes on elsewhere, and so does the stream, after the last number that was seen.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NamedTuple

from remanence.api.lookout import Lookout
from remanence.api.padding import padding
from remanence.api.responses.endings import Endings
from remanence.api.responses.fold import Fold, WireEvent
from remanence.api.responses.kept import make_fold
from remanence.api.responses.place import Placed
from remanence.api.stream import Batch, frame, watch
from remanence.commands.caller import Caller, state_of
from remanence.core.state import waiting_on
from remanence.errors import RemanenceError

__all__ = ["DONE", "LAST", "Following", "events_of", "frames_of", "obfuscated", "settled"]

DONE = b"data: [DONE]\n\n"
NOTHING_LEFT: WireEvent = {"type": "done"}
"""Stands for the end of a response of whose events its reader had seen the last one before; it is not sent."""
LAST = frozenset({"response.completed", "response.incomplete", "response.failed"})
"""The events that end a response."""


class Following(NamedTuple):
    """What this process follows responses with."""

    lookout: Lookout
    endings: Endings


async def events_of(
    caller: Caller, placed: Placed, following: Following, *, after: int = -1
) -> AsyncGenerator[Sequence[WireEvent]]:
    """The events of a response after a sequence number, as they happen; empty when only time has passed."""
    kept = placed.kept
    fold = make_fold(kept, after=after)
    fold.begin()
    async with aclosing(_watched(caller, placed, following.lookout)) as batches:
        yield fold.take_events()
        async for batch in batches:
            _take(fold, batch)
            following.endings.note(kept, fold, placed.size)
            events = fold.take_events()
            yield events or [NOTHING_LEFT] if fold.done else events
            if fold.done:
                return


def _watched(caller: Caller, placed: Placed, lookout: Lookout) -> AsyncGenerator[Batch]:
    kept = placed.kept
    return watch(caller, kept.session, after=kept.position - 1, lookout=lookout, reader=placed.reader)


def _take(fold: Fold, batch: Batch) -> None:
    for record in batch.records:
        fold.add(record)
    if batch.preview is not None:
        fold.preview(batch.preview)


async def frames_of(
    batches: AsyncGenerator[Sequence[WireEvent]], *, padded: bool = False
) -> AsyncGenerator[Sequence[bytes]]:
    """Events as frames; the last one says that the stream is whole. What goes wrong on the way is an `error` event.

    `padded`: the pieces of what is said are filled up, so that their lengths tell nothing.
    """
    number = -1
    async with aclosing(batches):
        try:
            async for events in batches:
                if events and events[-1] is NOTHING_LEFT:
                    yield [DONE]
                    continue
                if padded:
                    events = [obfuscated(event) for event in events]
                written = [frame(event["type"], str(event["sequence_number"]), event) for event in events]
                if events:
                    number = events[-1]["sequence_number"]
                    if events[-1]["type"] in LAST:
                        written.append(DONE)
                yield written
        except RemanenceError as error:
            yield [frame("error", str(number), _failed(error, number))]


def obfuscated(event: WireEvent) -> WireEvent:
    """The event; a piece of what is said is filled up, so that its length tells nothing."""
    return {**event, "obfuscation": padding(event["delta"])} if "delta" in event else event


def _failed(error: RemanenceError, number: int) -> WireEvent:
    """It has the number of the event before: what comes after that one is still to come, and can be asked for."""
    param = getattr(error, "param", None)
    return {"type": "error", "code": error.code, "message": error.message, "param": param, "sequence_number": number}


async def settled(caller: Caller, placed: Placed, following: Following) -> Fold:
    """The response once it has ended, or as it stands when it waits for what no machine gives by itself."""
    kept = placed.kept
    fold = make_fold(kept)
    async with aclosing(_watched(caller, placed, following.lookout)) as batches:
        s = await state_of(caller, kept.session)
        own = range(kept.position, kept.position + kept.inputs)
        if any(queued.position in own for queued in s.queue) and (held := waiting_on(s)):
            fold.waits.found["session"] = held  # what comes before this input waits, so this one does
        async for batch in batches:
            for record in batch.records:
                fold.add(record)
            if fold.done or fold.waits.found:
                break
    following.endings.note(kept, fold, placed.size)
    if fold.turn is not None:
        fold.waits.found.pop("session", None)
    fold.take_events()
    return fold
