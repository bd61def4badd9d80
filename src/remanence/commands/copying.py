"""A whole database, copied into another one of any kind, and backed up into one file.

Everything is copied that does not come back by itself: agent versions under their numbers, what was declared (API keys
among it: as their hashes), budgets with what was spent, standing freezes, sessions with their forks as forks, the blobs
they name. Leases, idempotency keys and reservations are not: nobody holds them in the copy. What a session cost is
summed again from its journal.

A copy may be interrupted and begun again: a session that is in the target already, with the same journal, is passed by.
It is meant for a source at rest; what is written meanwhile may be left behind, whole records at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from remanence.commands.entries import every_entry
from remanence.commands.lineage import Journal, erased_elsewhere, journal_of, own_pages, summary_now
from remanence.commands.spool import Spool
from remanence.commands.transfer import file_errors
from remanence.errors import Conflict, InvalidInput, NotFound, StoreCorrupt, StoreUnavailable
from remanence.events import GENESIS
from remanence.ports import Database, RawRecord, SessionQuery, SessionRow
from remanence.stores.rows import blobs_named
from remanence.stores.verify import Flaw, Verifier

__all__ = ["Copied", "Refused", "backup_database", "copy_database"]

_PAGE = 200
_TRIES = 20


class Refused(msgspec.Struct, frozen=True):
    """A session that was not copied, and why."""

    session: str
    why: str


class Copied(msgspec.Struct, frozen=True):
    """What a copy came to. `present` sessions were there before; `refused` are damaged, or differ there; `held` were in
    the hands of a worker, so that what it wrote meanwhile may be missing: copy again when it has stopped."""

    sessions: int
    present: int
    records: int
    blobs: int
    versions: int
    entries: int
    budgets: int
    holds: int
    held: int = 0
    refused: tuple[Refused, ...] = ()


def _place(database: Database) -> str:
    """Where a database lies, whatever path led to it."""
    path = database.url.removeprefix("sqlite:///")
    return database.url if path == database.url or path == ":memory:" else str(Path(path).resolve())


async def copy_database(source: Database, target: Database, progress: Callable[[str], None] | None = None) -> Copied:
    """Copy everything. `progress` is called with the id of each session before it is copied.

    A damaged session is left out and reported; so is one whose id has another journal in the target. Raises
    InvalidInput when both are the same database, StoreError.
    """
    if await asyncio.to_thread(_place, source) == await asyncio.to_thread(_place, target):
        raise InvalidInput("The source and the target are the same database. Nothing was copied.", param="target")
    copy = _Copy(source, target, progress or (lambda session: None))
    await copy.versions()
    entries = await copy.entries()
    # Before the sessions: a worker on the target must not run what is frozen, or spend what was spent.
    budgets, holds = await copy.controls()
    await copy.sessions()
    # Once more, because sessions that began meanwhile may be of versions that nobody had told before.
    versions = await copy.versions()
    return Copied(
        sessions=len(copy.done) - copy.present - len(copy.refused),
        present=copy.present,
        records=copy.records,
        blobs=len(copy.blobs),
        versions=versions,
        entries=entries,
        budgets=budgets,
        holds=holds,
        held=copy.held,
        refused=tuple(copy.refused),
    )


async def backup_database(
    database: Database, path: Path, progress: Callable[[str], None] | None = None
) -> Copied | None:
    """Back up a database into one SQLite file, while it is used. `path` appears when the backup is complete.

    A SQLite database is copied page by page, as it is at one moment (None is returned); any other one session by
    session. The file can be opened by itself, or copied back with `copy_database`. Raises InvalidInput when the path is
    taken, StoreError.
    """
    from remanence.stores.sqlite.database import SqliteDatabase, open_sqlite

    with file_errors(path):
        await asyncio.to_thread(path.parent.stat)
    if isinstance(database, SqliteDatabase):
        await database.backup(str(path))
        return None
    partial = path.with_name(f".{path.name}.partial")
    with file_errors(path):
        if await asyncio.to_thread(path.exists):
            raise Conflict(f"There is something at {path} already; it was left as it is. Give another path.")
        await asyncio.to_thread(partial.unlink, missing_ok=True)
        target = await open_sqlite(str(partial))
        try:
            copied = await copy_database(database, target, progress)
        finally:
            await target.close()
        await asyncio.to_thread(_put, partial, path)
    return copied


def _put(partial: Path, path: Path) -> None:
    """Give the whole file its name. What SQLite has left in the log beside it would stay behind."""
    log = partial.with_name(f"{partial.name}-wal")
    if log.exists() and log.stat().st_size:
        raise StoreUnavailable(
            f"The backup could not be made one file: another process has {partial} open. Nothing was put at {path}. "
            "End that process, then try again."
        )
    partial.rename(path)


class _Copy:
    """One copy under way."""

    def __init__(self, source: Database, target: Database, progress: Callable[[str], None]) -> None:
        self.source = source
        self.target = target
        self.progress = progress
        self.done: set[str] = set()
        self.blobs: set[str] = set()
        self.refused: list[Refused] = []
        self.present = 0
        self.held = 0
        self.records = 0

    async def versions(self) -> int:
        """Agent versions in the order of their numbers, so that each gets its number again."""
        versions = sorted(await self.source.specs.versions(None), key=lambda one: (one.project, one.agent, one.number))
        for one in versions:
            await self.target.specs.put(one.spec, project=one.project, at=one.at)
        return len(versions)

    async def entries(self) -> int:
        """What was declared, kind by kind, in the order it was made; what is in the target already stays as it is."""
        count = 0
        for kind in await self.source.registry.kinds():
            for entry in await every_entry(self.source.registry, kind, project=None):
                with contextlib.suppress(Conflict):
                    await self.target.registry.put(entry, expect=0)
                    count += 1
        return count

    async def controls(self) -> tuple[int, int]:
        """Budgets with what was spent, and the freezes that stand."""
        budgets, holds = await self.source.controls.budgets(), await self.source.controls.holds()
        for one in budgets:
            await self.target.controls.set_budget(one.scope, one.unit, one.limit, at=0, spent=one.spent)
        for hold in holds:
            await self.target.controls.freeze(hold.scope, at=hold.at, by=hold.by, reason=hold.reason)
        return len(budgets), len(holds)

    async def sessions(self) -> None:
        query = SessionQuery(limit=_PAGE)
        while rows := await self.source.views.sessions(query):
            for row in rows:
                self.held += row.lease_until is not None
                await self._copy_after_its_sources(row)
            query = msgspec.structs.replace(query, before=(rows[-1].updated_at, rows[-1].session))

    async def _copy_after_its_sources(self, row: SessionRow) -> None:
        """A fork can only be laid down where what it was forked from lies already."""
        line = [row.session]
        while row.fork is not None and row.fork.source not in self.done:
            row = await self.source.views.session(row.fork.source)
            line.append(row.session)
        for session in reversed(line):
            if session not in self.done:
                self.done.add(session)
                await self._copy(session)

    async def _copy(self, session: str) -> None:
        self.progress(session)
        try:
            for _ in range(_TRIES):
                if await self._laid_down(await journal_of(self.source, session)):
                    return
            raise Conflict(f"Session {session} was being erased all the while; it was not copied. Copy again.")
        except (StoreCorrupt, Conflict, NotFound) as error:
            self.refused.append(Refused(session, error.message))

    async def _laid_down(self, journal: Journal) -> bool:
        """Lay a journal down in the target, unless something of it was erased since its head was looked up."""
        if await self._is_there(journal):
            self.present += 1
            return True
        with Spool() as spool:
            if not await self._read(journal, spool):
                return False
            summary = await summary_now(self.source, journal.row)
            await self.target.restore(journal.row.session, spool.rows(), summary, journal.row.fork)
        self.records += journal.row.head - journal.inherited
        return True

    async def _read(self, journal: Journal, spool: Spool) -> bool:
        """Read a session's own records, checked, and put the blobs they name into the target. Whether they explain
        themselves: what says that one was erased may only come after them."""
        own = journal.owner(journal.row.head)
        after = own.first - 1
        verifier = Verifier(previous=await self._digest_at(self.source, journal, after), after=after)
        async for page in own_pages(self.source, own):
            _refuse(journal, verifier.feed(page))
            await asyncio.to_thread(spool.add, page)
            for row in page:
                await self._copy_blobs(row)
        later = await erased_elsewhere(self.source, journal, verifier.unannounced)
        verifier.announce(later)
        _refuse(journal, verifier.finish(own.last))
        return not later

    async def _copy_blobs(self, row: RawRecord) -> None:
        for digest in blobs_named(row.payload):
            if digest not in self.blobs:
                self.blobs.add(digest)
                try:
                    await self.target.blobs.put(await self.source.blobs.get(digest))
                except NotFound:
                    # It was missing where it came from; verification says so here and there.
                    self.blobs.discard(digest)

    async def _is_there(self, journal: Journal) -> bool:
        """Whether the target has this session with this journal, perhaps further on. Conflict for another journal."""
        session, head = journal.row.session, journal.row.head
        try:
            there = await journal_of(self.target, session)
        except NotFound:
            return False
        if there.row.head >= head and await self._digest_at(self.target, there, head) == await self._digest_at(
            self.source, journal, head
        ):
            return True
        raise Conflict(
            f"The target has a session {session!r} with another journal; it was left as it is. Copy into an empty "
            "database, or export this session and import it under another id."
        )

    async def _digest_at(self, database: Database, journal: Journal, position: int) -> bytes:
        if position < 1:
            return GENESIS
        rows = await database.raw(journal.owner(position).session, after=position - 1, limit=1)
        return rows[0].digest if rows and rows[0].position == position else b""


def _refuse(journal: Journal, flaws: Iterable[Flaw]) -> None:
    for flaw in flaws:
        raise StoreCorrupt(
            f"Record {flaw.position} is not as it was written ({flaw.what}); the session was not copied. See "
            f"`remanence sessions verify {journal.row.session}`."
        )
