"""Memory stores and grants: what a project keeps apart, and which agents and sessions may see it or add to it.

A grant is made, changed and taken away by the same verb; each change is kept with its moment and its author. It holds
from the next recall and the next call on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from remanence.commands.caller import Caller
from remanence.core.memory.grants import SCOPES, Grant, GrantChange
from remanence.errors import Conflict, InvalidInput, NotFound
from remanence.ports import Entry, EntryQuery
from remanence.spec import MemoryScope
from remanence.tools.memory_access import (
    GRANT_KIND,
    STORE_KIND,
    GrantBody,
    StoreBody,
    grants_in,
    registry_id,
)

__all__ = [
    "DEFAULT_STORE",
    "MemoryStore",
    "check_store",
    "create_store",
    "grant",
    "list_grants",
    "list_stores",
    "store_names",
]

DEFAULT_STORE: Final = "default"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TRIES: Final = 8
_PAGE: Final = 200


class MemoryStore(msgspec.Struct, frozen=True):
    """A memory store of the project. `declared`: an agent's version named it before anybody made it."""

    store: str
    description: str
    by: str
    declared: bool
    created_at: int


async def list_stores(caller: Caller) -> list[MemoryStore]:
    """The stores of the project, in the order they were made."""
    entries = await _entries(caller, STORE_KIND)
    bodies = [(entry, msgspec.json.decode(entry.body, type=StoreBody)) for entry in entries]
    return [MemoryStore(body.name, body.description, body.by, body.declared, entry.at) for entry, body in bodies]


async def store_names(caller: Caller) -> list[str]:
    """Their names; the default store is always among them."""
    return list(dict.fromkeys([DEFAULT_STORE, *(store.store for store in await list_stores(caller))]))


async def create_store(caller: Caller, name: str, *, description: str = "") -> MemoryStore:
    """Make a store. Raises InvalidInput for a bad name, Conflict when somebody made it before."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name[:80]!r} is no name for a store: 1 to 64 letters, digits, `.`, `_` or `-`. Nothing was made.",
            param="name",
        )
    now, identity = caller.clock.now(), registry_id(caller.project, name)
    body = msgspec.json.encode(StoreBody(name, description, caller.actor))
    revision = 0
    try:
        known = await caller.database.registry.get(STORE_KIND, identity)
        revision = known.revision
        if not msgspec.json.decode(known.body, type=StoreBody).declared:
            raise Conflict(f"There is a memory store {name!r} already. It was left as it is.")
    except NotFound:
        revision = 0
    entry = await caller.database.registry.put(
        Entry(STORE_KIND, caller.project, identity, now, now, body), expect=revision
    )
    return MemoryStore(name, description, caller.actor, False, entry.at)


async def check_store(caller: Caller, name: str) -> None:
    """Raises NotFound unless the project has this store."""
    if name not in await store_names(caller):
        raise NotFound(
            f"There is no memory store {name!r} in project {caller.project}. Nothing was changed. Make it: `remanence "
            f"memory stores create {name}`."
        )


async def grant(
    caller: Caller, store: str, to: str, *, reads: Sequence[MemoryScope], writes: Sequence[MemoryScope]
) -> Grant:
    """Say what `to` (`agent:NAME` or `session:ID`) may do with a store from now on; nothing takes every right away.

    Raises InvalidInput, NotFound.
    """
    kind, colon, name = to.partition(":")
    if kind not in ("agent", "session") or not colon or not name:
        raise InvalidInput(f"{to!r} is nobody: write agent:NAME or session:ID. Nothing was changed.", param="to")
    unknown = [scope for scope in (*reads, *writes) if scope not in SCOPES]
    if unknown:
        raise InvalidInput(
            f"{unknown[0]!r} is no scope; they are {', '.join(SCOPES)}. Nothing was changed.", param="scopes"
        )
    await check_store(caller, store)
    change = GrantChange(caller.clock.now(), caller.actor, tuple(reads), tuple(writes))
    for _ in range(_TRIES):
        known, revision = await grants_in(caller.database.registry, caller.project, to)
        old = next((one for one in known if one.store == store), Grant(store, to, ()))
        made = Grant(store, to, (*old.changes, change))
        body = GrantBody(to, (*(one for one in known if one.store != store), made))
        entry = Entry(
            GRANT_KIND,
            caller.project,
            registry_id(caller.project, to),
            change.at,
            change.at,
            msgspec.json.encode(body),
        )
        try:
            await caller.database.registry.put(entry, expect=revision)
        except Conflict:
            continue
        return made
    raise Conflict(f"The grants to {to} changed {_TRIES} times while you wrote; nothing was changed. Try again.")


async def list_grants(caller: Caller, *, store: str | None = None, to: str | None = None) -> list[Grant]:
    """The grants of the project, those that were taken away, too."""
    bodies = [msgspec.json.decode(e.body, type=GrantBody) for e in await _entries(caller, GRANT_KIND)]
    return [one for body in bodies if to in (None, body.to) for one in body.grants if store in (None, one.store)]


async def _entries(caller: Caller, kind: str) -> list[Entry]:
    found: list[Entry] = []
    after = None
    while entries := await caller.database.registry.list(EntryQuery(kind, caller.project, after, limit=_PAGE)):
        found += entries
        after = entries[-1].id
    return found
