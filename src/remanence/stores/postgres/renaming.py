"""Names on PostgreSQL: where one stands in the journals, and a pseudonym in its place in the tables beside them.

As on SQLite (`sqlite/renaming.py`): amounts stay, under the pseudonym.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from remanence.core.ledger import kept_scope, own_scope
from remanence.core.memory.journal import tenant_of
from remanence.stores.postgres.careful import SHARE_PROJECTIONS
from remanence.stores.postgres.connect import Connection, connect, hang_up
from remanence.stores.postgres.errors import DRIVER_ERRORS, explain
from remanence.stores.postgres.journal import Packed, unpack

__all__ = ["naming", "rename_user"]

_NAMING = """
SELECT s.id, r.position, r.at, r.epoch, r.actor, r.payloads, r.sizes, r.digests, r.originals
FROM records r JOIN sessions s USING (sid)
WHERE EXISTS (SELECT FROM unnest($1::text[], $2::bytea[]) AS n(name, written)
    WHERE strpos(r.actor, n.name) > 0 OR position(n.written IN r.payloads) > 0)
"""
_SPILLED = """
SELECT DISTINCT s.id, u.position FROM blobs b JOIN blob_uses u USING (digest) JOIN sessions s USING (sid)
WHERE EXISTS (SELECT FROM unnest($1::bytea[]) AS n(written) WHERE position(n.written IN b.content) > 0)
"""
_SUMS = (
    *("calls", "unpriced_calls", "usd_micros", "input_tokens", "output_tokens", "cached_tokens"),
    *("cache_write_tokens", "reasoning_tokens"),
)
_LIST = ", ".join(_SUMS)
_MORE = ", ".join(f"{name} = u.{name} + excluded.{name}" for name in _SUMS)
_MOVED = {
    "usage_hours": (
        f"WITH gone AS (DELETE FROM usage_hours WHERE project = $1 AND user_name = $2 RETURNING *) "
        f"INSERT INTO usage_hours AS u (sid, hour, model, agent, user_name, project, {_LIST}) "
        f"SELECT sid, hour, model, agent, $3, project, {_LIST} FROM gone "
        f"ON CONFLICT (sid, hour, model, agent, user_name, project) DO UPDATE SET {_MORE}"
    ),
    "usage_days": (
        f"WITH gone AS (DELETE FROM usage_days WHERE project = $1 AND field = 'user' AND name = $2 RETURNING *) "
        f"INSERT INTO usage_days AS u (project, field, day, name, {_LIST}) "
        f"SELECT project, field, day, $3, {_LIST} FROM gone ORDER BY project, field, day "
        f"ON CONFLICT (project, field, day, name) DO UPDATE SET {_MORE}"
    ),
}
_BUDGETS = """
WITH gone AS (DELETE FROM budgets WHERE scope = $1 RETURNING *)
INSERT INTO budgets AS b (scope, unit, ceiling, spent, reserved, at)
SELECT $2, unit, ceiling, spent, reserved, at FROM gone
ON CONFLICT (scope, unit) DO UPDATE SET ceiling = excluded.ceiling, spent = b.spent + excluded.spent,
    reserved = b.reserved + excluded.reserved
"""
_RESERVATIONS = """
WITH gone AS (DELETE FROM reservations WHERE scope = $1 RETURNING *)
INSERT INTO reservations AS r (key, scope, unit, amount) SELECT key, $2, unit, amount FROM gone
ON CONFLICT (key, scope, unit) DO UPDATE SET amount = r.amount + excluded.amount
"""
_PLACES = """
UPDATE memory_places p SET scope = $3 WHERE project = $1 AND scope = $2
AND NOT EXISTS (SELECT FROM memory_places o WHERE o.project = p.project AND o.store = p.store AND o.scope = $3)
"""


async def naming(url: str, names: Sequence[str]) -> list[tuple[str, int]]:
    """The records that hold any of some names in their header or anywhere in their content.

    It reads every journal, so it has a connection of its own that waits as long as that takes. Raises StoreError.
    """
    connection = await connect(url, patient=True)
    try:
        return await _naming(connection, names)
    except DRIVER_ERRORS as error:
        raise explain(error, "looking for a name") from error
    finally:
        await hang_up(connection)


async def _naming(connection: Connection, names: Sequence[str]) -> list[tuple[str, int]]:
    written = [msgspec.json.encode(name)[1:-1] for name in names]
    found = {(row[0], row[1]) for row in await connection.fetch(_SPILLED, written)}
    for session, *packed in await connection.fetch(_NAMING, list(names), written):
        for row in unpack(Packed(*packed)):
            payload = row.payload or b""
            if any(name in row.actor for name in names) or any(one in payload for one in written):
                found.add((session, row.position))
    return sorted(found)


async def rename_user(connection: Connection, project: str, old: str, new: str) -> dict[str, int]:
    """Put a pseudonym in the place of a user's name. Returns how many rows that changed, by table."""
    scopes = (kept_scope(project, f"user:{old}"), kept_scope(project, f"user:{new}"))
    places = (project, f"user:{old}", f"user:{new}")
    tenants = [project, tenant_of(project)]
    await connection.execute(SHARE_PROJECTIONS)
    counts = {
        "sessions": await _run(
            connection,
            "UPDATE sessions SET user_name = $3 WHERE project = ANY ($1::text[]) AND user_name = $2",
            *(tenants, old, new),
        )
    }
    for table, statement in _MOVED.items():
        counts[table] = await _run(connection, statement, project, old, new)
    counts["budgets"] = await _run(connection, _BUDGETS, *scopes)
    counts["reservations"] = await _run(connection, _RESERVATIONS, *scopes)
    counts["memory_places"] = await _run(connection, _PLACES, *places)
    empty = "DELETE FROM memory_places WHERE project = $1 AND scope = $2 AND memories <= 0"
    counts["memory_places"] += await _run(connection, empty, *places[:2])
    freezes = await connection.fetch("SELECT scope FROM holds WHERE held_by = $1", old)
    ours = [row["scope"] for row in freezes if own_scope(project, row["scope"]) is not None]
    by = "UPDATE holds SET held_by = $2 WHERE scope = ANY ($1::text[])"
    counts["holds"] = await _run(connection, by, ours, new)
    theirs = "SELECT sid FROM sessions WHERE project = ANY ($1::text[]) AND user_name = $2"
    if counts["sessions"]:
        await connection.execute(f"DELETE FROM search_words WHERE sid IN ({theirs})", tenants, new)
    keys = f"DELETE FROM idempotency_keys WHERE sid IN ({theirs}) AND strpos(key, $3) > 0"
    counts["idempotency_keys"] = await _run(connection, keys, tenants, new, old)
    return {table: count for table, count in counts.items() if count}


async def _run(connection: Connection, statement: str, *values: object) -> int:
    """How many rows a statement changed."""
    said = await connection.execute(statement, *values)
    return int(said.rpartition(" ")[2])
