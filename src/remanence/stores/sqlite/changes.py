"""The other changes on SQLite: specs, blobs, budgets, cursors, imports, pruning.

Every function here runs in the writer's thread, within its transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from remanence.errors import InvalidInput
from remanence.ports import Budget, Cursor, Fork, RawRecord, Summary, Version
from remanence.spec import AgentSpec, spec_digest
from remanence.stores.refusals import bad_fork, no_budget, session_exists
from remanence.stores.rows import RESTED, row_of_raw, spec_in, standing_freeze
from remanence.stores.sqlite.append import gather_uses, insert_session
from remanence.stores.sqlite.ledger import Ledger
from remanence.stores.sqlite.tables import Known, place_of, position_of

__all__ = [
    "drop_snapshots",
    "erased_among",
    "follow",
    "move_cursor",
    "prune_keys",
    "raise_budget",
    "put_blob",
    "put_spec",
    "restore",
    "set_budget",
    "version_of_row",
]

RESTORE_BYTES = 8 << 20
"""How much of a journal that is restored gathers in memory before it is laid down."""
ROW_BYTES = 512
"""About what a row takes in memory besides its payload."""


# --- specs and blobs --------------------------------------------------------------------------------------------------

_VERSION = (
    "SELECT project, agent, number, version, at, spec FROM versions WHERE project = ? AND agent = ? AND version = ?"
)


def version_of_row(row: tuple[str, str, int, str, int, bytes]) -> Version:
    """A row of the versions table, whole."""
    project, agent, number, version, at, spec = row
    return Version(project, agent, number, version, at, spec_in(spec))


def put_spec(ledger: Ledger, spec: AgentSpec, project: str, at: int) -> Version:
    """Register a version under the next number, unless it is there."""
    execute = ledger.connection.execute
    version = spec_digest(spec)
    found = execute(_VERSION, (project, spec.name, version)).fetchone()
    if found is not None:
        return version_of_row(found)
    (number,) = execute(
        "SELECT coalesce(max(number), 0) + 1 FROM versions WHERE project = ? AND agent = ?", (project, spec.name)
    ).fetchone()
    execute(
        "INSERT INTO versions (project, agent, number, version, at, spec) VALUES (?, ?, ?, ?, ?, ?)",
        (project, spec.name, number, version, at, msgspec.json.encode(spec)),
    )
    return Version(project, spec.name, number, version, at, spec)


def put_blob(ledger: Ledger, digest: str, content: bytes) -> str:
    """Keep content under its digest; what is there already is the same."""
    ledger.connection.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?)", (bytes.fromhex(digest), content))
    return digest


# --- budgets ----------------------------------------------------------------------------------------------------------


def set_budget(ledger: Ledger, scope: str, unit: str, limit: int, at: int, spent: int | None) -> Budget:
    """Set the limit of a scope; what was spent (unless it is told) and is reserved stays."""
    execute = ledger.connection.execute
    execute(
        "INSERT INTO budgets (scope, unit, ceiling, at) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (scope, unit) DO UPDATE SET ceiling = excluded.ceiling, at = excluded.at",
        (scope, unit, limit, at),
    )
    if spent is not None:
        execute("UPDATE budgets SET spent = ? WHERE scope = ? AND unit = ?", (spent, scope, unit))
    ledger.forget()
    return _budget(ledger, scope, unit)


def raise_budget(ledger: Ledger, scope: str, unit: str, by: int, to: int, at: int) -> Budget:
    """Raise a limit that stands, as it is now."""
    ledger.connection.execute(
        "UPDATE budgets SET ceiling = max(ceiling + ?, ?), at = ? WHERE scope = ? AND unit = ?",
        (by, to, at, scope, unit),
    )
    ledger.forget()
    return _budget(ledger, scope, unit)


def _budget(ledger: Ledger, scope: str, unit: str) -> Budget:
    found = ledger.connection.execute(
        "SELECT scope, unit, ceiling, spent, reserved FROM budgets WHERE scope = ? AND unit = ?", (scope, unit)
    ).fetchone()
    if found is None:
        raise no_budget(scope)
    return Budget(*found)


# --- projections ------------------------------------------------------------------------------------------------------

_POSITION = (
    "SELECT s.id, coalesce(c.position, s.fork_position) FROM sessions s "
    "LEFT JOIN cursors c ON c.id = s.id AND c.projection = ? WHERE s.name = ?"
)
_CAUGHT_UP = """
UPDATE heads SET behind = 0 WHERE id = ? AND NOT EXISTS (
    SELECT 1 FROM projections p LEFT JOIN cursors c ON c.projection = p.name AND c.id = heads.id
    WHERE coalesce(c.position, 0) < heads.head)
"""


_ERASED = "SELECT place FROM records WHERE place BETWEEN ? AND ? AND payload IS NOT NULL AND payload_digest IS NOT NULL"


def follow(ledger: Ledger, projection: str) -> None:
    """Make a projection known: from now on every session with something it has not read is marked."""
    if ledger.connection.execute("INSERT OR IGNORE INTO projections VALUES (?)", (projection,)).rowcount:
        ledger.connection.execute("UPDATE heads SET behind = 1")
        ledger.forget()


def move_cursor(ledger: Ledger, projection: str, cursor: Cursor) -> int | None:
    """Move a cursor from `position` to `head` and return the session's number; None when it is elsewhere by now."""
    execute = ledger.connection.execute
    follow(ledger, projection)
    found = execute(_POSITION, (projection, cursor.session)).fetchone()
    if found is None or found[1] != cursor.position:
        return None
    execute("INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)", (projection, found[0], cursor.head))
    if execute(_CAUGHT_UP, (found[0],)).rowcount:
        ledger.get(cursor.session).behind = False
    return found[0]


def erased_among(ledger: Ledger, id_: int, after: int, upto: int) -> set[int]:
    """The positions of a session's own records, over `after` and at most `upto`, of which a skeleton is left."""
    among = (place_of(id_, after + 1), place_of(id_, upto))
    return {position_of(place) for (place,) in ledger.connection.execute(_ERASED, among)}


# --- imports and pruning ----------------------------------------------------------------------------------------------


def restore(
    ledger: Ledger,
    session: str,
    rows: Sequence[RawRecord],
    summary: Summary,
    fork: Fork | None,
    budgets: Sequence[Budget],
) -> None:
    """Lay down an exported journal as it is, with its budgets; a session that was not at rest is due at once.

    `rows` may be read from a file each time they are gone through, so they are laid down in pieces. Raises Conflict
    when the session exists, NotFound for a missing source.
    """
    if not rows:
        raise InvalidInput(f"There is no record to restore for session {session!r}. Nothing was written.")
    if ledger.find(session) is not None:
        raise session_exists(session)
    source = None if fork is None else ledger.get(fork.source)
    if fork is not None and source is not None and not 1 <= fork.position <= source.head:
        raise bad_fork(fork, source.head)
    head = Known(0, session, rows[-1].position, rows[-1].digest)
    head.fork_position = 0 if fork is None else fork.position
    head.epoch = max(row.epoch for row in rows)
    head.frozen = standing_freeze(rows)
    head.updated_at = max(row.at for row in rows)
    head.agent, head.project, head.needs = summary.agent, summary.project, summary.needs
    head.behind = True
    if summary.status in RESTED:
        head.wake_at, ledger.due = rows[0].at, True
    for one in budgets:
        set_budget(ledger, one.scope, one.unit, one.limit, head.updated_at, one.spent)
    insert_session(ledger, head, rows[0].at, None if source is None else source.id)
    gathered = 0
    for raw in rows:
        row, content = row_of_raw(raw)
        place = place_of(head.id, row.position)
        gathered += len(raw.payload) + ROW_BYTES
        ledger.pending.records += (place, *row[1:])
        if content is not None and row.payload_digest is not None:
            ledger.pending.blobs.append((row.payload_digest, content))
            ledger.pending.uses.append((row.payload_digest, place))
        gather_uses(ledger, raw.payload, place)
        if gathered > RESTORE_BYTES:
            gathered = 0
            ledger.lay_down()
    ledger.pending.changed[head.id] = head
    ledger.pending.summaries[head.id] = summary


def drop_snapshots(ledger: Ledger, session: str, positions: Sequence[int]) -> None:
    """Forget some of a session's snapshots. Raises NotFound."""
    head = ledger.get(session)
    ledger.lay_down()
    for position in positions:
        ledger.connection.execute("DELETE FROM snapshots WHERE place = ?", (place_of(head.id, position),))


def prune_keys(ledger: Ledger, before: int) -> int:
    """Forget idempotency keys used before a moment. Returns how many."""
    return ledger.connection.execute("DELETE FROM idempotency_keys WHERE at < ?", (before,)).rowcount
