"""Whether the pages of a SQLite file are those of a database: what `doctor` asks, since nobody reads them all.

SQLite notices a damaged page when it is asked for. One that only an old session needs is asked for by nobody, and lists
go on showing the session as it was.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import msgspec

from remanence.errors import StoreCorrupt
from remanence.stores.sqlite.connect import Location, connect, explain, explained
from remanence.stores.sqlite.read_only import located
from remanence.stores.sqlite.words import are_lost

__all__ = ["Pages", "look_at_pages", "words_are_lost"]

_STEPS = 500
"""How many instructions of SQLite's own machine pass between two looks at the clock."""


class Pages(msgspec.Struct, frozen=True):
    """What is wrong with the pages, in SQLite's words (empty: nothing was found), and whether all were looked at."""

    fault: str = ""
    all_seen: bool = True


def look_at_pages(path: str, *, timeout_s: float) -> Pages:
    """Look through the file for so many seconds. Nothing is changed. Raises StoreError when it cannot be opened."""
    location = Location(path)
    until = time.monotonic() + timeout_s
    with explained(location):
        connection = connect(location)
    try:
        connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
        said = [str(row[0]) for row in connection.execute("PRAGMA quick_check(1)")]
    except sqlite3.Error as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return Pages(all_seen=False)
        shown = explain(error, location)
        if isinstance(shown, StoreCorrupt):
            return Pages(shown.message)
        raise shown from error
    finally:
        connection.close()
    return Pages("" if said == ["ok"] else " ".join(" ".join(said).replace("*** in database main ***", "").split()))


def words_are_lost(path: str) -> bool:
    """Whether the full-text index cannot be read. Nothing is changed. Raises StoreError when the file cannot be."""
    location = located(path)
    with explained(location), closing(connect(location)) as connection:
        return are_lost(connection)
