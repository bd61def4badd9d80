"""The SQLite file itself: made when missing, refused when it is not ours, migrated one numbered step at a time."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from remanence.errors import InvalidConfig, StoreUnavailable
from remanence.stores.migrations import Applied, Migration, migrations, pending
from remanence.stores.sqlite.connect import Location, closing_connection, connect, explained, means_locked
from remanence.stores.sqlite.read_only import located
from remanence.stores.sqlite.words import are_lost, mend_words

__all__ = ["applied", "check", "migrate", "prepare", "waiting"]

APPLICATION_ID = 0x524D4E43
"""Stamped into the file's header, so that no other program's database is taken for ours."""
SQLITE_MIN = (3, 35, 0)


async def waiting(path: str) -> tuple[Migration, ...]:
    """The migrations this file still needs; all of them when there is none. Raises StoreError for a newer schema."""
    return await asyncio.to_thread(_look, path)


async def migrate(path: str) -> tuple[Migration, ...]:
    """Make the file when missing and apply what is waiting; returns that. Several processes may do this at once."""
    return await asyncio.to_thread(prepare, Location(path))


def _look(path: str) -> tuple[Migration, ...]:
    if not Path(path).exists():
        return migrations("sqlite")
    location = located(path)
    with explained(location), closing(connect(location)) as connection:
        _see_owner(connection, location)
        return _waiting(connection, location)


def check(location: Location) -> None:
    """See that a file that can only be read is ours, and needs nothing. Raises InvalidConfig, StoreError."""
    with explained(location), closing(connect(location)) as connection:
        if _see_owner(connection, location) != APPLICATION_ID:
            # The file was made, and what should have been its first pages found no room.
            raise StoreUnavailable(
                f"There is nothing in the database {location.path} yet, and it can only be read here: "
                f"{location.read_only}. Mend that, and whatever writes to it next begins it."
            )
        waiting = _waiting(connection, location)
    if waiting:
        raise StoreUnavailable(
            f"The database {location.path} is of an older release (it lacks migration {waiting[0].number}) and can "
            f"only be read here: {location.read_only}. Nothing was changed; copy it to a folder that can be written, "
            "and open it there."
        )


def _foreign(location: Location) -> InvalidConfig:
    return InvalidConfig(
        f"{location.path} is a SQLite database of another program. It was left as it is; give another path."
    )


def prepare(location: Location) -> tuple[Migration, ...]:
    """Make the file and its folder when missing, see that it is ours, and bring its schema up to date.

    A full-text index that cannot be read is made again. Returns the migrations that were applied. Raises
    InvalidConfig, StoreError.
    """
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        raise InvalidConfig(
            f"This Python comes with SQLite {sqlite3.sqlite_version}; 3.35 or newer is needed. Nothing was opened; "
            "use a newer Python, or PostgreSQL."
        )
    try:
        Path(location.path).parent.mkdir(parents=True, exist_ok=True)
        Path(location.path).touch(mode=0o600)
    except OSError as error:
        raise StoreUnavailable(
            f"The database file {location.path} cannot be made or written ({error.strerror}). Nothing was changed; "
            "check the folder, its permissions and the disk."
        ) from None
    with explained(location), closing_connection(location) as connection:
        _claim_file(connection, location)
        done = _apply(connection, location)
        if are_lost(connection):
            mend_words(connection)
        return done


def _claim_file(connection: sqlite3.Connection, location: Location) -> None:
    owner = _see_owner(connection, location)
    mode = _keep_log(connection)
    if mode != "wal":
        raise InvalidConfig(
            f"{location.path} is on a file system that cannot keep a write-ahead log (journal mode {mode}). Nothing "
            "was changed; put the database on a local disk, or use PostgreSQL."
        )
    if owner != APPLICATION_ID:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _see_owner(connection: sqlite3.Connection, location: Location) -> int:
    """Whose file it is; an empty one is nobody's. Raises InvalidConfig for another program's."""
    # In this order: another process that is making the file right now stamps it before it makes any table.
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    if owner != APPLICATION_ID and tables:
        raise _foreign(location)
    return owner


def _keep_log(connection: sqlite3.Connection) -> str:
    """Switch to WAL. Two processes that make the file at once meet here, and SQLite does not wait for this lock."""
    for pause_s in (0.01, 0.05, 0.2, 0.5, 1.0):
        try:
            return connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if not means_locked(error):
                raise
            time.sleep(pause_s)
    return connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]


_REMEMBER = (
    "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL)"
)


def applied(connection: sqlite3.Connection) -> tuple[Applied, ...]:
    """The migrations this database was given, in order; none for a file that is still empty."""
    (known,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'migrations'").fetchone()
    if not known:
        return ()
    rows = connection.execute("SELECT number, name, digest FROM migrations ORDER BY number").fetchall()
    return tuple(Applied(number, name, digest) for number, name, digest in rows)


def _waiting(connection: sqlite3.Connection, location: Location) -> tuple[Migration, ...]:
    """The migrations this database still needs. Raises StoreError when a newer release has migrated it."""
    return pending(migrations("sqlite"), applied(connection), where=location.path)


def _apply(connection: sqlite3.Connection, location: Location) -> tuple[Migration, ...]:
    """Apply what is waiting, each migration in a transaction. Two processes may do this at once. Returns those done."""
    done: list[Migration] = []
    for migration in _waiting(connection, location):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if migration in _waiting(connection, location):
                for statement in _statements(migration.sql):
                    connection.execute(statement)
                connection.execute(_REMEMBER)
                remembered = (migration.number, migration.name, migration.digest)
                connection.execute("INSERT INTO migrations VALUES (?, ?, ?)", remembered)
                done.append(migration)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    return tuple(done)


def _statements(sql: str) -> Iterator[str]:
    text = ""
    for line in sql.splitlines(keepends=True):
        text += line
        if sqlite3.complete_statement(text):
            yield text
            text = ""
