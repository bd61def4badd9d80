"""Connections to a SQLite file: how one is opened, what it is told, what its errors mean, how its schema is made.

Every connection is in autocommit mode, so that each transaction in the code is one the code can see. The file is in WAL
mode with `synchronous=FULL`: a commit that returned survives the loss of power, and readers never wait for the writer.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from remanence.errors import InvalidConfig, RemanenceError, StoreCorrupt, StoreError, StoreFull, StoreUnavailable
from remanence.stores.migrations import Applied, Migration, migrations, pending

__all__ = ["Location", "apply", "applied", "connect", "explain", "explained", "prepare", "waiting"]

APPLICATION_ID = 0x524D4E43
"""Stamped into the file's header, so that no other program's database is taken for ours."""
SQLITE_MIN = (3, 35, 0)
BUSY_TIMEOUT_S = 5.0
STATEMENTS_MAX = 512

_MEANS_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_MEANS_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Location(msgspec.Struct, frozen=True):
    """Which file, and how it is kept. `ephemeral` gives up durability; `bytes_max` refuses to grow past a size."""

    path: str
    ephemeral: bool = False
    bytes_max: int | None = None
    busy_timeout_s: float = BUSY_TIMEOUT_S


def connect(location: Location, *, writer: bool = False) -> sqlite3.Connection:
    """One connection, autocommitting. Raises sqlite3.Error; see `explained`."""
    connection = sqlite3.connect(
        f"{Path(location.path).absolute().as_uri()}?mode=rw",
        timeout=location.busy_timeout_s,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS_MAX,
        uri=True,
    )
    if writer:
        connection.execute(f"PRAGMA synchronous = {'OFF' if location.ephemeral else 'FULL'}")
        connection.execute("PRAGMA secure_delete = ON")  # what is redacted leaves the file, not only the table
        connection.execute("PRAGMA temp_store = MEMORY")
        if location.bytes_max is not None:
            (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
            connection.execute(f"PRAGMA max_page_count = {max(1, location.bytes_max // page_bytes)}")
    else:
        connection.execute("PRAGMA query_only = ON")
    return connection


def prepare(location: Location) -> None:
    """Make the file and its folder when missing, see that it is ours, and bring its schema up to date."""
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
        apply(connection, location)


@contextmanager
def closing_connection(location: Location) -> Generator[sqlite3.Connection]:
    """A connection that may write, for the length of a block."""
    connection = connect(location, writer=True)
    try:
        yield connection
    finally:
        connection.close()


def _claim_file(connection: sqlite3.Connection, location: Location) -> None:
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if owner != APPLICATION_ID and tables:
        raise InvalidConfig(
            f"{location.path} is a SQLite database of another program. It was left as it is; give another path."
        )
    mode = _keep_log(connection)
    if mode != "wal":
        raise InvalidConfig(
            f"{location.path} is on a file system that cannot keep a write-ahead log (journal mode {mode}). Nothing "
            "was changed; put the database on a local disk, or use PostgreSQL."
        )
    if owner != APPLICATION_ID:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _keep_log(connection: sqlite3.Connection) -> str:
    """Switch to WAL. Two processes that make the file at once meet here, and SQLite does not wait for this lock."""
    for pause_s in (0.01, 0.05, 0.2, 0.5, 1.0):
        try:
            return connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _MEANS_LOCKED:
                raise
            time.sleep(pause_s)
    return connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]


# --- schema -----------------------------------------------------------------------------------------------------------

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


def waiting(connection: sqlite3.Connection, location: Location) -> tuple[Migration, ...]:
    """The migrations this database still needs. Raises StoreError when a newer release has migrated it."""
    return pending(migrations("sqlite"), applied(connection), where=location.path)


def apply(connection: sqlite3.Connection, location: Location) -> tuple[Migration, ...]:
    """Apply what is waiting, each migration in a transaction. Two processes may do this at once. Returns those done."""
    done: list[Migration] = []
    for migration in waiting(connection, location):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if migration in waiting(connection, location):
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


# --- errors -----------------------------------------------------------------------------------------------------------


@contextmanager
def explained(location: Location) -> Generator[None]:
    """Turn the driver's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise explain(error, location) from error


def explain(error: sqlite3.Error, location: Location) -> RemanenceError:
    """What an error of SQLite means for the person who meets it."""
    # An error of the driver itself (a closed connection) carries no code; the low byte is the primary code.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    where = location.path
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(
            f"There is no space left for the database {where}. Nothing of this write was kept; everything acknowledged "
            "before is safe. Make room and try again."
        )
    if code in _MEANS_LOCKED:
        return StoreUnavailable(
            f"The database {where} was locked by another process for more than {location.busy_timeout_s:g} s. "
            "Nothing of this was kept; everything acknowledged before is safe. Try again, or see who holds the file."
        )
    if code in _MEANS_DAMAGED:
        return StoreCorrupt(
            f"The database {where} is damaged or is not a database ({error}). The file was left as it is; keep a copy "
            f"of it, and of {where}-wal beside it, then restore a backup or export what `sqlite3 {where} .recover` "
            "still reads."
        )
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return StoreUnavailable(
            f"The database {where} cannot be opened for writing ({error}). Nothing of this was kept; everything "
            "acknowledged before is safe. Check the folder, its permissions and the disk."
        )
    if code == sqlite3.SQLITE_IOERR:
        return StoreUnavailable(
            f"The disk under {where} failed ({error}). Everything acknowledged before is safe; whether this last write "
            "was kept can be seen by reading it. Check the disk, then try again."
        )
    return StoreError(
        f"The database {where} refused a statement ({error}). Nothing of this write was kept; everything acknowledged "
        "before is safe. This is a fault in Remanence: please report it."
    )
