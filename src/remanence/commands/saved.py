"""Agents that a client saved: made, changed, listed and removed by their ids.

A saved agent is an entry of the registry (kind `agent`) that names the newest version of its spec. Every change makes a
version; sessions keep the one they pinned, also when the agent is removed. The entry of a removed agent stays, for its
place in the list alone: whoever removes agents while listing them goes on after it. An agent that is declared in code
or in a file has an entry as well, so that it is listed, but is changed only where it was declared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from remanence.commands.caller import Caller
from remanence.errors import Conflict, InvalidInput, KeyReused, NotFound
from remanence.ports import Entry, EntryQuery
from remanence.spec import AgentSpec, spec_digest

__all__ = [
    "KIND",
    "SavedAgent",
    "announce",
    "change_agent",
    "changed_by",
    "create_agent",
    "find_agent",
    "list_agents",
    "made_by",
    "remove_agent",
]

KIND = "agent"
_LOOKED_AT_ONCE = 100
_MARKED_US = 86_400_000_000


class SavedAgent(msgspec.Struct, frozen=True):
    """One agent by its id, with its newest version. Times in microseconds since 1970."""

    id: str
    created_at: int
    updated_at: int
    revision: int
    spec: AgentSpec
    declared: bool = False


class _Body(msgspec.Struct, frozen=True, omit_defaults=True):
    """`request` is the digest of the request that made it, `first` the version it was made with. `changes` are the
    marks of requests that changed it within a day, each with its moment."""

    version: str
    first: str
    request: str = ""
    declared: bool = False
    removed: bool = False
    changes: dict[str, int] = {}


async def create_agent(caller: Caller, spec: AgentSpec, *, request: str = "") -> SavedAgent:
    """Save an agent under the name of its spec. The same `request` again (a digest) is the same agent, as it was made.

    Raises Conflict when there is another agent of that id, KeyReused when the id came from another request.
    """
    now = caller.clock.now()
    version = await caller.database.specs.put(spec, project=caller.project, at=now)
    body = _Body(version.version, version.version, request)
    entry = Entry(KIND, caller.project, _key(caller, spec.name), now, now, msgspec.json.encode(body))
    await _forget_removed(caller, spec.name)
    try:
        return await _agent_of(caller, await caller.database.registry.put(entry, expect=0))
    except Conflict:
        before = await made_by(caller, spec.name, request) if request else None
    if before is None:
        raise Conflict(f"There is an agent {spec.name!r} already. It was left as it is; choose another id.")
    return before


async def made_by(caller: Caller, agent: str, request: str) -> SavedAgent | None:
    """The agent of this id as this `request` made it; None when no request made one. Raises KeyReused."""
    try:
        known, before = await _entry_of(caller, agent)
    except NotFound:
        return None
    if not before.request:
        return None
    if before.request != request:
        raise KeyReused(
            "The idempotency key was used before with another request. The agent it made stands; nothing of this one "
            "was kept. Send it again under a key of its own."
        )
    made = await caller.database.specs.get(before.first)
    return SavedAgent(agent, known.at, known.at, 1, made)


async def change_agent(caller: Caller, known: SavedAgent, spec: AgentSpec, *, mark: str = "") -> SavedAgent:
    """Give an agent a new version. Conflict when somebody changed it after `known` was read, or it lives in code.

    `mark` is kept with it for a day: it says that this change was made (`changed_by`).
    """
    _check_saved(known)
    now = caller.clock.now()
    version = await caller.database.specs.put(spec, project=caller.project, at=now)
    entry, body = await _entry_of(caller, known.id)
    changes = {one: at for one, at in body.changes.items() if now - at < _MARKED_US} | ({mark: now} if mark else {})
    body = replace(body, version=version.version, changes=changes)
    changed = replace(entry, updated_at=now, body=msgspec.json.encode(body))
    return await _agent_of(caller, await caller.database.registry.put(changed, expect=known.revision))


async def changed_by(caller: Caller, agent: str, mark: str) -> bool:
    """Whether this agent was changed under this mark within a day. Raises NotFound."""
    _, body = await _entry_of(caller, agent)
    return mark in body.changes and caller.clock.now() - body.changes[mark] < _MARKED_US


async def find_agent(caller: Caller, agent: str) -> SavedAgent:
    """One agent of the caller's project. Raises NotFound."""
    entry, _ = await _entry_of(caller, agent)
    return await _agent_of(caller, entry)


async def list_agents(
    caller: Caller, *, after: str | None = None, newest_first: bool = True, limit: int = 20
) -> Sequence[SavedAgent]:
    """Agents of the caller's project in the order they were made. Raises InvalidInput for an unknown `after`; one that
    was removed is known."""
    query = EntryQuery(KIND, caller.project, after and _key(caller, after), newest_first, limit)
    found: list[Entry] = []
    try:
        while len(found) < limit and (entries := await caller.database.registry.list(query)):
            found += [entry for entry in entries if not _body_of(entry).removed]
            query = replace(query, after=entries[-1].id, limit=_LOOKED_AT_ONCE)
    except NotFound:
        raise InvalidInput(f"after: there is no agent {after!r} here.", param="after") from None
    return await asyncio.gather(*(_agent_of(caller, entry) for entry in found[:limit]))


async def remove_agent(caller: Caller, agent: str) -> None:
    """Remove an agent; sessions of it go on. Raises NotFound, and Conflict for one that lives in code."""
    while True:
        entry, body = await _entry_of(caller, agent)
        _check_saved(await _agent_of(caller, entry))
        removed = replace(entry, updated_at=caller.clock.now(), body=msgspec.json.encode(replace(body, removed=True)))
        try:
            await caller.database.registry.put(removed, expect=entry.revision)
        except Conflict:
            continue  # somebody changed it just now, or removed it
        return


async def announce(caller: Caller, spec: AgentSpec) -> None:
    """Let an agent that is declared in code be listed, with the version it has now. Writes only what is new."""
    now, version, key = caller.clock.now(), spec_digest(spec), _key(caller, spec.name)
    try:
        entry = await caller.database.registry.get(KIND, key)
        body = _body_of(entry)
    except NotFound:
        entry, body = Entry(KIND, caller.project, key, now, now, b"", 0), _Body("", version)
    if body.version == version and not body.removed:
        return
    await caller.database.specs.put(spec, project=caller.project, at=now)
    body = replace(body, version=version, declared=True, removed=False)
    changed = replace(entry, updated_at=now, body=msgspec.json.encode(body))
    try:
        await caller.database.registry.put(changed, expect=entry.revision)
    except Conflict:
        return  # another process announces it at this moment


def _key(caller: Caller, agent: str) -> str:
    """Where an agent's entry is: two projects may have agents of one name."""
    return f"{caller.project}/{agent}"


def _body_of(entry: Entry) -> _Body:
    return msgspec.json.decode(entry.body, type=_Body)


async def _entry_of(caller: Caller, agent: str) -> tuple[Entry, _Body]:
    """The entry of an agent that was not removed, and what it says. Raises NotFound."""
    try:
        entry = await caller.database.registry.get(KIND, _key(caller, agent))
        body = _body_of(entry)
        if not body.removed:
            return entry, body
    except NotFound:
        pass
    raise NotFound(f"There is no agent {agent!r}. It was never made here, or it was removed.")


async def _forget_removed(caller: Caller, agent: str) -> None:
    """Give the id of a removed agent to a new one, which is the last of the list."""
    registry, key = caller.database.registry, _key(caller, agent)
    with suppress(NotFound):
        if _body_of(await registry.get(KIND, key)).removed:
            await registry.remove(KIND, key)


def _check_saved(known: SavedAgent) -> None:
    if known.declared:
        raise Conflict(
            f"Agent {known.id!r} is declared in code or in a file. It was left as it is; change it where it is "
            "declared."
        )


async def _agent_of(caller: Caller, entry: Entry) -> SavedAgent:
    body = _body_of(entry)
    spec = await caller.database.specs.get(body.version)
    return SavedAgent(
        entry.id.removeprefix(_key(caller, "")), entry.at, entry.updated_at, entry.revision, spec, body.declared
    )
