"""What was spent, on SQLite: by the hour with the session, and by the day without it.

A sum over whole days by one field, which is what screens ask, reads the small table; every other sum reads the other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from operator import add
from typing import Any

from remanence.ports import Cursor, UsageQuery, UsageRow
from remanence.stores.sqlite.changes import move_cursor
from remanence.stores.sqlite.ledger import Ledger
from remanence.stores.usage_rows import (
    DAY_US,
    UsageEntry,
    amounts_of,
    check_fields,
    group_of,
    hour_of,
    row_of_sums,
    under,
    whole_days,
)

__all__ = ["record_usage", "usage_rows"]

USAGE = "usage"
"""The name of the projection whose cursor `record_usage` moves."""

_MORE = """
    calls = calls + excluded.calls, unpriced_calls = unpriced_calls + excluded.unpriced_calls,
    usd_micros = usd_micros + excluded.usd_micros, input_tokens = input_tokens + excluded.input_tokens,
    output_tokens = output_tokens + excluded.output_tokens, cached_tokens = cached_tokens + excluded.cached_tokens,
    cache_write_tokens = cache_write_tokens + excluded.cache_write_tokens,
    reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens
"""
_ADD_HOUR = f"""
INSERT INTO usage_hours VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id, hour, model, agent, user_name, project) DO UPDATE SET {_MORE}
"""
_ADD_DAY = f"""
INSERT INTO usage_days VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (project, field, day, name) DO UPDATE SET {_MORE}
"""
_KEYS = {
    "agent": "u.agent",
    "user": "u.user_name",
    "model": "u.model",
    "project": "u.project",
    "session": "s.name",
    "day": "u.hour / 86400000000",
}
_SUMS = (
    "sum(calls), sum(input_tokens), sum(output_tokens), sum(cached_tokens), sum(cache_write_tokens), "
    "sum(reasoning_tokens), sum(usd_micros), sum(unpriced_calls)"
)


def record_usage(ledger: Ledger, cursor: Cursor, rows: Sequence[UsageEntry]) -> None:
    """Add usage and move the cursor from `position` to `head`; a cursor that is elsewhere by now does nothing."""
    id_ = move_cursor(ledger, USAGE, cursor)
    if id_ is None:
        return
    # Summed here first: each row of a statement is a way to SQLite and back, and a wait for the interpreter.
    hours: _Sums = {}
    days: _Sums = {}
    for row in under(_user_of(ledger, id_), rows) if rows else ():
        amounts = (1, *amounts_of(row))
        _add(hours, (id_, *group_of(row)), amounts)
        for day in _days(row):
            _add(days, day, amounts)
    ledger.connection.executemany(_ADD_HOUR, [(*where, *sums) for where, sums in hours.items()])
    ledger.connection.executemany(_ADD_DAY, [(*where, *sums) for where, sums in days.items()])


def _user_of(ledger: Ledger, id_: int) -> str:
    (user,) = ledger.connection.execute("SELECT user_name FROM summaries WHERE id = ?", (id_,)).fetchone()
    return user


_Sums = dict[tuple[object, ...], tuple[int, ...]]


def _add(sums: _Sums, where: tuple[object, ...], amounts: tuple[int, ...]) -> None:
    before = sums.get(where)
    sums[where] = amounts if before is None else tuple(map(add, before, amounts))


def _days(entry: UsageEntry) -> list[tuple[object, ...]]:
    at, summary, model, _, _ = entry
    names = (("", ""), ("agent", summary.agent), ("user", summary.user), ("model", model))
    return [(summary.project, field, at // DAY_US, name) for field, name in names]


# --- sums -------------------------------------------------------------------------------------------------------------


def usage_rows(connection: sqlite3.Connection, query: UsageQuery) -> list[UsageRow]:
    """Sums, in the order of their keys; none where nothing was spent. Raises InvalidInput for an unknown field."""
    check_fields(query)
    field = whole_days(query)
    tables, keys = "usage_hours u", [_KEYS[each] for each in query.by]
    if "session" in query.by:
        tables += " JOIN sessions s ON s.id = u.id"
    terms: list[str] = ["1"]
    values: list[Any] = []
    if field is not None:
        tables = "usage_days u"
        keys = ["u.day" if each == "day" else "u.project" if each == "project" else "u.name" for each in query.by]
        terms.append("u.field = ?")
        values.append(field)
    if query.project is not None:
        terms.append("u.project = ?")
        values.append(query.project)
    if query.since is not None:
        terms.append("u.hour >= ?" if field is None else "u.day >= ?")
        values.append(hour_of(query.since) if field is None else query.since // DAY_US)
    group = f"GROUP BY {', '.join(keys)} ORDER BY {', '.join(keys)}" if keys else "HAVING count(*) > 0"
    rows = connection.execute(
        f"SELECT {', '.join([*keys, _SUMS])} FROM {tables} WHERE {' AND '.join(terms)} {group}", values
    )
    return [row_of_sums(query.by, row, day_us=DAY_US) for row in rows.fetchall()]
