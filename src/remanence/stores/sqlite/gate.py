"""One process at a time writes and copies the log back: SQLite lets the two happen side by side, and must not.

A checkpoint that begins while another connection commits can miss that the log was begun anew, and note as copied what
was not: a later one then leaves it out, and the file is damaged. That is SQLite's "WAL-reset bug", in every release
before 3.51.3 but 3.50.7 and 3.44.6, and SQLite starts its checkpoints after a commit, when it has given up the write
lock. So whoever writes takes a lock of the system first (`flock`), and gives it up after the checkpoint. The system
frees it when the process dies.

It lies on the log. Closing a descriptor of the database gives up SQLite's own locks on it; on the log it has none, and
while anybody has the database open that stays the same file. Other programs do not know of it. Where the system has no
such lock (Windows), there is none.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from remanence.errors import StoreUnavailable
from remanence.stores.sqlite.connect import Location, locked

if sys.platform != "win32":
    import fcntl

__all__ = ["Gate"]

_PAUSE_S = 0.001


class Gate:
    """For one connection, which is to be open for as long as this is."""

    def __init__(self, connection: sqlite3.Connection, location: Location) -> None:
        """Raises sqlite3.Error, StoreUnavailable."""
        connection.execute("PRAGMA schema_version").fetchone()  # whoever has read holds the log: nobody removes it now
        self._location = location
        path = f"{Path(location.path).resolve()}-wal"
        try:
            self._log = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise StoreUnavailable(
                f"The log {path} of the database cannot be opened ({error.strerror}). Nothing was changed; check the "
                "folder, its permissions and how many files this process may open."
            ) from None
        self._within = False

    def enter(self) -> bool:
        """Go in, unless another process is; never waits."""
        if sys.platform != "win32" and not self._within:
            try:
                fcntl.flock(self._log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        self._within = True
        return True

    def leave(self) -> None:
        """Go out, if within."""
        if sys.platform != "win32" and self._within:
            fcntl.flock(self._log, fcntl.LOCK_UN)
        self._within = False

    @contextmanager
    def within(self) -> Generator[None]:
        """Wait to go in, and be in for the length of a block. Blocks. Raises StoreUnavailable."""
        deadline = time.monotonic() + self._location.lock_timeout_s
        while not self.enter():
            if time.monotonic() > deadline:
                raise locked(self._location)
            time.sleep(_PAUSE_S)
        try:
            yield
        finally:
            self.leave()

    def close(self) -> None:
        """When nothing is written any more."""
        os.close(self._log)
