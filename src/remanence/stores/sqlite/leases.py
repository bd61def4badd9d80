"""Leases on SQLite: claim, renew, release, and what a freeze and a thaw do to the sessions under them.

Every function here runs in the writer's thread, within its transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from remanence.core.freezes import covered
from remanence.ports import Hold, Lease
from remanence.stores.refusals import bad_scope, fenced, no_hold, released_unseen
from remanence.stores.rows import LEASE_FAR_US, RESTED, TTL_MAX_S, claimable, lease_is_live, woken
from remanence.stores.sqlite.ledger import Ledger
from remanence.stores.sqlite.tables import HEAD_COLUMNS, HEAD_TABLES, POSITION_BITS, Known
from remanence.stores.unseen import MARK_US, is_unseen

__all__ = ["claim", "freeze", "holds", "release", "renew", "thaw"]

# Due and free, or due and already ours: in the order of the index, so that parked sessions are never looked at.
_DUE = (
    f"SELECT {HEAD_COLUMNS} FROM {HEAD_TABLES} WHERE h.needs = ?1 AND h.wake_at <= ?2 "
    "AND (h.lease_until IS NULL OR h.lease_until <= ?2 OR h.worker = ?3) ORDER BY h.wake_at LIMIT ?4"
)
_STRANDED = f"SELECT {HEAD_COLUMNS} FROM {HEAD_TABLES} WHERE h.lease_until > ? LIMIT ?"
_NEXT_NEED = "SELECT min(needs) FROM heads WHERE wake_at IS NOT NULL AND needs > ?"


def claim(ledger: Ledger, worker: str, now: int, ttl_s: float, limit: int, agents: Sequence[str] | None) -> list[Lease]:
    """Lease up to `limit` due sessions, oldest first."""
    found: list[Known] = []
    for need in _needs(ledger) if agents is None else dict.fromkeys(("", *agents)):
        rows = ledger.connection.execute(_DUE, (need, now, worker, limit)).fetchall()
        found += [ledger.adopt(row) for row in rows]
    # Leases given before a clock went back: they end too far in the future to be waited for.
    for row in ledger.connection.execute(_STRANDED, (now + LEASE_FAR_US, limit)).fetchall():
        head = ledger.adopt(row)
        if agents is None or head.needs in ("", *agents):
            found.append(head)
    found.sort(key=lambda head: head.wake_at or 0)
    until = now + int(min(ttl_s, TTL_MAX_S) * 1_000_000)
    return [_lease(ledger, head, worker, now, until) for head in found[:limit] if claimable(head, worker, now)]


def _needs(ledger: Ledger) -> Iterable[str]:
    """The different needs of sessions that will be due some day: few, each found by one step in the index."""
    need: str | None = ""
    while need is not None:
        yield need
        (need,) = ledger.connection.execute(_NEXT_NEED, (need,)).fetchone()


def _lease(ledger: Ledger, head: Known, worker: str, now: int, until: int) -> Lease:
    mark = _mark(head)
    if head.worker == worker and lease_is_live(head.lease_until, now):
        until = max(until, head.lease_until or 0)
    else:
        head.epoch += 1
        head.worker = worker
    head.lease_until, head.wake_at = until, until - mark
    ledger.pending.changed[head.id] = head
    return Lease(head.session, worker, head.epoch, until)


def _mark(head: Known) -> int:
    return MARK_US if is_unseen(head.wake_at, head.updated_at, head.lease_until) else 0


def renew(ledger: Ledger, leases: Sequence[Lease], until: int) -> list[Lease]:
    """Extend the leases that are still ours. A wake-up that came meanwhile is kept."""
    kept: list[Lease] = []
    for lease in leases:
        head = ledger.find(lease.session)
        if head is None or head.epoch != lease.epoch or head.worker != lease.worker:
            continue
        if not woken(head) or head.wake_at == (head.lease_until or 0) - MARK_US:
            head.wake_at = until - _mark(head)
        head.lease_until = until
        ledger.pending.changed[head.id] = head
        kept.append(Lease(lease.session, lease.worker, lease.epoch, until))
    return kept


def release(ledger: Ledger, lease: Lease, seen: int, wake_at: int | None) -> None:
    """Give a lease back. Raises Fenced, or Conflict when something was written after `seen`."""
    head = ledger.get(lease.session)
    if head.epoch != lease.epoch or head.worker != lease.worker:
        raise fenced(lease, head.epoch, head.worker)
    if head.head > seen:
        raise released_unseen(lease.session, seen, head.head)
    head.worker = head.lease_until = None
    head.wake_at = wake_at
    ledger.pending.changed[head.id] = head


# --- freezes ----------------------------------------------------------------------------------------------------------

_HOLDS = "SELECT scope, at, held_by, reason, effect_session, effect_position FROM holds"


def _hold(row: Sequence[object]) -> Hold:
    """A row of the holds table, whole."""
    scope, at, by, reason, session, position = row
    last = None if session is None else (session, position)
    return Hold(scope, at, by, reason, last)  # pyright: ignore[reportArgumentType]


def holds(connection: sqlite3.Connection) -> list[Hold]:
    """The freezes that stand, oldest first."""
    return [_hold(row) for row in connection.execute(f"{_HOLDS} ORDER BY at, scope")]


def freeze(ledger: Ledger, scope: str, at: int, by: str, reason: str) -> Hold:
    """Let no effect start under a scope from the commit of this transaction on. One that stands already is kept."""
    if covered(scope) is None:
        raise bad_scope(scope)
    ledger.connection.execute(
        "INSERT OR IGNORE INTO holds SELECT ?, ?, ?, ?, "
        f"(SELECT s.name FROM effects e JOIN sessions s ON s.id = e.place >> {POSITION_BITS} WHERE e.scope = ?1), "
        f"(SELECT place & {(1 << POSITION_BITS) - 1} FROM effects WHERE scope = ?1)",
        (scope, at, by, reason),
    )
    ledger.forget()
    return _hold(ledger.connection.execute(f"{_HOLDS} WHERE scope = ?", (scope,)).fetchone())


def thaw(ledger: Ledger, scope: str, at: int) -> None:
    """Lift a freeze and make the sessions due that were at work or waiting under it."""
    if not ledger.connection.execute("DELETE FROM holds WHERE scope = ?", (scope,)).rowcount:
        raise no_hold(scope)
    project, agent = covered(scope) or (None, None)
    ledger.connection.execute(
        "UPDATE heads SET wake_at = ?1 WHERE lease_until IS NULL AND (wake_at IS NULL OR wake_at > ?1) AND id IN "
        f"(SELECT id FROM summaries WHERE status <> 'idle' AND status IN {RESTED!r} "
        "AND (?2 IS NULL OR project = ?2) AND (?3 IS NULL OR agent = ?3))",
        (at, project, agent),
    )
    ledger.forget()
    ledger.due = True
