"""Consolidation of long-term memory: which places are due for it, and the session that does it.

A place is due when enough was said there since last time and nobody has spoken for a while. The session's metadata
holds up to where it has come, in the order in which episodes were recorded; it moves with the input that names them, so
a crash in between names some of them again, and a note that is there already is not written twice.

Every change is a record of that session: a note with its source, or a new version that closes the old one. `undo` in
`commands/memory.py` takes one back.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import msgspec
import structlog
from msgspec.structs import replace

from remanence.commands.caller import Caller, state_of
from remanence.commands.sessions import Opening, annotate, open_session, send
from remanence.core.memory.consolidation import EPISODES_MAX, input_for, spec_for
from remanence.core.state import Session
from remanence.errors import Conflict, NotFound, RemanenceError
from remanence.recollections import Memory, MemoryListing, Place

__all__ = ["Consolidating", "consolidate", "consolidate_all", "consolidation_of", "keep_consolidating"]

log = structlog.get_logger("remanence.consolidation")

BYTES_MAX = 24_000
"""So much text of episodes makes one input."""
THROUGH = "consolidated_through"
_MICROS = 1_000_000
_PAGE = 200


class Consolidating(msgspec.Struct, frozen=True):
    """How memory is consolidated. `model` as agents name it; `usd_micros` is what each place's session may spend."""

    model: str
    episodes_min: int = 20
    quiet_s: float = 600.0
    usd_micros: int | None = None
    look_every_s: float = 60.0


def consolidation_of(project: str, place: Place, again: int = 0) -> str:
    """The id of the session that consolidates a place. `again`: how often its user was erased, and came back."""
    name = f"{project}/{place.store}/{place.scope}" + (f"/{again}" if again else "")
    return f"consolidation_{sha256(name.encode()).hexdigest()[:24]}"


async def keep_consolidating(caller: Caller, how: Consolidating) -> None:
    """Consolidate what is due, of every project, for as long as this process lives."""
    while True:
        try:
            versions = await caller.database.specs.versions(None)
            for project in dict.fromkeys(version.project for version in versions):
                await consolidate_all(replace(caller, project=project), how)
        except RemanenceError as error:
            log.warning("memory is consolidated later", why=error.message)
        await caller.clock.sleep(how.look_every_s)


async def consolidate_all(caller: Caller, how: Consolidating, *, now: bool = False) -> Sequence[str]:
    """Begin to consolidate every place of the project that is due; with `now`, whatever has an episode to read.

    Returns the sessions that were given something to do.
    """
    begun: list[str] = []
    for place in await caller.database.memories.places(caller.project):
        session = await consolidate(caller, place, how, now=now)
        if session is not None:
            begun.append(session)
    return begun


async def consolidate(caller: Caller, place: Place, how: Consolidating, *, now: bool = False) -> str | None:
    """Give a place's session the next episodes, when it is due and has none to read; None when it is not."""
    spec = spec_for(how.model, place, usd_micros=how.usd_micros)
    if spec is None:
        return None
    session, s = await _session_of(caller, place)
    if s is not None and (s.turn is not None or s.queue or s.deleted):
        return None  # it still works at the last ones, or somebody does not want it to
    through = s.metadata.get(THROUGH, "") if s is not None else ""
    episodes = await _episodes(caller, place, through)
    quiet_since = caller.clock.now() - int(how.quiet_s * _MICROS)
    due = len(episodes) >= how.episodes_min and episodes[-1].recorded_at <= quiet_since
    if not episodes or not (due or now):
        return None
    if s is None:
        user = place.scope.partition(":")[2]
        try:
            await open_session(caller, spec, Opening(user=user, title=f"Memory of {user}", session=session))
        except Conflict:
            return None  # another process has begun just now
    batch = _batch(episodes)
    key = f"consolidate:{session}:{_mark(batch[-1])}"
    await send(caller, session, input_for([episode.id for episode in batch]), key=key)
    await annotate(caller, session, {THROUGH: _mark(batch[-1])}, {})
    return session


async def _session_of(caller: Caller, place: Place) -> tuple[str, Session | None]:
    """The session of a place, and its state when it is there. That of a user who was erased is another's, and so
    is one that another project opened in its place."""
    user, again = place.scope.partition(":")[2], 0
    while True:
        session = consolidation_of(caller.project, place, again)
        try:
            s = await state_of(caller, session)
        except NotFound:
            return session, None
        if (s.user, s.project) == (user, caller.project):
            return session, s
        again += 1


async def _episodes(caller: Caller, place: Place, through: str) -> list[Memory]:
    """The episodes of a place after a mark, oldest first."""
    found: list[Memory] = []
    listing = MemoryListing(project=caller.project, places=(place,), kinds=("episode",), limit=_PAGE)
    while page := await caller.database.memories.list(listing):
        fresh = [episode for episode in page if _mark(episode) > through]
        found += fresh
        if len(fresh) < len(page):
            break
        listing = replace(listing, after=page[-1].id)
    return sorted(found, key=_mark)


def _mark(episode: Memory) -> str:
    """Where an episode stands in the order of recording, as a text that sorts the same way."""
    return f"{episode.recorded_at:020d} {episode.id}"


def _batch(episodes: Sequence[Memory]) -> Sequence[Memory]:
    size, count = 0, 0
    for episode in episodes[:EPISODES_MAX]:
        size += len(episode.text.encode())
        if count and size > BYTES_MAX:
            break
        count += 1
    return episodes[:count]
