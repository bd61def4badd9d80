"""Connections to a SQLite file: how one is opened, what it is told, what its errors mean.

Every connection is in autocommit mode, so that each transaction in the code is one the code can see. The file is in WAL
mode with `synchronous=FULL`: a commit that returned survives the loss of power, and readers never wait for the writer.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from remanence.errors import RemanenceError, StoreCorrupt, StoreError, StoreFull, StoreUnavailable

__all__ = [
    "LOCK_TIMEOUT_S",
    "Location",
    "Place",
    "closing_connection",
    "connect",
    "durability_of",
    "explain",
    "explained",
    "has_log",
    "looks_of",
    "means_locked",
    "say",
]

LOCK_TIMEOUT_S = 5.0
STATEMENTS_MAX = 512
CACHE_KIB = 32 * 1024
"""What the writer may keep of the file in memory: the last pages of the journals that are being written."""
CHECKPOINT_PAGES = 4_000
"""The write-ahead log is copied back every 16 MB: pages written again and again until then are copied once."""

_LEVELS = ("OFF", "NORMAL", "FULL", "EXTRA")
_MEANS_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_MEANS_NO_ROOM = {sqlite3.SQLITE_IOERR_SHMSIZE}
"""The index of the log beside the database, which readers need as well, does not fit any more."""
_MEANS_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_SAYS_DAMAGED = ("no such column", "no such table", "malformed", "Could not decode")
"""The schema was brought up to date on opening: what is missing from it now, or is no text, was lost."""


class Location(msgspec.Struct, frozen=True):
    """Which file, and how it is kept. `ephemeral` gives up durability; `bytes_max` refuses to grow past a size.

    `read_only` says why it cannot be written (empty: it can); `whole`: then, that there is no log beside the file.
    Where somebody may write all the same, because room is made, `seen` is when the file was changed last, and its size.
    """

    path: str
    ephemeral: bool = False
    bytes_max: int | None = None
    lock_timeout_s: float = LOCK_TIMEOUT_S
    read_only: str = ""
    whole: bool = False
    seen: tuple[int, int] | None = None

    def check(self) -> None:
        """See that a file that is read as it lies is as it was. Raises StoreUnavailable."""
        if self.seen is not None and (looks_of(self.path) != self.seen or has_log(self.path)):
            raise StoreUnavailable(
                f"The database {self.path} could only be read, its disk being full, and somebody has written to it "
                "since. What was read is not to be relied on, and nothing was changed; run this again."
            )


def looks_of(path: str) -> tuple[int, int]:
    """When a file was changed last, in nanoseconds, and its size in bytes."""
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size


def has_log(path: str) -> bool:
    """Whether something lies in the log beside a database, which SQLite keeps where the file is, not a link to it."""
    log = Path(f"{Path(path).resolve()}-wal")
    return log.exists() and log.stat().st_size > 0


def connect(location: Location, *, writer: bool = False) -> sqlite3.Connection:
    """One connection, autocommitting. Raises sqlite3.Error; see `explained`."""
    mode = ("ro&immutable=1" if location.whole else "ro") if location.read_only else "rw"
    connection = sqlite3.connect(
        f"{Path(location.path).absolute().as_uri()}?mode={mode}",
        timeout=location.lock_timeout_s,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS_MAX,
        uri=True,
    )
    try:
        _settle(connection, location, writer=writer)
    except BaseException:
        connection.close()  # it is no database, or a damaged one: the file is not held open for that
        raise
    return connection


def _settle(connection: sqlite3.Connection, location: Location, *, writer: bool) -> None:
    if writer:
        connection.execute(f"PRAGMA synchronous = {'OFF' if location.ephemeral else 'FULL'}")
        connection.execute("PRAGMA secure_delete = ON")  # what is redacted leaves the file, not only the table
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        if location.bytes_max is not None:
            (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
            connection.execute(f"PRAGMA max_page_count = {max(1, location.bytes_max // page_bytes)}")
    else:
        connection.execute("PRAGMA query_only = ON")


class Place:
    """The file behind a path as it was when it was opened. One that is removed or replaced while it is open can still
    be written, and nobody would ever read that."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = self._look()

    def check(self) -> None:
        """Raises StoreUnavailable when another file, or none, is there now."""
        if self._look() != self._file:
            raise StoreUnavailable(
                f"The database {self._path} was removed, or another file was put in its place, while it was open. "
                "Nothing of this was kept. Put the file back, or start again to go on with what is there now."
            )

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino


@contextmanager
def closing_connection(location: Location) -> Generator[sqlite3.Connection]:
    """A connection that may write, for the length of a block."""
    connection = connect(location, writer=True)
    try:
        yield connection
    finally:
        connection.close()


# --- errors -----------------------------------------------------------------------------------------------------------


@contextmanager
def explained(location: Location) -> Generator[None]:
    """Turn the driver's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise explain(error, location) from error
    except UnicodeDecodeError as error:
        # A text of the file that is none, perhaps within SQLite's own message about it.
        raise _damaged(str(error), location) from error


def means_locked(error: sqlite3.Error) -> bool:
    """Whether another process was in the way."""
    return _primary_code(error) in _MEANS_LOCKED


def means_damaged(error: sqlite3.Error) -> bool:
    """Whether a page that was asked for cannot be what was written."""
    return _primary_code(error) in _MEANS_DAMAGED


def _primary_code(error: sqlite3.Error) -> int:
    # An error of the driver itself (a closed connection) carries no code; the low byte is the primary one.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def say(event: str, why: str) -> None:
    """Tell the log of something that was damaged, and what became of it."""
    import structlog  # with what it loads itself: the help of a command, which comes by here, needs none of it

    structlog.get_logger("remanence.store").warning(event, why=why)


def explain(error: sqlite3.Error, location: Location) -> RemanenceError:
    """What an error of SQLite means for the person who meets it."""
    code = _primary_code(error)
    where = location.path
    if code == sqlite3.SQLITE_FULL or getattr(error, "sqlite_errorcode", 0) in _MEANS_NO_ROOM:
        return StoreFull(
            f"There is no space left for the database {where}. Nothing of this write was kept; everything acknowledged "
            "before is safe. Make room and try again."
        )
    if code in _MEANS_LOCKED:
        return StoreUnavailable(
            f"The database {where} was locked by another process for more than {location.lock_timeout_s:g} s. "
            "Nothing of this was kept; everything acknowledged before is safe. Try again, or see who holds the file."
        )
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_CORRUPT_VTAB:
        return StoreCorrupt(
            f"The full-text index of the database {where} is damaged ({error}): nothing is found in it, and no words "
            "can be taken out of it. The sessions are whole. Open the database where it can be written, and the index "
            "is made again from its texts; if that cannot be done, `remanence db copy` makes a database without it."
        )
    if code in _MEANS_DAMAGED or str(error).startswith(_SAYS_DAMAGED):
        return _damaged(str(error), location)
    if location.read_only and code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        return StoreUnavailable(
            f"The database {where} can only be read here ({location.read_only}), and its log {where}-wal not in this "
            f"place ({error}). Nothing was changed. Copy both files together into a folder of your own, and read it "
            "there."
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


def _damaged(said: str, location: Location) -> StoreCorrupt:
    where = location.path
    return StoreCorrupt(
        f"The database {where} is damaged or is not a database ({said}). The file was left as it is; keep a copy "
        f"of it, and of {where}-wal beside it, then restore a backup or export what `sqlite3 {where} .recover` "
        "still reads."
    )


def durability_of(connection: sqlite3.Connection) -> str:
    """How a connection was told to keep what it commits: looked up, not remembered."""
    mode, level = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous"))
    words = f"journal_mode={mode.upper()}, synchronous={_LEVELS[level]}"
    return words if level >= _LEVELS.index("FULL") else f"{words}: a power failure loses data"
