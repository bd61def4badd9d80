"""Notes of sessions whose journals could not be read, for lists: a row can be whole where its records are not.

A note is left by whoever met the damage. It says nothing about now: who shows it looks again first, and takes it away
when the session can be read (`commands/lists.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from remanence.errors import NotFound, RemanenceError, StoreCorrupt, StoreError
from remanence.ports import Database, Entry, EntryQuery

__all__ = ["KIND", "forget_unreadable", "note_unreadable", "noted_unreadable"]

KIND = "unreadable_session"
NOTES_MAX = 200
"""How many a list looks at, those noted last: where there are more, the file is lost and everything says so."""


async def note_unreadable(database: Database, session: str, error: StoreCorrupt, *, at: int) -> None:
    """Leave a note, where one can be written; what the damage says is raised or logged by whoever met it."""
    try:
        project = (await database.views.session(session)).summary.project
        body = msgspec.json.encode(error.message)
        await database.registry.put(Entry(KIND, project, session, at, at, body), expect=0)
    except RemanenceError as other:  # it is noted already, or the rest of the database is no better
        _say("a session that cannot be read was not noted", session, other)


async def noted_unreadable(database: Database, project: str) -> Mapping[str, str]:
    """The sessions of a project that somebody could not read, and what was said then."""
    entries = await database.registry.list(EntryQuery(KIND, project, newest_first=True, limit=NOTES_MAX))
    return {entry.id: msgspec.json.decode(entry.body, type=str) for entry in entries}


async def forget_unreadable(database: Database, session: str) -> None:
    """Take a note away: the session can be read."""
    try:
        await database.registry.remove(KIND, session)
    except (NotFound, StoreError) as error:  # somebody else did, or nothing can be written here
        _say("a note of a session stays, and is not shown", session, error)


def _say(event: str, session: str, error: RemanenceError) -> None:
    import structlog  # with what it loads itself: the help of a command, which comes by here, needs none of it

    structlog.get_logger("remanence.store").debug(event, session=session, why=error.message)
