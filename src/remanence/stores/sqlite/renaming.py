"""Names on SQLite: where one stands in the journals, and a pseudonym in its place in the tables beside them.

Amounts stay: what was spent under a name is added to what the pseudonym spent, so that the bill still adds up.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from remanence.core.ledger import kept_scope, own_scope
from remanence.core.memory.journal import tenant_of
from remanence.stores.sqlite.ledger import Ledger
from remanence.stores.sqlite.words import forget_session

__all__ = ["naming", "rename_user"]

# Looked for as bytes: a payload is JSON, in which a name may be written with escapes.
_NAMING = """
SELECT s.name, r.place & 4294967295 FROM records r JOIN sessions s ON s.id = r.place >> 32
LEFT JOIN blobs b ON r.payload IS NULL AND b.digest = r.payload_digest WHERE {} ORDER BY r.place
"""
_HOLDS = "instr(r.actor, ?) OR instr(coalesce(r.payload, b.content), ?)"
_AT_ONCE = 100
_SUMS = (
    *("calls", "unpriced_calls", "usd_micros", "input_tokens", "output_tokens", "cached_tokens"),
    *("cache_write_tokens", "reasoning_tokens"),
)
_MORE = ", ".join(f"{name} = {name} + excluded.{name}" for name in _SUMS)
_ADDED = {
    "usage_hours": (
        f"INSERT INTO usage_hours SELECT id, hour, model, agent, :new, project, {', '.join(_SUMS)} FROM usage_hours "
        f"WHERE project = :project AND user_name = :old "
        f"ON CONFLICT (id, hour, model, agent, user_name, project) DO UPDATE SET {_MORE}",
        "DELETE FROM usage_hours WHERE project = :project AND user_name = :old",
    ),
    "usage_days": (
        f"INSERT INTO usage_days SELECT project, field, day, :new, {', '.join(_SUMS)} FROM usage_days "
        f"WHERE project = :project AND field = 'user' AND name = :old "
        f"ON CONFLICT (project, field, day, name) DO UPDATE SET {_MORE}",
        "DELETE FROM usage_days WHERE project = :project AND field = 'user' AND name = :old",
    ),
    "budgets": (
        "INSERT INTO budgets SELECT :new_scope, unit, ceiling, spent, reserved, at FROM budgets "
        "WHERE scope = :old_scope ON CONFLICT (scope, unit) DO UPDATE SET ceiling = excluded.ceiling, "
        "spent = spent + excluded.spent, reserved = reserved + excluded.reserved",
        "DELETE FROM budgets WHERE scope = :old_scope",
    ),
    "reservations": (
        "INSERT INTO reservations SELECT key, :new_scope, unit, amount FROM reservations WHERE scope = :old_scope "
        "ON CONFLICT (key, scope, unit) DO UPDATE SET amount = amount + excluded.amount",
        "DELETE FROM reservations WHERE scope = :old_scope",
    ),
    "memory_places": (
        "UPDATE OR IGNORE memory_places SET scope = :new_place WHERE project = :project AND scope = :old_place",
        "DELETE FROM memory_places WHERE project = :project AND scope = :old_place AND memories <= 0",
    ),
}
"""What takes over the rows of a name, and what removes those that are left."""


def naming(connection: sqlite3.Connection, names: Sequence[str]) -> list[tuple[str, int]]:
    """The records that hold any of some names in their header or anywhere in their content."""
    found: dict[tuple[str, int], None] = {}
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        values = [value for name in some for value in (name, msgspec.json.encode(name)[1:-1])]
        rows = connection.execute(_NAMING.format(" OR ".join([_HOLDS] * len(some))), values)
        found |= dict.fromkeys((session, position) for session, position in rows)
    return list(found)


def rename_user(ledger: Ledger, project: str, old: str, new: str) -> dict[str, int]:
    """Put a pseudonym in the place of a user's name. Returns how many rows that changed, by table."""
    execute = ledger.connection.execute
    names = {"project": project, "tenant": tenant_of(project)}
    for which, name in (("old", old), ("new", new)):
        place = f"user:{name}"
        names |= {which: name, f"{which}_place": place, f"{which}_scope": kept_scope(project, place)}
    tenants = "project IN (:project, :tenant)"
    sessions = execute(f"SELECT id FROM summaries WHERE {tenants} AND user_name IN (:old, :new)", names).fetchall()
    counts = {
        "sessions": _run(ledger, f"UPDATE summaries SET user_name = :new WHERE {tenants} AND user_name = :old", names)
    }
    for table, (take_over, remove) in _ADDED.items():
        taken = _run(ledger, take_over, names)
        counts[table] = max(taken, _run(ledger, remove, names))
    freezes = execute("SELECT scope FROM holds WHERE held_by = :old", names).fetchall()
    ours = [scope for (scope,) in freezes if own_scope(project, scope) is not None]
    ledger.connection.executemany("UPDATE holds SET held_by = ? WHERE scope = ?", [(new, scope) for scope in ours])
    counts["holds"] = len(ours)
    counts["idempotency_keys"] = 0
    for (session,) in sessions:
        if counts["sessions"]:
            forget_session(ledger, session)
        keys = "DELETE FROM idempotency_keys WHERE first_place >> 32 = ? AND instr(key, ?)"
        counts["idempotency_keys"] += execute(keys, (session, old)).rowcount
    ledger.forget()
    ledger.erased = True
    return {table: count for table, count in counts.items() if count}


def _run(ledger: Ledger, statement: str, names: dict[str, str]) -> int:
    return ledger.connection.execute(statement, names).rowcount
