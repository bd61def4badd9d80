"""Taking words out of the full-text index on SQLite, so that nothing of them is left in the file.

Since 3.42 FTS5 does so with each deletion when it is told to (`secure-delete`). Before, a deletion is a mark, and the
words stay in an older piece of the index until the pieces are merged: then all of it is merged at once, at the end of
the same transaction. That takes about a second for a gigabyte of index; what SQLite frees is overwritten
(`secure_delete`).

There, each such merge lays what it makes two levels above what it was made of. An index of more than 2,000 levels is
refused as damaged, for ever. So well before that it is made again from its texts, which begins at the lowest level.

An older release could come to that, and then nothing can be taken out any more, nor put in, nor found. The texts lie in
a table of their own, so the index is made again from them by whoever opens the file, or meets it while it is open.
"""

from __future__ import annotations

import sqlite3

from remanence.stores.sqlite.connect import say
from remanence.stores.sqlite.ledger import Ledger
from remanence.stores.sqlite.tables import POSITION_BITS

__all__ = ["are_lost", "forget_record", "forget_session", "forget_tags", "means_lost", "mend_words", "merge_words"]

_SECURE_SINCE = (3, 42, 0)
_LEVELS = "SELECT length(block) FROM search_words_data WHERE id = 10"
"""How long the list is that FTS5 keeps of its levels: 2 bytes for each that is empty, as all below a merge are."""
_LEVELS_BYTES_MAX = 1_000
_COOKIE_BYTES = 4
_NO_LEVELS = bytes(3)
"""What follows the cookie in the list of an index without words: no levels, no pieces, nothing written."""


def forget_record(ledger: Ledger, place: int) -> None:
    """The words of one record, if there are any."""
    _delete(ledger, place, place)


def forget_session(ledger: Ledger, session: int) -> None:
    """The words of every record of a session, by its number."""
    _delete(ledger, session << POSITION_BITS, ((session + 1) << POSITION_BITS) - 1)


def forget_tags(ledger: Ledger, place: int) -> None:
    """The metadata of the session of a record that carried it."""
    ledger.connection.execute("DELETE FROM search_tags WHERE id = ?", (place >> POSITION_BITS,))


def merge_words(ledger: Ledger) -> None:
    """Before a commit: leave nothing of the words that this transaction took out."""
    if not ledger.words_marked:
        return
    (levels_bytes,) = ledger.connection.execute(_LEVELS).fetchone()
    how = "rebuild" if levels_bytes > _LEVELS_BYTES_MAX else "optimize"
    ledger.connection.execute("INSERT INTO search_words (search_words) VALUES (?)", (how,))


# --- an index that is lost --------------------------------------------------------------------------------------------


def means_lost(error: Exception) -> bool:
    """Whether SQLite cannot read what an index of words is made of."""
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_CORRUPT_VTAB


def are_lost(connection: sqlite3.Connection) -> bool:
    """Whether the index cannot even be opened. Reads no words."""
    try:
        connection.execute("SELECT rowid FROM search_words LIMIT 0")
    except sqlite3.DatabaseError as error:
        return means_lost(error)
    return False


def mend_words(connection: sqlite3.Connection) -> bool:
    """Make the index again from its texts, in a transaction of its own. Whether that could be done."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        found = connection.execute("SELECT block FROM search_words_data WHERE id = 10").fetchone()
        # With a list that it cannot read FTS5 does nothing at all, not even begin anew; an empty one it can read.
        empty = (found[0][:_COOKIE_BYTES] if found else bytes(_COOKIE_BYTES)) + _NO_LEVELS
        connection.execute("INSERT OR REPLACE INTO search_words_data VALUES (10, ?)", (empty,))
        connection.execute("INSERT INTO search_words (search_words) VALUES ('rebuild')")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        say("the full-text index is damaged, and could not be made again", str(error))
        return False
    say("the full-text index was damaged, and was made again from its texts", "nothing of it is lost")
    return True


def _delete(ledger: Ledger, first: int, last: int) -> None:
    marks = sqlite3.sqlite_version_info < _SECURE_SINCE
    if not marks:
        ledger.connection.execute("INSERT INTO search_words (search_words, rank) VALUES ('secure-delete', 1)")
    gone = ledger.connection.execute("DELETE FROM search_words WHERE rowid BETWEEN ? AND ?", (first, last)).rowcount
    ledger.words_marked = ledger.words_marked or (marks and gone > 0)
