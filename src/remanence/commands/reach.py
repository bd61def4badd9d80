"""How far an erasure reaches: from what an order names to every record and memory that must go with it.

The reach grows until nothing is added any more. From a record it goes on to notes that were learned from it, summaries
that cover it and what a recall says about it; from a memory, to the records its versions stand in, the record each was
learned from, and what the same person's sessions repeat of its text. Last come quotations: what agents and tools say
again, in the same person's sessions, of what people and tools said. Only what is still there is found: a look after an
erasure finds what was written meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable

from msgspec.structs import replace

from remanence.commands.caller import Caller
from remanence.commands.receipts import Order
from remanence.commands.traces import Tracer, texts_of
from remanence.core.memory.journal import owner_of
from remanence.errors import NotFound
from remanence.events import (
    BlocksShown,
    CompactionFailed,
    ContextCompacted,
    InputReceived,
    MemoryKept,
    MemoryRecalled,
    ModelReplied,
    Recorded,
    Redacted,
    SessionForked,
    SessionOpened,
    ToolReturned,
    TurnStarted,
)
from remanence.ports import SessionQuery, SessionRow
from remanence.recollections import Memory, MemoryListing

__all__ = ["Reach"]

_PAGE = 200
_READ = 500

_SAID = (InputReceived, ToolReturned, MemoryKept)
_QUOTES = (ModelReplied, ToolReturned)

Place = tuple[str, int]
"""A session and a position."""


class Reach:
    """What one order reaches. `erased` is what it had reached before, and erased."""

    def __init__(
        self,
        caller: Caller,
        order: Order,
        tracer: Tracer,
        erased: Iterable[Place] = (),
        quoted: Iterable[frozenset[str]] = (),
    ) -> None:
        self._database = caller.database
        self._order = order
        self._tracer = tracer
        self._erased = frozenset(erased)
        self._rows: dict[str, SessionRow] = {}
        self.records: dict[str, dict[int, Recorded]] = {}
        """The records to erase, by session and position."""
        self.memories: dict[str, Memory] = {}
        self.quoted = list(quoted)
        """The prints of each text that is looked for as a quotation, those of earlier looks among them."""

    def __bool__(self) -> bool:
        return bool(self.records or self.memories)

    async def look(self) -> None:
        """Find everything. Raises NotFound for a session that is not there."""
        order = self._order
        match order.what:
            case "session":
                if (await self.row(order.name)).summary.project != order.project:
                    raise _no_session(order.name)  # the journal of a store: it is erased memory by memory
                await self._take_session(order.name)
            case "user":
                async for row in self._sessions(SessionQuery(project=order.project, user=order.name)):
                    await self._take_session(row.session)
                await self._take_memories(lambda memory: memory.place.scope == f"user:{order.name}")
            case "subject":
                await self._take_memories(lambda memory: order.name in memory.subjects)
            case "memory":
                await self._take_memories(lambda memory: memory.id == order.name)
        await self._follow()
        await self._take_quotes()

    async def row(self, session: str) -> SessionRow:
        """The row of a session of the order's project, or of the journal of one of its stores. Raises NotFound."""
        if session not in self._rows:
            row = await self._database.views.session(session)
            if owner_of(row.summary.project) != self._order.project:
                raise _no_session(session)
            self._rows[session] = row
        return self._rows[session]

    # --- what an order names ------------------------------------------------------------------------------------------

    async def _take_session(self, session: str) -> None:
        for record in await self._own_records(await self.row(session)):
            self._take(record)
        for memory in await self._listed(MemoryListing(project=self._order.project, session=session, closed=True)):
            self.memories[memory.id] = memory
            if memory.kind != "episode":
                # Also the versions that other sessions wrote: else they would be believed again.
                for version in await self._database.memories.history(memory.project, memory.id):
                    if (kept := await self._record(version.session, version.position)) is not None:
                        self._take(kept)

    async def _take_memories(self, wanted: Callable[[Memory], bool]) -> None:
        for memory in await self._listed(MemoryListing(project=self._order.project, closed=True)):
            if wanted(memory):
                await self._take_memory(memory)

    async def _take_memory(self, memory: Memory) -> None:
        """A memory with all its versions, the records they stand in, and those they were learned from."""
        if memory.id in self.memories:
            return
        self.memories[memory.id] = memory
        for version in await self._database.memories.history(memory.project, memory.id):
            kept = await self._record(version.session, version.position)
            if kept is None:
                continue
            self._take(kept)
            if isinstance(kept.event, MemoryKept) and kept.event.source is not None:
                source = await self._record(kept.event.source_session or kept.session, kept.event.source)
                if source is not None:
                    self._take(source)
            await self._take_copies(await self.row(version.session), version)

    async def _take_copies(self, row: SessionRow, memory: Memory) -> None:
        """What a session, and the others of the same person, repeat of a text: a call that wrote it, a reply."""
        text = memory.text
        prints = frozenset(self._tracer.prints_of(text))
        # In the journal of a store the same words may stand in what is another's.
        rows = [row] if row.summary.project == self._order.project else []
        user = row.summary.user or _user_of(memory)
        if user and prints:
            query = SessionQuery(project=self._order.project, user=user)
            rows += [other async for other in self._sessions(query) if other.session != row.session]
        for one in rows:
            for record in await self._own_records(one):
                said = texts_of(record.event)
                if self._tracer.find(prints, (s.encode() for s in said)) or any(text in s for s in said):
                    self._take(record)

    # --- what follows from it -----------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        before = (-1, -1)
        while before != (now := (sum(map(len, self.records.values())), len(self.memories))):
            before = now
            gone = self._erased | {(s, position) for s, records in self.records.items() for position in records}
            for session in {session for session, _ in gone}:
                for row in await self._with_forks(session):
                    await self._follow_in(row, gone)
            await self._follow_notes(gone)

    async def _take_quotes(self) -> None:
        """What agents and tools say again of what is erased, in the same person's sessions: a search, a reply.

        What was noted for everybody is looked for in everybody's. A person's own words elsewhere are not a quotation,
        and quotations of a quotation are no reason to go on.
        """
        sessions = self.records.keys() | {session for session, _ in self._erased}
        users = {(await self.row(session)).summary.user for session in sessions}
        users = (users | {_user_of(memory) for memory in self.memories.values()}) - {""}
        said = [r.event for records in self.records.values() for r in records.values() if isinstance(r.event, _SAID)]
        self.quoted += self._prints(text for event in said for text in texts_of(event))
        for user in users if self.quoted else ():
            await self._take_quoting(SessionQuery(project=self._order.project, user=user), self.quoted)
        shared = self._prints(memory.text for memory in self.memories.values() if _is_for_all(memory))
        if shared:
            await self._take_quoting(SessionQuery(project=self._order.project), shared)

    def _prints(self, texts: Iterable[str]) -> list[frozenset[str]]:
        return [frozenset(prints) for text in texts if (prints := self._tracer.prints_of(text))]

    async def _take_quoting(self, query: SessionQuery, quoted: list[frozenset[str]]) -> None:
        """Replies and results, in these sessions, that hold at least half of the prints of a text."""
        every = frozenset[str]().union(*quoted)
        async for row in self._sessions(query):
            for record in await self._own_records(row):
                taken = record.position in self.records.get(row.session, {})
                if isinstance(record.event, _QUOTES) and not taken:
                    found = self._tracer.find(every, (text.encode() for text in texts_of(record.event)))
                    if any(2 * len(found & prints) >= len(prints) for prints in quoted):
                        self._take(record)

    async def _follow_in(self, row: SessionRow, gone: frozenset[Place]) -> None:
        """Summaries that cover what is erased, and recalls that speak of it, in one session."""
        first = 0 if row.fork is None else row.fork.position
        erased = await self._gone_in(row, gone)
        turn, turn_of, named = 0, dict[int, int](), False
        for record in await self._database.store.read(row.session):
            turn = record.event.turn if isinstance(record.event, TurnStarted) else turn
            turn_of[record.position] = turn
            if isinstance(record.event, SessionOpened | SessionForked):
                if named and row.summary.title and record.position == first + 1 and not record.event.title:
                    self._take_whatever(record)  # the session is called by a title that is erased
                named = record.position in erased
            match record.event:
                case _ if record.position <= first:
                    pass
                case ContextCompacted(through_turn=through, skipped=skipped):
                    if any(turn_of.get(position, turn) <= through + (skipped > 0) for position in erased):
                        self._take(record)
                case CompactionFailed() if erased:  # it may name what a summary left out
                    self._take(record)
                case MemoryRecalled(items=items) | BlocksShown(items=items):
                    if any((one.session, one.position) in gone or one.memory in self.memories for one in items):
                        self._take(record)
                case _:
                    pass

    async def _gone_in(self, row: SessionRow, gone: frozenset[Place]) -> set[int]:
        """Which positions of a session are erased, also of what it inherited."""
        found, last = {position for session, position in gone if session == row.session}, row.head
        while row.fork is not None:
            last, row = min(last, row.fork.position), await self.row(row.fork.source)
            found |= {position for session, position in gone if session == row.session and position <= last}
        return found

    async def _follow_notes(self, gone: frozenset[Place]) -> None:
        listing = MemoryListing(project=self._order.project, kinds=("note", "block"), closed=True)
        for memory in await self._listed(listing):
            if memory.id not in self.memories and await self._learned_from(memory, gone):
                await self._take_memory(memory)

    async def _learned_from(self, memory: Memory, gone: frozenset[Place]) -> bool:
        for version in await self._database.memories.history(memory.project, memory.id):
            if (version.session, version.position) in gone:
                return True
            kept = await self._record(version.session, version.position)
            if kept is not None and isinstance(kept.event, MemoryKept):
                source = (kept.event.source_session or kept.session, kept.event.source)
                if source in gone:
                    return True
        return False

    # --- looking things up --------------------------------------------------------------------------------------------

    def _take(self, record: Recorded) -> None:
        if not isinstance(record.event, Redacted) and texts_of(record.event):
            self._take_whatever(record)

    def _take_whatever(self, record: Recorded) -> None:
        if not record.redacted:
            self.records.setdefault(record.session, {})[record.position] = record

    async def _record(self, session: str, position: int) -> Recorded | None:
        """One record that the session wrote itself; None when it is not there any more."""
        try:
            row = await self.row(session)
        except NotFound:
            return None
        if row.fork is not None and position <= row.fork.position:
            return await self._record(row.fork.source, position)
        found = await self._database.store.read(session, after=position - 1, limit=1)
        return found[0] if found and found[0].position == position else None

    async def _own_records(self, row: SessionRow) -> list[Recorded]:
        after, records = row.fork.position if row.fork is not None else 0, list[Recorded]()
        while page := await self._database.store.read(row.session, after=after, limit=_READ):
            records += page
            after = page[-1].position
        return records

    async def _with_forks(self, session: str) -> list[SessionRow]:
        """A session, what was forked from it, and from that."""
        family = [await self.row(session)]
        for member in family:
            query = SessionQuery(project=member.summary.project, parent=member.session)
            known = {other.session for other in family}
            family += [row async for row in self._sessions(query) if row.session not in known]
        return family

    async def _sessions(self, query: SessionQuery) -> AsyncIterator[SessionRow]:
        query = replace(query, opened="oldest_first", limit=_PAGE)
        while rows := await self._database.views.sessions(query):
            for row in rows:
                yield row
            query = replace(query, after=rows[-1].session)

    async def _listed(self, listing: MemoryListing) -> list[Memory]:
        found: list[Memory] = []
        listing = replace(listing, limit=_PAGE)
        while page := await self._database.memories.list(listing):
            found += page
            listing = replace(listing, after=page[-1].id)
        return found


def _user_of(memory: Memory) -> str:
    """The user in whose scope a memory lies, or the empty string."""
    kind, _, name = memory.place.scope.partition(":")
    return name if kind == "user" else ""


def _is_for_all(memory: Memory) -> bool:
    return memory.place.scope.partition(":")[0] in ("project", "agent")


def _no_session(session: str) -> NotFound:
    return NotFound(f"There is no session {session!r}. Nothing was changed.")
