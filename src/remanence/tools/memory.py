"""The memory tools that an agent is given: look up, note, correct, withdraw, and set a block.

What they write is a fact that the runtime journals in the same write as the tool's outcome: there is no moment at which
one is there without the other. A note is named after the effect key, so a call that runs again after a crash keeps the
same memory. Rights are looked up at each call.

What an agent writes after its session has read what strangers may have written is labelled untrusted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Any, Final, cast

import msgspec

from remanence.content import Text, ToolCall, parse_arguments
from remanence.core.memory.grants import Access, Subject, scope_of
from remanence.core.memory.projection import block_id
from remanence.core.memory_tools import MEMORY_TOOLS
from remanence.errors import NotFound, RemanenceError
from remanence.events import Event, MemoryForgotten, MemoryKept, TurnStarted
from remanence.ports import Clock, Database, Tool, ToolCallContext, ToolOutcome
from remanence.recollections import Memory, MemoryQuery, Place
from remanence.spec import MemoryScope, MemoryUse, ToolSpec
from remanence.tools.memory_access import access_now
from remanence.tools.memory_claims import Step, claim
from remanence.tools.memory_following import Follow, of_one_index
from remanence.tools.memory_words import hit_words, memory_words
from remanence.tools.results import failure

__all__ = ["memory_tools", "moment_of"]

HITS: Final = 8
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
Settle = Callable[[Subject], Awaitable[None]]
"""Brings the index up to what was kept in this process."""
_Run = Callable[["_Desk", dict[str, Any]], Awaitable[ToolOutcome]]


def memory_tools(
    database: Database, clock: Clock, settle: Settle, read_own: Settle | None = None, follow: Follow | None = None
) -> Mapping[str, Tool]:
    """The memory tools over one database, by name. `read_own` indexes what a session journaled in another process."""
    doors = _Doors(database, clock, settle, read_own, follow)
    return {name: _MemoryTool(MEMORY_TOOLS[name], run, doors) for name, run in _RUNS.items()}


class _Doors(msgspec.Struct, frozen=True):
    database: Database
    clock: Clock
    settle: Settle
    read_own: Settle | None = None
    follow: Follow | None = None


class _Refused(Exception):
    """A call that cannot be done, in words for the model."""


class _MemoryTool:
    """One of them, as a `remanence.ports.Tool`."""

    def __init__(self, spec: ToolSpec, run: _Run, doors: _Doors) -> None:
        self._spec = spec
        self._run = run
        self._doors = doors

    @property
    def spec(self) -> ToolSpec:
        return self._spec

    async def run(self, call: ToolCall, context: ToolCallContext) -> ToolOutcome:
        """Perform one call. Nothing is written but by the facts of its outcome."""
        try:
            desk = await _desk(self._doors, context)
            run = partial(self._run, desk, parse_arguments(call.arguments))
            if self._run in (_search, _write):
                return await run()
            return await of_one_index(self._doors.database.memories, self._doors.follow, run)
        except (_Refused, ValueError) as error:
            return failure(f"Nothing was changed: {error}.")
        except RemanenceError as error:
            return failure(f"The memory could not be asked, and nothing was changed: {error.message}")

    async def reconcile(self, effect_key: str) -> None:
        """Nothing is ever in doubt here."""


class _Learned(msgspec.Struct, frozen=True):
    """The record a fact comes from; `session` is empty for the session's own."""

    position: int | None
    session: str = ""
    untrusted: bool = False


class _Desk(msgspec.Struct, frozen=True):
    """One call: whose it is, and what that one may do now."""

    doors: _Doors
    context: ToolCallContext
    subject: Subject
    use: MemoryUse
    access: Access
    now: int

    @property
    def author(self) -> str:
        return f"agent:{self.subject.agent}"

    async def find(self, memory: str) -> Memory:
        """The newest version of a memory that the session may see."""
        try:
            found = await self._get(memory)
        except NotFound:
            raise _unknown(memory) from None
        over = found.closed_at is not None or (found.expires_at is not None and found.expires_at <= self.now)
        if found.place not in self.access.reads or over:
            raise _unknown(memory)
        return found

    async def _get(self, memory: str) -> Memory:
        """A memory; when it is not indexed, once more after the session's own journal was read to its end."""
        memories = self.doors.database.memories
        try:
            return await memories.get(self.subject.project, memory)
        except NotFound:
            if self.doors.read_own is None:
                raise
        await self.doors.read_own(self.subject)
        return await memories.get(self.subject.project, memory)

    def place(self, scope: object) -> Place:
        """Where to write: the scope that is asked for, else the user's, else the session's."""
        if scope is None:
            if self.access.home is None:
                raise _Refused("this session has no right to write to its memory")
            return self.access.home
        name = scope_of(cast("MemoryScope", scope), self.subject)
        place = next((place for place in self.access.writes if place.scope == name), None)
        if place is None:
            raise _Refused(f"this session has no right to write what the {scope} knows")
        return place

    def check_writable(self, found: Memory) -> None:
        if found.place not in self.access.writes:
            raise _Refused(f"this session may read {found.id}, but not change it")

    async def claim(self, step: Step) -> None:
        """Be the one who changes a memory next, or be told that somebody else does."""
        registry, by = self.doors.database.registry, self.context.effect_key
        if not await claim(registry, self.subject.project, step, by=by, now=self.now):
            raise _Refused(f"somebody else changed {step.memory} at this moment; look at it again first")

    def kept(self, memory: str, place: Place, text: str, learned: _Learned, **more: Any) -> MemoryKept:
        return MemoryKept(
            place.store,
            memory,
            text,
            source=learned.position,
            source_session=learned.session,
            scope=place.scope,
            untrusted=self.context.untrusted or learned.untrusted,
            by=self.author,
            **more,
        )

    async def learned(self, given: dict[str, Any], place: Place) -> _Learned:
        """Where a fact for `place` comes from: the memory that is named, else the input that the running turn took."""
        named = given.get("source")
        if named is not None:
            found = await self.find(named)
            if found.place != place:
                raise _Refused(f"{named} lies in {found.place.scope}, and what is there does not go to {place.scope}")
            return _Learned(found.position, found.session, found.label == "untrusted")
        position = self.context.turn_position
        records = await self.doors.database.store.read(self.context.session, after=position - 1, limit=1)
        started = records[0].event if records else None
        return _Learned(started.inputs[-1] if isinstance(started, TurnStarted) and started.inputs else None)


async def _desk(doors: _Doors, context: ToolCallContext) -> _Desk:
    if context.memory is None:
        raise _Refused("this agent has no memory")
    subject = Subject(context.project, context.agent, context.session, context.user)
    await doors.settle(subject)
    access = await access_now(doors.database.registry, subject, context.memory)
    return _Desk(doors, context, subject, context.memory, access, doors.clock.now())


def _unknown(memory: str) -> _Refused:
    return _Refused(f"there is no memory {memory!r} that this session may see; memory_search shows those there are")


def _said(text: str, *facts: Event, untrusted: bool = False) -> ToolOutcome:
    return ToolOutcome((Text(text),), untrusted=untrusted, facts=facts)


# --- looking up -------------------------------------------------------------------------------------------------------


async def _search(desk: _Desk, given: dict[str, Any]) -> ToolOutcome:
    if not desk.access.reads:
        raise _Refused("this session has no right to read any memory")
    at = moment_of(given, "at")
    query = MemoryQuery(
        project=desk.subject.project,
        readable=desk.access.reads,
        text=given["query"],
        now=desk.now,
        valid_at=desk.now if at is None else at,
        limit=int(given.get("limit", HITS)),
        window=(desk.context.session, max(0, desk.context.window_from - 1)),
    )
    hits = await desk.doors.database.memories.search(query)
    if not hits:
        return _said("Nothing was found. Try other words, or ask.")
    untrusted = any(hit.memory.label == "untrusted" for hit in hits)
    return _said("\n".join(hit_words(hit) for hit in hits), untrusted=untrusted)


async def _open(desk: _Desk, given: dict[str, Any]) -> ToolOutcome:
    found = await desk.find(given["memory"])
    history = await desk.doors.database.memories.history(desk.subject.project, found.id)
    lines = [memory_words(found), f"source: record {found.position} of session {found.session}, by {found.author}"]
    earlier = [memory for memory in history if memory.version != found.version]
    lines += [f"version {memory.version}: {memory_words(memory)}" for memory in earlier]
    untrusted = any(memory.label == "untrusted" for memory in (found, *earlier))
    return _said("\n".join(lines), untrusted=untrusted)


# --- writing ----------------------------------------------------------------------------------------------------------


async def _write(desk: _Desk, given: dict[str, Any]) -> ToolOutcome:
    place = desk.place(given.get("scope"))
    since, until = moment_of(given, "since"), moment_of(given, "until")
    if since is not None and until is not None and until <= since:
        raise _Refused("`until` does not come after `since`")
    memory = _memory_id(desk)
    fact = desk.kept(
        memory,
        place,
        given["text"],
        await desk.learned(given, place),
        subjects=tuple(given.get("subjects", ())),
        valid_from=since,
        valid_to=until,
    )
    return _said(f"Noted as {memory}.", fact)


async def _update(desk: _Desk, given: dict[str, Any]) -> ToolOutcome:
    found = await desk.find(given["memory"])
    desk.check_writable(found)
    if found.kind != "note":
        raise _Refused(f"{found.id} is no note; what was said stays as it was said. Write a note with memory_write")
    since, learned = moment_of(given, "since"), await desk.learned(given, found.place)
    if since is not None and found.valid_from is not None and since <= found.valid_from:
        raise _Refused("`since` does not come after the date since which the old text is true")
    await desk.claim(Step(found.id, found.version + 1))
    if since is None:
        fact = desk.kept(
            found.id,
            found.place,
            given["text"],
            learned,
            version=found.version + 1,
            subjects=found.subjects,
            valid_from=found.valid_from,
            valid_to=found.valid_to,
            expires_at=found.expires_at,
        )
        return _said(f"Corrected {found.id}: version {fact.version}.", fact)
    return _changed(desk, found, given["text"], since, learned)


def _changed(desk: _Desk, found: Memory, text: str, since: int, learned: _Learned) -> ToolOutcome:
    """The old fact ends where the new one begins; both are kept."""
    ended = MemoryKept(
        found.place.store,
        found.id,
        found.text,
        source=learned.position,
        source_session=learned.session,
        subjects=found.subjects,
        scope=found.place.scope,
        version=found.version + 1,
        valid_from=found.valid_from,
        valid_to=since,
        expires_at=found.expires_at,
        untrusted=found.label == "untrusted",
        by=desk.author,
    )
    memory = _memory_id(desk)
    begun = desk.kept(memory, found.place, text, learned, subjects=found.subjects, follows=found.id, valid_from=since)
    return _said(f"{found.id} was true until then; what is true now is {memory}.", ended, begun)


async def _forget(desk: _Desk, given: dict[str, Any]) -> ToolOutcome:
    found = await desk.find(given["memory"])
    desk.check_writable(found)
    if found.kind != "episode":  # which nobody corrects
        await desk.claim(Step(found.id, found.version + 1, closes=True))
    fact = MemoryForgotten(found.place.store, found.id, desk.author, given.get("reason", ""))
    return _said(f"{found.id} is recalled no more.", fact)


async def _block(desk: _Desk, given: dict[str, Any]) -> ToolOutcome:
    name, text = given["name"].strip(), given["text"].strip()
    if not name or "/" in name or not name.isprintable():
        raise _Refused("a block's name is one word or a few, without a slash")
    if len(text.encode()) > desk.use.block_bytes:
        raise _Refused(f"a block has at most {desk.use.block_bytes} bytes, this one has {len(text.encode())}")
    place = desk.place(given.get("scope"))
    memory = block_id(place, name)
    try:
        old = await desk.doors.database.memories.get(desk.subject.project, memory)
    except NotFound:
        old = None
    if not text:
        if old is None or old.closed_at is not None:
            raise _Refused(f"there is no block {name!r} to remove")
        await desk.claim(Step(memory, old.version + 1, closes=True))
        return _said(f"Block {name} is gone.", MemoryForgotten(place.store, memory, desk.author))
    # A person said yes to this very text (or nobody had to): from here on it is an instruction.
    version = old.version + 1 if old is not None else 1
    learned = await desk.learned(given, place)
    await desk.claim(Step(memory, version, reopens=old is not None and old.closed_at is not None))
    fact = msgspec.structs.replace(
        desk.kept(memory, place, text, learned, kind="block", version=version, name=name), untrusted=False
    )
    return _said(f"Block {name} is set; you see it from the next step on.", fact)


_RUNS: Final[dict[str, _Run]] = {
    "memory_search": _search,
    "memory_open": _open,
    "memory_write": _write,
    "memory_update": _update,
    "memory_forget": _forget,
    "memory_block": _block,
}


def _memory_id(desk: _Desk) -> str:
    return f"mem_{sha256(desk.context.effect_key.encode()).hexdigest()[:24]}"


def moment_of(given: Mapping[str, Any], name: str) -> int | None:
    """A date or a moment among arguments, in microseconds since 1970 (without a zone: UTC). Raises `ValueError`."""
    value = given.get(name)
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        raise ValueError(f"`{name}` must be a date in ISO 8601, such as 2031-05-01") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)
