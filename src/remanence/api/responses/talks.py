"""Conversations as they are kept: an entry of the registry that names a session and what was attached to it.

The session is opened when something is said. Its id is the conversation's, until another agent takes the conversation
over in a session of its own. The old session then says which one followed it, in its journal: who was about to speak
there finds its write refused and goes after the conversation, so nothing is said where nobody listens any more.

An entry is changed as it stands at that moment, never as somebody saw it before: clients add, attach and delete at
once. What is deleted does not come back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from remanence.api.once import KEPT_S, reused
from remanence.api.responses.input import Spoken
from remanence.api.responses.request import AGENT, FACE
from remanence.commands import sessions
from remanence.commands.caller import Caller, state_of
from remanence.commands.entries import own_entry
from remanence.commands.given import Key
from remanence.commands.sessions import Opening
from remanence.content import digest_of
from remanence.core.state import Session
from remanence.errors import Conflict, NotFound
from remanence.ports import Entry
from remanence.spec import AgentSpec

__all__ = [
    "GONE",
    "KIND",
    "Talk",
    "add_spoken",
    "begin_talk",
    "check_stays",
    "change_talk",
    "find_talk",
    "follow_talk",
    "open_talk",
    "resting",
]

KIND = "conversation"
GONE = Spoken("", "")
"""What stands in the place of words that were deleted: the ids of the others go by their places."""

_FOLLOWED_BY = "followed_by"
_KEPT_US = KEPT_S * 1_000_000
_TRIES = 64
"""Of so many changes at the same moment each one succeeds."""


class Added(msgspec.Struct, frozen=True, array_like=True):
    """Which places words have that were added under a key: from `place` on, `count` of them, at a moment."""

    place: int
    count: int
    at: int
    digest: str


class Talk(msgspec.Struct, frozen=True, omit_defaults=True):
    """One conversation. `session` is empty until something was said; `at` in microseconds since 1970."""

    id: str
    at: int
    session: str = ""
    metadata: dict[str, str] = {}
    spoken: tuple[Spoken, ...] = ()
    added: dict[str, Added] = {}

    @property
    def heard(self) -> tuple[Spoken, ...]:
        """What systems and developers said and nobody deleted."""
        return tuple(one for one in self.spoken if one != GONE)


def resting() -> AgentSpec:
    """The spec of a conversation in which nobody was asked to answer yet."""
    return AgentSpec(AGENT, "none", face=FACE)


async def find_talk(caller: Caller, name: str) -> Talk:
    """The conversation of this id. Raises NotFound, also when it is another project's."""
    return msgspec.json.decode((await _entry(caller, name)).body, type=Talk)


async def _entry(caller: Caller, name: str) -> Entry:
    entry = await own_entry(caller, KIND, name)
    if entry is None:
        raise NotFound(f"Conversation with id '{name}' not found.", param="conversation")
    return entry


async def begin_talk(caller: Caller, metadata: dict[str, str], key: Key | None = None) -> Talk:
    """A new conversation. Under a `key`, the one that the same request began within a day, if whoever worked on it died
    before it answered."""
    talk = Talk(caller.make_id("conv"), caller.clock.now(), metadata=metadata)
    if key is not None:
        named = digest_of(caller.project.encode(), key.name.encode(), key.digest.encode())
        same = replace(talk, id=f"conv_{named[:30]}")
        before = await own_entry(caller, KIND, same.id)
        if before is not None and talk.at - before.at < _KEPT_US:
            return msgspec.json.decode(before.body, type=Talk)
        if before is None and not await _was_spoken(caller, same.id):
            talk = same
    await caller.database.registry.put(_entry_of(caller, talk), expect=0)
    return talk


async def _was_spoken(caller: Caller, session: str) -> bool:
    """Whether something was said in a conversation of this id, which was deleted since."""
    with contextlib.suppress(NotFound):
        await state_of(caller, session)
        return True
    return False


def _entry_of(caller: Caller, talk: Talk) -> Entry:
    return Entry(KIND, caller.project, talk.id, talk.at, caller.clock.now(), msgspec.json.encode(talk))


async def change_talk(caller: Caller, name: str, change: Callable[[Talk], Talk]) -> Talk:
    """Change a conversation, and answer it as it stands then. `change` may be asked several times. Raises NotFound."""
    for _ in range(_TRIES):
        entry = await _entry(caller, name)
        talk = msgspec.json.decode(entry.body, type=Talk)
        changed = change(talk)
        if changed == talk:
            return talk
        try:
            await caller.database.registry.put(_entry_of(caller, changed), expect=entry.revision)
        except Conflict:
            continue
        return changed
    raise Conflict(f"Conversation {name} changed {_TRIES} times meanwhile. Nothing was changed; send it again.")


async def add_spoken(caller: Caller, name: str, spoken: tuple[Spoken, ...], key: Key | None = None) -> range:
    """Let what systems and developers said count for the rest of the conversation. Answers the places it has there.

    Under the same `key` again it is added once. Raises KeyReused when that came with another request.
    """
    now = caller.clock.now()

    def add(talk: Talk) -> Talk:
        before = talk.added.get(key.name) if key is not None else None
        if before is not None and now - before.at < _KEPT_US:
            if key is not None and before.digest != key.digest:
                raise reused()
            return talk
        added = {under: one for under, one in talk.added.items() if now - one.at < _KEPT_US}
        if key is not None:
            added[key.name] = Added(len(talk.spoken), len(spoken), now, key.digest)
        return replace(talk, spoken=(*talk.spoken, *spoken), added=added)

    talk = await change_talk(caller, name, add)
    if key is None:
        return range(len(talk.spoken) - len(spoken), len(talk.spoken))
    there = talk.added[key.name]
    return range(there.place, there.place + there.count)


async def open_talk(caller: Caller, talk: Talk, spec: AgentSpec, user: str = "") -> Session:
    """The conversation's session as it stands, opened for this user if nothing was said yet."""
    if not talk.session:
        with contextlib.suppress(Conflict):  # somebody else may have said the first word just now
            opening = Opening(user=user, session=talk.id, metadata=talk.metadata)
            await sessions.open_session(caller, spec, opening)
        await _move(caller, talk.id, "", talk.id)
    s = await state_of(caller, talk.session or talk.id)
    while following := s.face.get(_FOLLOWED_BY):
        await _move(caller, talk.id, s.id, following)
        s = await state_of(caller, following)
    return s


async def follow_talk(caller: Caller, talk: Talk, s: Session, session: str) -> Session:
    """Let the conversation go on in another session than `s`, which is answered as it stands then. Raises Conflict when
    more was said in `s` meanwhile, or when the conversation has gone on from the other one already: who takes it over
    from there was not told what is not said yet."""
    await sessions.annotate(caller, s.id, s.metadata, {**s.face, _FOLLOWED_BY: session}, seen=s.head)
    await _move(caller, talk.id, s.id, session)
    there = await state_of(caller, session)
    check_stays(there)
    return there


def check_stays(s: Session) -> None:
    """Raise Conflict when a conversation went on from this session to another: what is said here would not be in it."""
    if _FOLLOWED_BY in s.face:
        raise Conflict("Another agent took the conversation over meanwhile. Nothing was written; send it again.")


async def _move(caller: Caller, name: str, before: str, now: str) -> None:
    await change_talk(caller, name, lambda talk: replace(talk, session=now) if talk.session == before else talk)
