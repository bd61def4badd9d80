"""Memory stores and grants as they stand in the registry, and the rights they come to now.

Nothing here is cached: what a session may see is looked up whenever it is asked for, so that a right that was taken
away is gone at the next call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from remanence.core.memory.grants import NO_ACCESS, Access, Grant, Subject, access_of, grantee
from remanence.errors import Conflict, NotFound
from remanence.ports import Entry, Registry
from remanence.spec import MemoryUse

__all__ = [
    "GRANT_KIND",
    "STORE_KIND",
    "GrantBody",
    "StoreBody",
    "access_now",
    "ensure_store",
    "grants_for",
    "grants_in",
    "registry_id",
]

STORE_KIND: Final = "memory_store"
GRANT_KIND: Final = "memory_grant"


class StoreBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the registry keeps of a memory store. `declared`: an agent's version named it before anybody made it."""

    name: str
    description: str = ""
    by: str = ""
    declared: bool = False


class GrantBody(msgspec.Struct, frozen=True):
    """What the registry keeps of one grantee: its grants, one for each store."""

    to: str
    grants: tuple[Grant, ...]


def registry_id(project: str, name: str) -> str:
    """The id of a project's own entry: ids are unique across projects."""
    return f"{project}/{name}"


async def grants_in(registry: Registry, project: str, to: str) -> tuple[tuple[Grant, ...], int]:
    """The grants to one grantee, and the revision of their entry (0: there is none)."""
    try:
        entry = await registry.get(GRANT_KIND, registry_id(project, to))
    except NotFound:
        return (), 0
    if entry.project != project:
        return (), 0
    return msgspec.json.decode(entry.body, type=GrantBody).grants, entry.revision


async def grants_for(registry: Registry, subject: Subject) -> Sequence[Grant]:
    """Every grant that speaks of a session, now."""
    agent, session = await asyncio.gather(*(grants_in(registry, subject.project, to) for to in grantee(subject)))
    return (*agent[0], *session[0])


async def access_now(registry: Registry, subject: Subject, use: MemoryUse | None) -> Access:
    """What a session may do now."""
    if use is None:
        return NO_ACCESS
    return access_of(subject, use, await grants_for(registry, subject))


async def ensure_store(registry: Registry, project: str, name: str, *, at: int) -> bool:
    """Make the entry of a store that an agent's version names, unless it is there. Whether it was made."""
    identity = registry_id(project, name)
    try:
        await registry.get(STORE_KIND, identity)
        return False
    except NotFound:
        body = msgspec.json.encode(StoreBody(name, declared=True))
    try:
        await registry.put(Entry(STORE_KIND, project, identity, at, at, body), expect=0)
    except Conflict:
        return False  # somebody else made it just now
    return True
