"""What lists and screens ask of SQLite. Every function here is one read, in a reader's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from remanence.ports import Budget, Fork, SessionQuery, SessionRow, Summary, Version
from remanence.spec import AgentSpec
from remanence.stores.beginnings import LOOKED_AT, first_words
from remanence.stores.refusals import no_session, no_version
from remanence.stores.rows import TTL_MAX_S, spec_in
from remanence.stores.sqlite.changes import version_of_row
from remanence.stores.sqlite.reads import first_rows
from remanence.stores.sqlite.schema import applied
from remanence.stores.sqlite.tables import HEAD_TABLES, MINUTE_US, SUMMARY_COLUMNS
from remanence.stores.unreadable import KIND as UNREADABLE
from remanence.stores.unseen import AT_REST, as_shown, unseen, with_unseen

__all__ = [
    "DUE",
    "FILTERED",
    "budgets",
    "filters_of",
    "heads",
    "row_if",
    "session_row",
    "session_rows",
    "spec",
    "stats",
    "versions",
]

_COLUMNS = (
    "SELECT s.name, h.head, h.epoch, s.opened_at, h.updated_at, h.lease_until, h.wake_at, p.name, s.fork_position, "
    f"{SUMMARY_COLUMNS} FROM "
)
_PARENT = " LEFT JOIN sessions p ON p.id = s.fork_id"
FILTERED = HEAD_TABLES + _PARENT
"""The tables that `filters_of` speaks of."""
_ROW = _COLUMNS + FILTERED
# Without statistics SQLite would rather sort everything; CROSS makes it walk the newest first and stop when it has
# enough.
_NEWEST = f"{_COLUMNS} heads h CROSS JOIN summaries m ON m.id = h.id CROSS JOIN sessions s ON s.id = h.id {_PARENT}"
_OPENED = f"{_COLUMNS} sessions s CROSS JOIN heads h ON h.id = s.id CROSS JOIN summaries m ON m.id = s.id {_PARENT}"
IDLE = "idle"
UNSEEN = unseen("h", "m")
# No session is due because somebody spoke to it later than the newest change of all, or than the lease given then ends.
DUE = (
    "heads h JOIN summaries m ON m.id = h.id WHERE h.wake_at IS NOT NULL "
    "AND h.wake_at < (SELECT max(updated_minute) + 1 FROM heads) "
    f"* {MINUTE_US} + {int(TTL_MAX_S)} * 1000000 AND {UNSEEN}"
)
"""The tables and the condition of sessions with an input that no worker has looked at, by the index of what is due."""
_FILTERS = {
    "project": "m.project = ?",
    "waiting_on": "m.waiting_on = ?",
    "parent": "p.name = ?",
    "without_status": "m.status <> ?",
}
# These may fit few sessions or many. Found beforehand in one pass over the small rows, those that do not fit cost
# nothing when the newest are walked; the plus keeps SQLite walking, where it would look up and sort all that fit.
_BEFOREHAND = {
    "agent": "agent = ?",
    "user": "user_name = ?",
    "version": "version = ?",
    "version_number": "version = (SELECT v.version FROM versions v WHERE v.project = summaries.project "
    "AND v.agent = summaries.agent AND v.number = ?)",
    "usd_micros_min": "usd_micros >= ?",
    "usd_micros_max": "usd_micros <= ?",
}
_SORTS = {"changed": "h.updated_at", "cost": "m.usd_micros", "turns": "m.turns"}
# What the row waits for is true at once; a session that is frozen as well says so instead, and is told apart later.
_IN_DOUBT = (
    "m.status <> 'deleted' AND h.id IN (SELECT id FROM summaries WHERE waiting_on <> '' AND waiting_on = 'doubt' "
    "UNION SELECT id FROM search_doubts)"
)


def session_row(connection: sqlite3.Connection, session: str) -> SessionRow:
    """One session. Raises NotFound."""
    row = connection.execute(f"{_ROW} WHERE s.name = ?", (session,)).fetchone()
    if row is None:
        raise no_session(session)
    return _session_row(row)


def session_rows(connection: sqlite3.Connection, query: SessionQuery) -> list[SessionRow]:
    """Sessions that fit, newest change first, or in another order that was asked for."""
    terms, values = filters_of(query)
    few = query.parent is not None or query.status not in (None, IDLE) or query.waiting_on or query.doubt
    source, sorted_by = _ROW if few else _NEWEST, _SORTS[query.sort]
    order = f"{sorted_by} DESC, s.name DESC"
    if query.sort == "changed":
        order = f"h.updated_minute DESC, {order}"
    if query.before is not None:
        value, name = query.before
        terms.append(f"({sorted_by}, s.name) < (?, ?)")
        values += (value, name)
        if query.sort == "changed":
            terms.append("h.updated_minute <= ?")
            values.append(value // MINUTE_US)
    if query.opened is not None:
        newest = query.opened == "newest_first"
        source, order = _OPENED, f"s.id {'DESC' if newest else 'ASC'}"
        if query.after is not None:
            terms.append(f"s.id {'<' if newest else '>'} (SELECT id FROM sessions WHERE name = ?)")
            values.append(query.after)
    where = f"WHERE {' AND '.join(terms)}" if terms else ""
    rows = connection.execute(f"{source} {where} ORDER BY {order} LIMIT ?", (*values, query.limit))
    found = [_session_row(row) for row in rows.fetchall()]
    if not query.begins:
        return found
    noted = _noted(connection, [row.session for row in found])
    return [replace(_begun(connection, row), noted=row.session in noted) for row in found]


_NOTED = "SELECT id FROM registry WHERE kind = ? AND id IN (SELECT value FROM json_each(?))"


def _noted(connection: sqlite3.Connection, sessions: list[str]) -> set[str]:
    """Those of these sessions that somebody could not read."""
    rows = connection.execute(_NOTED, (UNREADABLE, msgspec.json.encode(sessions).decode()))
    return {session for (session,) in rows}


def _begun(connection: sqlite3.Connection, row: SessionRow) -> SessionRow:
    if row.summary.title:
        return row
    return replace(row, begins=first_words(first_rows(connection, row.session, LOOKED_AT)))


def row_if(connection: sqlite3.Connection, id_: int, filters: tuple[list[str], list[Any]]) -> SessionRow | None:
    """The session with this number, if it passes the filters."""
    terms, values = filters
    row = connection.execute(f"{_ROW} WHERE {' AND '.join([*terms, 's.id = ?'])}", (*values, id_)).fetchone()
    return None if row is None else _session_row(row)


def filters_of(query: SessionQuery) -> tuple[list[str], list[Any]]:
    """The conditions a session must fit, without those of its place in the order, and their values."""
    terms, values = _given(query, _FILTERS)
    beforehand, more = _given(query, _BEFOREHAND)
    if beforehand:
        terms.append(f"+h.id IN (SELECT id FROM summaries WHERE {' AND '.join(beforehand)})")
        values += more
    if query.status is not None:
        terms.append(_with_status(query.status))
        values.append(query.status)
    if query.waiting_on:
        terms.append("m.waiting_on <> ''")  # as above
    if query.since is not None:
        terms.append("h.updated_minute >= ? AND h.updated_at >= ?")
        values += (query.since // MINUTE_US, query.since)
    if query.until is not None:
        terms.append("h.updated_minute <= ? AND h.updated_at < ?")
        values += (query.until // MINUTE_US, query.until)
    if query.tag is not None:
        terms.append("+h.id IN (SELECT id FROM search_tags WHERE key = ? AND value = ?)")
        values += query.tag
    if query.doubt:
        terms.append(_IN_DOUBT)
    return terms, values


def _with_status(status: str) -> str:
    """The condition of a status. The index leaves out the many that are idle, and SQLite has to see that a filter lies
    within it."""
    if status == "queued":
        rows = f"SELECT id FROM summaries WHERE status <> '{IDLE}' AND status = ?"
        return f"h.id IN ({rows} UNION SELECT h.id FROM {DUE})"
    plain = "m.status = ?" if status == IDLE else f"m.status <> '{IDLE}' AND m.status = ?"
    return f"{plain} AND NOT {UNSEEN}" if status in AT_REST else plain


def _given(query: SessionQuery, terms: dict[str, str]) -> tuple[list[str], list[Any]]:
    given = {term: value for field, term in terms.items() if (value := getattr(query, field)) is not None}
    return list(given), list(given.values())


_HEADS_AT_ONCE = 500


def heads(connection: sqlite3.Connection, sessions: Sequence[str]) -> dict[str, int]:
    """The newest position of each of these sessions that exists."""
    found: dict[str, int] = {}
    for start in range(0, len(sessions), _HEADS_AT_ONCE):
        names = sessions[start : start + _HEADS_AT_ONCE]
        marks = ", ".join("?" * len(names))
        found |= dict(
            connection.execute(
                f"SELECT s.name, h.head FROM sessions s JOIN heads h ON h.id = s.id WHERE s.name IN ({marks})", names
            )
        )
    return found


def _session_row(row: tuple[Any, ...]) -> SessionRow:
    name, head, epoch, opened_at, updated_at, lease_until, wake_at, source, fork_position, *summary = row
    fork = None if source is None else Fork(source, fork_position)
    shown = as_shown(Summary(*summary), wake_at=wake_at, updated_at=updated_at, lease_until=lease_until)
    return SessionRow(name, head, epoch, opened_at, updated_at, lease_until, wake_at, shown, fork)


# --- specs, budgets, freezes ------------------------------------------------------------------------------------------


def spec(connection: sqlite3.Connection, version: str) -> AgentSpec:
    """The spec of one digest. Raises NotFound."""
    row = connection.execute("SELECT spec FROM versions WHERE version = ? LIMIT 1", (version,)).fetchone()
    if row is None:
        raise no_version(version)
    return spec_in(row[0])


def versions(connection: sqlite3.Connection, project: str | None, agent: str | None) -> list[Version]:
    """The versions of one agent, or of all, in one project, or in all, oldest first."""
    rows = connection.execute(
        "SELECT project, agent, number, version, at, spec FROM versions "
        "WHERE (?1 IS NULL OR project = ?1) AND (?2 IS NULL OR agent = ?2) ORDER BY at, agent, number",
        (project, agent),
    )
    return [version_of_row(row) for row in rows.fetchall()]


def budgets(connection: sqlite3.Connection, scope: str | None) -> list[Budget]:
    """The budgets of one scope, or all."""
    where, values = ("", ()) if scope is None else ("WHERE scope = ?", (scope,))
    rows = connection.execute(
        f"SELECT scope, unit, ceiling, spent, reserved FROM budgets {where} ORDER BY scope, unit", values
    )
    return [Budget(*row) for row in rows]


# --- stats ------------------------------------------------------------------------------------------------------------


def stats(connection: sqlite3.Connection) -> dict[str, Any]:
    """Counts and sizes. Records are counted from the heads, so that no journal is read for it.

    `durability` is not known here: it belongs to the connection that writes.
    """

    def value(sql: str) -> Any:
        return connection.execute(sql).fetchone()[0]

    counts = connection.execute("SELECT status, '', count(*) FROM summaries GROUP BY status").fetchall()
    by_status = with_unseen(counts, connection.execute(f"SELECT m.status, '', count(*) FROM {DUE} GROUP BY m.status"))
    migrations = applied(connection)
    return {
        "backend": "sqlite",
        "schema": migrations[-1].number if migrations else 0,
        "sessions": {status: many for (status, _), many in sorted(by_status.items())},
        "records": value(
            "SELECT coalesce(sum(h.head - s.fork_position), 0) FROM heads h JOIN sessions s ON s.id = h.id"
        ),
        "blobs": value("SELECT count(*) FROM blobs"),
        "bytes": value("PRAGMA page_count") * value("PRAGMA page_size"),
        "bytes_free": value("PRAGMA freelist_count") * value("PRAGMA page_size"),
    }
