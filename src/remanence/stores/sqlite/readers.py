"""The threads that read a SQLite file, each over a connection of its own, which never wait for the writer (WAL).

Each read is one transaction, so that what it returns was true at one moment.

Going to a thread and back costs more than most reads do: two wake-ups, and two turns at the interpreter's lock. So
short reads (`run(..., short=True)`) that are asked for in one step of the event loop go together, at most
`TOGETHER_MAX` of them, and come back together. A read that may take long goes alone. A row by its key, and what is in a
table that is small, is read on the spot (`at_once`): it takes a few hundredths of a millisecond, of a page that is at
hand.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from remanence.errors import StoreUnavailable
from remanence.stores.sqlite.connect import Location, connect, explained, means_locked

__all__ = ["Readers"]

T = TypeVar("T")

READERS = 3
TOGETHER_MAX = 8
"""So many short reads share a way: whoever is first waits for the others, which must not be felt."""

Query = Callable[[sqlite3.Connection], Any]


class _Read:
    """A query, whom to tell, and what to tell them."""

    __slots__ = ("error", "found", "future", "query")

    def __init__(self, query: Query, future: asyncio.Future[Any]) -> None:
        self.query = query
        self.future = future
        self.found: Any = None
        self.error: Exception | None = None


class Readers:
    """The threads, for the event loop they are asked from. A connection is opened by the first read of its thread."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._loop = asyncio.get_running_loop()
        self._asked: queue.SimpleQueue[Sequence[_Read] | None] = queue.SimpleQueue()
        self._together: list[_Read] = []
        self._threads: list[threading.Thread] = []
        self._here: sqlite3.Connection | None = None
        self._closed = False

    async def run(self, query: Callable[[sqlite3.Connection], T], *, short: bool = False) -> T:
        """Run a query in a read transaction. Raises StoreError."""
        self._check_open()
        read = _Read(query, self._loop.create_future())
        if not short:
            self._send([read])
        else:
            if not self._together:
                self._loop.call_soon(self._send_together)
            self._together.append(read)
        return await read.future

    async def at_once(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query of one statement that touches a few pages, without leaving the event loop.

        When another process is in the way, it is run by a thread, which waits.
        """
        self._check_open()
        with explained(self._location):
            try:
                if self._here is None:
                    self._here = connect(self._location)
                    self._here.execute("PRAGMA busy_timeout = 0")
                found = query(self._here)
                self._location.check()
                return found
            except sqlite3.OperationalError as error:
                if not means_locked(error):
                    raise
        return await self.run(query)

    async def close(self) -> None:
        """Let the reads that were asked for finish, then close every connection."""
        if not self._closed:
            self._closed = True
            self._send_together()
            for _ in self._threads:
                self._asked.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        if self._here is not None:
            self._here.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"The database {self._location.path} was closed; open it again.")

    def _send_together(self) -> None:
        reads, self._together = self._together, []
        for start in range(0, len(reads), TOGETHER_MAX):
            self._send(reads[start : start + TOGETHER_MAX])

    def _send(self, reads: Sequence[_Read]) -> None:
        if len(self._threads) < READERS:
            name = f"remanence-sqlite-reader-{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._serve, name=name, daemon=True))
            self._threads[-1].start()
        self._asked.put(reads)

    # --- in a thread --------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        connection: sqlite3.Connection | None = None
        while (reads := self._asked.get()) is not None and not self._loop.is_closed():
            for read in reads:
                try:
                    with explained(self._location):
                        connection = connection or connect(self._location)
                        read.found = _read(connection, read.query)
                        self._location.check()
                except Exception as error:  # noqa: BLE001 - it is told to whoever asked; the thread must outlive it
                    read.error = error
            try:
                self._loop.call_soon_threadsafe(_tell, reads)
            except RuntimeError:
                break  # the loop ended without closing the database: nobody is left to tell
        if connection is not None:
            connection.close()


def _read(connection: sqlite3.Connection, query: Query) -> Any:
    connection.execute("BEGIN")
    try:
        return query(connection)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _tell(reads: Sequence[_Read]) -> None:
    for read in reads:
        if read.future.done():
            continue  # whoever waited has left
        if read.error is None:
            read.future.set_result(read.found)
        else:
            read.future.set_exception(read.error)
