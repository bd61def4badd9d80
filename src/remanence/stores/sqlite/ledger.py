"""What the writer remembers, and the transaction under way.

One `Ledger` belongs to the writer's thread and its connection. It remembers the heads of the sessions it wrote lately,
the freezes and the budgets, for as long as `PRAGMA data_version` says that no other connection has committed; that is
looked at once in each transaction, under the write lock, so that what is remembered is what is there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from remanence.ports import Budget
from remanence.stores.refusals import no_session
from remanence.stores.sqlite.tables import HEAD_COLUMNS, HEAD_TABLES, Known, Pending

__all__ = ["Ledger"]

REMEMBERED_MAX = 20_000
"""Sessions whose heads are remembered (about 10 MB), and scopes whose budgets are."""

_HEAD = f"SELECT {HEAD_COLUMNS} FROM {HEAD_TABLES} WHERE s.name = ?"
_MANY = 128
_HEADS = {
    size: f"SELECT {HEAD_COLUMNS} FROM {HEAD_TABLES} WHERE s.name IN ({', '.join('?' * size)})"
    for size in (2, 8, 32, _MANY)
}
"""By how many sessions they ask for: few texts, so that SQLite has them prepared."""
_BUDGETS = "SELECT scope, unit, ceiling, spent, reserved FROM budgets WHERE scope = ?"
_LIMIT = "INSERT INTO budgets (scope, unit, ceiling, at) VALUES (?, ?, ?, ?)"

Held = dict[tuple[str, str], int]
"""What one key holds, by scope and unit."""


class Ledger:
    """The writer's memory. Rows gather in `pending`; whoever looks at the tables themselves calls `lay_down` first."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.pending = Pending()
        self.due = False
        """Whether something in this transaction made a session due."""
        self.erased = False
        """Whether something in this transaction must leave the write-ahead log as well."""
        self.words_marked = False
        """Whether words were taken out of the full-text index in this transaction that are still in its pieces."""
        self._version = -1
        self.forget()

    def forget(self) -> None:
        """Drop what is remembered; it is read again when needed."""
        self._heads: dict[str, Known] = {}
        self._holds: frozenset[str] | None = None
        self._any_budget: bool | None = None
        self._budgets: dict[str, dict[str, Budget]] = {}
        self._held: dict[str, Held] = {}

    # --- the transaction ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Take the write lock. Raises sqlite3.OperationalError while another process has it."""
        self.connection.execute("BEGIN IMMEDIATE")
        self.due = self.erased = self.words_marked = False

    def look(self) -> bool:
        """Forget what is remembered if another connection has committed; return whether it has."""
        (version,) = self.connection.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return False
        self._version = version
        self.forget()
        return True

    def commit(self) -> None:
        """Lay down what has gathered and commit: what was written is durable when this returns."""
        self.lay_down()
        self.connection.execute("COMMIT")
        if len(self._heads) > REMEMBERED_MAX:
            self._heads = dict(list(self._heads.items())[REMEMBERED_MAX // 2 :])
        if len(self._budgets) > REMEMBERED_MAX or len(self._held) > REMEMBERED_MAX:
            self._budgets, self._held = {}, {}

    def roll_back(self) -> None:
        """Undo the transaction, if there is one, and forget what it thought."""
        self.pending = Pending()
        self.forget()
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def lay_down(self) -> None:
        """Write what has gathered, within the transaction."""
        self.pending.lay_down(self.connection)

    # --- sessions -----------------------------------------------------------------------------------------------------

    def find(self, session: str) -> Known | None:
        """The head of a session, or None when there is no such session."""
        head = self._heads.get(session)
        if head is None:
            row = self.connection.execute(_HEAD, (session,)).fetchone()
            if row is not None:
                head = self._heads[session] = Known(*row)
        return head

    def read_ahead(self, sessions: Iterable[str]) -> None:
        """Read the heads of those that are not remembered, together: after another process has committed, that is
        every session of a group, and one by one each would be a wait for the interpreter."""
        unknown = [session for session in dict.fromkeys(sessions) if session not in self._heads]
        if len(unknown) < 2:
            return
        for start in range(0, len(unknown), _MANY):
            some = unknown[start : start + _MANY]
            size = next(size for size in _HEADS if size >= len(some))
            for row in self.connection.execute(_HEADS[size], (*some, *[None] * (size - len(some)))).fetchall():
                self.adopt(row)

    def get(self, session: str) -> Known:
        """The head of a session. Raises NotFound."""
        head = self.find(session)
        if head is None:
            raise no_session(session)
        return head

    def remember(self, head: Known) -> None:
        """Keep the head of a session that was just opened."""
        self._heads[head.session] = head

    def adopt(self, row: Sequence[object]) -> Known:
        """The head in a row of `HEAD_COLUMNS`: the remembered one if there is one, else this."""
        head = Known(*row)  # pyright: ignore[reportArgumentType]
        return self._heads.setdefault(head.session, head)

    # --- freezes and budgets ------------------------------------------------------------------------------------------

    def holds(self) -> frozenset[str]:
        """The scopes frozen now."""
        if self._holds is None:
            self._holds = frozenset(scope for (scope,) in self.connection.execute("SELECT scope FROM holds"))
        return self._holds

    def any_budget(self) -> bool:
        """Whether there is any budget at all."""
        if self._any_budget is None:
            self._any_budget = self.connection.execute("SELECT 1 FROM budgets LIMIT 1").fetchone() is not None
        return self._any_budget

    def budgets(self, scope: str) -> dict[str, Budget]:
        """The budgets of one scope by unit; empty for most."""
        found = self._budgets.get(scope)
        if found is None:
            found = {row[1]: Budget(*row) for row in self.connection.execute(_BUDGETS, (scope,))}
            self._budgets[scope] = found
        return found

    def limit(self, budget: Budget, at: int) -> None:
        """Set a budget where its scope has none in that unit."""
        there = self.budgets(budget.scope)
        if budget.unit not in there:
            self.connection.execute(_LIMIT, (budget.scope, budget.unit, budget.limit, at))
            there[budget.unit] = budget
            self._any_budget = True

    def held(self, key: str) -> Held:
        """What is reserved under a key."""
        found = self._held.get(key)
        if found is None:
            rows = self.connection.execute("SELECT scope, unit, amount FROM reservations WHERE key = ?", (key,))
            found = self._held[key] = {(scope, unit): amount for scope, unit, amount in rows}
        return found

    def move(self, budgets: dict[tuple[str, str], Budget], held: dict[str, Held]) -> None:
        """Take over budgets that moved and the whole of what each key now holds."""
        for (scope, unit), budget in budgets.items():
            self._budgets[scope][unit] = budget
        self.pending.budgets.update(budgets)
        for key, now in held.items():
            before = self._held.get(key, {})
            for where in before.keys() | now.keys():
                self.pending.reservations[key, *where] = now.get(where, 0)
            self._held[key] = now
