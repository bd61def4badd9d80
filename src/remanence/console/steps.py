"""One step, whole: what went in, what came out, the exact prompt, what it cost, and every record it took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from remanence.commands.caller import state_of
from remanence.commands.prompts import PromptShape, past_prompt
from remanence.commands.shapes import RecordShape
from remanence.console.entry import Looking
from remanence.console.failures import ConsoleRoute
from remanence.console.frame import LONGEST, Frame, owned, pretty
from remanence.console.reading import opened
from remanence.console.timeline import Row, Timeline
from remanence.console.ways import WAYS_OF, of_prompt, of_record
from remanence.content import Part, ToolCall
from remanence.core.state import Session
from remanence.errors import NotFound
from remanence.events import (
    BlocksShown,
    ContextCompacted,
    InputReceived,
    MemoryRecalled,
    ModelCalled,
    ModelReplied,
    Recalled,
    Recorded,
    ToolReturned,
    ToolStarted,
)
from remanence.screens import Opened
from remanence.stores.reading import texts_of

__all__ = ["StepData", "steps_router"]

steps_router = APIRouter(route_class=ConsoleRoute, include_in_schema=False)

AROUND = 400


class RecalledShape(msgspec.Struct, frozen=True):
    """A memory that came to mind: what it says now (null: it was erased), and the record it was learned from."""

    memory: str
    session: str
    position: int
    text: str | None
    by: str
    untrusted: bool
    why: tuple[str, ...]


class StepData(msgspec.Struct, frozen=True):
    """A step. `input` is the JSON text of a call, `output` what came of it; `effect_key` is the effect's name."""

    session: str
    row: Row
    effect_key: str
    input: str
    output: tuple[Part, ...]
    provider_id: str
    stop: str
    recalled: list[RecalledShape]
    records: list[RecordShape]


@steps_router.get("/sessions/{session}/steps/{position}")
@steps_router.get("/sessions/{session}/steps/{position}.json")
async def step(frame: Looking, session: str, position: int) -> Response:
    """The drawer beside the timeline."""
    found = await opened(frame, Opened(session, "around", position, 2 * AROUND))
    s, records = found.s, found.records
    row = Timeline(records).find(position)
    if row is None:
        raise _no_record(s, position)
    data = _step(s, row, records, await _recalled(frame, row, records))
    lines = of_record(frame, session, row.position)
    return frame.show("_step.html", "sessions", data, s=s, row=row, ways=lines, ways_of=WAYS_OF)


def _step(s: Session, row: Row, records: Sequence[Recorded], recalled: list[RecalledShape]) -> StepData:
    own = [record for record in records if record.position in row.positions]
    sent, effect, provider, stop = "", "", "", ""
    output: tuple[Part, ...] = ()
    for record in (*records, *own):
        match record.event:
            case ModelReplied(parts=parts) if row.kind == "tool":
                named = [part for part in parts if isinstance(part, ToolCall) and part.call == row.call]
                sent = named[0].arguments if named else sent
            case _:
                pass
    for record in own:
        match record.event:
            case ContextCompacted(summary=summary):
                output = summary
            case ModelCalled(turn=turn, call=call):
                effect = f"{s.id}:{turn}:{call}"
            case ModelReplied(parts=parts, provider_id=provider_id, stop=why):
                output, provider, stop = parts, provider_id, why
            case ToolStarted(effect_key=key):
                effect = key
            case ToolReturned(parts=parts):
                output = parts
            case InputReceived(parts=parts):
                output = parts
            case _:
                pass
    shapes = [RecordShape.of(record) for record in own]
    return StepData(s.id, row, effect, sent, output, provider, stop, recalled, shapes)


async def _recalled(frame: Frame, row: Row, records: Sequence[Recorded]) -> list[RecalledShape]:
    """What came to mind for the turn of a model call, or in the record of a note."""
    items: list[Recalled] = []
    for record in records:
        match record.event:
            case MemoryRecalled(turn=turn, items=found) if row.kind == "model" and turn == row.turn:
                items += found
            case MemoryRecalled(items=found) | BlocksShown(items=found) if record.position in row.positions:
                items += found
            case _:
                pass
    known = await texts_of(frame.caller.database.store, [(item.session, item.position) for item in items])
    shapes: list[RecalledShape] = []
    for item in items:
        what = known.get((item.session, item.position))
        text, by = (what.text, what.by) if what is not None else (None, "")
        shapes.append(RecalledShape(item.memory, item.session, item.position, text, by, item.untrusted, item.why))
    return shapes


@steps_router.get("/sessions/{session}/prompts/{position}")
@steps_router.get("/sessions/{session}/prompts/{position}.json")
async def prompt(frame: Looking, session: str, position: int) -> Response:
    """The exact prompt of the model call at a position, rebuilt from what it referred to."""
    owned(frame, await state_of(frame.caller, session))
    past = await past_prompt(frame.caller, session, str(position))
    if frame.as_json:
        return frame.show("_prompt.html", "sessions", PromptShape.of(past))
    return frame.show("_prompt.html", "sessions", past, ways=of_prompt(frame, session, position))


@steps_router.get("/sessions/{session}/records/{position}")
@steps_router.get("/sessions/{session}/records/{position}.json")
async def record(frame: Looking, session: str, position: int, begin: Annotated[int, Query(ge=0)] = 0) -> Response:
    """One record as it is stored. On a page in pieces: a text may be of several megabytes."""
    found = await opened(frame, Opened(session, "after", max(0, position - 1), 1))
    if position < 1 or not found.records:
        raise _no_record(found.s, position)
    shape = RecordShape.of(found.records[0])
    if frame.as_json:
        return frame.show("_record_body.html", "sessions", shape)
    whole = pretty(shape)
    piece = whole[begin : begin + LONGEST]
    left = max(0, len(whole) - begin - LONGEST)
    there, lines = frame.link(f"/sessions/{session}/records/{position}"), of_record(frame, session, position)
    return frame.page(
        "_record_body.html", kind=shape.kind, begin=begin, piece=piece, left=left, there=there, ways=lines
    )


def _no_record(s: Session, position: int) -> NotFound:
    return NotFound(f"Session {s.id} has no record {position}; it has 1 to {s.head}.").because(
        "no_position", session=s.id, head=s.head, position=position
    )
