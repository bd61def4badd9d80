"""One step, whole: what went in, what came out, the exact prompt, what it cost, and every record it took."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from fastapi import APIRouter, Response

from remanence.commands.caller import state_of
from remanence.commands.shapes import RecordShape
from remanence.console.entry import Looking
from remanence.console.failures import ConsoleRoute
from remanence.console.frame import Frame, owned
from remanence.console.timeline import Row, Timeline
from remanence.console.ways import ways
from remanence.content import Message, Part, ToolCall
from remanence.core.context import rebuild_prompt
from remanence.core.state import Session
from remanence.errors import NotFound
from remanence.events import InputReceived, ModelCalled, ModelReplied, Recorded, ToolReturned, ToolStarted
from remanence.spec import AgentSpec

__all__ = ["StepData", "steps_router"]

steps_router = APIRouter(route_class=ConsoleRoute, include_in_schema=False)

AROUND = 400
_PAGE = 2_000


class StepData(msgspec.Struct, frozen=True):
    """A step. `input` is the JSON text of a call, `output` what came of it; `effect_key` is the effect's name."""

    session: str
    row: Row
    effect_key: str
    input: str
    output: tuple[Part, ...]
    provider_id: str
    stop: str
    records: list[RecordShape]


class PromptData(msgspec.Struct, frozen=True):
    """What a model call was sent. `exact`: the digest of what was rebuilt is the one that was journaled."""

    session: str
    position: int
    model: str
    instructions: str
    messages: tuple[Message, ...]
    tools: tuple[str, ...]
    exact: bool
    digest: str


@steps_router.get("/sessions/{session}/steps/{position}")
@steps_router.get("/sessions/{session}/steps/{position}.json")
async def step(frame: Looking, session: str, position: int) -> Response:
    """The drawer beside the timeline."""
    s = owned(frame, await state_of(frame.caller, session))
    records = await frame.caller.database.store.read(session, after=max(0, position - AROUND), limit=2 * AROUND)
    row = Timeline(records).find(position)
    if row is None:
        raise NotFound(f"Session {session} has no record {position}; it has 1 to {s.head}.")
    data = _step(s, row, records)
    path = f"/admin/v1/sessions/{session}/records?after={position - 1}&limit=1"
    lines = ways(
        frame,
        ["sessions", "get", session, "--events"],
        path,
        f"record, = await rt.database.store.read({session!r}, after={position - 1}, limit=1)",
    )
    return frame.show("_step.html", "sessions", data, s=s, row=row, ways=lines)


def _step(s: Session, row: Row, records: Sequence[Recorded]) -> StepData:
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
    return StepData(s.id, row, effect, sent, output, provider, stop, shapes)


@steps_router.get("/sessions/{session}/prompts/{position}")
@steps_router.get("/sessions/{session}/prompts/{position}.json")
async def prompt(frame: Looking, session: str, position: int) -> Response:
    """The exact prompt of the model call at a position, rebuilt from what it referred to."""
    s = owned(frame, await state_of(frame.caller, session))
    store = frame.caller.database.store
    found = await store.read(session, after=max(position - 1, 0), limit=1)
    called = found[0].event if found else None
    if not isinstance(called, ModelCalled):
        raise NotFound(f"Record {position} of session {session} is no model call.")
    spec = await _spec(frame, s)
    records = await _records(frame, session, _start(called), position)
    rebuilt = rebuild_prompt(records, called, spec)
    tools = tuple(tool.name for tool in spec.tools) if spec is not None else ()
    data = PromptData(
        session, position, called.model, rebuilt.instructions, rebuilt.messages, tools, rebuilt.exact, called.prompt
    )
    return frame.show("_prompt.html", "sessions", data)


async def _spec(frame: Frame, s: Session) -> AgentSpec | None:
    """The version the session pins, unless it came without its agent."""
    try:
        return await frame.caller.database.specs.get(s.version)
    except NotFound:
        return None


def _start(called: ModelCalled) -> int:
    """The first record that the prompt refers to."""
    places = (called.window_from, called.compacted_at, called.shown_at)
    return min(place for place in places if place > 0)


async def _records(frame: Frame, session: str, first: int, last: int) -> list[Recorded]:
    found: list[Recorded] = []
    after = first - 1
    while after < last:
        records = await frame.caller.database.store.read(session, after=after, limit=min(_PAGE, last - after))
        if not records:
            break
        found += records
        after = records[-1].position
    return found
