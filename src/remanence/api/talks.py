"""Conversations as they are kept: an entry of the registry that names a session and what was attached to it.

The session is opened when something is said. Its id is the conversation's, until another agent takes the conversation
over in a session of its own.
"""

from __future__ import annotations

import contextlib

import msgspec
from msgspec.structs import replace

from remanence.api.response_input import Spoken
from remanence.api.response_request import AGENT, FACE
from remanence.commands import sessions
from remanence.commands.caller import Caller, state_of
from remanence.commands.sessions import Opening
from remanence.core.state import Session
from remanence.errors import Conflict, NotFound
from remanence.ports import Entry
from remanence.spec import AgentSpec

__all__ = ["KIND", "Talk", "add_spoken", "find_talk", "keep_talk", "move_talk", "open_talk", "resting"]

KIND = "conversation"


class Talk(msgspec.Struct, frozen=True, omit_defaults=True):
    """One conversation. `session` is empty until something was said; `at` in microseconds since 1970."""

    id: str
    at: int
    session: str = ""
    metadata: dict[str, str] = {}
    spoken: tuple[Spoken, ...] = ()


def resting() -> AgentSpec:
    """The spec of a conversation in which nobody was asked to answer yet."""
    return AgentSpec(AGENT, "none", face=FACE)


async def find_talk(caller: Caller, name: str) -> Talk:
    """The conversation of this id. Raises NotFound, also when it is another project's."""
    try:
        entry = await caller.database.registry.get(KIND, name)
    except NotFound:
        entry = None
    if entry is None or entry.project != caller.project:
        raise NotFound(f"Conversation with id '{name}' not found.", param="conversation")
    return msgspec.json.decode(entry.body, type=Talk)


async def keep_talk(caller: Caller, talk: Talk) -> None:
    """Write a conversation's entry."""
    body = msgspec.json.encode(talk)
    await caller.database.registry.put(Entry(KIND, caller.project, talk.id, talk.at, caller.clock.now(), body))


async def add_spoken(caller: Caller, name: str, spoken: tuple[Spoken, ...]) -> None:
    """Let what systems and developers said count for the rest of the conversation."""
    talk = await find_talk(caller, name)
    await keep_talk(caller, replace(talk, spoken=(*talk.spoken, *spoken)))


async def move_talk(caller: Caller, talk: Talk, session: str) -> None:
    """Let the conversation go on in another session."""
    await keep_talk(caller, replace(talk, session=session))


async def open_talk(caller: Caller, talk: Talk, spec: AgentSpec) -> Session:
    """The conversation's session as it stands, opened if nothing was said yet."""
    if talk.session:
        return await state_of(caller, talk.session)
    with contextlib.suppress(Conflict):  # somebody else may have said the first word just now
        await sessions.open_session(caller, spec, Opening(session=talk.id, metadata=talk.metadata))
    await move_talk(caller, talk, talk.id)
    return await state_of(caller, talk.id)
