"""What people do with long-term memory: write, edit, withdraw, look at the history. Every change is a fact.

A memory that an agent noted in a session and one that a person wrote are changed in the same way: by a new version in
the journal of the store. The index takes it at once, so that whoever asks next finds it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import msgspec
from msgspec.structs import replace

from remanence.commands.caller import Caller
from remanence.commands.given import Key
from remanence.commands.memory_journal import journaled, under
from remanence.commands.memory_stores import check_store, store_names
from remanence.content import digest_of
from remanence.core.memory.projection import block_id
from remanence.errors import Conflict, InvalidInput, NotFound
from remanence.events import Event, MemoryForgotten, MemoryKept
from remanence.ports import Appended
from remanence.recollections import Memory, MemoryHit, MemoryKind, MemoryListing, MemoryQuery, Place
from remanence.tools.memory_claims import Step, claim
from remanence.tools.memory_following import found_at_last, of_one_index

__all__ = [
    "TEXT_BYTES_MAX",
    "Dates",
    "Looking",
    "Writing",
    "edit",
    "export",
    "exported",
    "forget",
    "history",
    "keep",
    "listed",
    "rebuild",
    "search",
    "set_block",
    "settled",
    "show",
    "undo",
    "source_of",
]

TEXT_BYTES_MAX: Final = 16_000
BLOCK_BYTES_MAX: Final = 8_000
PAGE: Final = 200
Found = TypeVar("Found")


class Dates(msgspec.Struct, frozen=True):
    """When a fact is true and how long it is kept, in microseconds since 1970. None: no bound."""

    valid_from: int | None = None
    valid_to: int | None = None
    expires_at: int | None = None


class Writing(msgspec.Struct, frozen=True):
    """A note to write. `source` is a record of `source_session` in which it was learned, when there is one."""

    text: str
    place: Place
    subjects: tuple[str, ...] = ()
    dates: Dates = Dates()
    source_session: str = ""
    source: int | None = None


class Looking(msgspec.Struct, frozen=True):
    """Which memories: in these stores and scopes (empty: in all of the project), of these kinds.

    `believed_at` and `valid_at` ask for another time: what was believed then, and what was true then.
    """

    stores: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    kinds: tuple[MemoryKind, ...] = ()
    believed_at: int | None = None
    valid_at: int | None = None
    closed: bool = False
    after: str | None = None
    limit: int = 50


# --- looking ----------------------------------------------------------------------------------------------------------


async def search(caller: Caller, text: str, looking: Looking | None = None) -> Sequence[MemoryHit]:
    """The memories of the project that fit, best first, each with its reasons."""
    looking = looking or Looking()
    if not text.strip():
        raise InvalidInput("What shall be looked for? The query is empty.", param="query")
    await settled(caller)
    places = await _places(caller, looking)
    if not places:
        return ()
    query = MemoryQuery(
        project=caller.project,
        readable=places,
        text=text,
        now=caller.clock.now(),
        believed_at=looking.believed_at,
        valid_at=looking.valid_at,
        kinds=looking.kinds or ("episode", "note", "block"),
        limit=looking.limit,
    )
    return await caller.database.memories.search(query)


async def listed(caller: Caller, looking: Looking | None = None) -> Sequence[Memory]:
    """Memories of the project, newest first."""
    return await _list(caller, looking or Looking())


async def _list(caller: Caller, looking: Looking, *, every_version: bool = False) -> Sequence[Memory]:
    await settled(caller)
    places = await _places(caller, looking) if looking.stores or looking.scopes else None
    if places is not None and not places:
        return ()
    listing = MemoryListing(
        project=caller.project,
        places=places,
        kinds=looking.kinds,
        believed_at=looking.believed_at,
        valid_at=looking.valid_at,
        closed=looking.closed,
        every_version=every_version,
        after=looking.after,
        limit=looking.limit,
    )
    return await caller.database.memories.list(listing)


async def show(caller: Caller, memory: str, *, version: int | None = None) -> Memory:
    """One memory, by default its newest version. Raises NotFound."""
    await settled(caller)
    memories = caller.database.memories
    return await found_at_last(memories, caller.follow, partial(memories.get, caller.project, memory, version))


async def history(caller: Caller, memory: str) -> Sequence[Memory]:
    """Every version of a memory, oldest first. Raises NotFound."""
    await settled(caller)
    memories = caller.database.memories
    return await found_at_last(memories, caller.follow, partial(memories.history, caller.project, memory))


async def settled(caller: Caller) -> None:
    """Let the index take in what this process journaled, so that whoever asks finds it."""
    if caller.settle is not None:
        await caller.settle()


async def source_of(caller: Caller, memory: Memory) -> tuple[str, int]:
    """The record a memory was learned from: for a note the one its writer had before it, else its own."""
    records = await caller.database.store.read(memory.session, after=memory.position - 1, limit=1)
    event = records[0].event if records else None
    if isinstance(event, MemoryKept) and event.source is not None:
        return event.source_session or memory.session, event.source
    return memory.session, memory.position


async def export(caller: Caller, looking: Looking | None = None) -> AsyncGenerator[Memory]:
    """Every version of every memory that fits, the closed ones, too: by id, oldest first."""
    looking = replace(looking or Looking(), limit=PAGE)
    while found := await exported(caller, looking):
        for version in found:
            yield version
        looking = replace(looking, after=found[-1].id)


async def exported(caller: Caller, looking: Looking) -> Sequence[Memory]:
    """One page of an export: all versions of `limit` memories, those whose ids come after `after`."""
    return await _list(caller, looking, every_version=True)


async def rebuild(caller: Caller) -> None:
    """Forget the index. Whoever runs projections makes it again from the journals; until then recall finds less."""
    await caller.database.memories.clear()


async def _places(caller: Caller, looking: Looking) -> tuple[Place, ...]:
    stores = looking.stores or tuple(await store_names(caller))
    if looking.scopes:
        return tuple(Place(store, scope) for store in stores for scope in looking.scopes)
    return tuple(place for place in await caller.database.memories.places(caller.project) if place.store in stores)


# --- changing ---------------------------------------------------------------------------------------------------------


async def keep(caller: Caller, writing: Writing, *, key: Key | None = None) -> Memory:
    """Write a note, once under a `key`. Raises InvalidInput, NotFound when there is no such store, KeyReused."""
    _check_text(writing.text, TEXT_BYTES_MAX)
    _check_dates(writing.dates)
    _check_scope(writing.place)
    await check_store(caller, writing.place.store)
    kept = MemoryKept(
        writing.place.store,
        caller.make_id("mem"),
        writing.text,
        writing.source,
        writing.subjects,
        scope=writing.place.scope,
        valid_from=writing.dates.valid_from,
        valid_to=writing.dates.valid_to,
        expires_at=writing.dates.expires_at,
        source_session=writing.source_session,
        by=caller.actor,
    )

    async def written() -> Event:
        return kept

    appended = await journaled(caller, writing.place.store, written, key)
    return await show(caller, next(r.event.memory for r in appended.records if isinstance(r.event, MemoryKept)))


async def edit(
    caller: Caller,
    memory: str,
    text: str,
    *,
    dates: Dates | None = None,
    seen: int | None = None,
    key: Key | None = None,
) -> Memory:
    """A new version of a note or a block, written by a person, who vouches for it: it is trusted from now on.

    Once under a `key`. Raises NotFound, InvalidInput, KeyReused, and Conflict when it was withdrawn, or its newest
    version is not `seen`.
    """
    first = await show(caller, memory)
    if first.kind == "episode":
        raise InvalidInput(
            f"{memory} is what was said, and stays as it was said. Nothing was changed. Write a note instead, or "
            "forget it.",
            param="memory",
        )
    _check_text(text, BLOCK_BYTES_MAX if first.kind == "block" else TEXT_BYTES_MAX)
    _check_dates(dates or Dates())

    by = _writer(caller, key)

    async def version() -> Event:
        found = await _open(caller, memory, seen)
        valid = dates or Dates(found.valid_from, found.valid_to, found.expires_at)
        await _claim(caller, Step(memory, found.version + 1), by)
        return _next(caller, found, text, valid)

    return await _changed(caller, first, version, key)


async def forget(caller: Caller, memory: str, *, reason: str = "", key: Key | None = None) -> Memory:
    """Withdraw a memory: it is recalled no more. Once under a `key`.

    Raises NotFound, KeyReused, and Conflict when that was done before, or somebody else changes it at this moment.
    """
    first = await show(caller, memory)
    by = _writer(caller, key)

    async def withdrawn() -> Event:
        found = await _open(caller, memory, None)
        if found.kind != "episode":  # which nobody corrects
            await _claim(caller, Step(memory, found.version + 1, closes=True), by)
        return MemoryForgotten(found.place.store, memory, caller.actor, reason)

    return await _changed(caller, first, withdrawn, key)


async def undo(caller: Caller, memory: str, *, key: Key | None = None) -> Memory:
    """Take back the last change of a note or a block, whoever made it: a withdrawn one is there again, a changed one
    says what it said before, and one that was only just written is withdrawn, with what it took the place of restored.

    Returns the memory as it is then. Once under a `key`: what stopped half way is carried on. Raises NotFound,
    KeyReused, InvalidInput for an episode, which nobody changes.
    """
    versions = await _sure(caller, partial(history, caller, memory))
    newest = versions[-1]
    if newest.kind == "episode":
        raise InvalidInput(f"{memory} is what was said, and was never changed. Nothing was.", param="memory")
    done = await _done(caller, newest.place.store, key)
    if (done is None and newest.closed_at is None and len(versions) == 1) or isinstance(done, MemoryForgotten):
        return await _taken_back(caller, versions[0], key)
    before = newest if newest.closed_at is not None else versions[-2]
    by = _writer(caller, key)

    async def restored() -> Event:
        found = await show(caller, memory)
        if found.version != newest.version:
            raise Conflict(f"Memory {memory} was changed again just now. Nothing was taken back; look at it again.")
        dates = Dates(before.valid_from, before.valid_to, before.expires_at)
        await _claim(caller, Step(memory, found.version + 1, reopens=found.closed_at is not None), by)
        return replace(_next(caller, found, before.text, dates), untrusted=before.label == "untrusted")

    return await _changed(caller, newest, restored, key)


async def _taken_back(caller: Caller, first: Memory, key: Key | None) -> Memory:
    """Withdraw what was only just written, and restore what it took the place of."""
    records = await caller.database.store.read(first.session, after=first.position - 1, limit=1)
    event = records[0].event if records else None
    taken_back = await forget(caller, first.id, reason="taken back", key=key)
    if isinstance(event, MemoryKept) and event.follows is not None:
        await undo(caller, event.follows, key=key and Key(f"{key.name}:before", key.digest))
    return taken_back


async def set_block(caller: Caller, place: Place, name: str, text: str, *, key: Key | None = None) -> Memory:
    """Set the block of this name in a place, as a person, who vouches for it; once under a `key`.

    An empty text is refused: forget it.
    """
    if not name.strip() or "/" in name or not name.isprintable() or len(name) > 64:
        raise InvalidInput(f"{name[:80]!r} is no name for a block: up to 64 letters without a slash.", param="name")
    _check_text(text, BLOCK_BYTES_MAX)
    _check_scope(place)
    await check_store(caller, place.store)
    memory, by = block_id(place, name), _writer(caller, key)

    async def version() -> Event:
        try:
            found = await show(caller, memory)
        except NotFound:
            step = Step(memory, 1)
        else:
            step = Step(memory, found.version + 1, reopens=found.closed_at is not None)
        await _claim(caller, step, by)
        return MemoryKept(
            place.store, memory, text, scope=place.scope, kind="block", version=step.version, name=name, by=caller.actor
        )

    appended = await journaled(caller, place.store, partial(_sure, caller, version), key)
    return await _after(caller, memory, appended)


async def _sure(caller: Caller, look: Callable[[], Awaitable[Found]]) -> Found:
    """What is decided by the index, also while it is made again."""
    return await of_one_index(caller.database.memories, caller.follow, look)


async def _open(caller: Caller, memory: str, seen: int | None) -> Memory:
    """The newest version, which must be open, and the one that the person saw."""
    found = await show(caller, memory)
    if found.closed_at is not None:
        raise Conflict(f"Memory {memory} was withdrawn before. It stays so; write a new one.")
    if seen is not None and found.version != seen:
        raise Conflict(
            f"Memory {memory} has version {found.version} by now, written by {found.author}; you saw {seen}. Nothing "
            "was changed. Look at it again."
        )
    return found


async def _changed(caller: Caller, found: Memory, change: Callable[[], Awaitable[Event]], key: Key | None) -> Memory:
    """A memory after this change of it."""
    return await _after(
        caller, found.id, await journaled(caller, found.place.store, partial(_sure, caller, change), key)
    )


async def _after(caller: Caller, memory: str, appended: Appended) -> Memory:
    """A memory after a change; when that was made before, under its key, the version that it made then."""
    event = appended.records[0].event
    if appended.replayed and isinstance(event, MemoryKept):
        return await show(caller, memory, version=event.version)
    return await show(caller, memory)


async def _done(caller: Caller, store: str, key: Key | None) -> Event | None:
    """What was journaled under a key, if there is one and it was."""
    before = await under(caller, store, key) if key is not None else None
    return None if before is None else before.records[0].event


def _writer(caller: Caller, key: Key | None) -> str:
    """Who changes a memory, for its claim: under a key whoever comes with that, since the first may have died."""
    return caller.make_id("write") if key is None else f"write_{digest_of(caller.project.encode(), key.name.encode())}"


async def _claim(caller: Caller, step: Step, by: str) -> None:
    """Be the one who changes a memory next. Raises Conflict when an agent or another person is about to."""
    if not await claim(caller.database.registry, caller.project, step, by=by, now=caller.clock.now()):
        raise Conflict(
            f"Memory {step.memory} was changed by somebody else just now. Nothing was changed; look at it again."
        )


def _next(caller: Caller, found: Memory, text: str, dates: Dates) -> MemoryKept:
    is_block = found.kind == "block"
    return MemoryKept(
        found.place.store,
        found.id,
        text,
        subjects=found.subjects[1:] if is_block else found.subjects,
        scope=found.place.scope,
        kind="block" if is_block else "note",
        version=found.version + 1,
        name=found.subjects[0] if is_block and found.subjects else "",
        valid_from=dates.valid_from,
        valid_to=dates.valid_to,
        expires_at=dates.expires_at,
        source=found.position,
        source_session=found.session,
        by=caller.actor,
    )


def _check_text(text: str, bytes_max: int) -> None:
    if not text.strip():
        raise InvalidInput("The text is empty. Nothing was written; to withdraw a memory, forget it.", param="text")
    if len(text.encode()) > bytes_max:
        raise InvalidInput(
            f"The text has {len(text.encode()):,} bytes; at most {bytes_max:,} are kept. Nothing was written.",
            param="text",
        )


def _check_scope(place: Place) -> None:
    """Refuse a scope that no session has: nobody would ever see what lies there."""
    kind, _, name = place.scope.partition(":")
    if place.scope != "project" and not (kind in ("user", "agent", "session") and name):
        raise InvalidInput(
            f"{place.scope[:80]!r} is no scope: write project, user:ID, agent:NAME or session:ID. Nothing was written.",
            param="scope",
        )


def _check_dates(dates: Dates) -> None:
    if dates.valid_from is not None and dates.valid_to is not None and dates.valid_to <= dates.valid_from:
        raise InvalidInput("valid_to does not come after valid_from. Nothing was written.", param="valid_to")
