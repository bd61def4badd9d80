"""What screens ask of SQLite besides lists: see `ports.Screens` and `0003_screens.sql`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from msgspec.structs import replace

from remanence.core.words import scope_words
from remanence.ports import Cursor, SessionQuery
from remanence.screens import SCREENS, TAGGED_MAX, Hit, Minute, Overview, Search, Seen, Tag, VersionUse
from remanence.stores.sqlite_changes import move_cursor
from remanence.stores.sqlite_ledger import Ledger
from remanence.stores.sqlite_readers import Readers
from remanence.stores.sqlite_tables import MINUTE_US, POSITION_BITS, place_of
from remanence.stores.sqlite_views import FILTERED, filters_of, row_if
from remanence.stores.sqlite_words import forget_session
from remanence.stores.sqlite_writer import Writer

__all__ = ["SqliteScreens"]

_REDACTED = "SELECT 1 FROM records WHERE place = ? AND payload IS NOT NULL AND payload_digest IS NOT NULL"
_ADD_TURN = """
INSERT INTO turn_minutes VALUES (?, ?, ?, ?, ?)
ON CONFLICT (project, minute) DO UPDATE SET completed = completed + excluded.completed,
    failed = failed + excluded.failed, cancelled = cancelled + excluded.cancelled
"""
_FOUND = "SELECT rowid FROM search_words WHERE search_words MATCH ? AND rowid < ? {} ORDER BY rowid DESC"
_COUNTS = (
    "SELECT status, waiting_on, count(*) FROM summaries "
    "WHERE status <> 'idle' AND project = ? GROUP BY status, waiting_on"
)
_DOUBTS = (
    "SELECT count(*) FROM (SELECT id FROM summaries WHERE waiting_on <> '' AND waiting_on = 'doubt' AND project = ?1 "
    "UNION SELECT d.id FROM search_doubts d JOIN summaries m ON m.id = d.id WHERE m.project = ?1 "
    "AND m.status <> 'deleted')"
)
_TAGS = (
    "SELECT t.key, t.value, count(*) AS many FROM (SELECT h.id FROM heads h CROSS JOIN summaries m ON m.id = h.id "
    f"WHERE m.project = ? AND m.status <> 'deleted' ORDER BY h.updated_minute DESC LIMIT {TAGGED_MAX}) AS r "
    "CROSS JOIN search_tags t ON t.id = r.id GROUP BY t.key, t.value ORDER BY many DESC, t.key, t.value LIMIT ?"
)
_VERSIONS = (
    "SELECT m.version, count(*), sum(m.turns), sum(m.usd_micros), max(h.updated_at) FROM summaries m "
    "CROSS JOIN heads h ON h.id = m.id WHERE m.project = ? AND m.agent = ? AND m.status <> 'deleted' "
    "GROUP BY m.version ORDER BY m.version"
)
_NO_END = (1 << 63) - 1
_EMPTIED = ("search_words", "search_tags", "search_doubts", "turn_minutes")


class SqliteScreens:
    """Words, tags, doubts and minutes."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def record(self, cursor: Cursor, seen: Seen) -> None:
        await self._writer.do(partial(_record, cursor=cursor, seen=seen))

    async def search(self, search: Search) -> Sequence[Hit]:
        return await self._readers.run(partial(_search, search=search))

    async def tags(self, project: str, *, limit: int) -> Sequence[Tag]:
        return await self._readers.run(partial(_tags, project=project, limit=limit))

    async def overview(self, project: str, *, since: int) -> Overview:
        return await self._readers.run(partial(_overview, project=project, since=since))

    async def versions(self, project: str, agent: str) -> Sequence[VersionUse]:
        return await self._readers.run(partial(_versions, project=project, agent=agent))

    async def clear(self) -> None:
        await self._writer.do(_clear)


# --- adding -----------------------------------------------------------------------------------------------------------


def _record(ledger: Ledger, cursor: Cursor, seen: Seen) -> None:
    id_ = move_cursor(ledger, SCREENS, cursor)
    if id_ is None:
        return
    execute, executemany = ledger.connection.execute, ledger.connection.executemany
    project, agent, user, status = execute(
        "SELECT project, agent, user_name, status FROM summaries WHERE id = ?", (id_,)
    ).fetchone()
    if status == "deleted" or seen.deleted:
        forget_session(ledger.connection, id_)
    else:
        scopes = scope_words(project, agent, user)
        said = [(place_of(id_, position), " ".join((*scopes, *words))) for position, words in seen.words]
        kept = [row for row in said if execute(_REDACTED, row[:1]).fetchone() is None]
        executemany("INSERT INTO search_words (rowid, words) VALUES (?, ?)", kept)
    erased = seen.tags is not None and execute(_REDACTED, (place_of(id_, seen.tagged_at),)).fetchone() is not None
    if seen.tags is not None or seen.deleted:
        execute("DELETE FROM search_tags WHERE id = ?", (id_,))
        tags = {} if seen.deleted or erased else seen.tags or {}
        executemany("INSERT INTO search_tags VALUES (?, ?, ?)", [(*tag, id_) for tag in tags.items()])
    executemany("DELETE FROM search_doubts WHERE id = ? AND call = ?", [(id_, call) for call in seen.settled])
    executemany("INSERT OR IGNORE INTO search_doubts VALUES (?, ?)", [(id_, call) for call in seen.lost])
    ends = [(project, at // MINUTE_US, *_counted(end)) for at, end in seen.turns]
    executemany(_ADD_TURN, ends)


def _counted(end: str) -> tuple[bool, bool, bool]:
    return end == "completed", end == "failed", end == "cancelled"


def _clear(ledger: Ledger) -> None:
    for table in _EMPTIED:
        ledger.connection.execute(f"DELETE FROM {table}")
    ledger.connection.execute("DELETE FROM cursors WHERE projection = ?", (SCREENS,))
    ledger.connection.execute("UPDATE heads SET behind = 1")
    ledger.forget()


# --- asking -----------------------------------------------------------------------------------------------------------


def _search(connection: sqlite3.Connection, search: Search) -> list[Hit]:
    query = search.sessions
    terms = [f'"{word}"' for word in search.words] + ([f'"{search.prefix}"*'] if search.prefix else [])
    if not terms:
        return []
    terms += [f'"{word}"' for word in scope_words(query.project, query.agent, query.user)]
    below = _NO_END
    if query.after is not None:
        row = connection.execute("SELECT id FROM sessions WHERE name = ?", (query.after,)).fetchone()
        below = 0 if row is None else place_of(row[0], 0)
    look = _FOUND.format("")
    values: list[Any] = [" AND ".join(terms), below]
    rest = replace(query, project=None, agent=None, user=None, without_status=None)
    if rest != SessionQuery(limit=query.limit, after=query.after):
        # What the words do not say is looked up once, before the words are gone through.
        conditions, more = filters_of(rest)
        sessions = f"SELECT h.id FROM {FILTERED} WHERE {' AND '.join(conditions)}"
        look = _FOUND.format(f"AND (rowid >> {POSITION_BITS}) IN ({sessions})")
        values += more
    with closing(connection.execute(look, values)) as places:
        return _hits(connection, places, query)


def _hits(connection: sqlite3.Connection, places: Iterable[tuple[int]], query: SessionQuery) -> list[Hit]:
    """The sessions of these places, as many as were asked for, each once."""
    removed = filters_of(replace(SessionQuery(), without_status=query.without_status))
    found: list[Hit] = []
    last = 0
    for (place,) in places:
        if place >> POSITION_BITS == last:
            continue
        last = place >> POSITION_BITS
        row = row_if(connection, last, removed)
        if row is not None:
            found.append(Hit(row, place & ((1 << POSITION_BITS) - 1)))
            if len(found) == query.limit:
                break
    return found


def _tags(connection: sqlite3.Connection, project: str, limit: int) -> list[Tag]:
    return [Tag(*row) for row in connection.execute(_TAGS, (project, limit)).fetchall()]


def _versions(connection: sqlite3.Connection, project: str, agent: str) -> list[VersionUse]:
    return [VersionUse(*row) for row in connection.execute(_VERSIONS, (project, agent)).fetchall()]


def _overview(connection: sqlite3.Connection, project: str, since: int) -> Overview:
    counts = connection.execute(_COUNTS, (project,)).fetchall()
    (in_doubt,) = connection.execute(_DOUBTS, (project,)).fetchone()
    minutes = connection.execute(
        "SELECT minute, completed, failed, cancelled FROM turn_minutes WHERE project = ? AND minute >= ? "
        "ORDER BY minute",
        (project, since // MINUTE_US),
    ).fetchall()
    return Overview(
        {(status, waits): many for status, waits, many in counts},
        in_doubt,
        tuple(Minute(minute * MINUTE_US, *ends) for minute, *ends in minutes),
    )
