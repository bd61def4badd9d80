"""The tables every write touches: their columns, and how the rows of many writes go down in few statements.

A statement over many rows costs little more than one over a single row, and takes and gives back the interpreter's lock
once instead of once per row; with the event loop busy beside it, each time is a wait. Its text must be one of few, so
that SQLite has it prepared: there are statements for some numbers of rows, and what is missing to the next number is
filled up with rows of nothing, which are passed over.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from typing import Any

import msgspec

from remanence.ports import Budget, Entry, Summary
from remanence.stores.rows import Head

__all__ = [
    "HEAD_COLUMNS",
    "HEAD_TABLES",
    "MINUTE_US",
    "POSITION_BITS",
    "POSITION_MASK",
    "SUMMARY_COLUMNS",
    "Known",
    "Pending",
    "Statement",
    "place_of",
]

MINUTE_US = 60_000_000
POSITION_BITS = 32
POSITION_MASK = (1 << POSITION_BITS) - 1
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)

HEAD_COLUMNS = (
    "s.id, s.name, h.head, h.digest, h.epoch, h.worker, h.lease_until, h.wake_at, h.frozen, s.fork_position, "
    "m.agent, m.project, h.needs, h.updated_at, h.behind"
)
"""The fields of `Known`, in its order, from `HEAD_TABLES`."""
SUMMARY_COLUMNS = (
    "m.agent, m.version, m.project, m.user_name, m.status, m.waiting_on, m.title, m.turns, m.usd_micros, m.tokens, "
    "h.needs"
)
"""The fields of `Summary`, in its order, from `HEAD_TABLES`."""
HEAD_TABLES = "heads h JOIN sessions s ON s.id = h.id JOIN summaries m ON m.id = h.id"


class Known(Head):
    """A head that the writer remembers. `behind`: it is marked for the projections already."""

    behind: bool = False


def place_of(session: int, position: int) -> int:
    """The key of a record: one integer that keeps a session's records together, in order."""
    return session << POSITION_BITS | position


def position_of(place: int) -> int:
    """The position in a record's key."""
    return place & (1 << POSITION_BITS) - 1


class Statement:
    """One statement over any number of rows of a fixed width; of more rows than one statement takes, several."""

    def __init__(self, start: str, width: int, end: str = "") -> None:
        self.width = width
        self._nothing = (None,) * width
        row = f"({', '.join('?' * width)})"
        self._texts = {
            size: f"{start} SELECT * FROM (VALUES {', '.join([row] * size)}) WHERE column1 IS NOT NULL {end}"
            for size in _SIZES
        }
        self._texts[1] = f"{start} VALUES {row} {end}"

    def run(self, connection: sqlite3.Connection, values: list[Any]) -> None:
        """Lay down rows given one after the other in `values`."""
        most = _SIZES[-1] * self.width
        for start in range(0, len(values), most):
            some = values[start : start + most] if len(values) > most else values
            rows = len(some) // self.width
            size = _SIZES[bisect_left(_SIZES, rows)]
            connection.execute(self._texts[size], (*some, *self._nothing * (size - rows)) if size > rows else some)


# OR FAIL: a row that cannot go down rolls the transaction back anyway, so SQLite need not be able to undo half of one.
_RECORDS = Statement("INSERT OR FAIL INTO records", 7)
_PROGRESS = Statement(
    "INSERT OR FAIL INTO heads (id, head, digest, updated_at)",
    4,
    "ON CONFLICT (id) DO UPDATE SET head = excluded.head, digest = excluded.digest, updated_at = excluded.updated_at",
)
_HEADS = Statement(
    "INSERT OR FAIL INTO heads (id, head, digest, updated_at, updated_minute, epoch, worker, lease_until, wake_at, "
    "frozen, needs, behind)",
    12,
    "ON CONFLICT (id) DO UPDATE SET head = excluded.head, digest = excluded.digest, updated_at = excluded.updated_at, "
    "updated_minute = excluded.updated_minute, epoch = excluded.epoch, worker = excluded.worker, "
    "lease_until = excluded.lease_until, wake_at = excluded.wake_at, frozen = excluded.frozen, needs = excluded.needs, "
    "behind = excluded.behind",
)
# Whose a session is does not change, but for `rename_user`: a writer that has not heard of that must not undo it.
_SUMMARIES = Statement(
    "INSERT OR FAIL INTO summaries (id, agent, version, project, user_name, status, waiting_on, title, turns, "
    "usd_micros, tokens)",
    11,
    "ON CONFLICT (id) DO UPDATE SET agent = excluded.agent, version = excluded.version, project = excluded.project, "
    "status = excluded.status, waiting_on = excluded.waiting_on, "
    "title = excluded.title, turns = excluded.turns, usd_micros = excluded.usd_micros, tokens = excluded.tokens",
)
_SNAPSHOTS = Statement("INSERT OR REPLACE INTO snapshots", 2)
_KEYS = Statement("INSERT OR FAIL INTO idempotency_keys", 5)
_EFFECTS = Statement("INSERT OR REPLACE INTO effects", 2)
_ENTRIES = Statement(
    "INSERT OR FAIL INTO registry (kind, project, id, at, updated_at, body, revision)",
    7,
    "ON CONFLICT (kind, id) DO UPDATE SET project = excluded.project, updated_at = excluded.updated_at, "
    "body = excluded.body, revision = revision + 1",
)
_RESERVE = Statement("INSERT OR REPLACE INTO reservations", 4)


class Pending(msgspec.Struct):
    """Rows that wait to be laid down before the next read or the commit. The last state of a row is the one kept."""

    records: list[Any] = []
    progressed: dict[int, Known] = {}
    """Heads that only moved on: no index looks at what changed."""
    changed: dict[int, Known] = {}
    summaries: dict[int, Summary] = {}
    snapshots: dict[int, bytes] = {}
    keys: dict[str, tuple[str, int, int, int]] = {}
    blobs: list[tuple[bytes, bytes]] = []
    uses: list[tuple[bytes, int]] = []
    budgets: dict[tuple[str, str], Budget] = {}
    reservations: dict[tuple[str, str, str], int] = {}
    effects: dict[str, int] = {}
    entries: dict[tuple[str, str], Entry] = {}

    def lay_down(self, connection: sqlite3.Connection) -> None:
        """Write everything and start empty again."""
        if self.records:
            _RECORDS.run(connection, self.records)
            self.records = []
        if self.changed or self.progressed:
            self._lay_heads(connection)
        if self.summaries:
            _SUMMARIES.run(connection, [value for row in self.summaries.items() for value in _summary_row(*row)])
            self.summaries = {}
        if self.snapshots:
            _SNAPSHOTS.run(connection, [value for row in self.snapshots.items() for value in row])
            self.snapshots = {}
        if self.keys:
            _KEYS.run(connection, [value for key, row in self.keys.items() for value in (key, *row)])
            self.keys = {}
        if self.effects:
            _EFFECTS.run(connection, [value for row in self.effects.items() for value in row])
            self.effects = {}
        if self.entries:
            _ENTRIES.run(connection, [value for entry in self.entries.values() for value in _entry_row(entry)])
            self.entries = {}
        if self.blobs or self.uses:
            self._lay_blobs(connection)
        if self.budgets or self.reservations:
            self._lay_budgets(connection)

    def _lay_heads(self, connection: sqlite3.Connection) -> None:
        changed, progressed = self.changed, self.progressed
        if changed:
            _HEADS.run(connection, [value for head in changed.values() for value in _head_row(head)])
        values: list[Any] = []
        for id_, head in progressed.items():
            if id_ not in changed:
                values += (id_, head.head, head.digest, head.updated_at)
        _PROGRESS.run(connection, values)
        self.changed, self.progressed = {}, {}

    def _lay_blobs(self, connection: sqlite3.Connection) -> None:
        connection.executemany("INSERT OR IGNORE INTO blobs VALUES (?, ?)", self.blobs)
        connection.executemany("INSERT OR IGNORE INTO blob_uses VALUES (?, ?)", self.uses)
        self.blobs, self.uses = [], []

    def _lay_budgets(self, connection: sqlite3.Connection) -> None:
        moved = [(budget.spent, budget.reserved, *where) for where, budget in self.budgets.items()]
        connection.executemany("UPDATE budgets SET spent = ?, reserved = ? WHERE scope = ? AND unit = ?", moved)
        held: list[Any] = []
        gone: list[tuple[str, str, str]] = []
        for where, amount in self.reservations.items():
            if amount:
                held += (*where, amount)
            else:
                gone.append(where)
        _RESERVE.run(connection, held)
        connection.executemany("DELETE FROM reservations WHERE key = ? AND scope = ? AND unit = ?", gone)
        self.budgets, self.reservations = {}, {}


def _head_row(head: Known) -> tuple[Any, ...]:
    return (
        head.id,
        head.head,
        head.digest,
        head.updated_at,
        head.updated_at // MINUTE_US,
        head.epoch,
        head.worker,
        head.lease_until,
        head.wake_at,
        head.frozen,
        head.needs,
        head.behind,
    )


def _entry_row(entry: Entry) -> tuple[Any, ...]:
    return (entry.kind, entry.project, entry.id, entry.at, entry.updated_at, entry.body, 1)


def _summary_row(id_: int, summary: Summary) -> tuple[Any, ...]:
    return (
        id_,
        summary.agent,
        summary.version,
        summary.project,
        summary.user,
        summary.status,
        summary.waiting_on,
        summary.title,
        summary.turns,
        summary.usd_micros,
        summary.tokens,
    )
