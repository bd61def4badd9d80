"""One thread owns the connection that writes; everything queued while a commit runs goes into the next one.

A *job* is a write, or a function that gets the `Ledger` within the transaction. The thread takes all the jobs that are
there, does them in order in one transaction, commits once (one `fdatasync`), and hands all the outcomes to the event
loop in one call. Nothing waits on purpose: under little load a group is one job, under much load it is many.

What a job can be refused for is decided before it changes anything (`append`) or within a savepoint (the other
jobs), so its neighbours never notice. When a statement or the commit itself fails, the whole group is rolled back, and
each of its jobs is tried again alone, unless the cause would be the same for all (a lock, a damaged file, a dead disk).
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec.structs import replace

from remanence.errors import RemanenceError, StoreCorrupt, StoreUnavailable
from remanence.ports import Appended
from remanence.stores.rows import Draft
from remanence.stores.sqlite.append import append
from remanence.stores.sqlite.connect import Location, Place, connect, durability_of, explain, explained, means_locked
from remanence.stores.sqlite.handover import Handover
from remanence.stores.sqlite.ledger import Ledger
from remanence.stores.sqlite.snapshots import SnapshotsLost, give_up_snapshots
from remanence.stores.sqlite.tables import Pending
from remanence.stores.sqlite.words import means_lost, mend_words, merge_words

__all__ = ["Writer", "rewrite"]

T = TypeVar("T")

GROUP_MAX = 512
FEW = 3
"""After a group of at most so many, a driver's write wakes the thread at once."""
LOCK_PAUSE_S, LOCK_PAUSE_MAX_S = 0.0002, 0.005
LOCK_TRIES = 2_000
"""So many short pauses first, about half a second: a busy process takes the lock again at once, and whoever looked more
and more seldom the longer it had waited would find it free less and less often."""


def closed(location: Location) -> StoreUnavailable:
    """What whoever comes too late is told."""
    return StoreUnavailable(f"The database {location.path} was closed. Nothing of this was kept; open it again.")


class Job:
    """Something to do in the next transaction, and whom to tell."""

    __slots__ = ("error", "future", "outcome", "work")

    def __init__(self, work: Draft | Callable[[Ledger], Any] | None, future: asyncio.Future[Any]) -> None:
        self.work = work
        self.future = future
        self.outcome: Any = None
        self.error: Exception | None = None


def _spares_snapshot(job: Job) -> bool:
    """Whether the write can do without its snapshot, which it then does: a cache must not hold up what it is made of.
    Where snapshots are to be forgotten, they must be."""
    if not isinstance(job.work, Draft) or not job.work.write.snapshot:
        return False
    job.work = replace(job.work, write=replace(job.work.write, snapshot=None))
    return True


def rewrite(ledger: Ledger) -> None:
    """A job: the file is written anew after the transaction, and the log is emptied."""
    ledger.erased = True


class Writer:
    """The writing thread of one database, bound to the event loop it was started in."""

    def __init__(self, location: Location, on_due: Callable[[], None]) -> None:
        """`on_due` is called in the event loop when something committed that made a session due."""
        self._location = location
        self._on_due = on_due
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[Job | None] = deque()
        self._asked = False
        self._few = True
        """Whether the last group was so small that waiting for company saves nothing."""
        self._rung: queue.SimpleQueue[None] = queue.SimpleQueue()  # an Event is a dozen calls in Python each way
        self._closed = False
        self._mended = False
        """Whether something was made again, or begun anew, since the last commit."""
        self.log_holds_erased = False
        """Whether the log could not be emptied since something was erased: a reader needs it. Each job tries again."""
        with explained(location):
            self._ledger = Ledger(connect(location, writer=True))
            self._ledger.connection.execute("PRAGMA busy_timeout = 0")  # `_lock` waits, in shorter steps
            self.durability = durability_of(self._ledger.connection)
        self._place = Place(location.path)
        self._handover = Handover(self._loop, self._tell)  # once nothing can fail any more: it holds a descriptor
        self._thread = threading.Thread(target=self._serve, name="remanence-sqlite-writer", daemon=True)
        self._thread.start()

    def append(self, drafted: Draft) -> asyncio.Future[Appended]:
        """Queue a write."""
        return self._put(drafted)

    def do(self, work: Callable[[Ledger], T]) -> asyncio.Future[T]:
        """Queue any other change; `work` runs in the thread, within the transaction."""
        return self._put(work)

    def look(self) -> asyncio.Future[None]:
        """Queue a look at whether another process has committed; if so `on_due` is called."""
        return self._put(None)

    def _put(self, work: Draft | Callable[[Ledger], Any] | None) -> asyncio.Future[Any]:
        if self._closed:
            raise closed(self._location)
        future = self._loop.create_future()
        self._jobs.append(Job(work, future))
        if self._few and isinstance(work, Draft) and work.write.lease is not None:
            self._rung.put(None)  # a driver that is nearly alone is what others come to, and nobody comes to it
        elif not self._asked:
            self._asked = True
            self._loop.call_soon(self._loop.call_soon, self._ring)
        return future

    def _ring(self) -> None:
        """Wake the thread: once for everything that this round of the event loop queued and what that led to at once,
        so that the thread does not ask for the interpreter while the loop still needs it."""
        self._asked = False
        self._rung.put(None)

    async def close(self) -> None:
        """Finish what is queued, then end the thread and close the connection."""
        if not self._closed:
            self._closed = True
            self._jobs.append(None)
            self._rung.put(None)
        await asyncio.to_thread(self._thread.join)
        self._handover.close()

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while (group := self._take()) is not None and not self._loop.is_closed():
                due = self._commit(group)
                self._rewrite([job for job in group if job.work is rewrite and job.error is None])
                self._answer(group, due)
                if self.log_holds_erased:
                    self._empty_log()
        finally:
            self._closed = True
            self._ledger.connection.close()
            self._refuse_the_rest()

    def _answer(self, group: list[Job], due: bool) -> None:
        try:
            self._handover.put(group, due)
        except RuntimeError:
            # The loop ended without closing the database: what was written is kept, and nobody is left to tell.
            self._closed = True

    def _refuse_the_rest(self) -> None:
        """Whoever queued something while the thread ended must not wait for ever."""
        rest = [job for job in self._queued() if job is not None]
        for job in rest:
            job.error = closed(self._location)
        if rest:
            self._answer(rest, False)

    def _take(self) -> list[Job] | None:
        """All the jobs that are there, at least one; None when there will be no more."""
        while not self._jobs:
            self._rung.get()
        group: list[Job] = []
        for job in self._queued():
            if job is None:
                if not group:
                    return None
                self._jobs.append(None)
                break
            group.append(job)
        self._few = len(group) <= FEW
        return group

    def _queued(self) -> list[Job | None]:
        jobs = self._jobs
        return [jobs.popleft() for _ in range(min(len(jobs), GROUP_MAX))]

    def _tell(self, group: list[Job], due: bool) -> None:
        for job in group:
            if job.future.done():
                continue  # whoever waited has left
            if job.error is None:
                job.future.set_result(job.outcome)
            else:
                job.future.set_exception(job.error)
        if due:
            self._on_due()

    def _commit(self, group: list[Job]) -> bool:
        """Do a group in one transaction. Returns whether a session became due, here or by another process."""
        ledger = self._ledger
        try:
            self._place.check()
            if all(job.work is None for job in group):
                return ledger.look()
            self._lock()
            foreign = ledger.look()
            ledger.read_ahead(job.work.write.session for job in group if isinstance(job.work, Draft))
            for job in group:
                self._work(job)
            merge_words(ledger)
            ledger.commit()
        except Exception as error:  # noqa: BLE001 - the thread must outlive whatever one group meets
            return self._recover(group, error)
        self._mended = False
        self.log_holds_erased = self.log_holds_erased or ledger.erased
        return foreign or ledger.due

    def _work(self, job: Job) -> None:
        ledger = self._ledger
        try:
            if isinstance(job.work, Draft):
                job.outcome = append(ledger, job.work)
            elif job.work is not None:
                ledger.lay_down()
                ledger.connection.execute("SAVEPOINT job")
                job.outcome = job.work(ledger)
                ledger.lay_down()
                ledger.connection.execute("RELEASE job")
        except RemanenceError as error:
            job.error = error
            if not isinstance(job.work, Draft):
                ledger.pending = Pending()
                ledger.connection.execute("ROLLBACK TO job")
                ledger.connection.execute("RELEASE job")
                ledger.forget()

    def _recover(self, group: list[Job], error: Exception) -> bool:
        """The group was rolled back: say so, or give each job a try of its own."""
        self._ledger.roll_back()
        if not self._mended:
            self._mended = self._mend(error)
            if self._mended:
                return self._commit(group)
        shown = explain(error, self._location) if isinstance(error, sqlite3.Error) else error
        if isinstance(shown, StoreCorrupt) and len(group) == 1 and _spares_snapshot(group[0]):
            return self._commit(group)
        if len(group) == 1 or isinstance(shown, StoreUnavailable):
            for job in group:
                job.error = shown
            return False
        due = False
        for job in group:
            job.outcome = job.error = None
            due = self._commit([job]) or due
        return due

    def _mend(self, error: Exception) -> bool:
        """Make again what follows from the rest: the full-text index, the snapshots. Whether it was."""
        connection = self._ledger.connection
        if means_lost(error):
            return mend_words(connection)
        if isinstance(error, SnapshotsLost) and give_up_snapshots(connection):
            self._vacuum()
            return True
        return False

    def _lock(self) -> None:
        """Take the write lock, waiting for other processes in steps shorter than SQLite's own."""
        deadline = time.monotonic() + self._location.lock_timeout_s
        pause_s = LOCK_PAUSE_S
        for attempt in itertools.count():
            try:
                self._ledger.begin()
                return
            except sqlite3.OperationalError as error:
                if not means_locked(error) or time.monotonic() > deadline:
                    raise
            time.sleep(pause_s)
            if attempt > LOCK_TRIES:
                pause_s = min(pause_s * 2, LOCK_PAUSE_MAX_S)

    def _rewrite(self, asked: list[Job]) -> None:
        """Write every page anew. SQLite overwrites a row that is deleted, but not what moving rows about left between
        the rows of a page, and that may be a piece of one that was deleted since."""
        if not asked:
            return
        error = self._vacuum()
        for job in asked:
            job.error = None if error is None else explain(error, self._location)

    def _vacuum(self) -> sqlite3.Error | None:
        """Write the file anew, and empty the log. Returns what was in the way."""
        connection, failed = self._ledger.connection, None
        try:
            connection.execute(f"PRAGMA busy_timeout = {int(self._location.lock_timeout_s * 1000)}")
            connection.execute("VACUUM")
        except sqlite3.Error as error:
            failed = error
        finally:
            connection.execute("PRAGMA busy_timeout = 0")
        self._empty_log()
        return failed

    def _empty_log(self) -> None:
        """What was erased is still in the write-ahead log. While a reader needs that, it stays for the next time."""
        try:
            (busy, _, _) = self._ledger.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:
            busy = 1  # a disk that fails is told to the next write
        self.log_holds_erased = bool(busy)
