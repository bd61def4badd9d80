"""Agents that a client saved: made, changed, listed and removed by their ids.

A saved agent is an entry of the registry (kind `agent`) that names the newest version of its spec. Every change makes a
version; sessions keep the one they pinned, also when the agent is removed. An agent that is declared in code or in a
file has an entry as well, so that it is listed, but is changed only where it was declared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

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
    "create_agent",
    "find_agent",
    "list_agents",
    "made_by",
    "remove_agent",
]

KIND = "agent"


class SavedAgent(msgspec.Struct, frozen=True):
    """One agent by its id, with its newest version. Times in microseconds since 1970."""

    id: str
    created_at: int
    updated_at: int
    revision: int
    spec: AgentSpec
    declared: bool = False


class _Body(msgspec.Struct, frozen=True, omit_defaults=True):
    """`request` is the digest of the request that made it, `first` the version it was made with."""

    version: str
    first: str
    request: str = ""
    declared: bool = False


async def create_agent(caller: Caller, spec: AgentSpec, *, request: str = "") -> SavedAgent:
    """Save an agent under the name of its spec. The same `request` again (a digest) is the same agent, as it was made.

    Raises Conflict when there is another agent of that id, KeyReused when the id came from another request.
    """
    now = caller.clock.now()
    version = await caller.database.specs.put(spec, project=caller.project, at=now)
    body = _Body(version.version, version.version, request)
    entry = Entry(KIND, caller.project, _key(caller, spec.name), now, now, msgspec.json.encode(body))
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
        known = await caller.database.registry.get(KIND, _key(caller, agent))
    except NotFound:
        return None
    before = msgspec.json.decode(known.body, type=_Body)
    if not before.request:
        return None
    if before.request != request:
        raise KeyReused(
            "The idempotency key was used before with another request. The agent it made stands; nothing of this one "
            "was kept. Send it again under a key of its own."
        )
    made = await caller.database.specs.get(before.first)
    return SavedAgent(agent, known.at, known.at, 1, made)


async def change_agent(caller: Caller, known: SavedAgent, spec: AgentSpec) -> SavedAgent:
    """Give an agent a new version. Conflict when somebody changed it after `known` was read, or it lives in code."""
    _check_saved(known)
    now = caller.clock.now()
    version = await caller.database.specs.put(spec, project=caller.project, at=now)
    entry = await caller.database.registry.get(KIND, _key(caller, known.id))
    body = replace(msgspec.json.decode(entry.body, type=_Body), version=version.version)
    changed = replace(entry, updated_at=now, body=msgspec.json.encode(body))
    return await _agent_of(caller, await caller.database.registry.put(changed, expect=known.revision))


async def find_agent(caller: Caller, agent: str) -> SavedAgent:
    """One agent of the caller's project. Raises NotFound."""
    try:
        return await _agent_of(caller, await caller.database.registry.get(KIND, _key(caller, agent)))
    except NotFound:
        raise NotFound(f"There is no agent {agent!r}. It was never made here, or it was removed.") from None


async def list_agents(
    caller: Caller, *, after: str | None = None, newest_first: bool = True, limit: int = 20
) -> Sequence[SavedAgent]:
    """Agents of the caller's project in the order they were made. Raises InvalidInput for an unknown `after`."""
    query = EntryQuery(KIND, caller.project, after and _key(caller, after), newest_first, limit)
    try:
        entries = await caller.database.registry.list(query)
    except NotFound:
        raise InvalidInput(f"after: there is no agent {after!r} here.", param="after") from None
    return await asyncio.gather(*(_agent_of(caller, entry) for entry in entries))


async def remove_agent(caller: Caller, agent: str) -> None:
    """Remove an agent; sessions of it go on. Raises NotFound, and Conflict for one that lives in code."""
    _check_saved(await find_agent(caller, agent))
    await caller.database.registry.remove(KIND, _key(caller, agent))


async def announce(caller: Caller, spec: AgentSpec) -> None:
    """Let an agent that is declared in code be listed, with the version it has now. Writes only what is new."""
    now, version, key = caller.clock.now(), spec_digest(spec), _key(caller, spec.name)
    try:
        entry = await caller.database.registry.get(KIND, key)
        body = msgspec.json.decode(entry.body, type=_Body)
    except NotFound:
        entry, body = Entry(KIND, caller.project, key, now, now, b"", 0), _Body("", version)
    if body.version == version:
        return
    await caller.database.specs.put(spec, project=caller.project, at=now)
    changed = replace(entry, updated_at=now, body=msgspec.json.encode(replace(body, version=version, declared=True)))
    try:
        await caller.database.registry.put(changed, expect=entry.revision)
    except Conflict:
        return  # another process announces it at this moment


def _key(caller: Caller, agent: str) -> str:
    """Where an agent's entry is: two projects may have agents of one name."""
    return f"{caller.project}/{agent}"


def _check_saved(known: SavedAgent) -> None:
    if known.declared:
        raise Conflict(
            f"Agent {known.id!r} is declared in code or in a file. It was left as it is; change it where it is "
            "declared."
        )


async def _agent_of(caller: Caller, entry: Entry) -> SavedAgent:
    body = msgspec.json.decode(entry.body, type=_Body)
    spec = await caller.database.specs.get(body.version)
    return SavedAgent(
        entry.id.removeprefix(_key(caller, "")), entry.at, entry.updated_at, entry.revision, spec, body.declared
    )
