"""SQLite, whole: one file, one writing thread, a few reading ones.

How a write travels: it is checked and encoded in the caller (`rows.draft`), queued, admitted from memory and laid down
with all that waited beside it (`writer`, `append`), committed with one `fdatasync`, and answered.

Several processes may open one file. They take turns at the write lock; each learns from `PRAGMA data_version` that
another has written and forgets what it remembered. `wait` polls the same number.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

from remanence.content import Usage
from remanence.errors import Conflict, StoreFull
from remanence.events import Recorded
from remanence.ports import (
    Appended,
    Budget,
    Cursor,
    Entry,
    Fork,
    Hold,
    Lease,
    Loaded,
    RawRecord,
    SessionQuery,
    SessionRow,
    Summary,
    UsageQuery,
    UsageRow,
    Version,
    Write,
)
from remanence.spec import AgentSpec
from remanence.stores.known_specs import KnownSpecs
from remanence.stores.refusals import OLDER_LOOK_S, OLDER_S_MAX, still_seen
from remanence.stores.rows import draft
from remanence.stores.sqlite import changes as sqlite_changes
from remanence.stores.sqlite import leases as sqlite_leases
from remanence.stores.sqlite import reads as sqlite_reads
from remanence.stores.sqlite import renaming as sqlite_renaming
from remanence.stores.sqlite import usage as sqlite_usage
from remanence.stores.sqlite import views as sqlite_views
from remanence.stores.sqlite.bus import bus_beside
from remanence.stores.sqlite.connect import LOCK_TIMEOUT_S, Location, explained
from remanence.stores.sqlite.memory import SqliteMemories
from remanence.stores.sqlite.no_writer import NoWriter
from remanence.stores.sqlite.read_only import located, on_a_full_disk, refused
from remanence.stores.sqlite.readers import Readers
from remanence.stores.sqlite.registry import SqliteRegistry, marked
from remanence.stores.sqlite.schema import check, prepare
from remanence.stores.sqlite.screens import SqliteScreens
from remanence.stores.sqlite.snapshots import clear_snapshots
from remanence.stores.sqlite.vectors import SqliteMemoryVectors
from remanence.stores.sqlite.writer import Writer, rewrite

__all__ = ["SqliteDatabase", "open_sqlite"]

MEMORY = ":memory:"
POLL_S = 0.05
"""How often `wait` looks whether another process has written."""


class Bell:
    """Rings in the event loop when something may have become due; stays rung until somebody claims."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    def hush(self) -> None:
        """Whoever claims now will see everything that rang so far."""
        self._rung.clear()

    async def heard(self, *, timeout_s: float) -> bool:
        """Wait for it to ring, at most so long."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._rung.wait()
        except TimeoutError:
            return False
        return True


class SqliteStore:
    """Journals and leases: see `ports.Store`."""

    def __init__(self, location: Location, writer: Writer, readers: Readers, bell: Bell) -> None:
        self._location = location
        self._writer = writer
        self._readers = readers
        self._bell = bell

    async def append(self, write: Write) -> Appended:
        return await self._writer.append(draft(write))

    async def load(self, session: str, *, upto: int | None = None) -> Loaded:
        return await self._readers.run(partial(sqlite_reads.load, session=session, upto=upto), short=True)

    async def read(self, session: str, *, after: int = 0, limit: int | None = None) -> Sequence[Recorded]:
        return await self._readers.run(
            partial(sqlite_reads.read, session=session, after=after, limit=limit), short=True
        )

    async def claim(
        self, worker: str, *, now: int, ttl_s: float, limit: int, agents: Sequence[str] | None = None
    ) -> Sequence[Lease]:
        self._bell.hush()
        return await self._writer.do(
            partial(sqlite_leases.claim, worker=worker, now=now, ttl_s=ttl_s, limit=limit, agents=agents)
        )

    async def renew(self, leases: Sequence[Lease], *, until: int) -> Sequence[Lease]:
        return await self._writer.do(partial(sqlite_leases.renew, leases=leases, until=until))

    async def release(self, lease: Lease, *, seen: int, wake_at: int | None) -> None:
        await self._writer.do(partial(sqlite_leases.release, lease=lease, seen=seen, wake_at=wake_at))

    async def behind(self, projection: str, *, limit: int, after: str = "") -> Sequence[Cursor]:
        look = sqlite_reads.unread if self._location.read_only else sqlite_reads.behind
        query = partial(look, projection=projection, limit=limit, after=after)
        found = await self._readers.run(query, short=True)
        if found is None:
            await self._writer.do(partial(sqlite_changes.follow, projection=projection))
            found = await self._readers.run(query)
        return found or ()

    async def wait(self, *, timeout_s: float) -> None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_s
        while (left := deadline - clock()) > 0:
            # Nobody else knows the file of an ephemeral database.
            if await self._bell.heard(timeout_s=left if self._location.ephemeral else min(left, POLL_S)):
                return
            if not self._location.ephemeral:
                await self._writer.look()


class SqliteSpecs:
    """Agents and their versions: see `ports.Specs`."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def put(self, spec: AgentSpec, *, project: str, at: int) -> Version:
        return await self._writer.do(partial(sqlite_changes.put_spec, spec=spec, project=project, at=at))

    async def get(self, version: str) -> AgentSpec:
        return await self._readers.run(partial(sqlite_views.spec, version=version), short=True)

    async def versions(self, project: str | None, agent: str | None = None) -> Sequence[Version]:
        return await self._readers.run(partial(sqlite_views.versions, project=project, agent=agent))


class SqliteBlobs:
    """Large content by its digest: see `ports.Blobs`."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def put(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        return await self._writer.do(partial(sqlite_changes.put_blob, digest=digest, content=content))

    async def get(self, digest: str) -> bytes:
        return await self._readers.run(partial(sqlite_reads.blob, digest=digest))


class SqliteControls:
    """Budgets and freezes: see `ports.Controls`."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def set_budget(
        self,
        scope: str,
        unit: Literal["usd_micros", "tokens"],
        limit: int,
        *,
        at: int,
        spent: int | None = None,
        mark: Entry | None = None,
    ) -> Budget:
        return await self._writer.do(
            marked(mark, partial(sqlite_changes.set_budget, scope=scope, unit=unit, limit=limit, at=at, spent=spent))
        )

    async def raise_budget(
        self,
        scope: str,
        unit: Literal["usd_micros", "tokens"],
        *,
        by: int = 0,
        to: int = 0,
        at: int,
        mark: Entry | None = None,
    ) -> Budget:
        return await self._writer.do(
            marked(mark, partial(sqlite_changes.raise_budget, scope=scope, unit=unit, by=by, to=to, at=at))
        )

    async def budgets(self, scope: str | None = None) -> Sequence[Budget]:
        query = partial(sqlite_views.budgets, scope=scope)
        return await (self._readers.run(query) if scope is None else self._readers.at_once(query))

    async def freeze(self, scope: str, *, at: int, by: str, reason: str, mark: Entry | None = None) -> Hold:
        return await self._writer.do(
            marked(mark, partial(sqlite_leases.freeze, scope=scope, at=at, by=by, reason=reason))
        )

    async def thaw(self, scope: str, *, at: int) -> None:
        await self._writer.do(partial(sqlite_leases.thaw, scope=scope, at=at))

    async def holds(self) -> Sequence[Hold]:
        return await self._readers.at_once(sqlite_leases.holds)


class SqliteViews:
    """Read models: see `ports.Views`."""

    def __init__(self, location: Location, writer: Writer, readers: Readers) -> None:
        self._location = location
        self._writer = writer
        self._readers = readers

    async def session(self, session: str) -> SessionRow:
        return await self._readers.run(partial(sqlite_views.session_row, session=session), short=True)

    async def sessions(self, query: SessionQuery) -> Sequence[SessionRow]:
        return await self._readers.run(partial(sqlite_views.session_rows, query=query))

    async def heads(self, sessions: Sequence[str]) -> dict[str, int]:
        return await self._readers.run(partial(sqlite_views.heads, sessions=sessions), short=True)

    async def usage(self, query: UsageQuery) -> Sequence[UsageRow]:
        return await self._readers.run(partial(sqlite_usage.usage_rows, query=query))

    async def record_usage(self, cursor: Cursor, rows: Sequence[tuple[int, Summary, str, Usage, int | None]]) -> None:
        await self._writer.do(partial(sqlite_usage.record_usage, cursor=cursor, rows=rows))

    async def stats(self) -> dict[str, Any]:
        durability = "none: ephemeral" if self._location.ephemeral else self._writer.durability
        return {**await self._readers.run(sqlite_views.stats), "durability": durability}


class SqliteDatabase:
    """One SQLite file, opened: see `ports.Database`. Belongs to the event loop it was opened in."""

    def __init__(self, url: str, location: Location, folder: tempfile.TemporaryDirectory[str] | None = None) -> None:
        self._url = url
        self._folder = folder
        self._location = location
        bell = Bell()
        self._readers = readers = Readers(location)
        self._writer = writer = NoWriter(location) if location.read_only else Writer(location, bell.ring)
        self.store = SqliteStore(location, writer, readers, bell)
        self.specs = KnownSpecs(SqliteSpecs(writer, readers))
        self.blobs = SqliteBlobs(writer, readers)
        self.controls = SqliteControls(writer, readers)
        self.views = SqliteViews(location, writer, readers)
        self.screens = SqliteScreens(writer, readers)
        self.registry = SqliteRegistry(writer, readers)
        self.memories = SqliteMemories(writer, readers)
        self.memory_vectors = SqliteMemoryVectors(writer, readers)
        self.bus = bus_beside(location)

    @property
    def url(self) -> str:
        return self._url

    @property
    def path(self) -> str:
        """Where the file is."""
        return self._location.path

    async def raw(self, session: str, *, after: int = 0, limit: int = 1_000) -> Sequence[RawRecord]:
        return await self._readers.run(partial(sqlite_reads.raw, session=session, after=after, limit=limit))

    async def snapshots(self, session: str, *, after: int = 0, limit: int = 100) -> Sequence[tuple[int, bytes]]:
        return await self._readers.run(partial(sqlite_reads.snapshots, session=session, after=after, limit=limit))

    async def drop_snapshots(self, session: str, positions: Sequence[int]) -> None:
        await self._writer.do(partial(sqlite_changes.drop_snapshots, session=session, positions=positions))

    async def clear_snapshots(self) -> None:
        await self._writer.do(clear_snapshots)

    async def restore(
        self,
        session: str,
        rows: Sequence[RawRecord],
        summary: Summary,
        fork: Fork | None,
        budgets: Sequence[Budget] = (),
    ) -> None:
        laid = partial(sqlite_changes.restore, session=session, rows=rows, summary=summary, fork=fork, budgets=budgets)
        await self._writer.do(laid)

    async def prune_keys(self, *, before: int) -> int:
        """Forget idempotency keys used before a moment (microseconds). Returns how many."""
        return await self._writer.do(partial(sqlite_changes.prune_keys, before=before))

    async def naming(self, names: Sequence[str]) -> Sequence[tuple[str, int]]:
        return await self._readers.run(partial(sqlite_renaming.naming, names=names))

    async def rename_user(self, project: str, old: str, new: str) -> dict[str, int]:
        return await self._writer.do(partial(sqlite_renaming.rename_user, project=project, old=old, new=new))

    async def scrub(self) -> None:
        """Write the file anew and empty the write-ahead log. Writes wait for it, and it takes as much room again.

        Whoever began to read before needs the log, and is waited for: StoreUnavailable when they go on and on.
        """
        await self._writer.do(rewrite)
        for _ in range(int(OLDER_S_MAX / OLDER_LOOK_S)):
            if not self._writer.log_holds_erased:
                return
            await asyncio.sleep(OLDER_LOOK_S)
            await self._writer.do(_nothing)
        raise still_seen(f"somebody who has read {self._location.path} since before, a backup or a tool perhaps")

    async def files(self) -> Sequence[Path]:
        """The database and its write-ahead log."""
        return [Path(self._location.path), Path(f"{self._location.path}-wal")]

    async def backup(self, path: str) -> None:
        """Copy the whole database, as it is at one moment, into a file of its own. Nothing waits for it.

        Raises Conflict when there is something at `path` already, StoreError when it cannot be written.
        """
        if await asyncio.to_thread(Path(path).exists):
            raise Conflict(f"There is something at {path} already; it was left as it is. Give another path.")
        await self._readers.run(partial(_copy, path=path))

    async def close(self) -> None:
        """Finish what is queued and close. May be called twice."""
        await self.bus.close()
        await self._readers.close()
        # Last and alone: whoever closes last takes the log into the file, and two at once leave it to each other.
        await self._writer.close()
        if self._folder is not None:
            await asyncio.to_thread(self._folder.cleanup)


def _nothing(ledger: object) -> None:
    """A job, after which the log is emptied if it can be."""


def _copy(connection: sqlite3.Connection, path: str) -> None:
    partial_path = f"{path}.partial"
    with suppress(OSError):  # SQLite says it better
        Path(partial_path).touch(mode=0o600)
    try:
        with explained(Location(path)), closing(sqlite3.connect(partial_path)) as target:
            connection.backup(target)
        os.replace(partial_path, path)
    finally:
        with suppress(OSError):
            os.unlink(partial_path)


async def open_sqlite(
    path: str,
    *,
    ephemeral: bool = False,
    bytes_max: int | None = None,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    writing: bool = False,
) -> SqliteDatabase:
    """Open a SQLite file, made and brought to the current schema when needed.

    `ephemeral`, or the path `:memory:`, keeps everything in a temporary file that is removed on closing and is never
    waited for. `bytes_max` is a size the file may not grow past, `lock_timeout_s` how long to wait for another process
    that is writing. A file that can only be read is opened for reading, unless it is for `writing`.

    Raises InvalidConfig, StoreError.
    """
    folder = None
    url = f"sqlite:///{path}"
    if ephemeral or path == MEMORY:
        ephemeral, url = True, f"sqlite:///{MEMORY}"
        folder = await asyncio.to_thread(tempfile.TemporaryDirectory[str], prefix="remanence-")
        path = str(Path(folder.name) / "remanence.db")
    location = await asyncio.to_thread(located, path, ephemeral, bytes_max, lock_timeout_s)
    if location.read_only and writing:
        raise refused(path, location.read_only)
    try:
        await asyncio.to_thread(check if location.read_only else prepare, location)
    except StoreFull:
        left = None if writing else await asyncio.to_thread(on_a_full_disk, location)
        if left is None:
            raise
        location = left
        await asyncio.to_thread(check, location)
    return SqliteDatabase(url, location, folder)
