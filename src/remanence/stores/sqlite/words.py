"""Taking words out of the full-text index on SQLite, so that nothing of them is left in the file.

Since 3.42 FTS5 does so with each deletion when it is told to (`secure-delete`). Before, a deletion is a mark, and the
words stay in an older piece of the index until the pieces are merged: then all of it is merged at once, in the same
transaction. That takes about a second for a gigabyte of index; what SQLite frees is overwritten (`secure_delete`).
"""

from __future__ import annotations

import sqlite3

from remanence.stores.sqlite.tables import POSITION_BITS

__all__ = ["forget_record", "forget_session", "forget_tags"]

_SECURE_SINCE = (3, 42, 0)


def forget_record(connection: sqlite3.Connection, place: int) -> None:
    """The words of one record, if there are any."""
    _delete(connection, place, place)


def forget_session(connection: sqlite3.Connection, session: int) -> None:
    """The words of every record of a session, by its number."""
    _delete(connection, session << POSITION_BITS, ((session + 1) << POSITION_BITS) - 1)


def forget_tags(connection: sqlite3.Connection, place: int) -> None:
    """The metadata of the session of a record that carried it."""
    connection.execute("DELETE FROM search_tags WHERE id = ?", (place >> POSITION_BITS,))


def _delete(connection: sqlite3.Connection, first: int, last: int) -> None:
    if sqlite3.sqlite_version_info >= _SECURE_SINCE:
        connection.execute("INSERT INTO search_words (search_words, rank) VALUES ('secure-delete', 1)")
    gone = connection.execute("DELETE FROM search_words WHERE rowid BETWEEN ? AND ?", (first, last)).rowcount
    if gone and sqlite3.sqlite_version_info < _SECURE_SINCE:
        connection.execute("INSERT INTO search_words (search_words) VALUES ('optimize')")
