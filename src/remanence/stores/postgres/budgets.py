"""The budgets a group of writes touches: locked once, moved in memory, written back in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from remanence.ports import Budget, Charge, Write
from remanence.stores.postgres.connect import Connection
from remanence.stores.rows import reserve

__all__ = ["BUDGET", "SET_BUDGET", "Accounts"]

Account = tuple[str, str]
"""Scope and unit."""

BUDGET = "scope, unit, ceiling, spent, reserved"
SET_BUDGET = (
    "INSERT INTO budgets (scope, unit, ceiling, at, spent) VALUES ($1, $2, $3, $4, coalesce($5, 0)) "
    "ON CONFLICT (scope, unit) DO UPDATE SET "
    f"ceiling = excluded.ceiling, at = excluded.at, spent = coalesce($5, budgets.spent) RETURNING {BUDGET}"
)
_LIMIT = (
    "INSERT INTO budgets (scope, unit, ceiling, at) "
    "SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) ON CONFLICT DO NOTHING"
)
_LOCK = (
    "SELECT scope, unit, ceiling, spent, reserved FROM budgets WHERE scope = ANY ($1::text[]) "
    "ORDER BY scope, unit FOR UPDATE"
)
_HELD = "SELECT key, scope, unit, amount FROM reservations WHERE key = ANY ($1::text[])"
_UPDATE = (
    "UPDATE budgets b SET spent = w.spent, reserved = w.reserved "
    "FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS w(scope, unit, spent, reserved) "
    "WHERE b.scope = w.scope AND b.unit = w.unit"
)
_DROP = (
    "DELETE FROM reservations r USING unnest($1::text[], $2::text[], $3::text[]) AS w(key, scope, unit) "
    "WHERE r.key = w.key AND r.scope = w.scope AND r.unit = w.unit"
)
_HOLD = (
    "INSERT INTO reservations (key, scope, unit, amount) "
    "SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) "
    "ON CONFLICT (key, scope, unit) DO UPDATE SET amount = excluded.amount"
)


class Accounts:
    """Budgets and what is reserved on them, as they will be when the transaction commits."""

    def __init__(self) -> None:
        self._budgets: dict[Account, Budget] = {}
        self._held: dict[tuple[str, str, str], int] = {}
        self._moved: set[Account] = set()
        self._changed: set[tuple[str, str, str]] = set()

    async def lock(self, connection: Connection, writes: Sequence[Write]) -> None:
        """Lock every budget these writes name, in order of scope and unit."""
        scopes = sorted({scope for write in writes for charge in write.charges for scope in charge.scopes})
        if not scopes:
            return
        for row in await connection.fetch(_LOCK, scopes):
            self._budgets[row["scope"], row["unit"]] = Budget(*row)
        if self._budgets:
            keys = sorted({charge.key for write in writes for charge in write.charges})
            for key, scope, unit, amount in await connection.fetch(_HELD, keys):
                self._held[key, scope, unit] = amount

    def charge(self, charges: Sequence[Charge]) -> bool:
        """Move the budgets of one write, all or none. Answers whether any budget counts it. Raises BudgetExceeded."""
        if not charges or not self._budgets:
            return False
        budgets, held = dict(self._budgets), dict(self._held)
        moved: set[Account] = set()
        changed: set[tuple[str, str, str]] = set()
        for charge in charges:
            for account in _accounts(charge, budgets):
                budget, key = budgets[account], (charge.key, *account)
                before = held.pop(key, 0)
                if charge.kind == "reserve":
                    held[key] = reserve(budget, charge, before)
                    budget = msgspec.structs.replace(budget, reserved=budget.reserved - before + held[key])
                else:
                    spent = budget.spent + (charge.usd_micros if budget.unit == "usd_micros" else charge.tokens)
                    budget = msgspec.structs.replace(budget, reserved=budget.reserved - before, spent=spent)
                budgets[account] = budget
                moved.add(account)
                changed.add(key)
        self._budgets, self._held = budgets, held
        self._moved |= moved
        self._changed |= changed
        return bool(moved)

    async def limit(self, connection: Connection, writes: Sequence[Write]) -> None:
        """Give sessions their own budgets, where they have none."""
        limits = sorted((one.scope, one.unit, one.limit, write.at) for write in writes for one in write.limits)
        if limits:
            await connection.execute(_LIMIT, *zip(*limits, strict=True))

    async def write(self, connection: Connection) -> None:
        """Write back what moved."""
        if self._moved:
            budgets = [self._budgets[account] for account in sorted(self._moved)]
            rows = [(budget.scope, budget.unit, budget.spent, budget.reserved) for budget in budgets]
            await connection.execute(_UPDATE, *zip(*rows, strict=True))
        dropped = sorted(key for key in self._changed if not self._held.get(key))
        if dropped:
            await connection.execute(_DROP, *zip(*dropped, strict=True))
        held = [(*key, self._held[key]) for key in sorted(self._changed) if self._held.get(key)]
        if held:
            await connection.execute(_HOLD, *zip(*held, strict=True))


def _accounts(charge: Charge, budgets: dict[Account, Budget]) -> list[Account]:
    """The accounts one charge moves: each scope once, those with a budget only."""
    found: list[Account] = []
    for scope in dict.fromkeys(charge.scopes):
        found += [(scope, unit) for unit in ("usd_micros", "tokens") if (scope, unit) in budgets]
    return found
