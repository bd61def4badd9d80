"""What was spent, on PostgreSQL: by the hour with the session, and by the day without it.

A sum over whole days by one field, which is what screens ask, reads the small table; every other sum reads the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from remanence.ports import UsageQuery, UsageRow
from remanence.stores.postgres.connect import Connection
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

__all__ = ["add_usage", "usage_rows"]

_USAGE_KEYS = {
    "agent": "u.agent",
    "user": "u.user_name",
    "model": "u.model",
    "project": "u.project",
    "session": "s.id",
    "day": f"u.hour - u.hour % {DAY_US}",
}
_SUMS = (
    *("calls", "input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens"),
    *("usd_micros", "unpriced_calls"),
)

_DAY_KEYS = {"day": "u.day", "project": "u.project"}
_MORE = """
    calls = u.calls + excluded.calls, unpriced_calls = u.unpriced_calls + excluded.unpriced_calls,
    usd_micros = u.usd_micros + excluded.usd_micros, input_tokens = u.input_tokens + excluded.input_tokens,
    output_tokens = u.output_tokens + excluded.output_tokens, cached_tokens = u.cached_tokens + excluded.cached_tokens,
    cache_write_tokens = u.cache_write_tokens + excluded.cache_write_tokens,
    reasoning_tokens = u.reasoning_tokens + excluded.reasoning_tokens
"""
_WRITTEN = """
unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[]) AS w(
    hour, model, agent, user_name, project, unpriced, usd, input, output, cached, cache_write, reasoning)
"""
_SUMMED = "count(*), sum(unpriced), sum(usd), sum(input), sum(output), sum(cached), sum(cache_write), sum(reasoning)"
_ADD_HOURS = f"""
INSERT INTO usage_hours AS u (
    sid, hour, model, agent, user_name, project, calls, unpriced_calls, usd_micros,
    input_tokens, output_tokens, cached_tokens, cache_write_tokens, reasoning_tokens)
SELECT $13::bigint, hour, model, agent, user_name, project, {_SUMMED}
FROM {_WRITTEN} GROUP BY hour, model, agent, user_name, project
ON CONFLICT (sid, hour, model, agent, user_name, project) DO UPDATE SET {_MORE}
"""
# In one order everywhere, so that nobody waits in a circle: several sessions add to the same day.
_ADD_DAYS = f"""
INSERT INTO usage_days AS u (
    project, field, day, name, calls, unpriced_calls, usd_micros,
    input_tokens, output_tokens, cached_tokens, cache_write_tokens, reasoning_tokens)
SELECT project, field, day, name, {_SUMMED} FROM (
    SELECT w.*, f.field, w.hour - w.hour % {DAY_US} AS day,
        CASE f.field WHEN 'agent' THEN w.agent WHEN 'user' THEN w.user_name WHEN 'model' THEN w.model ELSE '' END
            AS name
    FROM {_WRITTEN} CROSS JOIN (VALUES (''), ('agent'), ('user'), ('model')) AS f(field)) AS each
GROUP BY project, field, day, name ORDER BY project, field, day, name
ON CONFLICT (project, field, day, name) DO UPDATE SET {_MORE}
"""


async def add_usage(connection: Connection, sid: int, entries: Sequence[UsageEntry]) -> None:
    """Count what was spent in a session, under its number and under the name that its user has when this commits."""
    if entries:
        user = await connection.fetchval("SELECT user_name FROM sessions WHERE sid = $1 FOR NO KEY UPDATE", sid)
        entries = under(user, entries)
        columns = list(zip(*((*group_of(entry), *amounts_of(entry)) for entry in entries), strict=True))
        await connection.execute(_ADD_HOURS, *columns, sid)
        await connection.execute(_ADD_DAYS, *columns)


async def usage_rows(connection: Connection, query: UsageQuery) -> list[UsageRow]:
    """Sums, in the order of their keys; none where nothing was spent. Raises InvalidInput for an unknown field."""
    check_fields(query)
    field = whole_days(query)
    if field is None:
        tables, moment, keys = "usage_hours u", "u.hour", [_USAGE_KEYS[name] for name in query.by]
    else:
        tables, moment, keys = "usage_days u", "u.day", [_DAY_KEYS.get(name, "u.name") for name in query.by]
    if "session" in query.by:
        tables += " JOIN sessions s USING (sid)"
    sums = ", ".join(f"sum(u.{name})::bigint" for name in _SUMS)
    group = f"GROUP BY {', '.join(keys)} ORDER BY {', '.join(keys)}" if keys else "HAVING count(*) > 0"
    since = None if query.since is None else hour_of(query.since)
    terms = f"($1::text IS NULL OR u.project = $1) AND ($2::bigint IS NULL OR {moment} >= $2)"
    values: list[Any] = [query.project, since]
    if field is not None:
        terms += " AND u.field = $3"
        values.append(field)
    rows = await connection.fetch(f"SELECT {', '.join([*keys, sums])} FROM {tables} WHERE {terms} {group}", *values)
    return [row_of_sums(query.by, tuple(row), day_us=1) for row in rows]
