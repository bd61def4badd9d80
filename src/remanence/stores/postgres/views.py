"""Read models on PostgreSQL: what lists and screens ask, and how far projections have read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from remanence.ports import Cursor, SessionQuery, SessionRow, UsageQuery, UsageRow
from remanence.stores.beginnings import LOOKED_AT, first_words
from remanence.stores.postgres.access import Access
from remanence.stores.postgres.careful import SHARE_PROJECTIONS, SHUT_PROJECTIONS
from remanence.stores.postgres.connect import Connection, Row
from remanence.stores.postgres.journal import first_rows
from remanence.stores.postgres.rows import DUE, SESSION, UNSEEN, can_name, minute_of, session_of
from remanence.stores.postgres.usage import add_usage, usage_rows
from remanence.stores.refusals import no_session
from remanence.stores.unreadable import KIND as UNREADABLE
from remanence.stores.unseen import AT_REST, with_unseen
from remanence.stores.usage_rows import UsageEntry

__all__ = ["ALL_BEHIND", "BEHIND", "CAUGHT_UP", "MOVE_CURSOR", "PostgresViews", "conditions_of", "rows_in"]

USAGE = "usage"
"""The name of the projection whose cursor `record_usage` moves."""

_NOTED = "SELECT array_agg(id) FROM registry WHERE kind = $1 AND id = ANY ($2::text[])"
_TABLES = "sessions s LEFT JOIN sessions source ON source.sid = s.fork_sid"
_FILTERS = {
    "project": "s.project = {}",
    "agent": "s.agent = {}",
    "user": "s.user_name = {}",
    "version": "s.version = {}",
    "version_number": "s.version = (SELECT v.version FROM versions v WHERE v.project = s.project "
    "AND v.agent = s.agent AND v.number = {})",
    "waiting_on": "s.waiting_on = {}",
    "parent": "s.fork_sid = (SELECT sid FROM sessions WHERE id = {})",
    "without_status": "s.status <> {}",
    "usd_micros_min": "s.usd_micros >= {}",
    "usd_micros_max": "s.usd_micros <= {}",
}
_SORTS = {"changed": "s.updated_at", "cost": "s.usd_micros", "turns": "s.turns"}
# What the row waits for is true at once; a session that is frozen as well says so instead, and is told apart later.
_IN_DOUBT = (
    "s.status <> 'deleted' AND s.sid IN (SELECT sid FROM sessions WHERE waiting_on = 'doubt' "
    "UNION SELECT sid FROM search_doubts)"
)
BEHIND = """
SELECT s.id, coalesce(c.position, s.fork_position, 0) AS done, s.head
FROM sessions s LEFT JOIN cursors c ON c.projection = $1 AND c.sid = s.sid
WHERE s.behind AND s.head > coalesce(c.position, s.fork_position, 0)
    AND s.sid > coalesce((SELECT sid FROM sessions WHERE id = $3), 0) ORDER BY s.sid LIMIT $2
"""
# Answers the sid when the cursor stood where the caller believed, and has moved.
MOVE_CURSOR = """
INSERT INTO cursors (projection, sid, position)
SELECT $1, s.sid, $4 FROM sessions s LEFT JOIN cursors c ON c.projection = $1 AND c.sid = s.sid
WHERE s.id = $2 AND coalesce(c.position, s.fork_position, 0) = $3
ON CONFLICT (projection, sid) DO UPDATE SET position = excluded.position WHERE cursors.position = $3
RETURNING sid
"""
CAUGHT_UP = """
UPDATE sessions s SET behind = false WHERE s.sid = $1 AND NOT EXISTS (
    SELECT FROM projections p LEFT JOIN cursors c ON c.projection = p.name AND c.sid = $1
    WHERE coalesce(c.position, 0) < s.head)
"""
# In the order in which whoever writes to several sessions locks them.
ALL_BEHIND = """
UPDATE sessions s SET behind = true
FROM (SELECT sid FROM sessions WHERE NOT behind ORDER BY sid FOR NO KEY UPDATE) w WHERE s.sid = w.sid
"""
_COUNTS = """
SELECT (SELECT coalesce(sum(head - coalesce(fork_position, 0)), 0)::bigint FROM sessions) AS records,
    (SELECT count(*) FROM blobs) AS blobs, pg_database_size(current_database()) AS bytes,
    (SELECT max(number) FROM migrations) AS schema, current_setting('server_version') AS server,
    current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS synchronous_commit
"""


class PostgresViews:
    """Lists, sums and counts."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def session(self, session: str) -> SessionRow:
        async with self._access.connection("reading a session") as connection:
            by_id = f"SELECT {SESSION} FROM {_TABLES} WHERE s.id = $1"
            row = await connection.fetchrow(by_id, session) if can_name(session) else None
        if row is None:
            raise no_session(session)
        return session_of(row)

    async def sessions(self, query: SessionQuery) -> Sequence[SessionRow]:
        async with self._access.connection("listing sessions") as connection:
            return await rows_in(connection, query)

    async def heads(self, sessions: Sequence[str]) -> dict[str, int]:
        async with self._access.connection("looking at sessions") as connection:
            rows = await connection.fetch("SELECT id, head FROM sessions WHERE id = ANY ($1::text[])", list(sessions))
        return {row["id"]: row["head"] for row in rows}

    async def usage(self, query: UsageQuery) -> Sequence[UsageRow]:
        async with self._access.connection("summing usage") as connection:
            return await usage_rows(connection, query)

    async def behind(self, projection: str, *, limit: int, after: str = "") -> Sequence[Cursor]:
        """Sessions whose head is past this projection's cursor, those opened `after` one."""
        async with self._access.connection("looking for sessions to project") as connection:
            if await connection.fetchval("SELECT 1 FROM projections WHERE name = $1", projection) is not None:
                return [Cursor(*row) for row in await connection.fetch(BEHIND, projection, limit, after)]
        await self._follow(projection)
        return await self.behind(projection, limit=limit, after=after)

    async def _follow(self, projection: str) -> None:
        """Make a projection known: from now on every session with something it has not read is marked."""
        async with self._access.transaction("beginning to project") as connection:
            await connection.execute(SHUT_PROJECTIONS)
            await connection.execute("INSERT INTO projections VALUES ($1) ON CONFLICT DO NOTHING", projection)
            await connection.execute(ALL_BEHIND)

    async def record_usage(self, cursor: Cursor, rows: Sequence[UsageEntry]) -> None:
        async with self._access.transaction("recording usage") as connection:
            # What is lost with the server's memory is counted again from the journal: no need to wait for the disk.
            await connection.execute(f"SET LOCAL synchronous_commit TO off; {SHARE_PROJECTIONS}")
            sid = await connection.fetchval(MOVE_CURSOR, USAGE, cursor.session, cursor.position, cursor.head)
            if sid is None:
                return
            await add_usage(connection, sid, rows)
            await connection.execute(CAUGHT_UP, sid)

    async def stats(self) -> dict[str, Any]:
        async with self._access.connection("counting") as connection:
            counts = await connection.fetchrow(_COUNTS)
            counts_by = await connection.fetch("SELECT status, '', count(*) FROM sessions GROUP BY status")
            due = await connection.fetch(f"SELECT s.status, '', count(*) FROM {DUE} GROUP BY s.status")
        if counts is None:
            return {}
        by_status = with_unseen(map(tuple, counts_by), map(tuple, due))
        settings = f"fsync={counts['fsync']}, synchronous_commit={counts['synchronous_commit']}"
        return {
            "backend": "postgresql",
            "server": counts["server"],
            "schema": counts["schema"],
            "sessions": {status: many for (status, _), many in sorted(by_status.items())},
            "records": counts["records"],
            "blobs": counts["blobs"],
            "bytes": counts["bytes"],
            "durability": settings if counts["fsync"] == "on" else f"{settings}: a power failure loses data",
        }


async def rows_in(connection: Connection, query: SessionQuery) -> list[SessionRow]:
    """Sessions that fit, in the order that was asked for."""
    conditions, values = conditions_of(query)
    sorted_by = _SORTS[query.sort]
    order = f"ORDER BY {sorted_by} DESC, s.id DESC"
    if query.sort == "changed":
        # By the minute first, which is indexed; the exact moment orders within it.
        order = "ORDER BY s.updated_minute DESC, s.updated_at DESC, s.id DESC"
    if query.before is not None:
        conditions.append(_before(query, sorted_by, values))
    if query.opened is not None:
        order = f"ORDER BY s.sid {'DESC' if query.opened == 'newest_first' else 'ASC'}"
        if query.after is not None:
            values.append(query.after)
            side = "<" if query.opened == "newest_first" else ">"
            conditions.append(f"s.sid {side} (SELECT sid FROM sessions WHERE id = ${len(values)})")
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    rows = await connection.fetch(
        f"SELECT {SESSION} FROM (SELECT * FROM sessions s {where}{order} LIMIT ${len(values) + 1}) AS s "
        f"LEFT JOIN sessions source ON source.sid = s.fork_sid {order}",
        *values,
        query.limit,
    )
    return await _begun(connection, rows) if query.begins else [session_of(row) for row in rows]


async def _begun(connection: Connection, rows: Sequence[Row]) -> list[SessionRow]:
    lows = {row["sid"]: row["fork_position"] or 0 for row in rows if not row["title"]}
    first = await first_rows(connection, lows, LOOKED_AT) if lows else {}
    found = [replace(session_of(row), begins=first_words(first.get(row["sid"], ()))) for row in rows]
    noted = await connection.fetchval(_NOTED, UNREADABLE, [row.session for row in found])
    return [replace(row, noted=row.session in (noted or ())) for row in found]


def conditions_of(query: SessionQuery) -> tuple[list[str], list[Any]]:
    """What a session `s` must fit, without its place in the order, and the values of `$1`, `$2`..."""
    conditions: list[str] = []
    values: list[Any] = []
    for name, condition in _FILTERS.items():
        value = getattr(query, name)
        if value is not None:
            values.append(value)
            conditions.append(condition.format(f"${len(values)}"))
    if query.status is not None:
        values.append(query.status)
        conditions.append(_with_status(query.status, f"${len(values)}"))
    if query.waiting_on:
        conditions.append("s.waiting_on <> ''")  # which lets the index of those that wait be used
    if query.since is not None:
        values += [minute_of(query.since), query.since]
        conditions.append(f"s.updated_minute >= ${len(values) - 1} AND s.updated_at >= ${len(values)}")
    if query.until is not None:
        values += [minute_of(query.until), query.until]
        conditions.append(f"s.updated_minute <= ${len(values) - 1} AND s.updated_at < ${len(values)}")
    if query.tag is not None:
        values += query.tag
        conditions.append(
            f"s.sid IN (SELECT sid FROM search_tags WHERE key = ${len(values) - 1} AND value = ${len(values)})"
        )
    if query.doubt:
        conditions.append(_IN_DOUBT)
    return conditions, values


def _with_status(status: str, value: str) -> str:
    if status == "queued":
        return f"(s.status = {value} OR s.sid IN (SELECT s.sid FROM {DUE}))"
    return f"s.status = {value} AND NOT {UNSEEN}" if status in AT_REST else f"s.status = {value}"


def _before(query: SessionQuery, sorted_by: str, values: list[Any]) -> str:
    value, session = query.before or (0, "")
    values += [value, session]
    count = len(values)
    if query.sort != "changed":
        return f"({sorted_by}, s.id) < (${count - 1}::bigint, ${count}::text)"
    values.append(minute_of(value))
    return f"(s.updated_minute, s.updated_at, s.id) < (${count + 1}::integer, ${count - 1}::bigint, ${count}::text)"
