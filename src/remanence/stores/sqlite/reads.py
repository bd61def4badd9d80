"""What is read of the journals on SQLite, each within one transaction (`readers.py`)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from hashlib import sha256

from remanence.events import Recorded
from remanence.ports import Cursor, Fork, Loaded, RawRecord, Summary
from remanence.stores.bound_snapshots import unbound
from remanence.stores.refusals import blob_damaged, no_blob, no_session
from remanence.stores.rows import Row, raw_record, recorded
from remanence.stores.sqlite.connect import means_damaged
from remanence.stores.sqlite.tables import HEAD_TABLES, POSITION_MASK, SUMMARY_COLUMNS, place_of

__all__ = ["behind", "blob", "first_rows", "load", "raw", "read", "snapshots", "unread"]

# --- the journal ------------------------------------------------------------------------------------------------------

_SESSION = (
    "SELECT s.id, s.fork_id, s.fork_position, h.head FROM sessions s JOIN heads h ON h.id = s.id WHERE s.name = ?"
)
_PARENT = "SELECT id, fork_id, fork_position FROM sessions WHERE id = ?"
# Whoever edits the file by hand may leave text where bytes belong; it shows as a broken chain, not as a broken reader.
_RECORDS = (
    f"SELECT place & {POSITION_MASK}, at, epoch, actor, CAST(payload AS BLOB), CAST(digest AS BLOB), "
    "CAST(payload_digest AS BLOB) FROM records "
    "WHERE place > ? AND place <= ? ORDER BY place LIMIT ?"
)
_CONTENT = "SELECT CAST(content AS BLOB) FROM blobs WHERE digest = ?"
_LOAD = (
    f"SELECT p.name, s.fork_position, {SUMMARY_COLUMNS} FROM {HEAD_TABLES} "
    "LEFT JOIN sessions p ON p.id = s.fork_id WHERE s.name = ?"
)
_STANDS_AT = "(SELECT CAST(digest AS BLOB) FROM records WHERE records.place = snapshots.place)"
_SNAPSHOT = (
    f"SELECT place & {POSITION_MASK}, CAST(state AS BLOB), {_STANDS_AT} FROM snapshots WHERE place > ? AND place <= ? "
    "ORDER BY place DESC LIMIT 1"
)
_SNAPSHOTS = (
    f"SELECT place & {POSITION_MASK}, coalesce(CAST(state AS BLOB), x''), {_STANDS_AT} FROM snapshots "
    "WHERE place > ? AND place <= ? ORDER BY place LIMIT ?"
)
_BEHIND = (
    "SELECT s.name, coalesce(c.position, s.fork_position) AS done, h.head FROM heads h JOIN sessions s ON s.id = h.id "
    "LEFT JOIN cursors c ON c.id = h.id AND c.projection = ? WHERE h.behind = 1 AND h.head > done "
    "AND h.id > coalesce((SELECT id FROM sessions WHERE name = ?), 0) ORDER BY h.id LIMIT ?"
)


def load(connection: sqlite3.Connection, session: str, upto: int | None) -> Loaded:
    """The newest snapshot up to a position, the row, and every record from there to it. Raises NotFound."""
    last = POSITION_MASK if upto is None else upto
    row = connection.execute(_LOAD, (session,)).fetchone()
    if row is None:
        raise no_session(session)
    source, fork_position, *summary = row
    fork = None if source is None else Fork(source, fork_position)
    position, state = 0, None
    for id_, low, high in _past(connection, session, last):
        try:
            found = connection.execute(_SNAPSHOT, (place_of(id_, low), place_of(id_, high))).fetchone()
        except sqlite3.DatabaseError as error:
            if not means_damaged(error):
                raise
            break  # snapshots are a cache: what lies under a damaged page of theirs is folded from the records
        if found is not None:
            at, kept, digest = found
            state = unbound(kept, digest, session, at)
            position = at if state is not None else 0
            break
    return Loaded(state, position, tuple(read(connection, session, position, None, last)), Summary(*summary), fork)


def read(
    connection: sqlite3.Connection, session: str, after: int, limit: int | None, upto: int = POSITION_MASK
) -> list[Recorded]:
    """Records after a position, in order, through the forks they were inherited from. Raises NotFound."""
    records: list[Recorded] = []
    for id_, low, high in _segments(connection, session, after, upto):
        left = -1 if limit is None else limit - len(records)
        rows = _rows(connection, id_, low, high, left)
        records.extend(recorded(session, row, _content(connection, row)) for row in rows)
        if len(records) == limit:
            break
    return records


def raw(connection: sqlite3.Connection, session: str, after: int, limit: int) -> list[RawRecord]:
    """The session's own stored rows. Raises NotFound."""
    found = connection.execute(_SESSION, (session,)).fetchone()
    if found is None:
        raise no_session(session)
    rows = _rows(connection, found[0], after, POSITION_MASK, limit)
    return [raw_record(_in_bytes(row), _bytes_of(_content(connection, row))) for row in rows]


def first_rows(connection: sqlite3.Connection, session: str, limit: int) -> list[Row]:
    """The first stored rows of a session's own; none when they lie on a page that cannot be read."""
    found = connection.execute(_SESSION, (session,)).fetchone()
    if found is None:
        return []
    id_, _, low, _ = found
    try:
        return list(_rows(connection, id_, low or 0, POSITION_MASK, limit))
    except sqlite3.DatabaseError as error:
        if not means_damaged(error):
            raise
        return []


def snapshots(connection: sqlite3.Connection, session: str, after: int, limit: int) -> list[tuple[int, bytes]]:
    """The snapshots a session itself took, by position. Raises NotFound."""
    found = connection.execute(_SESSION, (session,)).fetchone()
    if found is None:
        raise no_session(session)
    rows = connection.execute(_SNAPSHOTS, (place_of(found[0], after), place_of(found[0], POSITION_MASK), limit))
    return [(at, unbound(kept, digest, session, at) or b"") for at, kept, digest in rows.fetchall()]


def _in_bytes(row: Row) -> Row:
    """The row in the types we write. An edit by hand may have made text, or nothing, of what was bytes."""
    payload, digest, original = map(_bytes_of, (row.payload, row.digest, row.payload_digest))
    return row._replace(payload=payload, digest=digest or b"", payload_digest=original)


def _bytes_of(value: object) -> bytes | None:
    return value if value is None or isinstance(value, bytes) else str(value).encode()


def _segments(connection: sqlite3.Connection, session: str, after: int, upto: int) -> list[tuple[int, int, int]]:
    """Which stretches of which journals make up this one past `after`: (id, after, up to), oldest first."""
    segments: list[tuple[int, int, int]] = []
    for id_, low, high in _past(connection, session, upto):
        if high > after:
            segments.append((id_, max(after, low), high))
        if low <= after:
            break
    segments.reverse()
    return segments


def _past(connection: sqlite3.Connection, session: str, upto: int) -> Iterator[tuple[int, int, int]]:
    """The same up to a position, newest first, to the very beginning. Raises NotFound."""
    found = connection.execute(_SESSION, (session,)).fetchone()
    if found is None:
        raise no_session(session)
    id_, parent, low, head = found
    high = min(head, upto)
    while True:
        if high > low:
            yield id_, low, high
            high = low
        # A fork of a fork may begin before its source's own first record: of that one, there is nothing in it.
        if parent is None:
            return
        id_, parent, low = connection.execute(_PARENT, (parent,)).fetchone()


def _rows(connection: sqlite3.Connection, id_: int, low: int, high: int, limit: int) -> Iterator[Row]:
    # All at once: a cursor left in the middle, because a record cannot be read, would keep this connection in the past
    # for as long as anybody holds on to the error.
    rows = connection.execute(_RECORDS, (place_of(id_, low), place_of(id_, high), limit)).fetchall()
    return map(Row._make, rows)


def _content(connection: sqlite3.Connection, row: Row) -> bytes | None:
    if row.payload is not None:
        return None
    found = connection.execute(_CONTENT, (row.payload_digest,)).fetchone()
    return None if found is None else found[0]


def blob(connection: sqlite3.Connection, digest: str) -> bytes:
    """Content by its digest. Raises NotFound, and StoreCorrupt for what has another digest now."""
    try:
        found = connection.execute(_CONTENT, (bytes.fromhex(digest),)).fetchone()
    except ValueError:
        found = None
    if found is None:
        raise no_blob(digest)
    if sha256(found[0]).hexdigest() != digest.lower():
        raise blob_damaged(digest)
    return found[0]


def behind(connection: sqlite3.Connection, projection: str, limit: int, after: str = "") -> list[Cursor] | None:
    """Sessions this projection has not read to the end; None when the projection is not known yet."""
    if connection.execute("SELECT 1 FROM projections WHERE name = ?", (projection,)).fetchone() is None:
        return None
    return [Cursor(*row) for row in connection.execute(_BEHIND, (projection, after, limit))]


def unread(connection: sqlite3.Connection, projection: str, limit: int, after: str = "") -> list[Cursor]:
    """The same where the projection cannot be made known, because nothing can be written."""
    whole = _BEHIND.replace("h.behind = 1 AND", "")
    return [Cursor(*row) for row in connection.execute(whole, (projection, after, limit))]
