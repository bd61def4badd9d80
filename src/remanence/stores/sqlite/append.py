"""What happens to a write between `BEGIN` and `COMMIT`: admitted in memory, then gathered with its neighbours.

Everything that can refuse a write is looked at before anything changes, so a refused one leaves its neighbours in the
same transaction untouched, without a savepoint.
"""

from __future__ import annotations

import msgspec

from remanence.core.freezes import freeze_scopes
from remanence.events import Recorded, Renames
from remanence.ports import Appended, Budget, Charge, Fork, Summary, Write
from remanence.stores.bound_snapshots import bound
from remanence.stores.refusals import (
    bad_fork,
    bad_redaction,
    content_missing,
    no_session,
    redacted_meanwhile,
    session_exists,
)
from remanence.stores.rows import (
    Draft,
    Row,
    admit,
    blobs_named,
    check_key,
    erased,
    extend,
    holds_metadata,
    in_snapshots,
    is_redaction,
    opened_summary,
    recorded,
    reserve,
)
from remanence.stores.sqlite.ledger import Held, Ledger
from remanence.stores.sqlite.tables import (
    MINUTE_US,
    POSITION_BITS,
    POSITION_MASK,
    SUMMARY_COLUMNS,
    Known,
    place_of,
)
from remanence.stores.sqlite.words import forget_record, forget_tags

__all__ = ["append", "gather_uses", "insert_session"]

_ROW = "SELECT place & 4294967295, at, epoch, actor, payload, digest, payload_digest FROM records WHERE place = ?"
_ROWS = (
    "SELECT place & 4294967295, at, epoch, actor, payload, digest, payload_digest FROM records "
    "WHERE place BETWEEN ? AND ? ORDER BY place"
)
# A session, and the forks that share its record at a position.
_HEIRS = (
    "WITH RECURSIVE heirs (id) AS (SELECT ?1 UNION SELECT s.id FROM heirs h JOIN sessions s ON s.fork_id = h.id "
    "WHERE s.fork_position >= ?2) SELECT id FROM heirs"
)


def append(ledger: Ledger, drafted: Draft) -> Appended:
    """One write. Raises what `Store.append` raises; nothing of it is in the transaction then."""
    write = drafted.write
    if write.key is not None:
        before = _answered(ledger, write)
        if before is not None:
            return before
    head = ledger.find(write.session)
    if head is None:
        return _open(ledger, drafted)
    if drafted.opens:
        raise session_exists(write.session)
    admit(head, write, ledger.holds() if write.effects or write.unless_frozen else ())
    moves = _charge(ledger, write.charges) if write.charges else None
    erasures = [_erasure(ledger, head, position, write.renames) for position in drafted.redacts]
    if moves is not None:
        ledger.move(*moves)
    for erasure in erasures:
        _erase(ledger, erasure)
    return _gather(ledger, head, drafted)


def _gather(ledger: Ledger, head: Known, drafted: Draft) -> Appended:
    """Move the head past an admitted write and put its rows with those that wait."""
    write, pending = drafted.write, ledger.pending
    before = _scheduled(head)
    start = place_of(head.id, 0)
    records: list[Recorded] = []
    first = head.head + 1
    rows = extend(head, drafted)
    for row, payload, event in zip(rows, drafted.payloads, write.events, strict=True):
        position, at, epoch, actor, inline, digest, original = row
        pending.records += (start + position, at, epoch, actor, inline, digest, original)
        records.append(Recorded(write.session, position, at, epoch, actor, event, digest))
        if original is not None:
            pending.blobs.append((original, payload))
            pending.uses.append((original, start + position))
        if b'"blob":"' in payload:
            gather_uses(ledger, payload, start + position)
    head.behind = True
    (pending.progressed if before == _scheduled(head) else pending.changed)[head.id] = head
    if (write.wake or write.release is not None) and head.wake_at is not None and head.wake_at <= write.at:
        ledger.due = True
    if write.summary is not None:
        pending.summaries[head.id] = write.summary
    if write.snapshot:
        pending.snapshots[start + head.head] = bound(write.snapshot, head.digest)
    elif write.snapshot is not None:
        _forget_snapshots(ledger, head.id)
    if write.effects:
        for scope in freeze_scopes(head.project, head.agent):
            pending.effects[scope] = start + head.head
    if write.key is not None:
        pending.keys[write.key] = (write.key_digest, start + first, start + head.head, write.at)
    for limit in write.limits:
        ledger.limit(limit, write.at)
    for entry in write.entries:
        pending.entries[entry.kind, entry.id] = entry
    return Appended(tuple(records))


def _scheduled(head: Known) -> tuple[object, ...]:
    """What an index looks at, or what seldom changes: when it is the same, the head only moved on."""
    return (head.wake_at, head.lease_until, head.frozen, head.needs, head.updated_at // MINUTE_US, head.behind)


def gather_uses(ledger: Ledger, payload: bytes, place: int) -> None:
    """Note which blobs an event refers to."""
    ledger.pending.uses.extend((bytes.fromhex(name), place) for name in blobs_named(payload))


# --- idempotency keys -------------------------------------------------------------------------------------------------


def _answered(ledger: Ledger, write: Write) -> Appended | None:
    """The records that the first write under this key became, or None when it is the first. Raises KeyReused."""
    if write.key in ledger.pending.keys:
        ledger.lay_down()
    found = ledger.connection.execute(
        "SELECT k.body_digest, k.first_place, k.last_place, s.name "
        "FROM idempotency_keys k JOIN sessions s ON s.id = k.first_place >> 32 WHERE k.key = ?",
        (write.key,),
    ).fetchone()
    if found is None:
        return None
    body_digest, first, last, session = found
    check_key(write, body_digest)
    ledger.lay_down()
    rows = [Row._make(row) for row in ledger.connection.execute(_ROWS, (first, last)).fetchall()]
    return Appended(tuple(recorded(session, row, content_of(ledger, row)) for row in rows), replayed=True)


def content_of(ledger: Ledger, row: Row) -> bytes | None:
    """The blob of a spilled payload; None for a row that has its payload, or whose blob is missing."""
    if row.payload is not None:
        return None
    found = ledger.connection.execute("SELECT content FROM blobs WHERE digest = ?", (row.payload_digest,)).fetchone()
    return None if found is None else found[0]


# --- opening and forking ----------------------------------------------------------------------------------------------


def _open(ledger: Ledger, drafted: Draft) -> Appended:
    write = drafted.write
    if not drafted.opens:
        raise no_session(write.session)
    head = Known(0, write.session, 0, bytes(32))
    summary, source = write.summary, None
    if write.fork is not None:
        source = ledger.get(write.fork.source)
        if write.seen is not None and _redacted_since(ledger, source, write.seen):
            raise redacted_meanwhile(source.session)
        head.head = head.fork_position = write.fork.position
        head.digest = _digest_at(ledger, source, write.fork)
        head.frozen = source.frozen if source.frozen <= write.fork.position else 0
    if summary is None:
        ledger.lay_down()
        summary = opened_summary(write, None if source is None else summary_row(ledger, source.id))
    head.agent, head.project, head.needs = summary.agent, summary.project, summary.needs
    # `expect=0` says that the session must be new, which it is, wherever its fork begins.
    asked = msgspec.structs.replace(write, expect=None) if write.expect == 0 else write
    admit(head, asked, ledger.holds() if write.effects or write.unless_frozen else ())
    moves = _charge(ledger, write.charges) if write.charges else None
    if moves is not None:
        ledger.move(*moves)
    insert_session(ledger, head, write.at, None if source is None else source.id)
    ledger.pending.summaries[head.id] = summary
    return _gather(ledger, head, drafted)


def _redacted_since(ledger: Ledger, source: Known, seen: int) -> bool:
    if source.head == seen:
        return False
    ledger.lay_down()
    rows = ledger.connection.execute(_ROWS, (place_of(source.id, seen + 1), place_of(source.id, source.head)))
    return any(is_redaction(row) for row in map(Row._make, rows.fetchall()))


def insert_session(ledger: Ledger, head: Known, at: int, source: int | None) -> None:
    """Give a session its number."""
    row = ledger.connection.execute(
        "INSERT INTO sessions (name, opened_at, fork_id, fork_position) VALUES (?, ?, ?, ?)",
        (head.session, at, source, head.fork_position),
    )
    head.id = row.lastrowid or 0
    ledger.remember(head)


def summary_row(ledger: Ledger, session: int) -> Summary:
    """What the session's row says for lists."""
    row = ledger.connection.execute(
        f"SELECT {SUMMARY_COLUMNS} FROM summaries m JOIN heads h ON h.id = m.id WHERE m.id = ?", (session,)
    ).fetchone()
    return Summary(*row)


def _digest_at(ledger: Ledger, source: Known, fork: Fork) -> bytes:
    """The digest a fork chains on. Raises InvalidInput for a position the source does not have."""
    if not 1 <= fork.position <= source.head:
        raise bad_fork(fork, source.head)
    ledger.lay_down()
    owner, inherited = source.id, source.fork_position
    while fork.position <= inherited:
        owner, inherited = ledger.connection.execute(
            "SELECT p.id, p.fork_position FROM sessions s JOIN sessions p ON p.id = s.fork_id WHERE s.id = ?", (owner,)
        ).fetchone()
    row = row_at(ledger, place_of(owner, fork.position))
    if row is None:
        raise content_missing(fork.source, fork.position)
    return row.digest


def row_at(ledger: Ledger, place: int) -> Row | None:
    """The stored row at a place, from the tables."""
    row = ledger.connection.execute(_ROW, (place,)).fetchone()
    return None if row is None else Row._make(row)


# --- redaction --------------------------------------------------------------------------------------------------------


class Erasure(msgspec.Struct, frozen=True):
    """A payload to replace, and the blobs that belonged to it."""

    place: int
    left: Row
    renamed: bool
    blobs: tuple[bytes, ...]


def _erasure(ledger: Ledger, head: Known, position: int, renames: Renames) -> Erasure | None:
    """What redacting a position will do; None when it was done before. Raises InvalidInput for a foreign position."""
    if not head.fork_position < position <= head.head:
        raise bad_redaction(head.session, position, _fork_of(ledger, head), head.head)
    ledger.lay_down()
    place = place_of(head.id, position)
    row = row_at(ledger, place)
    if row is None:
        raise content_missing(head.session, position)
    content = content_of(ledger, row)
    left = erased(head.session, row, content, renames)
    if left is None:
        return None
    whole = row.payload or content or b""
    blobs = [bytes.fromhex(name) for name in blobs_named(whole)]
    if row.payload is None and row.payload_digest is not None:
        blobs.append(row.payload_digest)
    return Erasure(place, left, bool(renames), tuple(blobs))


def _fork_of(ledger: Ledger, head: Known) -> Fork | None:
    row = ledger.connection.execute(
        "SELECT p.name, s.fork_position FROM sessions s JOIN sessions p ON p.id = s.fork_id WHERE s.id = ?", (head.id,)
    ).fetchone()
    return None if row is None else Fork(*row)


def _erase(ledger: Ledger, erasure: Erasure | None) -> None:
    if erasure is None:
        return
    execute, payload = ledger.connection.execute, erasure.left.payload or b""
    execute(
        "UPDATE records SET actor = ?, payload = ?, payload_digest = ? WHERE place = ?",
        (erasure.left.actor, payload, erasure.left.payload_digest, erasure.place),
    )
    for digest in erasure.blobs:
        execute("DELETE FROM blob_uses WHERE digest = ? AND place = ?", (digest, erasure.place))
        execute(
            "DELETE FROM blobs WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM blob_uses WHERE digest = ?1)", (digest,)
        )
    forget_record(ledger, erasure.place)
    if holds_metadata(payload):
        forget_tags(ledger, erasure.place)
    if erasure.renamed or in_snapshots(payload):
        position = erasure.place & POSITION_MASK
        for (id_,) in execute(_HEIRS, (erasure.place >> POSITION_BITS, position)).fetchall():
            _forget_snapshots(ledger, id_, position)
    ledger.erased = True


def _forget_snapshots(ledger: Ledger, session: int, position: int = 0) -> None:
    """Delete a session's snapshots from a position on."""
    ledger.lay_down()
    ledger.connection.execute(
        "DELETE FROM snapshots WHERE place BETWEEN ? AND ?",
        (place_of(session, position), place_of(session, POSITION_MASK)),
    )
    ledger.erased = True


# --- budgets ----------------------------------------------------------------------------------------------------------


def _charge(
    ledger: Ledger, charges: tuple[Charge, ...]
) -> tuple[dict[tuple[str, str], Budget], dict[str, Held]] | None:
    """Where these charges would move the budgets, and what each key would hold. Raises BudgetExceeded."""
    if not ledger.any_budget():
        return None
    moved: dict[tuple[str, str], Budget] = {}
    held: dict[str, Held] = {}
    for charge in charges:
        mine = held.setdefault(charge.key, dict(ledger.held(charge.key)))
        if charge.kind == "settle":
            for where, amount in mine.items():
                _move(ledger, moved, where, reserved=-amount)
            mine.clear()
        for scope in dict.fromkeys(charge.scopes):
            for unit in ledger.budgets(scope):
                where = (scope, unit)
                if charge.kind == "settle":
                    _move(ledger, moved, where, spent=charge.usd_micros if unit == "usd_micros" else charge.tokens)
                    continue
                before = mine.get(where, 0)
                mine[where] = reserve(_move(ledger, moved, where), charge, before)
                _move(ledger, moved, where, reserved=mine[where] - before)
    return moved, held


def _move(
    ledger: Ledger, moved: dict[tuple[str, str], Budget], where: tuple[str, str], *, spent: int = 0, reserved: int = 0
) -> Budget:
    scope, unit = where
    budget = moved.get(where) or ledger.budgets(scope)[unit]
    if spent or reserved:
        budget = moved[where] = msgspec.structs.replace(
            budget, spent=budget.spent + spent, reserved=budget.reserved + reserved
        )
    return budget
