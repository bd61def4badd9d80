"""Snapshots on SQLite that cannot be read: a cache is given up, and begun anew.

SQLite looks at each page that it frees, so what lies on a damaged one can neither be deleted nor go with its table. The
table leaves the schema instead, and an empty one takes its place. Its pages belong to nobody then, and are gone when
the file is written anew, which follows at once: that copies what belongs to somebody.
"""

from __future__ import annotations

import sqlite3

from remanence.stores.sqlite.connect import means_damaged, say
from remanence.stores.sqlite.ledger import Ledger

__all__ = ["SnapshotsLost", "clear_snapshots", "give_up_snapshots"]

_SQL = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'snapshots'"
_LEAVE = "DELETE FROM sqlite_master WHERE tbl_name = 'snapshots'"


class SnapshotsLost(sqlite3.DatabaseError):
    """A page of theirs cannot be freed. Nothing else can be done in this transaction."""

    def __init__(self, error: sqlite3.DatabaseError) -> None:
        super().__init__(str(error))
        self.sqlite_errorcode = error.sqlite_errorcode


def clear_snapshots(ledger: Ledger) -> None:
    """Forget them all. Raises SnapshotsLost where a page of theirs cannot be read."""
    ledger.lay_down()
    try:
        ledger.connection.execute("DELETE FROM snapshots")
    except sqlite3.DatabaseError as error:
        if means_damaged(error):
            raise SnapshotsLost(error) from error
        raise


def give_up_snapshots(connection: sqlite3.Connection) -> bool:
    """Begin them anew without looking at a page of theirs, outside of a transaction. Whether that could be done."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        (sql,) = connection.execute(_SQL).fetchone()
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(_LEAVE)
        connection.execute("PRAGMA writable_schema = RESET")
        connection.execute(sql)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute("PRAGMA writable_schema = RESET")
        say("the snapshots cannot be read, and could not be begun anew", str(error))
        return False
    say("the snapshots could not be read, and were begun anew", "they are a cache: nothing is lost")
    return True
