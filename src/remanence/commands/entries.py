"""Entries of the registry: one of the project, by its id; all of a kind, however many there are."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from remanence.commands.caller import Caller
from remanence.errors import NotFound
from remanence.ports import HOLDING_MAX, Entry, EntryQuery, Registry

__all__ = ["entries_of", "every_entry", "holding", "own_entry"]

_PAGE = 200


async def own_entry(caller: Caller, kind: str, name: str) -> Entry | None:
    """The entry of this id. None when there is none, and when it is another project's: nobody learns which."""
    try:
        entry = await caller.database.registry.get(kind, name)
    except NotFound:
        return None
    return entry if entry.project == caller.project else None


async def entries_of(caller: Caller, kind: str, *, project: str | None) -> list[Entry]:
    """All of a kind."""
    return await every_entry(caller.database.registry, kind, project=project)


async def holding(caller: Caller, kind: str, pieces: Sequence[bytes], *, project: str | None) -> list[Entry]:
    """Those of a kind whose body holds any of some bytes. The others are not read here, however many there are."""
    found = dict[str, Entry]()
    for start in range(0, len(pieces), HOLDING_MAX):
        some = tuple(pieces[start : start + HOLDING_MAX])
        for entry in await every_entry(caller.database.registry, kind, project=project, holding=some):
            found[entry.id] = entry
    return list(found.values())


async def every_entry(
    registry: Registry, kind: str, *, project: str | None, holding: tuple[bytes, ...] = ()
) -> list[Entry]:
    """The same. When the one that a page begins after is removed meanwhile, from the beginning once more."""
    while True:
        found, query = list[Entry](), EntryQuery(kind, project, limit=_PAGE, holding=holding)
        try:
            while entries := await registry.list(query):
                found += entries
                query = replace(query, after=entries[-1].id)
            return found
        except NotFound:
            continue
