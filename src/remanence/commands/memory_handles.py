"""Long-term memory in Python: `rt.memory` for a whole project, `session.memory` for what one session may see."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final

from remanence.commands import erasure, memory, memory_stores
from remanence.commands.caller import Caller, state_of
from remanence.commands.consolidation import Consolidating, consolidate_all
from remanence.commands.memory import Dates, Looking, Writing
from remanence.commands.memory_attachments import Attachment, attachments
from remanence.commands.memory_stores import MemoryStore
from remanence.commands.receipts import Receipt, What
from remanence.core.memory.grants import Access, Grant, Subject
from remanence.core.memory.projection import MEMORY
from remanence.errors import InvalidInput
from remanence.ports import Cursor
from remanence.recollections import Memory, MemoryHit, MemoryQuery, Place
from remanence.spec import MemoryScope
from remanence.tools.memory_access import access_now

__all__ = ["ProjectMemory", "SessionMemory"]

BATCH: Final = 200
Project = Callable[[Cursor], Awaitable[None]]
"""Brings the index up to one session."""


class ProjectMemory:
    """The memory of the caller's project, as its people see it. Times are microseconds since 1970-01-01 UTC."""

    def __init__(self, caller: Caller, project: Project) -> None:
        self._caller = caller
        self._project = project

    async def search(self, text: str, looking: Looking | None = None) -> Sequence[MemoryHit]:
        """What fits, best first, each hit with its reasons. What this process journaled is found."""
        return await memory.search(self._caller, text, looking)

    async def list(self, looking: Looking | None = None) -> Sequence[Memory]:
        """Memories, newest first."""
        return await memory.listed(self._caller, looking)

    async def get(self, memory_id: str, *, version: int | None = None) -> Memory:
        """One memory. Raises NotFound."""
        return await memory.show(self._caller, memory_id, version=version)

    async def history(self, memory_id: str) -> Sequence[Memory]:
        """Every version of a memory, oldest first. Raises NotFound."""
        return await memory.history(self._caller, memory_id)

    async def keep(
        self, text: str, place: Place, *, subjects: Sequence[str] = (), dates: Dates | None = None
    ) -> Memory:
        """Write a note into a store and a scope: `project`, `agent:NAME`, `user:ID` or `session:ID`."""
        return await memory.keep(self._caller, Writing(text, place, tuple(subjects), dates or Dates()))

    async def edit(self, memory_id: str, text: str, *, dates: Dates | None = None, seen: int | None = None) -> Memory:
        """A new version of a note or a block. Conflict when its newest version is not `seen`."""
        return await memory.edit(self._caller, memory_id, text, dates=dates, seen=seen)

    async def forget(self, memory_id: str, *, reason: str = "") -> Memory:
        """Withdraw a memory: it is recalled no more."""
        return await memory.forget(self._caller, memory_id, reason=reason)

    async def undo(self, memory_id: str) -> Memory:
        """Take back the last change of a note or a block, whoever made it."""
        return await memory.undo(self._caller, memory_id)

    async def consolidate(self, how: Consolidating, *, now: bool = False) -> Sequence[str]:
        """Take notes of what was said, wherever it is due (`now`: wherever there is something to read).

        Returns the sessions that do it. They are driven by whoever has a worker.
        """
        await self.catch_up()
        return await consolidate_all(self._caller, how, now=now)

    async def set_block(self, name: str, text: str, place: Place) -> Memory:
        """Set a block: a short text that agents see at the beginning of every session in that scope."""
        return await memory.set_block(self._caller, place, name, text)

    def export(self, looking: Looking | None = None) -> AsyncGenerator[Memory]:
        """Every version of every memory that fits."""
        return memory.export(self._caller, looking)

    async def stores(self) -> Sequence[MemoryStore]:
        """The stores of the project."""
        return await memory_stores.list_stores(self._caller)

    async def create_store(self, name: str, *, description: str = "") -> MemoryStore:
        """Make a store. Raises Conflict when there is one of that name."""
        return await memory_stores.create_store(self._caller, name, description=description)

    async def grants(self, *, store: str | None = None, to: str | None = None) -> Sequence[Grant]:
        """The grants of the project."""
        return await memory_stores.list_grants(self._caller, store=store, to=to)

    async def grant(
        self, store: str, to: str, *, reads: Sequence[MemoryScope] = (), writes: Sequence[MemoryScope] = ()
    ) -> Grant:
        """Say what `agent:NAME` or `session:ID` may do with a store from its next call on."""
        return await memory_stores.grant(self._caller, store, to, reads=reads, writes=writes)

    async def revoke(self, store: str, to: str) -> Grant:
        """Take every right away, also the one that the agent's version gives it."""
        return await memory_stores.grant(self._caller, store, to, reads=(), writes=())

    async def attachments(self, *, store: str | None = None, to: str | None = None) -> Sequence[Attachment]:
        """Which agents and sessions are attached to which stores, by their version or by a grant."""
        return await attachments(self._caller, store=store, to=to)

    async def erase(self, what: What, name: str, *, reason: str) -> Receipt:
        """Erase a memory, a session, a subject or a user wherever it has gone, and prove it. See `commands/erasure`."""
        await self.catch_up()
        return await erasure.erase(self._caller, what, name, reason=reason)

    async def rebuild(self) -> int:
        """Make the index again from the first record of every journal. Returns how many sessions were read."""
        await memory.rebuild(self._caller)
        return await self.catch_up()

    async def catch_up(self) -> int:
        """Index everything that was journaled so far. Returns how many sessions were read."""
        read = 0
        while cursors := await self._caller.database.store.behind(MEMORY, limit=BATCH):
            for cursor in cursors:
                await self._project(cursor)
            read += len(cursors)
        return read


class SessionMemory:
    """What one session may see of the memory, and add to it, now."""

    def __init__(self, caller: Caller, session: str) -> None:
        self._caller = caller
        self._session = session

    async def access(self) -> Access:
        """The places it may read and write now."""
        return (await self._rights())[1]

    async def search(self, text: str, *, limit: int = 10) -> Sequence[MemoryHit]:
        """What its agent would find."""
        await memory.settled(self._caller)
        subject, access = await self._rights()
        if not access.reads:
            return ()
        now = self._caller.clock.now()
        return await self._caller.database.memories.search(
            MemoryQuery(project=subject.project, readable=access.reads, text=text, now=now, valid_at=now, limit=limit)
        )

    async def keep(self, text: str, *, subjects: Sequence[str] = (), dates: Dates | None = None) -> Memory:
        """Note something, as a person, where the session notes what concerns its user."""
        home = (await self._rights())[1].home
        if home is None:
            raise InvalidInput(f"Session {self._session} has no right to write to a memory. Nothing was written.")
        writing = Writing(text, home, tuple(subjects), dates or Dates(), source_session=self._session)
        return await memory.keep(self._caller, writing)

    async def _rights(self) -> tuple[Subject, Access]:
        s = await state_of(self._caller, self._session)
        subject = Subject(s.project, s.agent, s.id, s.user)
        use = (await self._caller.database.specs.get(s.version)).memory
        return subject, await access_now(self._caller.database.registry, subject, use)
