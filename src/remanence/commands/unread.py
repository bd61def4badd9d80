"""Notes that were journaled and are not indexed yet.

The index of the memory follows the journals, in whatever process; while it is made again it is far behind. Whoever must
find every note looks at what it has not read, too, and first: what is indexed meanwhile is found by the second look.
"""

from __future__ import annotations

from collections import defaultdict

from remanence.core.memory.journal import owner_of
from remanence.core.memory.projection import MEMORY, note_of
from remanence.errors import NotFound
from remanence.events import MemoryKept
from remanence.ports import Cursor, Database
from remanence.recollections import Memory
from remanence.stores.reading import pages_of

__all__ = ["unread_notes"]

_PAGE = 200


async def unread_notes(database: Database, project: str) -> dict[str, list[Memory]]:
    """The versions of the notes and blocks of a project that the index has not read, by the ids of the memories."""
    found: defaultdict[str, list[Memory]] = defaultdict(list)
    after = ""
    while cursors := await database.store.behind(MEMORY, limit=_PAGE, after=after):
        for cursor in cursors:
            for memory in await _notes_after(database, cursor, project):
                found[memory.id].append(memory)
        after = cursors[-1].session
    return dict(found)


async def _notes_after(database: Database, cursor: Cursor, project: str) -> list[Memory]:
    try:
        row = await database.views.session(cursor.session)
    except NotFound:
        return []
    if owner_of(row.summary.project) != project:
        return []
    pages = pages_of(database.store, cursor.session, after=cursor.position)
    records = [record async for page in pages for record in page]
    kept = [(r, r.event) for r in records if isinstance(r.event, MemoryKept) and not r.redacted]
    return [note_of(record, event, project) for record, event in kept]
