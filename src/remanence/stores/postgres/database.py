"""PostgreSQL: many processes, on one or many machines, over one journal.

The parts: `writer` (groups of appends, and what happens when the server goes away), `careful` (appends that do more),
`leases` (who decides), `reads`, `controls`, `views`, `schema`; `../schema/postgres/` has the tables. What every backend
does alike is in `../rows`.

A server that goes away makes every call fail with `StoreUnavailable`, at once or after the few seconds in which it is
asked again what became of a commit; the connections come back by themselves with the server. It must be reached
directly, or through a pooler in session mode: prepared statements and LISTEN belong to a connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from remanence.errors import StoreCorrupt
from remanence.events import Recorded
from remanence.ports import Appended, Budget, Cursor, Database, Fork, Lease, Loaded, RawRecord, Summary, Write
from remanence.stores.known_specs import KnownSpecs
from remanence.stores.postgres.access import Access
from remanence.stores.postgres.bus import NotifyBus
from remanence.stores.postgres.connect import open_pool, shown
from remanence.stores.postgres.controls import PostgresBlobs, PostgresControls, PostgresSpecs
from remanence.stores.postgres.known import KnownSessions
from remanence.stores.postgres.leases import Leases, Wakes
from remanence.stores.postgres.listener import Listener
from remanence.stores.postgres.memory import PostgresMemories
from remanence.stores.postgres.reads import Journals
from remanence.stores.postgres.registry import PostgresRegistry
from remanence.stores.postgres.renaming import naming, rename_user
from remanence.stores.postgres.schema import is_current, migrate
from remanence.stores.postgres.screens import PostgresScreens
from remanence.stores.postgres.scrub import rewrite_tables, table_files
from remanence.stores.postgres.vectors import PostgresMemoryVectors
from remanence.stores.postgres.views import PostgresViews
from remanence.stores.postgres.writer import Writers

__all__ = ["PostgresDatabase", "PostgresStore", "open_postgres"]

READERS = 8


async def open_postgres(url: str, *, writers: int = 4) -> Database:
    """Open a database by its URL (`postgresql://user:password@host:port/name`), bringing its schema up to date.

    `writers` is the most connections that carry appends; one is used while commits are fast. Raises InvalidConfig for a
    URL or a login that cannot work, StoreUnavailable when the server is not reached, StoreError for a schema of a newer
    release.
    """
    access = Access(await open_pool(url, size=READERS))
    try:
        if not await is_current(access, url):
            await migrate(url)
    except BaseException:
        await access.close()
        raise
    return PostgresDatabase(url, access, writers)


class PostgresStore:
    """The journal and the leases."""

    def __init__(self, access: Access, writers: Writers, wakes: Wakes, known: KnownSessions) -> None:
        self._wakes = wakes
        self._writers = writers
        self._leases = Leases(access)
        self._views = PostgresViews(access)
        self.journals = Journals(access, known)

    async def append(self, write: Write) -> Appended:
        try:
            return await self._writers.append(write)
        except StoreCorrupt:
            if not write.snapshot:
                raise
            # A snapshot is a cache: where no page of theirs can take it, the records go without.
            return await self._writers.append(msgspec.structs.replace(write, snapshot=None))

    async def load(self, session: str, *, upto: int | None = None) -> Loaded:
        return await self.journals.load(session, upto=upto)

    async def read(self, session: str, *, after: int = 0, limit: int | None = None) -> Sequence[Recorded]:
        return await self.journals.read(session, after=after, limit=limit)

    async def claim(
        self, worker: str, *, now: int, ttl_s: float, limit: int, agents: Sequence[str] | None = None
    ) -> Sequence[Lease]:
        self._wakes.looking()
        return await self._leases.claim(worker, now=now, ttl_s=ttl_s, limit=limit, agents=agents)

    async def renew(self, leases: Sequence[Lease], *, until: int) -> Sequence[Lease]:
        return await self._leases.renew(leases, until=until)

    async def release(self, lease: Lease, *, seen: int, wake_at: int | None) -> None:
        await self._leases.release(lease, seen=seen, wake_at=wake_at)

    async def behind(self, projection: str, *, limit: int, after: str = "") -> Sequence[Cursor]:
        return await self._views.behind(projection, limit=limit, after=after)

    async def wait(self, *, timeout_s: float) -> None:
        await self._wakes.wait(timeout_s=timeout_s)

    async def close(self) -> None:
        """Finish the appends under way, then hang up."""
        await self._writers.close()
        await self._wakes.close()


class PostgresDatabase:
    """One PostgreSQL database, opened. It belongs to the event loop it was opened in."""

    def __init__(self, url: str, access: Access, writers: int) -> None:
        self._access = access
        self._open_url = url
        self._url = shown(url)
        known = KnownSessions()
        self._listener = Listener(url)
        wakes = Wakes(access, self._listener)
        self.bus = NotifyBus(access, self._listener)
        lanes = Writers(url, lanes=writers, known=known, on_due=wakes.due)
        self.store = PostgresStore(access, lanes, wakes, known)
        self.specs = KnownSpecs(PostgresSpecs(access))
        self.blobs = PostgresBlobs(access)
        self.controls = PostgresControls(access, wakes.due)
        self.views = PostgresViews(access)
        self.screens = PostgresScreens(access)
        self.registry = PostgresRegistry(access)
        self.memories = PostgresMemories(access)
        self.memory_vectors = PostgresMemoryVectors(access)

    @property
    def url(self) -> str:
        """The URL it was opened with, without the password."""
        return self._url

    async def raw(self, session: str, *, after: int = 0, limit: int = 1_000) -> Sequence[RawRecord]:
        return await self.store.journals.raw(session, after=after, limit=limit)

    async def snapshots(self, session: str, *, after: int = 0, limit: int = 100) -> Sequence[tuple[int, bytes]]:
        return await self.store.journals.snapshots(session, after=after, limit=limit)

    async def drop_snapshots(self, session: str, positions: Sequence[int]) -> None:
        await self.store.journals.drop_snapshots(session, positions)

    async def clear_snapshots(self) -> None:
        await self.store.journals.clear_snapshots()

    async def restore(
        self,
        session: str,
        rows: Sequence[RawRecord],
        summary: Summary,
        fork: Fork | None,
        budgets: Sequence[Budget] = (),
    ) -> None:
        await self.store.journals.restore(session, rows, summary, fork, budgets)

    async def prune_keys(self, *, before: int) -> int:
        """Forget idempotency keys used before a moment (microseconds). Returns how many."""
        return await self.store.journals.prune_keys(before)

    async def naming(self, names: Sequence[str]) -> Sequence[tuple[str, int]]:
        return await naming(self._open_url, names)

    async def rename_user(self, project: str, old: str, new: str) -> dict[str, int]:
        async with self._access.transaction("replacing a name") as connection:
            return await rename_user(connection, project, old, new)

    async def scrub(self) -> None:
        """Write every table anew without what its dead rows hold, each locked meanwhile."""
        await rewrite_tables(self._open_url)

    async def files(self) -> Sequence[Path]:
        """The files of this database's tables and indexes, on the server's machine and as a user who may read them."""
        async with self._access.connection("looking for the files") as connection:
            return await table_files(connection)

    async def close(self) -> None:
        """Finish what is under way, then hang up. May be called twice."""
        await self.bus.close()
        await self.store.close()
        await self._listener.close()
        await self._access.close()
