"""What screens ask of PostgreSQL besides lists, over a connection that is there: search, tags, sums."""

from __future__ import annotations

from remanence.core.words import scope_words
from remanence.screens import TAGGED_MAX, Hit, Minute, Overview, Search, Tag, VersionUse
from remanence.stores.postgres.connect import Connection
from remanence.stores.postgres.rows import DUE, SESSION, minute_of, session_of
from remanence.stores.postgres.views import conditions_of
from remanence.stores.unseen import with_unseen

__all__ = ["counted_tags", "overview", "search_in", "version_uses"]

WINDOW_SESSIONS = 2_000
_BELOW = (
    "SELECT CASE WHEN $1::text IS NULL THEN (SELECT max(sid) + 1 FROM sessions) "
    "ELSE (SELECT sid FROM sessions WHERE id = $1) END"
)
_FOUND = (
    f"SELECT {SESSION}, f.position AS found_at FROM (SELECT DISTINCT ON (w.sid) w.sid, w.position "
    "FROM search_words w JOIN sessions s USING (sid) WHERE {} ORDER BY w.sid DESC, w.position DESC LIMIT ${}) AS f "
    "JOIN sessions s USING (sid) LEFT JOIN sessions source ON source.sid = s.fork_sid ORDER BY s.sid DESC"
)
_COUNTS = (
    "SELECT status, waiting_on, count(*) FROM sessions WHERE project = $1 AND status <> 'idle' "
    "GROUP BY status, waiting_on"
)
_UNSEEN = f"SELECT s.status, s.waiting_on, count(*) FROM {DUE} AND s.project = $1 GROUP BY s.status, s.waiting_on"
_DOUBTS = (
    "SELECT count(*) FROM sessions WHERE project = $1 AND status <> 'deleted' "
    "AND sid IN (SELECT sid FROM sessions WHERE waiting_on = 'doubt' UNION SELECT sid FROM search_doubts)"
)
_TAGS = (
    "SELECT t.key, t.value, count(*) AS many FROM (SELECT sid FROM sessions WHERE project = $1 AND status <> 'deleted' "
    f"ORDER BY updated_minute DESC LIMIT {TAGGED_MAX}) AS r JOIN search_tags t USING (sid) "
    "GROUP BY t.key, t.value ORDER BY many DESC, t.key, t.value LIMIT $2"
)
_VERSIONS = (
    "SELECT version, count(*), sum(turns)::bigint, sum(usd_micros)::bigint, max(updated_at) FROM sessions "
    "WHERE project = $1 AND ($2::text IS NULL OR agent = $2) AND status <> 'deleted' GROUP BY version ORDER BY version"
)


async def search_in(connection: Connection, search: Search) -> list[Hit]:
    """Sessions in which the words were said, the last opened first."""
    terms = [_quoted(word) for word in search.words] + ([f"{_quoted(search.prefix)}:*"] if search.prefix else [])
    query = search.sessions
    if not terms:
        return []
    terms += [_quoted(word) for word in scope_words(query.project, query.agent, query.user)]
    conditions, values = conditions_of(query)
    count = len(values)
    conditions += [f"w.words @@ ${count + 1}::tsquery", f"w.sid >= ${count + 2}", f"w.sid < ${count + 3}"]
    statement = _FOUND.format(" AND ".join(conditions), count + 4)
    found: list[Hit] = []
    window = WINDOW_SESSIONS
    below: int = await connection.fetchval(_BELOW, query.after) or 0
    # From the newest backwards, in wider and wider steps: a frequent word fills a page from the first, where a sort of
    # all that hold it would read them all.
    while below > 0 and len(found) < query.limit:
        start, left = max(0, below - window), query.limit - len(found)
        rows = await connection.fetch(statement, *values, " & ".join(terms), start, below, left)
        found += [Hit(session_of(row), row["found_at"]) for row in rows]
        below, window = start, window * 8
    return found


async def counted_tags(connection: Connection, project: str, limit: int) -> list[Tag]:
    """What most of the sessions carry that changed last."""
    return [Tag(*row) for row in await connection.fetch(_TAGS, project, limit)]


async def overview(connection: Connection, project: str, since: int) -> Overview:
    """The sums of a project, and its minutes."""
    counts = await connection.fetch(_COUNTS, project)
    due = await connection.fetch(_UNSEEN, project)
    in_doubt = await connection.fetchval(_DOUBTS, project)
    minutes = await connection.fetch(
        "SELECT minute * 60000000, completed, failed, cancelled FROM turn_minutes "
        "WHERE project = $1 AND minute >= $2 ORDER BY minute",
        project,
        minute_of(since),
    )
    return Overview(
        with_unseen(map(tuple, counts), map(tuple, due)), in_doubt, tuple(Minute(*minute) for minute in minutes)
    )


async def version_uses(connection: Connection, project: str, agent: str | None) -> list[VersionUse]:
    """How much each version of an agent is used, or of all."""
    return [VersionUse(*row) for row in await connection.fetch(_VERSIONS, project, agent)]


def _quoted(word: str) -> str:
    return f"'{word}'"
