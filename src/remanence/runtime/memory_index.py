"""Brings the index of long-term memory up to the journals: the projection `memory`, and who waits for it.

Most of it happens in idle time (`projector.py`). What was said or noted in this process is not left for later: before
anything is recalled, `settle` reads the sessions of the same user that ended a turn, and every session that wrote a
memory, so that a note of one turn is found by the next one, in whatever session.

Where an episode belongs follows from the agent's version and the grants at the moment of its record, so that an index
made again from the first record is the same index.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

from remanence.core.memory.consolidation import AGENT as CONSOLIDATION
from remanence.core.memory.grants import Grant, Subject, access_of
from remanence.core.memory.journal import owner_of
from remanence.core.memory.projection import MEMORY, Names, changes_of
from remanence.core.session import fold
from remanence.core.snapshots import decode_snapshot
from remanence.core.state import Session
from remanence.errors import StoreCorrupt, StoreReadOnly, UnknownEvent
from remanence.events import (
    MemoryForgotten,
    MemoryKept,
    Recorded,
    Redacted,
    SessionDeleted,
    SessionForked,
    SessionOpened,
    SessionUpgraded,
    ToolReturned,
    TurnEnded,
)
from remanence.ports import Clock, Cursor, Database, Reading
from remanence.recollections import MemoryChange, MemoryListing, MemorySelector
from remanence.spec import MemoryUse
from remanence.tools.memory_access import ensure_store, grants_for

__all__ = ["MemoryIndex"]

BATCH_SESSIONS: Final = 200
OWN_LOOK_SESSIONS: Final = 1_000
BATCH_RECORDS: Final = 1_000
ROUNDS: Final = 5
"""How often `settle` looks again when the projector, or another process, was faster with one of its sessions."""
FOLLOW_SESSIONS: Final = 20
"""How many `follow` reads at a time."""
LOOK_BACK: Final = 200
KNOWN_MAX: Final = 10_000
_MICROS: Final = 1_000_000


_TELLING = (SessionForked, SessionUpgraded, SessionDeleted, MemoryKept, MemoryForgotten, Redacted)
"""What concerns the memory also of an agent that has none, or says that it had one."""


class _Who(NamedTuple):
    project: str
    user: str


class MemoryIndex:
    """One for a process. It holds nothing that cannot be looked up again."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._uses: dict[str, MemoryUse | None] = {}
        self._who: OrderedDict[str, _Who] = OrderedDict()
        self._ended: dict[str, int] = {}
        self._noted: dict[str, int] = {}
        """Sessions that ended a turn, or wrote a memory, and up to which position they have to be read."""
        self._stores: set[tuple[str, str]] = set()
        self._whole = -1
        """Which index, as `Memories.begun` counts them, was seen to know everything."""
        self._settling = asyncio.Lock()

    # --- what happens in this process ---------------------------------------------------------------------------------

    def heard(self, record: Recorded) -> None:
        """A record was committed here. Never waits."""
        match record.event:
            case SessionOpened(project=project, user=user):
                self._know(record.session, _Who(project, user))
            case TurnEnded():
                self._ended[record.session] = record.position
            case MemoryKept() | MemoryForgotten():
                self._noted[record.session] = record.position
            case _:
                pass

    async def settle(self, subject: Subject | None = None, *, own: bool = False) -> None:
        """Index what was kept here and may concern this subject (None: anybody); with `own` also what its own session
        kept."""
        if not self._wanted(subject, own):
            return
        async with self._settling:
            for _ in range(ROUNDS):
                wanted = self._wanted(subject, own)
                if not wanted:
                    return
                cursors = await self._database.store.behind(MEMORY, limit=BATCH_SESSIONS)
                # Those that are read together share the commits of the store.
                behind = [cursor for cursor in cursors if cursor.session in wanted]
                await asyncio.gather(*(self._project_if_readable(cursor) for cursor in behind))
                if len(cursors) < BATCH_SESSIONS:
                    for session in wanted.keys() - {cursor.session for cursor in cursors}:
                        self._read_to(session, wanted[session])  # somebody else had read it

    async def follow(self, for_s: float, *, newest: bool = False) -> bool:
        """Index all that was journaled by now, in whatever process, for so long at most. Whether it came that far: what
        cannot be read is passed by. Only what is `newest` is looked for when it came that far before."""
        begun = await self._database.memories.begun()
        if begun == self._whole and not newest:
            return True
        deadline = self._clock.now() + int(for_s * _MICROS)
        wanted = {cursor.session: cursor.head for cursor in await self._behind()}
        while left := [c for c in await self._behind() if c.position < wanted.get(c.session, 0)]:
            for start in range(0, len(left), FOLLOW_SESSIONS):
                if self._clock.now() > deadline:
                    return begun == self._whole
                some = left[start : start + FOLLOW_SESSIONS]
                readable = await asyncio.gather(*(self._project_if_readable(cursor) for cursor in some))
                for cursor, read in zip(some, readable, strict=True):
                    if not read:
                        del wanted[cursor.session]
        self._whole = begun
        return True

    async def _behind(self) -> list[Cursor]:
        """Every session that was not read to its end."""
        found, after = list[Cursor](), ""
        while cursors := await self._database.store.behind(MEMORY, limit=OWN_LOOK_SESSIONS, after=after):
            found += cursors
            after = cursors[-1].session
        return found

    async def _project_if_readable(self, cursor: Cursor) -> bool:
        """One damaged journal shall not keep the others of its user from being remembered; the projector says so."""
        try:
            await self.project(cursor)
        except (StoreCorrupt, StoreReadOnly, UnknownEvent):
            self._read_to(cursor.session, cursor.head)
            return False
        return True

    async def settle_own(self, subject: Subject) -> None:
        """Index also what the subject's own session kept: what its agent noted a moment ago."""
        await self.settle(subject, own=True)

    async def read_own(self, subject: Subject) -> None:
        """Index the subject's own session as far as it was journaled, in whatever process: its last one may be dead."""
        cursors = await self._database.store.behind(MEMORY, limit=OWN_LOOK_SESSIONS)
        for cursor in (cursor for cursor in cursors if cursor.session == subject.session):
            await self._project_if_readable(cursor)

    def _wanted(self, subject: Subject | None, own: bool) -> dict[str, int]:
        """The sessions to read before this subject is answered, and how far."""
        if subject is None:
            return self._ended | self._noted
        me = _Who(subject.project, subject.user)
        # What is said in a session of nobody is remembered in that session only.
        wanted = {
            session: position
            for session, position in self._ended.items()
            if session == subject.session or (subject.user and self._who.get(session, me) == me)
        } | self._noted
        if not own:
            wanted.pop(subject.session, None)
        return wanted

    def _know(self, session: str, who: _Who) -> None:
        self._who[session] = who
        self._who.move_to_end(session)
        if len(self._who) > KNOWN_MAX:
            self._who.popitem(last=False)

    def _read_to(self, session: str, position: int) -> None:
        for waiting in (self._ended, self._noted):
            if waiting.get(session, position + 1) <= position:
                del waiting[session]

    # --- one session --------------------------------------------------------------------------------------------------

    async def project(self, cursor: Cursor, read: Reading | None = None) -> None:
        """Read a session from its cursor to its head. With `read`, what it holds may be a moment old."""
        if read is not None and await self._passed_over(cursor, read):
            return
        store, session = self._database.store, cursor.session
        s = await self._state(session)
        project = owner_of(s.project)
        self._know(session, _Who(project, s.user))
        subject = Subject(project, s.agent, session, s.user)
        # What the consolidation reads and writes down was said elsewhere before.
        forgetful = s.deleted or s.agent == CONSOLIDATION
        grants: Sequence[Grant] | None = None
        position = cursor.position
        while True:
            records = [
                r for r in await store.read(session, after=position, limit=BATCH_RECORDS) if r.position <= s.head
            ]
            if not records:
                self._read_to(session, position)
                return
            uses = await self._uses_of(s, records, position)
            if grants is None and any(use is not None for use in uses.values()):
                grants = await grants_for(self._database.registry, subject)
            names = await self._names(session, records, position)
            changes: list[MemoryChange] = []
            use = uses[0]
            for record in records:
                use = uses.get(record.position, use)
                names.see(record)
                home = None if forgetful else access_of(subject, use, grants or (), at=record.at).home
                called = names.tool(record.event.call) if isinstance(record.event, ToolReturned) else ""
                tainted = 0 < s.untrusted_at < record.position
                changes += changes_of(record, subject, home=home, tool=called, tainted=tainted)
            await self._erase(subject, records)
            await self._declare(subject.project, use)
            last = records[-1].position
            if not await self._database.memories.apply(changes, Cursor(session, position, last)):
                return  # somebody else reads it, from where this one began
            position = last
            if position >= s.head:
                self._read_to(session, position)
                return

    async def _passed_over(self, cursor: Cursor, read: Reading) -> bool:
        """Whether nothing of the stretch is remembered, as can be told without folding the session, and the cursor is
        past it: the agent remembers nothing, and the records say nothing to the memory."""
        row = await self._database.views.session(cursor.session)
        if await self._use(row.summary.version) is not None:
            return False
        records = await read(cursor.session, after=cursor.position, limit=BATCH_RECORDS)
        if not records or records[-1].position < row.head or any(isinstance(r.event, _TELLING) for r in records):
            return False
        last = records[-1].position
        self._know(cursor.session, _Who(owner_of(row.summary.project), row.summary.user))
        await self._database.memories.apply((), Cursor(cursor.session, cursor.position, last))
        self._read_to(cursor.session, last)
        return True

    async def _state(self, session: str) -> Session:
        store = self._database.store
        loaded = await store.load(session)
        s = decode_snapshot(loaded.snapshot, session, loaded.snapshot_position)
        if s is not None:
            return fold(s, loaded.records)
        records = await store.read(session) if loaded.snapshot_position else loaded.records
        return fold(Session(session), records)

    async def _uses_of(self, s: Session, records: Sequence[Recorded], after: int) -> dict[int, MemoryUse | None]:
        """What the version in force says about memory: at the beginning of `records` (0), and where it changes."""
        changed = {r.position: r.event.version for r in records if isinstance(r.event, SessionOpened | SessionUpgraded)}
        before = s.version
        if changed and after:
            earlier = await self._database.store.read(s.id, limit=after)
            said = [r.event.version for r in earlier if isinstance(r.event, SessionOpened | SessionUpgraded)]
            before = said[-1] if said else before
        return {0: await self._use(before)} | {position: await self._use(v) for position, v in changed.items()}

    async def _use(self, version: str) -> MemoryUse | None:
        if version not in self._uses:
            self._uses[version] = (await self._database.specs.get(version)).memory
        return self._uses[version]

    async def _names(self, session: str, records: Sequence[Recorded], after: int) -> Names:
        """The tools behind the results among `records`, also of calls that were made a little before them."""
        names = Names()
        if after and any(isinstance(record.event, ToolReturned) for record in records):
            start = max(0, after - LOOK_BACK)
            for record in await self._database.store.read(session, after=start, limit=after - start):
                names.see(record)
        return names

    async def _erase(self, subject: Subject, records: Sequence[Recorded]) -> None:
        """Take out what was erased from the journal, or said in a session that was removed, before anything else."""
        memories = self._database.memories
        positions = tuple(r.event.position for r in records if isinstance(r.event, Redacted))
        if positions:
            await memories.remove(MemorySelector(project=subject.project, session=subject.session, positions=positions))
        if any(isinstance(record.event, SessionDeleted) for record in records):
            listing = MemoryListing(
                project=subject.project, session=subject.session, kinds=("episode",), closed=True, limit=BATCH_RECORDS
            )
            while found := await memories.list(listing):
                await memories.remove(MemorySelector(project=subject.project, ids=tuple(m.id for m in found)))

    async def _declare(self, project: str, use: MemoryUse | None) -> None:
        """The store that an agent's version names is there from its first use on."""
        if use is not None and (project, use.store) not in self._stores:
            await ensure_store(self._database.registry, project, use.store, at=self._clock.now())
            self._stores.add((project, use.store))
