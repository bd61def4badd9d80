"""What the agent remembers of a customer, as a projection of journals: each memory points at the record it came from.

A memory is a `MemoryKept` fact in the journal of the session in which it was said. Looking it up reads the journals of
that customer's sessions again, which is right for a tour with a handful of them; nothing here is a second truth.
"""

from __future__ import annotations

import msgspec

from remanence.commands.caller import Caller
from remanence.commands.sessions import tell
from remanence.events import MemoryForgotten, MemoryKept, TurnStarted
from remanence.ports import SessionQuery, ToolCallContext

__all__ = ["Memory", "keep", "kept_for"]


class Memory(msgspec.Struct, frozen=True):
    """One thing somebody said, and where: record `position` of `session`."""

    text: str
    session: str
    position: int


async def keep(caller: Caller, context: ToolCallContext, text: str) -> Memory:
    """Journal a memory of this session's user. Its name is the effect key: kept again, it is the same memory."""
    position = await _input_of(caller, context)
    kept = MemoryKept(f"user:{context.user}", context.effect_key, text, position, (context.user,))
    await tell(caller, context.session, kept)
    return Memory(text, context.session, position)


async def kept_for(caller: Caller, user: str) -> list[Memory]:
    """Everything kept about a user in any session, oldest session first, without what was forgotten."""
    rows = await caller.database.views.sessions(SessionQuery(project=caller.project, user=user, limit=200))
    kept: dict[str, Memory] = {}
    for row in sorted(rows, key=lambda row: row.opened_at):
        for record in await caller.database.store.read(row.session):
            match record.event:
                case MemoryKept(memory=name, text=text, source=source) if source is not None:
                    kept[name] = Memory(text, record.session, source)
                case MemoryForgotten(memory=name):
                    kept.pop(name, None)
                case _:
                    pass
    return list(kept.values())


async def _input_of(caller: Caller, context: ToolCallContext) -> int:
    """The record of the input that the running turn took."""
    for record in reversed(await caller.database.store.read(context.session)):
        if isinstance(record.event, TurnStarted) and record.event.turn == context.turn:
            return record.event.inputs[0]
    raise LookupError(f"turn {context.turn} of session {context.session} has no beginning")
