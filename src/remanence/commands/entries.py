"""All entries of the registry of a kind, however many there are."""

from __future__ import annotations

from msgspec.structs import replace

from remanence.commands.caller import Caller
from remanence.errors import NotFound
from remanence.ports import Entry, EntryQuery

__all__ = ["entries_of"]

_PAGE = 200


async def entries_of(caller: Caller, kind: str, *, project: str | None) -> list[Entry]:
    """All of a kind. When the one that a page begins after is removed meanwhile, from the beginning once more."""
    while True:
        found, query = list[Entry](), EntryQuery(kind, project, limit=_PAGE)
        try:
            while entries := await caller.database.registry.list(query):
                found += entries
                query = replace(query, after=entries[-1].id)
            return found
        except NotFound:
            continue
