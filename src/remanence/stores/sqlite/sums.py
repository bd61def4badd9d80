"""What screens ask of SQLite besides lists, in a read transaction that is there: search, tags, sums."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from msgspec.structs import replace

from remanence.core.words import scope_words
from remanence.ports import SessionQuery
from remanence.screens import TAGGED_MAX, Hit, Minute, Overview, Search, Tag, VersionUse
from remanence.stores.sqlite.tables import MINUTE_US, POSITION_BITS, place_of
from remanence.stores.sqlite.views import DUE, FILTERED, filters_of, row_if
from remanence.stores.unseen import with_unseen

__all__ = ["counted_tags", "overview", "search_in", "version_uses"]

_FOUND = "SELECT rowid FROM search_words WHERE search_words MATCH ? AND rowid < ? {} ORDER BY rowid DESC"
_COUNTS = (
    "SELECT status, waiting_on, count(*) FROM summaries "
    "WHERE status <> 'idle' AND project = ? GROUP BY status, waiting_on"
)
_UNSEEN = f"SELECT m.status, m.waiting_on, count(*) FROM {DUE} AND m.project = ? GROUP BY m.status, m.waiting_on"
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


def search_in(connection: sqlite3.Connection, search: Search) -> list[Hit]:
    """Sessions in which the words were said, the last opened first."""
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
    rest = replace(query, project=None, agent=None, user=None, without_status=None, begins=False)
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


def counted_tags(connection: sqlite3.Connection, project: str, limit: int) -> list[Tag]:
    """What most of the sessions carry that changed last."""
    return [Tag(*row) for row in connection.execute(_TAGS, (project, limit)).fetchall()]


def version_uses(connection: sqlite3.Connection, project: str, agent: str) -> list[VersionUse]:
    """How much each version of an agent is used."""
    return [VersionUse(*row) for row in connection.execute(_VERSIONS, (project, agent)).fetchall()]


def overview(connection: sqlite3.Connection, project: str, since: int) -> Overview:
    """The sums of a project, and its minutes."""
    counts = with_unseen(connection.execute(_COUNTS, (project,)), connection.execute(_UNSEEN, (project,)))
    (in_doubt,) = connection.execute(_DOUBTS, (project,)).fetchone()
    minutes = connection.execute(
        "SELECT minute, completed, failed, cancelled FROM turn_minutes WHERE project = ? AND minute >= ? "
        "ORDER BY minute",
        (project, since // MINUTE_US),
    ).fetchall()
    return Overview(
        counts,
        in_doubt,
        tuple(Minute(minute * MINUTE_US, *ends) for minute, *ends in minutes),
    )
